"""The parts that all workers share: take a job, connect, measure the clock, wait at the barrier, run statements, print
records.

A worker knows nothing of where it runs. It uses libpq's own calls, because one statement per batch and a page of tuples
are all that it needs, and anything more would be measured with it.
"""

import ctypes
import gc
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import msgspec
import psycopg
from psycopg import sql

from bench.job import ConsumerJob, Job, decode_job, echo
from bench.meter import Clock, say
from bench.records import SERVER, SESSION, STARTS_AT, TIMEOUTS, Ready
from bench.statement import Statement
from bench.wire import is_unencrypted

J = TypeVar("J", bound=Job)

CONNECT_SECONDS = 30
GONE = "the orchestrator is gone"
RECONNECT_SECONDS = 5
LOOK_SECONDS = 2.0
"""A worker checks this often whether its orchestrator lives."""

_KEPT_BYTES = 256 << 20
"""Free memory that malloc keeps, instead of returning it and faulting it in anew with each page of rows."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""

_ENDED_BY = {
    "57014": "statement_timeout",
    "55P03": "lock_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}
"""The time-out that may have ended a statement or a session, by SQLSTATE (PostgreSQL's manual, appendix A)."""


def main(kind: type[J], work: Callable[[psycopg.Connection[Any], J], None]) -> NoReturn:
    """Run one worker program: its job from BENCH_JOB, its database from libpq's variables. Ends the process.

    The exit status is 0 when the whole job is done; else it is 1, and the last line on stderr gives the reason.
    """
    try:
        job = decode_job(os.environ.get("BENCH_JOB", ""))
    except msgspec.MsgspecError as error:
        fail(f"BENCH_JOB holds no job that this worker knows: {error}; start workers with `bench run` or with compose")
    if not isinstance(job, kind):
        fail(f"BENCH_JOB holds a {type(job).__name__}, which is for another program; start it with a {kind.__name__}")
    # Pages contain no reference cycles; a GC pass would cost more than the time between two pages.
    gc.disable()
    _keep_memory()
    try:
        with connect(job) as connection:
            work(connection, job)
    except psycopg.Error as error:
        texts = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
        message = "\n".join(filter(None, texts)) or str(error).strip()
        limit = time_out(job, error)
        fail(f"{message} ({limit}: a setting of the role, the database or the server)" if limit else message)
    except BrokenPipeError:
        # No one reads the records any more: the orchestrator is gone. Keep Python from flushing stdout again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(GONE)
    sys.exit(0)


def time_out(job: Job, error: psycopg.Error) -> str:
    """The user's time-out that may have ended a statement or a session of this job, with its value, as in
    'lock_timeout is 200ms'; "" when the error is of another kind, or when that time-out is not set."""
    name = _ENDED_BY.get(error.sqlstate or "")
    if name is None:
        return ""
    try:
        with connect(job) as another:
            give_back_timeouts(another)
            row = another.execute("SELECT current_setting(%s)", [name]).fetchone()
    except psycopg.Error:
        return ""
    return f"{name} is {row[0]}" if row and row[0] != "0" else ""


def _keep_memory() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES >> 3)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def connect(job: Job) -> psycopg.Connection[Any]:
    """Open a session for a job, by libpq's variables. The user's time-outs are off in it until `give_back_timeouts`.

    Ends the process when the session reached another server than the job's: there no one holds the barrier, and a log,
    if there is one, is not ours.
    """
    connection = psycopg.connect(
        autocommit=True, application_name=job.session or f"bench {job.name}", connect_timeout=CONNECT_SECONDS
    )
    # First of all: a busy machine may take longer for what follows than a role lets its sessions be idle.
    connection.execute("; ".join(f"SET {name} TO 0" for name in timeouts_of(connection)).encode())
    if job.server and (reached := server(connection)) != job.server:
        fail(
            f"it reached another server than the orchestrator: through {connection.info.host} it reached {reached}, "
            f"and not {job.server}; give an address that leads every machine to the same server, not a list of hosts "
            "and not localhost; after a fail-over, run again"
        )
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(job.schema)))
    if job.session_sql:
        connection.execute(job.session_sql.encode())
    # So that a ctime without a time zone means the same to all workers.
    connection.execute("SET TimeZone TO 'UTC'")
    # psycopg makes libpq non-blocking for its own event loop, which is not used from here on.
    connection.pgconn.nonblocking = 0
    return connection


def give_back_timeouts(connection: psycopg.Connection[Any]) -> None:
    """Put the user's time-outs in force in a session of `connect`: the log runs under the user's own settings."""
    connection.execute("; ".join(f"RESET {name}" for name in timeouts_of(connection)).encode())


def timeouts_of(connection: psycopg.Connection[Any]) -> list[str]:
    """Names of the settings in `TIMEOUTS` that the connection's server has."""
    return [name for name in TIMEOUTS if name != "transaction_timeout" or connection.info.server_version >= 170000]


