"""Fills a log before a run, leads its readers past these events, and finds out in the end what became of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.judge.evidence import Preloaded
from bench.judge.ranges import events_in, normal, subtract
from bench.postgres.audit import look_through, reading
from bench.postgres.connection import Connection, in_words
from bench.postgres.contract import table_of
from bench.records import EXAMPLES, Example, Range
from bench.statement import Statement
from bench.statements import (
    LATER,
    bounds_sql,
    fingerprint_sql,
    later_view_sql,
    other_payloads_sql,
    passing_sql,
    preload_sql,
)

BATCH = 100_000
"""Events per transaction of the preload, where they are inserted."""
BATCH_OF_FUNCTION = 10_000
"""Events per call of log_event, which takes them as one JSON array, where they are not inserted."""
BATCH_BYTES = 64 * 2**20
SMALLEST_EVENT_BYTES = 100
PAGE = 1_000_000
"""Events per page while readers are led past the preloaded ones; the server sends none of them."""
POLL_SECONDS = 0.05
STATISTICS_FLUSH_VERSION = 150_000
"""pg_stat_force_next_flush came with PostgreSQL 15."""


@dataclass(frozen=True)
class Fill:
    """The events that are in a log before the run."""

    events: list[Range]
    pad: str
    """The padding of each payload, as long as the whole payload is to be; empty without padding."""
    last_etag: int
    """The highest of their etags. The run's events have higher ones."""
    fingerprint: tuple[int, str]
    """Of the rows up to `last_etag`, as `fingerprint_sql` yields it."""
    after: list[bytes]
    """The cursor after the last of them, in binary; empty where the server keeps all cursors."""
    log: Log
    later: Log
    """The log as audits are to see it: its table is a view that leaves the preloaded events out."""


def fill(
    connection: Connection,
    log: Log,
    events: Sequence[Range],
    pad: str,
    clients: Sequence[str],
    wait_seconds: float,
) -> Fill:
    """Append events by the log's own way, and lead readers past them: a reader that keeps its cursor, or each named
    client. `pad` is as in `Fill`.

    Raises:
        InfrastructureError: the log does not take the events, or a reader that waited for `wait_seconds` was not given
            exactly these events.
    """
    try:
        _append(connection, log, events, pad)
        after: list[bytes] = []
        for client in clients:
            _pass_by(connection, log, events_in(events), client, wait_seconds)
        if not clients:
            after = _pass_by(connection, log, events_in(events), None, wait_seconds)
        with reading(log):
            _, last_etag = connection.execute(bounds_sql(log)).fetchone() or (0, 0)
            connection.execute(later_view_sql(log, table_of(connection, log), int(last_etag)).encode())
            fingerprint = _fingerprint(connection, log, int(last_etag))
        if connection.info.server_version >= STATISTICS_FLUSH_VERSION:
            # Else this session's inserts are added to the number of live rows after a vacuum has counted them.
            connection.execute("SELECT pg_stat_force_next_flush()")
    except psycopg.errors.Error as error:
        if connection.broken:
            raise
        raise InfrastructureError(
            f"cannot preload the log {log.name}: {in_words(error)}; without --preload it starts empty"
        ) from error
    later = log.model_copy(update={"table": LATER})
    return Fill(list(events), pad, int(last_etag), fingerprint, after, log, later)


def _append(connection: Connection, log: Log, events: Sequence[Range], pad: str) -> None:
    """Append batches of the producers in alternation, as they lie in a log that several producers wrote."""
    batch = BATCH if {"generate", "copy"} & {*log.append} else BATCH_OF_FUNCTION
    batch = min(batch, max(1, BATCH_BYTES // max(SMALLEST_EVENT_BYTES, len(pad))))
    longest = max(last for _, _, last in events)
    statement = preload_sql(log, len(pad))
    with psycopg.RawCursor(connection) as cursor:
        for start in range(0, longest + 1, batch):
            for producer, first, last in events:
                if first + start <= last:
                    part = [producer, first + start, min(first + start + batch - 1, last)]
                    cursor.execute(statement, [*part, pad] if pad else part)


def _pass_by(connection: Connection, log: Log, events: int, client: str | None, wait_seconds: float) -> list[bytes]:
    """Read up to the end without receiving the events; returns the cursor, which a named client has none of.

    Raises:
        InfrastructureError: as `fill` does.
    """
    columns = 0 if client else len(log.cursor)
    page = Statement(connection, passing_sql(log, PAGE, client))
    cursor: list[bytes | None] = [None] * columns
    passed = 0
    deadline = time.monotonic() + wait_seconds
    while passed < events:
        page.send(cursor, [psycopg.pq.Format.BINARY] * columns)
        result = page.receive()
        if result.ntuples:
            passed += int.from_bytes(result.get_value(0, 0) or b"", signed=True)
            cursor = [result.get_value(0, 1 + column) for column in range(columns)]
            deadline = time.monotonic() + wait_seconds
        elif time.monotonic() > deadline:
            break
        else:
            time.sleep(POLL_SECONDS)
    if passed != events:
        raise InfrastructureError(
            f"cannot preload the log {log.name}: a reader was given {passed:,} of {events:,} events that nobody else "
            "was writing; `bench run` without --preload shows what is wrong"
        )
    return [value for value in cursor if value is not None]


def _fingerprint(connection: Connection, log: Log, last_etag: int) -> tuple[int, str]:
    rows, checksum = connection.execute(fingerprint_sql(log), [last_etag]).fetchone() or (0, "")
    return int(rows), str(checksum)


def kept(connection: Connection, before: Fill) -> Preloaded:
    """Find out what became of the preloaded events. When rows and checksum are those of before, nothing did; else the
    log's table is looked through.

    Raises:
        InfrastructureError: the log's table cannot be read.
    """
    events, log = normal(before.events), before.log
    with reading(log):
        rows, checksum = _fingerprint(connection, log, before.last_etag)
        if (rows, checksum) == before.fingerprint:
            return Preloaded(events)
        lost = subtract(events, normal(look_through(connection, log).ranges))
        changed, examples = _changed(connection, before)
    moved = max(0, before.fingerprint[0] - rows - events_in(lost))
    unexplained = not (lost or changed or moved)
    return Preloaded(events, lost, changed, examples, moved + unexplained)


def _changed(connection: Connection, before: Fill) -> tuple[int, list[Example]]:
    """The number of preloaded events with another payload than the one appended, and the first of them."""
    from bench.postgres.stored import stored_pages  # noqa: PLC0415 - numpy

    last_seqs = {producer: last for producer, _, last in before.events}
    parameters = [
        list(last_seqs),
        list(last_seqs.values()),
        before.pad,
        before.last_etag,
    ]
    count = 0
    examples: list[Example] = []
    for page in stored_pages(connection, other_payloads_sql(before.log, len(before.pad)), parameters):
        rows = [
            row
            for row, example in enumerate(page.examples(range(len(page.first))))
            if example.producer in last_seqs and 0 <= (example.seq or 0) <= last_seqs[example.producer]
        ]
        count += len(rows)
        examples += page.examples(rows[: EXAMPLES - len(examples)])
    return count, examples
