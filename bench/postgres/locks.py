"""Locks of other sessions that block the orchestrator: it waits some seconds for them, then names their holders."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg import sql

from bench.errors import InfrastructureError
from bench.postgres.connection import LOCK_SECONDS, Connection
from bench.statements import SCHEMA

_HOLDERS: LiteralString = """
    SELECT DISTINCT a.pid, coalesce(a.application_name, p.gid), a.state,
                    extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::int
    FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN (pg_locks own JOIN pg_prepared_xacts p ON own.transactionid = p.transaction)
           ON l.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction
    WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND c.relnamespace = to_regnamespace(%s) AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND (a.pid IS NOT NULL OR p.gid IS NOT NULL)
    LIMIT 3"""
"""A session has a pid and a state; a prepared transaction has neither, and its gid stands for a name. Its other locks
are found through the lock on its id: after a restart the server gives it another virtual transaction."""


@contextmanager
def lock_timeout(connection: Connection) -> Iterator[None]:
    """Wait for no lock longer than LOCK_SECONDS.

    Raises:
        InfrastructureError: another session's lock blocks us; the message names the holder and what to do.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_SECONDS}s"])
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise InfrastructureError(_blocked_by(connection)) from error
    finally:
        if not connection.broken:
            connection.execute("SET lock_timeout TO 0")


def _blocked_by(connection: Connection) -> str:
    """The holders of locks on the schema's relations, and what to do about them, as the text of an error."""
    rows = connection.execute(_HOLDERS, [SCHEMA]).fetchall()
    holders = [
        f"the session {session_in_words(pid, name, state, age)}" if pid else _prepared_in_words(name, age)
        for pid, name, state, age in rows
    ]
    # A prepared transaction has no session that could end.
    cure = "end it, or wait for it to end" if all(pid for pid, *_ in rows) else "end it, because nothing else will"
    return f"waited too long for a lock: it is held by {' and '.join(holders) or 'another session'}; {cure}"


def _prepared_in_words(gid: str, age: int) -> str:
    """Name a prepared transaction, its age in seconds, and the statement that ends it."""
    return f"the prepared transaction {gid!r} ({age} s old; {sql.SQL('ROLLBACK PREPARED {}').format(gid).as_string()})"


def session_in_words(pid: int, name: str | None, state: str | None, age: int | None) -> str:
    """Describe a session: its pid, its application_name, its state, and the seconds since its transaction began."""
    parts = [name or "no application_name", state, None if age is None else f"open for {age} s"]
    return f"pid {pid} ({', '.join(filter(None, parts))})"
