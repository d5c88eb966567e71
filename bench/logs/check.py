"""`bench logs check`: tests a log's contract and promises on a real Postgres, one statement at a time.

Faults that show only under load are left to `bench run --mode tail`.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

import psycopg
from psycopg import sql

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.job import Way
from bench.padding import padding
from bench.places.rundir import RunFolder
from bench.postgres import audit, etags, history
from bench.postgres.connection import Connection, connected, pinned
from bench.postgres.contract import table_of
from bench.postgres.install import installed
from bench.postgres.stepping import PATIENCE_SECONDS, Reading, append, event_of, session
from bench.run.place import ChosenPlace, open_place
from bench.spec import Spec
from bench.statements import SCHEMA, append_sql, drawn_sql, read_sql, stored_sql
from bench.text import plural
from bench.values import SMALLEST_PAYLOAD_BYTES

EVENTS = 7
PAGE = 2
MOST_PAGES = 100
MOST_NAMED = 5
"""Maximum number of objects named in one complaint."""
PAGES = (1, 3, 10, 100, 1000)
"""Page sizes that are tried; a log may keep to the limit for small pages only."""

_OUTSIDE = """
    SELECT 'schema ' || quote_ident(nspname) FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', %(schema)s)
    UNION ALL
    SELECT oid::regclass::text FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT relnamespace = ANY (%(others)s::regnamespace[])
    UNION ALL
    SELECT oid::regprocedure::text FROM pg_proc WHERE NOT pronamespace = ANY (%(others)s::regnamespace[])
    UNION ALL
    SELECT 'replication slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()"""
"""The objects that a log could have created outside its schema."""


class Untested(NamedTuple):
    """A promise that a question had no chance to find broken."""

    reason: str
    """A clause that begins with the promise."""


class Findings(NamedTuple):
    """The outcome of a check."""

    complaints: list[str]
    """What is wrong with the log, as sentences."""
    untested: list[str]
    """The promises that the check had no chance to find broken, each as a clause with the reason."""


def check(log: Log, spec: Spec, chosen: ChosenPlace, folder: RunFolder) -> Findings:
    """Install a log, and ask each question of a fresh copy of it.

    Raises:
        UsageError: the log cannot be installed.
        InfrastructureError: there is no Postgres to install the log in.
    """
    complaints: list[str] = []
    untested: list[str] = []
    with open_place(chosen, spec, log, folder) as place, connected(place.database.conninfo) as connection:
        left = _left_behind(connection, log, folder.run_id)
        if left:  # a second installation would fail
            complaints.append(
                f"schema.sql makes objects that stay when its schema is dropped: {', '.join(left[:MOST_NAMED])}: "
                "make them without a schema name, or drop them in uninstall_log()"
            )
            return Findings(complaints, untested)
        conninfo = pinned(connection, place.database.conninfo)
        for question in _QUESTIONS:
            with installed(connection, log, folder.run_id):
                try:
                    for answer in question(log, conninfo):
                        if isinstance(answer, Untested):
                            untested.append(answer.reason)
                        else:
                            complaints.append(answer)
                except psycopg.Error as error:
                    complaints.append(f"{question.__doc__} It fails: {error.diag.message_primary or error}")
                except InfrastructureError as error:
                    complaints.append(str(error))
    return Findings(complaints, untested)


def _left_behind(connection: Connection, log: Log, run_id: str) -> list[str]:
    """Install a log and drop it again; return the objects outside its schema that it left."""
    before = _outside(connection)
    with installed(connection, log, run_id):
        made = _outside(connection) - before
        for lack in _lacks(connection, log):
            logging.getLogger("bench").warning("the log %s: %s", log.name, lack)
    return sorted(made & _outside(connection))


def _outside(connection: Connection) -> set[str]:
    others = ["pg_catalog", "information_schema", "pg_toast"]
    row = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", [SCHEMA]).fetchone()
    schemas = [*others, SCHEMA] if row and row[0] else others
    return {name for (name,) in connection.execute(_OUTSIDE, {"schema": SCHEMA, "others": schemas})}


def _lacks(connection: Connection, log: Log) -> Iterator[str]:
    """Yield what no run can report about this log because a column is missing. That is not a fault."""
    table = table_of(connection, log)
    if not table.ctime:
        yield f"{log.table} has no timestamp in a column ctime: no run can report when a skipped event was logged"
    if not table.xmin:
        yield (
            f"{log.table} has no column xmin: no run can report which missing etags were rolled back, "
            "or when a skipped event was committed"
        )


def _appends(log: Log, conninfo: str) -> Iterator[str]:
    """log_event takes one event or an array of them and returns a row for each."""
    with session(conninfo) as writer:
        for events, rows in (('{"n": 1}', 1), ('[{"n": 2}, {"n": 3}, {"n": 4}]', 3), ("[]", 0)):
            row = writer.execute("SELECT count(*) FROM log_event(%s)", [events]).fetchone()
            if row != (rows,):
                returned = plural(row[0] if row else 0, "row")
                yield f"log_event({events}) returns {returned} for {plural(rows, 'event')}"
        payloads = [payload for _, payload in writer.execute(stored_sql(log).encode())]
        if sorted(map(_number, payloads)) != [1, 2, 3, 4]:
            yield f"after four events {log.table} holds {len(payloads)} rows: {json.dumps(payloads)}"


