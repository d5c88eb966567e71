"""What a log holds after the end, asked of its table by the orchestrator's own connection.

Payloads come as texts and are parsed here, as the consumer parses them: a row that the log made may hold anything.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import msgspec
import psycopg

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.judge.ranges import normal
from bench.postgres.connection import Connection
from bench.records import EXAMPLES, Range
from bench.statements import (
    SCHEMA,
    Table,
    bounds_sql,
    commits_sql,
    count_sql,
    doubled_sql,
    gaps_sql,
    stored_sql,
    stories_sql,
)

_ROWS = 1000
"""Rows fetched at a time."""
_RUNS = 100_000
"""When so many runs of seqs have come up, those that follow one another are joined."""


class _Event(msgspec.Struct, gc=False):
    """The part of a payload that says which event it is; the consumer looks at the rest."""

    producer: int
    seq: int


_parse = msgspec.json.Decoder(_Event).decode


class Holdings(NamedTuple):
    """What the rows of a log's table are."""

    ranges: list[Range]
    """Events of producers, each once."""
    foreign: int
    """How many rows are no producer's events."""
    foreign_etags: list[int]
    """The etags of the first of those that have one."""


class Numbering(NamedTuple):
    """Whether each etag between a table's lowest and its highest is there once."""

    missing: list[tuple[int, int]]
    """Those that no row has, as (first, last)."""
    doubled: int
    """Rows beyond the first with the same etag."""
    doubled_etags: list[int]
    """The first etags that several rows have."""


def stored_events(connection: Connection, log: Log) -> tuple[int, int]:
    """How many rows the log's table holds, and how many of them have an etag.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with _reading(log):
        row = connection.execute(count_sql(log).encode()).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def look_through(connection: Connection, log: Log, below: int | None = None) -> Holdings:
    """Look through the log's table, row by row; at rows with an etag below `below` alone, if that is given.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    runs = _Runs()
    foreign = 0
    foreign_etags: list[int] = []
    with _reading(log):
        for etag, payload in _rows(connection, log, below):
            event = _event(payload)
            if event is not None:
                runs.add(event.producer, event.seq)
            else:
                foreign += 1
                if etag is not None and len(foreign_etags) < EXAMPLES:
                    foreign_etags.append(etag)
    return Holdings(runs.ranges(), foreign, foreign_etags)


def stored_ranges(connection: Connection, log: Log, below: int | None = None) -> tuple[list[Range], int]:
    """What the log's table holds as runs of consecutive seqs, and how many rows are no producer's events; of rows with
    an etag below `below` alone, if that is given.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    holdings = look_through(connection, log, below)
    return holdings.ranges, holdings.foreign


def numbering(connection: Connection, log: Log, table: Table, numbered: int) -> Numbering:
    """Find etags that are missing and etags that several rows have; `numbered` rows have an etag.

    Etags may begin anywhere. When none is there twice, as a unique index proves, and there are as many as from the
    lowest to the highest, none is missing either, and nothing need be sorted.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with _reading(log):
        lowest, highest = connection.execute(bounds_sql(log).encode()).fetchone() or (None, None)
        if lowest is None or (table.unique_etag and highest - lowest + 1 == numbered):
            return Numbering([], 0, [])
        missing: list[tuple[int, int]] = connection.execute(gaps_sql(log).encode()).fetchall()
        distinct = highest - lowest + 1 - sum(last - first + 1 for first, last in missing)
        if distinct == numbered:
            return Numbering(missing, 0, [])
        doubled_etags = [etag for (etag,) in connection.execute(doubled_sql(log, EXAMPLES).encode())]
        return Numbering(missing, numbered - distinct, doubled_etags)


class Story(NamedTuple):
    """What the log's table and the server know of a stored event. Times are Unix times on the database's clock."""

    etag: int
    logged_at: float | None
    """Its ctime; None where the table has none, or it is no time of a calendar."""
    visible_at: float | None
    """When its transaction was committed; None where that is not kept."""


def stories(
    connection: Connection, log: Log, table: Table, events: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Story]:
    """Look up events, given as (producer, seq), in the log's table. Those that it does not have are left out.

    Raises:
        psycopg.Error: it cannot be read.
    """
    etags = _etags(connection, log, set(events))
    kept = _keeps_commit_times(connection)
    rows = connection.execute(stories_sql(log, table, commits=kept).encode(), [list(etags.values())]).fetchall()
    told = {}
    for etag, payload, logged_at, visible_at in rows:
        event = _event(payload)
        if event is not None and etags.get((event.producer, event.seq)) == etag:
            told[event.producer, event.seq] = Story(etag, _calendar(logged_at), _calendar(visible_at))
    return told


def _keeps_commit_times(connection: Connection) -> bool:
    return connection.execute("SELECT current_setting('track_commit_timestamp')::bool").fetchone() == (True,)


