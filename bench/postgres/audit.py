"""The contents of a log's table after the end, read over the orchestrator's own connection.

Payloads come as texts and are parsed here, as the consumer parses them: a row that the log made may hold anything.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import psycopg

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.pairing import MODULUS
from bench.postgres.connection import Connection
from bench.records import EXAMPLES, Range
from bench.statements import SCHEMA, count_sql


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
    etag_checksum: int
    """The checksum of `bench.pairing` over producers' events that have an etag."""
    missing: list[tuple[int, int]]
    """Etags between the lowest and the highest that no row has, as (first, last)."""
    doubled: int
    """Rows beyond the first with the same etag."""
    below: list[list[Range]]
    """For each bound that was asked for, producers' events with a lower etag."""


def row_counts(connection: Connection, log: Log) -> RowCounts:
    """Count the rows of the log's table.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with reading(log):
        return RowCounts(*connection.execute(count_sql(log)).fetchone() or (0, 0))


def look_through(connection: Connection, log: Log, bounds: Sequence[int | None] = ()) -> Holdings:
    """Look through the log's table once, row by row. `bounds` are etags; nothing is below None.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    from bench.postgres.runs import Islands, Runs  # noqa: PLC0415 - numpy
    from bench.postgres.stored import page_checksum, stored_rows  # noqa: PLC0415 - numpy

    runs = Runs()
    below = {bound: Runs() for bound in bounds if bound is not None}
    etags = Islands()
    numbered = checksum = foreign_rows = 0
    foreign: list[int] = []
    with reading(log), closing(stored_rows(connection, log)) as pages:
        for page in pages:
            has_etag = page.second == 1
            runs.add_page(page)
            etags.add(page.first[has_etag])
            numbered += int(has_etag.sum())
            for bound, lower in below.items():
                lower.add_page(page, has_etag & (page.first < bound))
            checksum += page_checksum(page, has_etag)
            rows = [row for row, event in page.others if event is None]
            foreign_rows += len(rows)
            if len(foreign) < EXAMPLES:
                foreign += [int(page.first[row]) for row in rows if page.second[row]]
    ranges = {bound: lower.ranges() for bound, lower in below.items()}
    return Holdings(
        runs.ranges(),
        foreign_rows,
        foreign[:EXAMPLES],
        checksum % MODULUS,
        etags.gaps(),
        numbered - etags.distinct(),
        [[] if bound is None else ranges[bound] for bound in bounds],
    )


@contextmanager
def reading(log: Log) -> Iterator[None]:
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


class LogSize(NamedTuple):
    """Size of a log on disk."""

    table_bytes: int
    index_bytes: int


def log_size(connection: Connection) -> LogSize:
    """The size on disk of the log's tables and of their indexes: of tables in its schema, of tables that its views
    read, and of partitions, wherever they are.
    """
    return LogSize(*connection.execute(_SIZES, [SCHEMA]).fetchone() or (0, 0))
