"""Advisory locks with which the orchestrator synchronizes its workers, and the ends of workers' sessions."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import LiteralString, NamedTuple

import psycopg

from bench.errors import InfrastructureError
from bench.postgres.connection import LOCK_SECONDS, Connection, limited, our_name, scalar
from bench.records import start_key

START = 0x62656E6368
"""Key of the start barrier: all workers start when it is released. "bench" in ASCII."""

DATABASE_IN_USE = START + 1
"""Key of the lock that a run holds for as long as it uses a database."""

CONSUMERS_MAY_STOP = START + 2
"""Key of the lock that is released when consumers may stop."""

ALIVE = START + 3
"""Key of the lock that the orchestrator holds for as long as it waits for workers."""

PRODUCERS_MUST_STOP = START + 4
"""Key of the lock that is released when producers are to end before they have appended everything."""

TERMINATE_MS = 5_000
ENDING_MS = 1_000
"""The session of a run that has just ended keeps its locks for some milliseconds."""


def take_database(connection: Connection) -> None:
    """Take the lock that a run holds on its database.

    Raises:
        InfrastructureError: another session holds the lock; the message names the session.
    """
    connection.execute(f"SET lock_timeout TO {ENDING_MS}")
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", [DATABASE_IN_USE])
    except psycopg.errors.LockNotAvailable:
        pass
    else:
        return
    finally:
        if not connection.broken:
            connection.execute("SET lock_timeout TO 0")
    holder = connection.execute(
        "SELECT a.pid, a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database "
        "WHERE datname = current_database()) AND (l.classid::bigint << 32) + l.objid::bigint = %s",
        [DATABASE_IN_USE],
    ).fetchone()
    session = (
        f" (its session has pid {holder[0]}, application_name {holder[1]!r} and began at {holder[2]:%H:%M:%S})"
        if holder
        else ""
    )
    raise InfrastructureError(
        f"cannot use this database: another run is using it{session}; wait for it to end, or use another database; "
        "if that run is dead, end its session with SELECT pg_terminate_backend(pid)"
    )


@contextmanager
def hold_lock(connection: Connection, key: int) -> Iterator[Callable[[], None]]:
    """Hold an advisory lock that workers wait for or look at; yields the function that releases it, for all workers at
    once. Leaving the `with` releases it too."""
    connection.execute("SELECT pg_advisory_lock(%s)", [key])
    released = False

    def release() -> None:
        nonlocal released
        if not released:
            connection.execute("SELECT pg_advisory_unlock(%s)", [key])
        released = True

    try:
        yield release
    finally:
        with suppress(psycopg.Error), limited(connection, LOCK_SECONDS):
            release()


class Moment(NamedTuple):
    """A moment on two clocks."""

    at: float
    """Unix time on the database's clock."""
    pc: float
    """The same moment as perf_counter has it, right to a round trip."""


@contextmanager
def announced_start(connection: Connection, lead_seconds: float) -> Iterator[Moment]:
    """Announce to all sessions of this database that a phase opens, or the schedule that workers share starts, in
    `lead_seconds`; yields when that is.
    """
    now = float(scalar(connection, "SELECT extract(epoch FROM clock_timestamp())::float8"))
    start_pc = time.perf_counter() + lead_seconds
    with hold_lock(connection, start_key(now + lead_seconds)):
        yield Moment(now + lead_seconds, start_pc)


def cancel(connection: Connection, workers: Sequence[str]) -> None:
    """Cancel the statements that these workers are running in this database. Another run may have workers of the same
    names in another database."""
    connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = ANY(%s) AND state = 'active'",
        [[our_name(connection, worker) for worker in workers]],
    )


def terminate(connection: Connection, workers: Sequence[str]) -> None:
    """End the sessions of these workers of this database; when it returns, none of them commits anything any more."""
    terminate_where(connection, "application_name = ANY(%s)", [our_name(connection, worker) for worker in workers])


def terminate_where(connection: Connection, condition: LiteralString, value: object) -> None:
    """End the other sessions of this database that fulfil a condition with one parameter, `value`."""
    connection.execute(
        "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND " + condition,
        [TERMINATE_MS, value],
    )