def server(connection: psycopg.Connection[Any]) -> str:
    """Identify the database and the server that this session has reached, as text for people."""
    row = connection.execute(SERVER).fetchone()
    reached = str(row[0]) if row else ""
    try:
        system = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return reached
    return f"{reached}, of the cluster {system[0]}" if system else reached


def fail(why: str) -> NoReturn:
    """End this worker; the reason, a sentence for people, is its last line on stderr."""
    sys.exit(why)


def is_free_sql(key: int) -> str:
    """The query that yields, as text, whether the orchestrator has released an advisory lock. Queries of a worker's own
    name the schema of such functions: those of a log may be replaced in the worker's session."""
    return f"SELECT pg_catalog.pg_try_advisory_lock_shared({key})::text"


def wait_at_barrier(connection: psycopg.Connection[Any], job: Job) -> Clock:
    """Report that this worker is ready, and return when the barrier is released. The user's time-outs are in force from
    then on."""
    clock = Clock(connection)
    barrier = Statement(
        connection,
        "SELECT pg_catalog.pg_advisory_lock_shared($1::bigint)::text, "
        "pg_catalog.pg_advisory_unlock_shared($1::bigint)::text, "
        # An orchestrator that dies releases the barrier, too.
        + ("'false'" if job.alive is None else f"pg_catalog.pg_try_advisory_lock_shared({job.alive})::text"),
    )
    say(
        Ready(
            clock_offset_ms=clock.offset_seconds * 1e3,
            round_trip_ms=clock.round_trip_seconds * 1e3,
            job=echo(job),
            session=_session(connection),
        )
    )
    if barrier.run(b"%d" % job.barrier).get_value(0, 2) == b"true":
        fail(GONE)
    give_back_timeouts(connection)
    return clock


def first_second(connection: psycopg.Connection[Any], clock: Clock, job: Job) -> float:
    """When the first second of the phase begins, as perf_counter has it: when the phase was opened, or when the
    schedule starts that workers share; now, where neither is announced. To be called after the barrier.
    """
    starts_at = Statement(connection, STARTS_AT).run()
    if starts_at.ntuples:
        return time.perf_counter() + int(starts_at.get_value(0, 0) or 0) / 1e6 - clock.now()
    if job.phases if isinstance(job, ConsumerJob) else job.load or job.seconds is not None:
        fail(GONE)
    return time.perf_counter()


class Lifeline:
    """Ends this worker when its orchestrator dies, which holds an advisory lock for as long as it lives.

    Nothing else might end a worker in a container, or one that works on a user's database.
    """

    def __init__(self, connection: psycopg.Connection[Any], job: Job) -> None:
        """Begin to watch; once per process."""
        self._key = job.alive
        self.due = math.inf if job.alive is None else 0.0
        """When the next `look` is due (perf_counter)."""
        self.follow(connection)
        if job.alive is not None:
            # A thread would cost a reader a tenth of its rate: the C library is slower in a process that has two.
            signal.signal(signal.SIGALRM, self._look_meanwhile)
            signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)

    def follow(self, connection: psycopg.Connection[Any]) -> None:
        """Look over this connection from now on; its running statement is cancelled when the orchestrator is gone."""
        self._connection = connection
        if self._key is not None:
            self._lock = Statement(connection, is_free_sql(self._key))
            self.due = time.perf_counter() + LOOK_SECONDS

    def look(self) -> None:
        """Check whether the orchestrator lives, if that is due. To be called between two statements."""
        if time.perf_counter() < self.due:
            return
        if self._lock.run().get_value(0, 0) == b"true":
            fail(GONE)
        self.due = time.perf_counter() + LOOK_SECONDS

    def _look_meanwhile(self, *_: object) -> None:
        """Check whether the orchestrator lives while this worker waits for a long statement, over a connection that is
        opened for this only."""
        if time.perf_counter() > self.due + LOOK_SECONDS and self._is_gone():
            with suppress(psycopg.Error):
                self._connection.pgconn.get_cancel().cancel()
            with suppress(OSError):  # stderr may have lost its reader
                os.write(sys.stderr.fileno(), f"{GONE}\n".encode())
            os._exit(1)

    def _is_gone(self) -> bool:
        with suppress(psycopg.Error), psycopg.connect(autocommit=True, connect_timeout=RECONNECT_SECONDS) as looking:
            row = looking.execute(f"SELECT pg_try_advisory_lock_shared({self._key})").fetchone()
            return bool(row and row[0])
        return False


def _session(connection: psycopg.Connection[Any]) -> dict[str, str]:
    columns = ["current_schema()::text", *(f"current_setting('{name}')" for name in SESSION)]
    result = Statement(connection, f"SELECT {', '.join(columns)}").run()
    values = [result.get_value(0, column) or b"" for column in range(len(columns))]
    settings = {name: value.decode() for name, value in zip(("schema", *SESSION), values, strict=True)}
    return {**settings, "server": server(connection), "transport": "wire" if is_unencrypted(connection) else "libpq"}