def _etags(connection: Connection, log: Log, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """The etags of some events; of those that are stored without one, none."""
    found: dict[tuple[int, int], int] = {}
    with closing(_rows(connection, log)) as rows:
        for etag, payload in rows:
            event = _event(payload)
            if event is not None and etag is not None and (event.producer, event.seq) in wanted:
                found[event.producer, event.seq] = etag
                if len(found) == len(wanted):
                    break
    return found


_LAST_TIME = 253_402_300_800.0
"""The end of the year 9999, the last that Python's dates have."""


def _calendar(unix_time: float | None) -> float | None:
    """A time that can be shown; a timestamp may also be infinite, or in the year 200000."""
    return unix_time if unix_time is not None and 0 <= unix_time < _LAST_TIME else None


def _event(payload: str | bytes | None) -> _Event | None:
    """The event that a payload is; None when it is no producer's."""
    if payload is None:
        return None
    try:
        return _parse(payload)
    except (msgspec.MsgspecError, RecursionError):  # the latter of arrays in arrays in arrays
        return None


class _Runs:
    """Events as runs of consecutive seqs, which is how they lie in a table."""

    def __init__(self) -> None:
        self._open: dict[int, list[int]] = {}
        """First and last seq of each producer's run that goes on."""
        self._closed: list[Range] = []
        self._most = _RUNS

    def add(self, producer: int, seq: int) -> None:
        run = self._open.get(producer)
        if run is not None and run[1] == seq - 1:
            run[1] = seq
            return
        if run is not None:
            self._closed.append((producer, run[0], run[1]))
        self._open[producer] = [seq, seq]
        if len(self._closed) > self._most:
            self._closed = normal(self._closed)
            self._most = 2 * len(self._closed) + _RUNS

    def ranges(self) -> list[Range]:
        return normal([*self._closed, *((producer, first, last) for producer, (first, last) in self._open.items())])


def _rows(
    connection: Connection, log: Log, below: int | None = None
) -> Generator[tuple[int | None, str | bytes | None], None, None]:
    """Each row of the log's table: its etag and the text of its payload. Not all of them are in memory at once."""
    with connection.transaction(), connection.cursor("audit", binary=True) as cursor:
        cursor.execute(stored_sql(log, below).encode())
        while rows := cursor.fetchmany(_ROWS):
            yield from rows


@contextmanager
def _reading(log: Log) -> Iterator[None]:
    """Put words to an error of the log's own table or view.

    Raises:
        InfrastructureError: what it says, but for a connection that is lost.
    """
    try:
        yield
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise InfrastructureError(
            f"{log.table} cannot be looked through, and without that there is no verdict: "
            f"{error.diag.message_primary or error}"
        ) from error


_SIZES = """
    WITH RECURSIVE leads (here, there) AS (
        SELECT r.ev_class, d.refobjid
        FROM pg_rewrite r
        JOIN pg_depend d ON d.objid = r.oid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
        UNION ALL
        SELECT inhparent, inhrelid FROM pg_inherits
    ), own (oid) AS (
        SELECT oid FROM pg_class WHERE relnamespace = %s::regnamespace
        UNION
        SELECT there FROM own JOIN leads ON here = own.oid
    )
    SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint, coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint
    FROM own JOIN pg_class c USING (oid)
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relnamespace <> 'pg_catalog'::regnamespace"""


def commits(
    connection: Connection, log: Log, jumps: Sequence[tuple[int, int, float]]
) -> tuple[list[Range], list[Range]]:
    """The events that lie in a reader's jumps over etags, given as (etag before, etag after, when the reader asked):
    those that were committed after it had asked, and those whose commit began before. Nothing where the server does not
    keep when that was.

    Raises:
        psycopg.Error: the log's table cannot be read, or has no column xmin.
    """
    if not _keeps_commit_times(connection):
        return [], []
    late, early = _Runs(), _Runs()
    befores, afters, times = ([jump[part] for jump in jumps] for part in range(3))
    with connection.transaction(), connection.cursor("commits", binary=True) as cursor:
        cursor.execute(commits_sql(log).encode(), [befores, afters, times])
        while rows := cursor.fetchmany(_ROWS):
            for payload, is_late in rows:
                event = _event(payload)
                if event is not None and is_late is not None:
                    (late if is_late else early).add(event.producer, event.seq)
    return late.ranges(), early.ranges()


def log_bytes(connection: Connection) -> tuple[int, int]:
    """The size on disk of the log's tables and of their indexes: of those in its schema, of those that its views read,
    and of partitions, wherever they are.
    """
    row = connection.execute(_SIZES, [SCHEMA]).fetchone()
    return (row[0], row[1]) if row else (0, 0)
