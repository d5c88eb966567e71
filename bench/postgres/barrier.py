"""Advisory locks by which the orchestrator and its workers act together: the start, the end, and who is alive."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import LiteralString

import psycopg

from bench.errors import InfrastructureError
from bench.postgres.connection import LOCK_SECONDS, Connection, limited, our_name

START = 0x62656E6368
"""The advisory lock that holds the workers back: "bench" in ASCII."""

STOP = START + 2
"""The advisory lock that is let go when consumers may stop."""

ALIVE = START + 3
"""The advisory lock that the orchestrator holds for as long as it waits for workers."""

END = START + 4
"""The advisory lock that is let go when producers are to end before they have appended everything."""

BUSY = START + 1
"""An advisory lock that a run holds as long as it uses a database."""

TERMINATE_MS = 5_000


def take_database(connection: Connection) -> None:
    """Take the lock that a run holds on its database.

    Raises:
        InfrastructureError: another session holds it; the message says which.
    """
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [BUSY]).fetchone()
    if row and row[0]:
        return
    holder = connection.execute(
        "SELECT a.pid, a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database "
        "WHERE datname = current_database()) AND (l.classid::bigint << 32) + l.objid::bigint = %s",
        [BUSY],
    ).fetchone()
    who = (
        f": its session has pid {holder[0]}, is called {holder[1]!r} and began at {holder[2]:%H:%M:%S}"
        if holder
        else ""
    )
    raise InfrastructureError(
        f"another run is at work in this database{who}. Wait for its end, or name another database; if there is no "
        "such run any more, SELECT pg_terminate_backend(pid) ends that session"
    )


@contextmanager
def barrier(connection: Connection, key: int = START) -> Iterator[Callable[[], None]]:
    """Close the barrier that workers wait at; yields the function that lifts it for all of them at once."""
    connection.execute("SELECT pg_advisory_lock(%s)", [key])
    opened = False

    def lift() -> None:
        nonlocal opened
        if not opened:
            connection.execute("SELECT pg_advisory_unlock(%s)", [key])
        opened = True

    try:
        yield lift
    finally:
        with suppress(psycopg.Error), limited(connection, LOCK_SECONDS):
            lift()


def cancel(connection: Connection, workers: Sequence[str]) -> None:
    """Cancel what these workers of this database have the server do. Another run may have workers of the same names in
    another database."""
    connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = ANY(%s) AND state = 'active'",
        [[our_name(connection, worker) for worker in workers]],
    )


def terminate(connection: Connection, workers: Sequence[str]) -> None:
    """End the sessions of these workers of this database; when it returns, none of them commits anything any more."""
    terminate_where(connection, "application_name = ANY(%s)", [our_name(connection, worker) for worker in workers])


def terminate_where(connection: Connection, which: LiteralString, value: object) -> None:
    """End those other sessions of this database of which a condition with one parameter holds."""
    connection.execute(
        "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND " + which,
        [TERMINATE_MS, value],
    )