def _number(payload: str | None) -> int:
    """The n of a payload; -1 if it has none."""
    with suppress(ValueError, TypeError, LookupError):
        number = json.loads(payload or "")["n"]
        return number if isinstance(number, int) else -1
    return -1


def _reads(log: Log, conninfo: str) -> Iterator[str]:
    """get_event yields every event once, page by page."""
    with session(conninfo) as writer, session(conninfo) as reader:
        append(writer, *range(EVENTS))
        first = list(_reading(log, reader))
        yield from first
        if log.promises.replay:
            # Faults of the first reading are not reported again.
            yield from (f"read again from the start, {each}" for each in _reading(log, reader) if each not in first)


def _reading(log: Log, reader: Connection) -> Iterator[str]:
    """Read from the start to an empty page; yields complaints."""
    reading = Reading(log, reader, PAGE)
    sizes = []
    while size := reading.page():
        sizes.append(size)
        if len(sizes) > MOST_PAGES:
            yield f"get_event does not come to an end: {MOST_PAGES} pages of a log of {EVENTS} events"
            break
    else:
        seqs = [seq for _, seq in reading.events]
        if sorted(set(seqs)) != list(range(EVENTS)):
            yield f"get_event yields the events {sorted(set(seqs))} of 0..{EVENTS - 1}"
        elif log.promises.once and len(seqs) > EVENTS:
            yield f"get_event yields some events twice: {seqs}"
        elif log.promises.order != "none" and seqs != list(range(EVENTS)):
            yield f"get_event yields one writer's events in the order {seqs}"
        elif log.promises.order == "etag" and reading.etags != sorted(reading.etags):
            yield f"get_event yields etags in the order {reading.etags}"
    if sizes and max(sizes) > PAGE:
        yield f"get_event(.., {PAGE}) yields {max(sizes)} events at once"


def _ways(log: Log, conninfo: str) -> Iterator[str]:
    """Every way to append of log.toml works."""
    with session(conninfo) as writer:
        for producer, way in enumerate(log.append):
            try:
                for seq, payload_bytes in enumerate((0, SMALLEST_PAYLOAD_BYTES)):
                    _append_by(writer, log, way, producer, seq, payload_bytes)
            except psycopg.Error as error:
                yield f"append = [.., {way!r}]: {error.diag.message_primary or error}"
                continue
            if log.promises.replay and (producer, 0, 1) not in audit.look_through(writer, log).ranges:
                yield f"append = [.., {way!r}]: {_not_there(log)}"


def _append_by(writer: Connection, log: Log, way: Way, producer: int, seq: int, payload_bytes: int) -> None:
    """Append one event as a producer does; an event that a producer would pad itself is not padded."""
    pad = [padding(payload_bytes).decode()] if payload_bytes else []
    statement = append_sql(Spec.model_validate({"append": way, "payload_bytes": payload_bytes}), log).encode()
    event = f'{{"producer":{producer},"seq":{seq},"value":{seq}}}'
    with psycopg.RawCursor(writer) as cursor:
        if way == "copy":
            with cursor.copy(statement) as copying:
                copying.write(event + "\n")
        else:
            cursor.execute(statement, [f"[{event}]"] if way == "log_event" else [producer, seq, seq, *pad])


def _not_there(log: Log) -> str:
    return f"{log.table} does not show what was appended: the text of its column payload must be an event's JSON"


def _stored(log: Log, conninfo: str) -> Iterator[str]:
    """The table shows what was appended, and every statement that a verdict needs works."""
    with session(conninfo) as asker, session(conninfo) as reader:
        append(asker, *range(EVENTS))
        if log.promises.replay:  # some logs number an event when it is read
            Reading(log, reader, PAGE).until(EVENTS, PATIENCE_SECONDS)
        holdings = audit.look_through(asker, log)
        if holdings.foreign:
            foreign = ", ".join(map(str, holdings.foreign_etags))
            rows = plural(holdings.foreign, "row")
            yield f"{log.table} has {rows} of which no producer appended the event (etags {foreign})"
        if log.promises.replay and holdings.ranges != [(0, 0, EVENTS - 1)]:
            yield _not_there(log)
        table = table_of(asker, log)
        _, numbered = audit.row_counts(asker, log)
        numbering = etags.numbering(asker, log, table, numbered)
        if numbering.missing and log.promises.gap_free:
            yield f"it promises etags without gaps, and after {EVENTS} events these are missing: {numbering.missing}"
        if numbering.doubled and (log.promises.gap_free or log.promises.order == "etag"):
            yield f"several events have the same etag: {numbering.doubled_etags}"
        if log.promises.replay and numbered and not history.stories(asker, log, table, [(0, 0)]):
            yield f"an event cannot be found in {log.table} by its etag, the column {log.etag}"
        if table.xmin:
            with asker.transaction(force_rollback=True), psycopg.RawCursor(asker) as cursor:
                append(asker, EVENTS)
                cursor.execute(drawn_sql(log).encode(), [0])


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
            call = read_sql(log, PAGE, client="client").encode()
            given: list[int] = []
            for turn in range(MOST_PAGES):
                rows = (first, second)[turn % 2].execute(call).fetchall()
                if not rows:
                    break
                given += [event_of(payload)[1] for _, _, payload in rows]
            if sorted(given) != list(range(EVENTS)):
                yield f"get_event('client', ..) yields {given} to two alternating sessions, of 0..{EVENTS - 1}"


