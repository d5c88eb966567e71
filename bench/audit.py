"""What a log holds after the end, asked of its table by the orchestrator's own connection."""

import json
from collections.abc import Sequence

import psycopg

from bench.control import Connection
from bench.logs import Log
from bench.plan import SCHEMA, audit_sql, commits_sql, gaps_sql, stories_sql
from bench.records import Range


def stored_events(connection: Connection, log: Log) -> tuple[int, int]:
    """How many rows the log's table holds, and its highest etag, 0 when it has none."""
    row = connection.execute(f"SELECT count(*), coalesce(max({log.etag}), 0) FROM {log.table}".encode()).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def stored_ranges(connection: Connection, log: Log, below: int | None = None) -> tuple[list[Range], int]:
    """What the log's table holds as runs of consecutive seqs, and how many rows are no producer's events; of rows with
    an etag below `below` alone, if that is given.
    """
    source = log.table if below is None else f"(SELECT * FROM {log.table} WHERE {log.etag} < {below}) AS part"
    rows = connection.execute(audit_sql(source).encode()).fetchall()
    return [row for row in rows if row[0] is not None], sum(row[2] for row in rows if row[0] is None)


def missing_etags(connection: Connection, log: Log) -> list[tuple[int, int]]:
    """The etags that no row of the log has though a row has a higher one, as (first, last)."""
    return connection.execute(gaps_sql(log).encode()).fetchall()


Story = tuple[int, int, int, float, float | None]
"""Of a stored event: producer, seq, etag, when it was logged and when it was committed, if the server keeps that."""


def stories(connection: Connection, log: Log, events: Sequence[tuple[int, int]]) -> list[Story]:
    """Look up events, given as (producer, seq), in the log's table."""
    row = connection.execute("SELECT current_setting('track_commit_timestamp')::bool").fetchone()
    query = stories_sql(log, commits=bool(row and row[0]))
    return connection.execute(query.encode(), [json.dumps(events)]).fetchall()


def commits(connection: Connection, log: Log, jumps: Sequence[tuple[int, int, float]]) -> tuple[int, int]:
    """Of the events that lie in readers' jumps over etags, given as (etag before, etag after, when the reader asked):
    how many were committed after a reader had asked, and how many before; (0, 0) where the server does not say.
    """
    befores, afters, times = zip(*jumps, strict=True) if jumps else ((), (), ())
    try:
        row = connection.execute(commits_sql(log).encode(), [list(befores), list(afters), list(times)]).fetchone()
    except psycopg.Error:
        return 0, 0
    return (row[0], row[1]) if row else (0, 0)


def log_bytes(connection: Connection) -> tuple[int, int]:
    """The size on disk of the log's tables and of their indexes."""
    row = connection.execute(
        "SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint, coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint "
        "FROM pg_class c WHERE c.relnamespace = %s::regnamespace AND c.relkind IN ('r', 'p')",
        [SCHEMA],
    ).fetchone()
    return (row[0], row[1]) if row else (0, 0)
