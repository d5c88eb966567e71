"""Locks in the way of what the orchestrator does: waited for some seconds, then named."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from bench.errors import OutsideError
from bench.postgres.connection import LOCK_SECONDS, Connection
from bench.statements import SCHEMA


@contextmanager
def lock_timeout(connection: Connection) -> Iterator[None]:
    """Wait for no lock longer than some seconds.

    Raises:
        OutsideError: somebody else's session is in the way; the message says whose.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_SECONDS}s"])
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise OutsideError(f"{in_the_way(connection)}: end it, or wait for its end") from error
    finally:
        if not connection.broken:
            connection.execute("SET lock_timeout TO 0")


def in_the_way(connection: Connection) -> str:
    """Whose locks on the schema's relations keep it from being dropped, in words."""
    rows = connection.execute(
        "SELECT DISTINCT a.pid, a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::int "
        "FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation "
        "WHERE c.relnamespace = to_regnamespace(%s) AND l.granted AND a.pid <> pg_backend_pid() LIMIT 3",
        [SCHEMA],
    ).fetchall()
    told = [session_in_words(*row) for row in rows]
    return f"in the way is the session {' and '.join(told)}" if told else "a lock is in the way"


def session_in_words(pid: int, name: str | None, state: str | None, age: int | None) -> str:
    """Which session it is: its pid, what it calls itself, what it does, and the seconds since its transaction began."""
    parts = [name or "no application_name", state, None if age is None else f"open for {age} s"]
    return f"pid {pid} ({', '.join(filter(None, parts))})"
