"""What a log holds after the end, asked of its table by the orchestrator's own connection."""

import json
from collections.abc import Sequence

import psycopg
from psycopg import sql

from bench.control import Connection
from bench.logs import Log
from bench.plan import SCHEMA, audit_sql, gaps_sql, given_sql, stories_sql
from bench.records import Range


def stored_events(connection: Connection, log: Log) -> tuple[int, int]:
    """How many rows the log's table holds, and its highest etag, 0 when it has none."""
    row = connection.execute(f"SELECT count(*), coalesce(max({log.etag}), 0) FROM {log.table}".encode()).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def stored_ranges(connection: Connection, log: Log) -> tuple[list[Range], int]:
    """What the log's table holds as runs of consecutive seqs, and how many rows are no producer's events."""
    rows = connection.execute(audit_sql(log.table).encode()).fetchall()
    return [row for row in rows if row[0] is not None], sum(row[2] for row in rows if row[0] is None)


def given_ranges(connection: Connection, log: Log, seconds: float) -> list[Range]:
    """What a reader that comes now is given from the start as runs of consecutive seqs; nothing when it has to wait for
    longer than that, beside the time that so many events need.
    """
    events, _ = stored_events(connection, log)
    seconds += events / EVENTS_A_SECOND
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(int(seconds * 1000))))
        try:
            rows = connection.execute(audit_sql(given_sql(log)).encode()).fetchall()
        except psycopg.errors.QueryCanceled:
            raise psycopg.Rollback from None
        return [row for row in rows if row[0] is not None]
    return []


def missing_etags(connection: Connection, log: Log) -> list[tuple[int, int]]:
    """The etags that no row of the log has though a row has a higher one, as (first, last)."""
    return connection.execute(gaps_sql(log).encode()).fetchall()


EVENTS_A_SECOND = 5_000
"""Even a slow log on a busy machine gives one reader as many."""

Story = tuple[int, int, int, float, float | None]
"""Of a stored event: producer, seq, etag, when it was logged and when it was committed, if the server keeps that."""


def stories(connection: Connection, log: Log, events: Sequence[tuple[int, int]]) -> list[Story]:
    """Look up events, given as (producer, seq), in the log's table."""
    row = connection.execute("SELECT current_setting('track_commit_timestamp')::bool").fetchone()
    query = stories_sql(log, commits=bool(row and row[0]))
    return connection.execute(query.encode(), [json.dumps(events)]).fetchall()


def log_bytes(connection: Connection) -> tuple[int, int]:
    """The size on disk of the log's tables and of their indexes."""
    row = connection.execute(
        "SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint, coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint "
        "FROM pg_class c WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p')",
        [SCHEMA],
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)
