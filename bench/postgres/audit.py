"""The contents of a log's table after the end, read over the orchestrator's own connection.

Payloads come as texts and are parsed here, as the consumer parses them: a row that the log made may hold anything.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.judge import exposure
from bench.judge.ranges import normal
from bench.pairing import MODULUS, hashes, weights
from bench.postgres.connection import Connection, scalar
from bench.postgres.stepping import Cursor, event_of, read_page
from bench.records import EXAMPLES, Example, Range
from bench.statements import (
    SCHEMA,
    Table,
    bounds_sql,
    commits_sql,
    count_sql,
    doubled_sql,
    etag_checksum_sql,
    gaps_sql,
    numbered_sql,
    stored_sql,
    stories_sql,
    transactions_sql,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.postgres.stored import StoredPage

_ROWS = 1000
"""Rows fetched at a time."""
_RUNS = 100_000
"""Once there are more runs of seqs than this, adjacent ones are joined."""


class RowCounts(NamedTuple):
    """Numbers of rows in a log's table."""

    rows: int
    numbered: int
    """Rows that have an etag."""


class Holdings(NamedTuple):
    """The rows of a log's table: producers' events, and others."""

    ranges: list[Range]
    """Producers' events, each once."""
    foreign: int
    """Number of rows that hold no producer's event."""
    foreign_etags: list[int]
    """The etags of the first foreign rows that have one."""


class Numbering(NamedTuple):
    """Whether each etag between a table's lowest and its highest occurs exactly once."""

    missing: list[tuple[int, int]]
    """Etags that no row has, as (first, last)."""
    doubled: int
    """Rows beyond the first with the same etag."""
    doubled_etags: list[int]
    """The first etags that several rows have."""


def row_counts(connection: Connection, log: Log) -> RowCounts:
    """Count the rows of the log's table.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with _reading(log):
        return RowCounts(*connection.execute(count_sql(log)).fetchone() or (0, 0))


def look_through(connection: Connection, log: Log, below: int | None = None) -> Holdings:
    """Look through the log's table, row by row; only at rows with an etag below `below`, if that is given.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    runs = _Runs()
    foreign: list[int] = []
    foreign_rows = 0
    with _reading(log), closing(_stored(connection, log, below)) as pages:
        for page in pages:
            runs.add_page(page)
            rows = [row for row, event in page.others if event is None]
            foreign_rows += len(rows)
            if len(foreign) < EXAMPLES:
                foreign += [int(page.first[row]) for row in rows if page.second[row]]
    return Holdings(runs.ranges(), foreign_rows, foreign[:EXAMPLES])


def numbering(connection: Connection, log: Log, table: Table, numbered: int) -> Numbering:
    """Find etags that are missing and etags that several rows have; `numbered` is the number of rows with an etag.

    Etags may begin anywhere. When no etag occurs twice, as a unique index proves, and there are as many etags as
    numbers from the lowest to the highest, none is missing either, and nothing need be sorted.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with _reading(log):
        lowest, highest = connection.execute(bounds_sql(log)).fetchone() or (None, None)
        if lowest is None or (table.unique_etag and highest - lowest + 1 == numbered):
            return Numbering([], 0, [])
        missing: list[tuple[int, int]] = connection.execute(gaps_sql(log)).fetchall()
        distinct = highest - lowest + 1 - sum(last - first + 1 for first, last in missing)
        if distinct == numbered:
            return Numbering(missing, 0, [])
        doubled_etags = [etag for (etag,) in connection.execute(doubled_sql(log, EXAMPLES))]
        return Numbering(missing, numbered - distinct, doubled_etags)


def etag_checksum(connection: Connection, log: Log) -> int:
    """The checksum of `bench.pairing` over the events in the log's table that have an etag. PostgreSQL computes it
    where it can read all payloads, which takes about a second per million rows or less.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with suppress(psycopg.DataError, psycopg.ProgrammingError), connection.transaction():
        return int(scalar(connection, etag_checksum_sql(log))) % MODULUS
    checksum = 0
    with _reading(log), closing(_stored(connection, log)) as pages:
        for page in pages:
            chosen = page.fits & (page.second == 1)
            checksum += int(hashes(page.first[chosen]) @ weights(page.producers[chosen], page.seqs[chosen]))
            for row, event in page.others:
                if event and page.second[row]:
                    checksum += hashes(int(page.first[row])) * weights(event.producer, event.seq)
    return checksum % MODULUS