def _untyped(log: Log, conninfo: str) -> Iterator[str]:
    """get_event($1, $2) with untyped parameters, which is how many drivers send them, reads by the cursor."""
    if log.promises.replay and len(log.cursor) == 1:
        ((column, kind),) = log.cursor.items()
        untyped = b"SELECT payload FROM get_event($1, $2)"
        typed = f"SELECT payload FROM get_event($1::{kind}, $2::bigint)".encode()
        with session(conninfo) as reader, psycopg.RawCursor(reader) as cursor:
            append(reader, *range(EVENTS))
            first = cursor.execute(f"SELECT {column}::text FROM get_event(NULL::{kind}, 1)".encode()).fetchone()
            # psycopg sends a str without a type. Each call is made twice, because a named client's position advances.
            after = [first[0] if first else None, str(PAGE)]
            right = [cursor.execute(typed, after).fetchall() for _ in range(2)]
            if right != [cursor.execute(untyped, after).fetchall() for _ in range(2)]:
                yield (
                    "get_event($1, $2) with untyped parameters resolves to the client-name function: numbers must "
                    "read by etag"
                )


def _tails(log: Log, conninfo: str) -> Iterator[str | Untested]:
    """A reader that tails is given an event that commits after a later one."""
    if log.promises.tail:
        with ExitStack() as stack:
            first, second, reader = (stack.enter_context(session(conninfo)) for _ in range(3))
            reading = Reading(log, reader, PAGE)
            appended = 1
            writers_wait = False
            with first.transaction():
                append(first, 0, producer=0)
                try:
                    appended += append(second, 0, producer=1)
                    reading.until(appended, PATIENCE_SECONDS)
                except psycopg.errors.LockNotAvailable:
                    writers_wait = True  # which is one way to be safe
            reading.until(appended, PATIENCE_SECONDS)
            if len(set(reading.events)) < appended:
                yield (
                    "it promises tail = true, but never delivers an event that commits after a later one: "
                    "see `promises.tail` in log.toml"
                )
            elif not writers_wait and log.promises.order != "none":
                etags = dict(zip(reading.events, reading.etags, strict=True))
                if etags[0, 0] > etags[1, 0]:
                    yield Untested(
                        "tail = true, because the event that committed first got the lower etag, so that no reader was "
                        "ahead of an open transaction"
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


def _real_time(log: Log, conninfo: str) -> Iterator[str | Untested]:
    """An append that begins after another one was acknowledged gets higher etags, whichever session makes it."""
    if log.promises.real_time:
        with session(conninfo) as first, session(conninfo) as second, session(conninfo) as reader:
            appended = [(seq % 2, seq // 2) for seq in range(EVENTS)]
            for producer, seq in appended:
                append((first, second)[producer], seq, producer=producer)
            reading = Reading(log, reader, PAGE)
            reading.until(EVENTS, PATIENCE_SECONDS)
            by_event = dict(zip(reading.events, reading.etags, strict=True))
            etags = [by_event[event] for event in appended if event in by_event]
            if etags != sorted(etags):
                yield (
                    f"it promises real_time = true, and {EVENTS} appends, made one after the other by two sessions in "
                    f"turn, have the etags {etags}: see `promises.real_time` in log.toml; the usual cause is a "
                    "sequence with a CACHE"
                )
            elif len(etags) < EVENTS:
                yield Untested(f"real_time = true, because {len(etags)} of {EVENTS} events were delivered")


def _notifies(log: Log, conninfo: str) -> Iterator[str]:
    """A commit notifies readers on the channel of log.toml."""
    if log.notify:
        with session(conninfo) as writer, session(conninfo) as reader, session(conninfo) as listener:
            listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(log.notify)))
            append(writer, 0)
            Reading(log, reader, PAGE).until(1, PATIENCE_SECONDS)  # a log may notify when an event gets its number
            if not list(listener.notifies(timeout=PATIENCE_SECONDS, stop_after=1)):
                yield f"notify = {log.notify!r}, and no notification comes on that channel when an event is committed"


Question = Callable[[Log, str], Iterator[str | Untested]]
_QUESTIONS: tuple[Question, ...] = (
    _appends,
    _reads,
    _page_sizes,
    _ways,
    _stored,
    _clients,
    _untyped,
    _tails,
    _real_time,
    _gap_free,
    _notifies,
)
