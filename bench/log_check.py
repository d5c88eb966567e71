"""Says what is wrong with a log: its contract, and what it promises, stepped by hand on a real Postgres.

What needs load to show is left to `bench run --mode tail`.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg

from bench.control import connected, installed, pinned
from bench.logs import Log
from bench.place import Choice, open_site
from bench.places.folder import RunFolder
from bench.plan import append_sql
from bench.spec import Spec
from bench.stepping import PATIENCE_SECONDS, Reading, append, event_of, session

EVENTS = 7
PAGE = 2
MOST_PAGES = 100
PAGES = (1, 3, 10, 100, 1000)
"""Sizes of pages that are tried; a log may heed its limit for small ones only."""


def check(log: Log, spec: Spec, choice: Choice, folder: RunFolder) -> list[str]:
    """Install a log, ask each question of a fresh copy of it, and return what is wrong in words.

    Raises:
        BadInputError: it cannot even be installed.
        OutsideError: there is no Postgres to install it in.
    """
    complaints: list[str] = []
    with open_site(choice, spec, log, folder) as site, connected(site.conninfo) as connection:
        conninfo = pinned(connection, site.conninfo)
        for question in _QUESTIONS:
            with installed(connection, log, folder.run_id):
                try:
                    complaints += question(log, conninfo)
                except psycopg.Error as error:
                    complaints.append(f"{question.__doc__} It fails: {error.diag.message_primary or error}")
    return complaints


def _appends(log: Log, conninfo: str) -> Iterator[str]:
    """log_event takes one event or an array of them and returns a row for each."""
    with session(conninfo) as writer:
        for events, rows in (('{"n": 1}', 1), ('[{"n": 2}, {"n": 3}, {"n": 4}]', 3), ("[]", 0)):
            row = writer.execute("SELECT count(*) FROM log_event(%s)", [events]).fetchone()
            if row != (rows,):
                yield f"log_event({events}) returns {row[0] if row else 0} rows, {rows} events were given"
        stored = writer.execute(f"SELECT payload FROM {log.table}".encode()).fetchall()
        numbers = sorted(payload["n"] for (payload,) in stored if isinstance(payload, dict) and "n" in payload)
        if numbers != [1, 2, 3, 4]:
            yield f"after four events {log.table} holds {len(stored)} rows: {json.dumps([row[0] for row in stored])}"


def _reads(log: Log, conninfo: str) -> Iterator[str]:
    """get_event yields every event once, a page at a time."""
    with session(conninfo) as writer, session(conninfo) as reader:
        append(writer, *range(EVENTS))
        for again in (False, True) if log.promises.replay else (False,):
            reading = Reading(log, reader, PAGE)
            sizes = []
            while size := reading.page():
                sizes.append(size)
                if len(sizes) > MOST_PAGES:
                    yield f"get_event does not come to an end: {MOST_PAGES} pages of a log of {EVENTS} events"
                    break
            else:
                which = "read again from the start, " if again else ""
                seqs = [seq for _, seq in reading.events]
                if sorted(set(seqs)) != list(range(EVENTS)):
                    yield f"{which}get_event yields the events {sorted(set(seqs))} of 0..{EVENTS - 1}"
                elif log.promises.once and len(seqs) > EVENTS:
                    yield f"{which}get_event yields some events twice: {seqs}"
                elif log.promises.order != "none" and seqs != list(range(EVENTS)):
                    yield f"{which}get_event yields one writer's events in the order {seqs}"
                elif log.promises.order == "etag" and reading.etags != sorted(reading.etags):
                    yield f"{which}get_event yields etags in the order {reading.etags}"
            if sizes and max(sizes) > PAGE:
                yield f"get_event(.., {PAGE}) yields {max(sizes)} events at once"


def _ways(log: Log, conninfo: str) -> Iterator[str]:
    """Every way to append of log.toml works."""
    for way in log.append:
        statement = append_sql(Spec.model_validate({"append": way}), log)
        with session(conninfo) as writer, psycopg.RawCursor(writer) as cursor:
            try:
                if way == "copy":
                    with cursor.copy(statement.encode()) as copying:
                        copying.write('{"producer":0,"seq":0,"value":0}\n')
                elif way == "log_event":
                    cursor.execute(statement.encode(), ['[{"producer": 0, "seq": 0, "value": 0}]'])
                else:
                    cursor.execute(statement.encode(), [0, 0, 0])
            except psycopg.Error as error:
                yield f"append = [.., {way!r}]: {error.diag.message_primary or error}"


def _page_sizes(log: Log, conninfo: str) -> Iterator[str]:
    """A page holds no more events than were asked for."""
    with session(conninfo) as writer, session(conninfo) as reader:
        for size in PAGES:
            append(writer, *range(2 * size + 1))
            asked: list[tuple[str, int]] = [(f"get_event(.., {size})", Reading(log, reader, size).page())]
            if log.group in {"turns", "partitions"}:
                call = f"get_event('client {size}'::text, {size})"
                asked.append((call, len(reader.execute(f"SELECT etag FROM {call}".encode()).fetchall())))
            for call, events in asked:
                if events > size:
                    yield f"{call} yields {events} events at once"


def _clients(log: Log, conninfo: str) -> Iterator[str]:
    """A named client is given each event once, whichever session asks."""
    if log.group in {"turns", "partitions"}:
        with session(conninfo) as first, session(conninfo) as second:
            append(first, *range(EVENTS))
            call = f"SELECT payload FROM get_event('client'::text, {PAGE})".encode()
            given: list[int] = []
            for turn in range(MOST_PAGES):
                rows = (first, second)[turn % 2].execute(call).fetchall()
                if not rows:
                    break
                given += [event_of(payload)[1] for (payload,) in rows]
            if sorted(given) != list(range(EVENTS)):
                yield f"get_event('client', ..) yields {given} to two sessions in turns, of 0..{EVENTS - 1}"


def _tails(log: Log, conninfo: str) -> Iterator[str]:
    """A reader that tails is given an event that commits after a later one."""
    if log.promises.tail:
        with ExitStack() as stack:
            first, second, reader = (stack.enter_context(session(conninfo)) for _ in range(3))
            reading = Reading(log, reader, PAGE)
            appended = 1
            with first.transaction():
                append(first, 0, producer=0)
                try:
                    appended += append(second, 0, producer=1)
                    reading.until(appended, PATIENCE_SECONDS)
                except psycopg.errors.LockNotAvailable:
                    pass  # writers take turns, which is one way to be safe
            reading.until(appended, PATIENCE_SECONDS)
            if len(set(reading.events)) < appended:
                yield (
                    "it promises that a reader that tails misses nothing, and an event that committed after a later "
                    "one is never delivered: see `promises.tail` in log.toml"
                )


def _gap_free(log: Log, conninfo: str) -> Iterator[str]:
    """A rollback leaves no gap in the etags."""
    if log.promises.gap_free:
        with session(conninfo) as writer, session(conninfo) as reader:
            append(writer, 0)
            with writer.transaction(force_rollback=True):
                append(writer, 1)
            append(writer, 2)
            reading = Reading(log, reader, PAGE)
            reading.until(2, PATIENCE_SECONDS)
            if reading.etags and reading.etags[-1] - reading.etags[0] != 1:
                yield f"it promises etags without gaps, and after a rollback they are {reading.etags}"


Question = Callable[[Log, str], Iterator[str]]
_QUESTIONS: tuple[Question, ...] = (_appends, _reads, _page_sizes, _ways, _clients, _tails, _gap_free)