class OtherEtags(NamedTuple):
    """Events that are delivered with another etag than the log's table has for them."""

    events: int
    examples: list[Example]
    """The first of them, as they were delivered."""


def other_etags(connection: Connection, log: Log, rows: int) -> OtherEtags:
    """Read the log from its start, at most `rows` events, and look up each delivered etag in the log's table:
    it must be the etag of a row with the same event.

    Raises:
        psycopg.Error: the log or its table cannot be read.
    """
    read = count = 0
    examples: list[Example] = []
    cursor: Cursor = ()
    while read < rows:
        page, cursor = read_page(connection, log, _ROWS, cursor)
        if not page:
            break
        read += len(page)
        others = other_events(connection, log, [Example(*event_of(payload), etag) for etag, _, payload, *_ in page])
        count += len(others)
        examples += others[: EXAMPLES - len(examples)]
    return OtherEtags(count, examples)


def other_events(connection: Connection, log: Log, events: Sequence[Example]) -> list[Example]:
    """The events whose etag is that of no row in the log's table, or of another event's row.

    Raises:
        psycopg.Error: the table cannot be read.
    """
    from bench.postgres.stored import parse_event  # noqa: PLC0415 - numpy

    others = []
    for first in range(0, len(events), _ROWS):
        some = events[first : first + _ROWS]
        rows = connection.execute(numbered_sql(log), [[event.etag for event in some]]).fetchall()
        stored = {(etag, event.producer, event.seq) for etag, payload in rows if (event := parse_event(payload or ""))}
        others += [event for event in some if (event.etag, event.producer, event.seq) not in stored]
    return others


class Story(NamedTuple):
    """The history of a stored event, from the log's table and the server. Unix times on the database's clock."""

    etag: int
    logged_at: float | None
    """Its ctime; None where the table has none, or where Python's dates cannot hold it."""
    visible_at: float | None
    """When its transaction was committed; None where the server keeps no commit times."""


def stories(
    connection: Connection, log: Log, table: Table, events: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Story]:
    """Look up events, given as (producer, seq), in the log's table. Events that the table lacks are left out.

    Raises:
        psycopg.Error: the table cannot be read.
    """
    from bench.postgres.stored import parse_event  # noqa: PLC0415 - numpy

    etags = _etags(connection, log, set(events))
    query = stories_sql(log, table, commits=_keeps_commit_times(connection))
    by_event = {}
    for etag, payload, logged_at, visible_at in connection.execute(query, [list(etags.values())]).fetchall():
        event = parse_event(payload or "")
        if event is not None and etags.get((event.producer, event.seq)) == etag:
            by_event[event.producer, event.seq] = Story(etag, _calendar(logged_at), _calendar(visible_at))
    return by_event


def _keeps_commit_times(connection: Connection) -> bool:
    return bool(scalar(connection, "SELECT current_setting('track_commit_timestamp')::bool"))


