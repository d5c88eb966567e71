"""Transactions that are left open, as a forgotten session, a long report or a prepared transaction leaves them, and the
end of those that a dead run left.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import psycopg
from psycopg import sql

from bench.eventlog import Log
from bench.phases import OpenTransaction
from bench.postgres.connection import Connection, in_words, scalar
from bench.postgres.stepping import APPEND_SECONDS, append, session
from bench.spec import MAX_SCALE

_PREPARED = "bench_"
_ELSEWHERE = "bench_elsewhere_"
"""The beginnings of the names of prepared transactions and databases; the rest is the pid of a session of ours."""
_NOBODY = MAX_SCALE
"""The producer of the events in open transactions: a number that no producer of a run has."""

Opened = Callable[[], AbstractContextManager[list[int]]]
"""Opens a transaction, which is rolled back at the end of the `with`. Yields the etags that it has drawn, as far as the
log promises to return them. Can be called again afterwards."""


class NotApplicableError(Exception):
    """A kind of transaction that is impossible with this log. The message has the reason."""


@contextmanager
def _rolled_back(other: Connection) -> Iterator[None]:
    """A transaction that is rolled back at the end. Its loss is an error, which psycopg's own would only log."""
    other.execute("BEGIN")
    try:
        yield
    finally:
        other.execute("ROLLBACK")


@contextmanager
def _in_this_log(conninfo: str, log: Log, lock_seconds: float) -> Iterator[Opened]:
    with session(conninfo, lock_seconds) as other:

        @contextmanager
        def opened() -> Iterator[list[int]]:
            with _rolled_back(other):
                yield _append(other, log)

        yield opened


@contextmanager
def _in_another_table(conninfo: str, _log: Log, lock_seconds: float) -> Iterator[Opened]:
    with session(conninfo, lock_seconds) as other:
        other.execute("CREATE TABLE IF NOT EXISTS elsewhere (n int)")
        yield lambda: _inserted(other, "elsewhere")


@contextmanager
def _in_another_database(conninfo: str, _log: Log, lock_seconds: float) -> Iterator[Opened]:
    with session(conninfo) as admin:
        name = f"{_ELSEWHERE}{admin.info.backend_pid}"
        database = sql.Identifier(name)
        admin.execute(sql.SQL("CREATE DATABASE {}").format(database))
        try:
            with session(psycopg.conninfo.make_conninfo(conninfo, dbname=name), lock_seconds) as other:
                other.execute("CREATE TABLE public.elsewhere (n int)")
                yield lambda: _inserted(other, "public.elsewhere")
        finally:
            # Of a server that is gone, or when this fails, the next run drops it.
            with suppress(psycopg.Error):
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@contextmanager
def _inserted(other: Connection, table: str) -> Iterator[list[int]]:
    with _rolled_back(other):
        other.execute(f"INSERT INTO {table} VALUES (1)".encode())
        yield []


@contextmanager
def _read_only(conninfo: str, log: Log, lock_seconds: float) -> Iterator[Opened]:
    with session(conninfo, lock_seconds) as other:

        @contextmanager
        def opened() -> Iterator[list[int]]:
            with _rolled_back(other):
                other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                # Takes the snapshot and a lock of the table, and looks at no row.
                other.execute(f"SELECT FROM {log.table} LIMIT 0".encode())
                yield []

        yield opened


@contextmanager
def _prepared(conninfo: str, log: Log, lock_seconds: float) -> Iterator[Opened]:
    with session(conninfo, lock_seconds) as other:
        name = sql.Literal(f"{_PREPARED}{other.info.backend_pid}")

        @contextmanager
        def opened() -> Iterator[list[int]]:
            other.execute("BEGIN")
            etags = _append(other, log)
            try:
                other.execute(sql.SQL("PREPARE TRANSACTION {}").format(name))
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.ObjectNotInPrerequisiteState) as error:
                raise NotApplicableError(in_words(error)) from error
            try:
                yield etags
            finally:
                other.execute(sql.SQL("ROLLBACK PREPARED {}").format(name))

        yield opened


KINDS: dict[OpenTransaction, Callable[[str, Log, float], AbstractContextManager[Opened]]] = {
    "in this log": _in_this_log,
    "in another table": _in_another_table,
    "in another database": _in_another_database,
    "read-only": _read_only,
    "prepared": _prepared,
}
"""How each kind is made ready, in sessions that wait for a lock for so many seconds at most. Everything is gone at the
end of the `with`."""


def _append(other: Connection, log: Log) -> list[int]:
    """Append an event; returns its etag, if the log promises that."""
    if not log.promises.returns_etags:
        append(other, 0, producer=_NOBODY)
        return []
    other.execute(f"SET statement_timeout = '{APPEND_SECONDS}s'".encode())
    event = f'{{"producer": {_NOBODY}, "seq": 0, "value": 0}}'
    return [int(etag) for (etag,) in other.execute("SELECT etag::bigint FROM log_event(%s)", [event])]


def can_prepare(connection: Connection) -> bool:
    """Whether the server lets transactions be prepared at all."""
    return int(scalar(connection, "SELECT current_setting('max_prepared_transactions')::int")) > 0


def end_left(connection: Connection) -> None:
    """Roll back the transactions that a dead run left prepared in this database, which keep their locks, and drop the
    databases that dead runs made. The caller must hold DATABASE_IN_USE.
    """
    prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND gid ~ %s"
    for (gid,) in connection.execute(prepared, [f"^{_PREPARED}[0-9]+$"]).fetchall():
        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
    databases = """
        SELECT datname FROM pg_database
        WHERE datname ~ %s AND substring(datname FROM '[0-9]+$')::int NOT IN (SELECT pid FROM pg_stat_activity)"""
    for (database,) in connection.execute(databases, [f"^{_ELSEWHERE}[0-9]+$"]).fetchall():
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
