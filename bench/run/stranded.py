"""Finds the place in schema.sql of the errors of a log's own SQL that ended workers."""

from collections.abc import Iterable

import psycopg
from msgspec.structs import asdict

from bench.eventlog import Log
from bench.judge.stranded import Stranded, line_in_function
from bench.postgres.connection import Connection
from bench.records import LogError
from bench.run.outcome import Outcome
from bench.statements import SCHEMA


def stranded(workers: Iterable[Outcome], log: Log, connection: Connection) -> list[Stranded]:
    """The log errors that stopped workers, one per worker."""
    errors = [(worker.name, worker.error) for worker in workers if worker.error]
    bodies = _bodies(connection) if errors else {}
    return [
        Stranded(worker=worker, line=_line(error, bodies, log.schema_sql), **asdict(error)) for worker, error in errors
    ]


def _bodies(connection: Connection) -> dict[str, str]:
    """The bodies of the log's functions, by their names as CONTEXT has them; empty where the server hides them."""
    query = "SELECT oid::regprocedure::text, prosrc FROM pg_proc WHERE pronamespace = to_regnamespace(%s)"
    try:
        return {name.removeprefix(f"{SCHEMA}."): body for name, body in connection.execute(query, [SCHEMA])}
    except psycopg.Error:
        return {}


def _line(error: LogError, bodies: dict[str, str], schema_sql: str) -> int | None:
    """The line of schema.sql that the innermost of the log's functions was at; None unless its body is there once."""
    for context in error.context.splitlines():
        function, line = line_in_function(context) or ("", 0)
        body = bodies.get(function.removeprefix(f"{SCHEMA}."))
        if body is not None:
            once = schema_sql.count(body) == 1
            return schema_sql.count("\n", 0, schema_sql.index(body)) + line if once else None
    return None