def _etags(connection: Connection, log: Log, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """The etags of the wanted events; events that are stored without an etag are left out."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    etags: dict[tuple[int, int], int] = {}
    wanted_seqs = [seq for _, seq in wanted]
    with closing(_stored(connection, log)) as pages:
        for page in pages:
            rows = np.flatnonzero(page.fits & np.isin(page.seqs, wanted_seqs)).tolist()
            events = [(row, (int(page.producers[row]), int(page.seqs[row]))) for row in rows]
            events += [(row, (event.producer, event.seq)) for row, event in page.others if event]
            etags.update((event, int(page.first[row])) for row, event in events if event in wanted and page.second[row])
            if len(etags) == len(wanted):
                break
    return etags


_LAST_TIME = 253_402_300_800.0
"""The end of the year 9999, the last that Python's dates have."""


def _calendar(unix_time: float | None) -> float | None:
    """A time that can be shown, else None: a timestamp may also be infinite, or in the year 200000."""
    return unix_time if unix_time is not None and 0 <= unix_time < _LAST_TIME else None


class _Runs:
    """Events collected as runs of consecutive seqs, which is how they lie in a table."""

    def __init__(self) -> None:
        self._open: dict[int, list[int]] = {}
        """First and last seq of each producer's latest run."""
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
        self._join()

    def add_page(self, page: "StoredPage", rows: "NDArray[np.bool_] | None" = None) -> None:
        """Add the events in a page, or in the given rows of it."""
        from bench.postgres.stored import runs_of  # noqa: PLC0415 - numpy

        chosen = page.fits if rows is None else page.fits & rows
        self._closed += runs_of(page.producers[chosen], page.seqs[chosen])
        for row, event in page.others:
            if event and (rows is None or rows[row]):
                self.add(event.producer, event.seq)
        self._join()

    def _join(self) -> None:
        if len(self._closed) > self._most:
            self._closed = normal(self._closed)
            self._most = 2 * len(self._closed) + _RUNS

    def ranges(self) -> list[Range]:
        return normal([*self._closed, *((producer, first, last) for producer, (first, last) in self._open.items())])


def _stored(connection: Connection, log: Log, below: int | None = None) -> Generator["StoredPage", None, None]:
    """Yield the rows of the log's table, with their etags as first column and 1 as second; with 0 and 0 when a row has
    none.
    """
    from bench.postgres.stored import stored_pages  # noqa: PLC0415 - numpy

    return stored_pages(
        connection,
        f"""SELECT coalesce(etag, 0), (etag IS NOT NULL)::int::bigint, coalesce(payload, '')
            FROM ({stored_sql(log, below)}) AS stored (etag, payload)""",
    )


@contextmanager
def _reading(log: Log) -> Iterator[None]:
    """Raise an error of the log's own table or view as an InfrastructureError that names the table or view.

    Raises:
        InfrastructureError: the table or view cannot be read.
        psycopg.OperationalError: the connection is lost.
    """
    try:
        yield
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise InfrastructureError(
            f"cannot audit {log.table}: {error.diag.message_primary or error}; without an audit there is no verdict: "
            "each of its rows must be readable"
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


class Commits(NamedTuple):
    """The events that lie in a reader's jumps over etags, by the time of their commit."""

    late: list[Range]
    """Events that were committed after the reader had asked for the page with the later event."""
    early: list[Range]
    """Events whose commit began before that."""


def commits(connection: Connection, log: Log, jumps: Sequence[tuple[int, int, float]]) -> Commits:
    """Look up the commits of the events that lie in a reader's jumps over etags, given as (etag before, etag after,
    when the reader asked). Finds no events where the server keeps no commit times.

    Raises:
        psycopg.Error: the log's table cannot be read, or has no column xmin.
    """
    if not _keeps_commit_times(connection):
        return Commits([], [])
    from bench.postgres.stored import stored_pages  # noqa: PLC0415 - numpy

    late, early = _Runs(), _Runs()
    parameters = [[jump[part] for jump in jumps] for part in range(3)]
    query = f"""SELECT coalesce(late::int, -1)::bigint, 0::bigint, coalesce(payload, '')
                FROM ({commits_sql(log)}) AS passed (payload, late)"""
    with closing(stored_pages(connection, query, parameters)) as pages:
        for page in pages:
            late.add_page(page, page.first == 1)
            early.add_page(page, page.first == 0)
    return Commits(late.ranges(), early.ranges())


def transactions(connection: Connection, log: Log, table: Table) -> exposure.Commits | exposure.Unknown:
    """The transactions whose events the log's table holds, with their etags and the times of their commits; or why
    they are unknown.

    Raises:
        psycopg.Error: the table cannot be read.
    """
    if not table.xmin:
        return "no xmin"
    if not _keeps_commit_times(connection):
        return "no commit times"
    import numpy as np  # noqa: PLC0415 - see bench.stats

    with connection.cursor(binary=True) as cursor:
        arrays = cursor.execute(transactions_sql(log)).fetchone() or (None,) * 4
    # 20 bytes for the dimensions and the type; then each element, of 8 bytes, stands after its length (array_send).
    lowest, highest, events, at = (
        np.frombuffer((array or b"")[20:], [("length", ">i4"), ("element", kind)])["element"]
        for array, kind in zip(arrays, (">i8", ">i8", ">i8", ">f8"), strict=True)
    )
    known = ~np.isnan(at)
    lowest, highest, events = (column[known].astype(np.int64) for column in (lowest, highest, events))
    return exposure.Commits(lowest, highest, events, at[known].astype(np.float64))


class LogSize(NamedTuple):
    """Size of a log on disk."""

    table_bytes: int
    index_bytes: int


def log_size(connection: Connection) -> LogSize:
    """The size on disk of the log's tables and of their indexes: of tables in its schema, of tables that its views
    read, and of partitions, wherever they are.
    """
    return LogSize(*connection.execute(_SIZES, [SCHEMA]).fetchone() or (0, 0))
