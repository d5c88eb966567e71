"""Checks a log's contract on the server that it was just installed on: everything that must be there, and that every
statement of ours that a run could need works on it. The log is empty, and stays so.
"""

from collections.abc import Iterator
from typing import Any

import psycopg

from bench.errors import UsageError
from bench.eventlog import Log
from bench.postgres.connection import scalar
from bench.records import EXAMPLES
from bench.statements import (
    Table,
    bounds_sql,
    commits_sql,
    count_sql,
    doubled_sql,
    drawn_sql,
    gaps_sql,
    numbered_sql,
    read_sql,
    retention_sql,
    stored_sql,
    stories_sql,
)
from bench.values import Retained

_TYPES = ({20: "bigint"}, {1114: "timestamp", 1184: "timestamptz"}, {114: "json", 3802: "jsonb"})
"""The types that get_event may yield as etag, ctime and payload, by oid."""
_STORED_TYPES = {114: "json", 3802: "jsonb", 25: "text", 1043: "varchar"}
"""The types of which the table's payload may be, by oid: the payload's text is the event."""

_TABLE = """
    SELECT coalesce(bool_or(attname = 'ctime' AND atttypid IN ('timestamp'::regtype, 'timestamptz'::regtype)), false),
           coalesce(bool_or(attname = 'xmin' AND atttypid = 'xid'::regtype), false),
           EXISTS (SELECT FROM pg_index i
                   JOIN pg_class c ON c.oid = i.indrelid
                   JOIN pg_attribute e ON e.attrelid = i.indrelid AND e.attnum = i.indkey[0]
                   WHERE i.indrelid = to_regclass(%(table)s) AND e.attname = %(etag)s
                     AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL
                     AND NOT (c.relkind = 'r' AND c.relhassubclass))
    FROM pg_attribute WHERE attrelid = to_regclass(%(table)s) AND NOT attisdropped"""
"""The fields of `Table`. A table's unique index proves nothing about the rows of tables that inherit from it."""


def table_of(connection: psycopg.Connection[Any], log: Log) -> Table:
    """Find out which optional columns and indexes the log's table or view has."""
    row = connection.execute(_TABLE, {"table": log.table, "etag": log.etag}).fetchone()
    return Table(*row) if row else Table(ctime=False, xmin=False, unique_etag=False)


def check_contract(connection: psycopg.Connection[Any], log: Log) -> None:
    """Check that a log that was just installed has everything that log.toml and the contract ask for.

    Raises:
        UsageError: something is missing or fails; the message names it.
    """
    for function in _functions(log):
        if scalar(connection, "SELECT to_regprocedure(%s) IS NULL", [function]):
            raise UsageError(f"the log {log.name}: schema.sql does not define {function}")
    if scalar(connection, "SELECT to_regclass(%s) IS NULL", [log.table]):
        raise UsageError(f"the log {log.name}: schema.sql does not make the table {log.table} of log.toml")
    _check_columns(connection, log)
    for purpose, statement, parameters in _statements(log, table_of(connection, log)):
        try:
            with connection.transaction(force_rollback=True), psycopg.RawCursor(connection) as cursor:
                cursor.execute(statement, parameters)
        except psycopg.Error as error:
            raise UsageError(f"the log {log.name}: {purpose} fails: {error.diag.message_primary or error}") from error


def _functions(log: Log) -> Iterator[str]:
    yield "log_event(json)"
    yield f"get_event({', '.join([*log.cursor.values(), 'bigint'])})"
    if log.group in {"turns", "partitions"}:
        yield "get_event(text, bigint)"


def _check_columns(connection: psycopg.Connection[Any], log: Log) -> None:
    try:
        with psycopg.RawCursor(connection) as cursor:
            cursor.execute(f"SELECT payload, {log.etag} FROM {log.table} LIMIT 0")
            stored_as = (cursor.description or [])[0].type_code
            cursor.execute(read_sql(log, 1), [None] * len(log.cursor))
            types = [column.type_code for column in cursor.description or []]
    except psycopg.Error as error:
        raise UsageError(f"the log {log.name}: reading it fails: {error.diag.message_primary or error}") from error
    for column, code, allowed in zip(("etag", "ctime", "payload"), types, _TYPES, strict=False):
        if code not in allowed:
            raise UsageError(f"the log {log.name}: get_event must yield {column} as {' or '.join(allowed.values())}")
    if stored_as not in _STORED_TYPES:
        raise UsageError(
            f"the log {log.name}: {log.table} must hold payload as {', '.join(_STORED_TYPES.values())}; "
            "in log.toml, name a view that converts it"
        )


def _statements(log: Log, table: Table) -> Iterator[tuple[str, str, list[Any]]]:
    """Every statement over the log's table that a run could need: its purpose, its text and its parameters."""
    for statement in (bounds_sql(log), gaps_sql(log), doubled_sql(log, EXAMPLES)):
        yield f"comparing the etags of {log.table} (the column {log.etag})", statement, []
    yield f"counting the rows of {log.table}", count_sql(log), []
    yield f"reading the rows of {log.table}", stored_sql(log), []
    if log.promises.returns_etags:
        returned = "taking the etags that log_event returns (promises.returns_etags)"
        yield returned, "SELECT etag::bigint, payload::text FROM log_event(NULL) WHERE false", []
    by_etag = f"looking up rows of {log.table} by their etags (the column {log.etag})"
    yield by_etag, _numbered(numbered_sql(log)), [[0]]
    yield by_etag, _numbered(stories_sql(log, table, commits=False)), [[0]]
    if log.passed:
        for retained in (Retained(None, 1), *([Retained(1, None)] if table.ctime else [])):
            deleting = f"deleting the rows of {log.table} that readers have passed (passed)"
            yield deleting, retention_sql(log, 1, retained), [*[None] * len(log.cursor), 1]
    if table.xmin:
        yield by_etag, _numbered(commits_sql(log)), [[0], [0], [0.0]]
        yield f"looking up the rows of a transaction in {log.table}", drawn_sql(log), [0]


def _numbered(statement: str) -> str:
    """Replace each %s of a statement with $1, $2 and so on."""
    first, *others = statement.split("%s")
    return first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))
