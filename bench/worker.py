"""What every worker does: take its job, connect, measure its clock, wait at the barrier, run statements, print records.

Knows nothing of where it runs. It speaks libpq's own calls, because a statement a batch and a page of tuples is all
that it needs, and anything more would be measured with it.
"""

import ctypes
import gc
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from resource import RUSAGE_SELF, getrusage
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec
import psycopg
from hdrh.histogram import HdrHistogram
from psycopg import pq, sql

from bench.records import SERVER, SESSION, TIMEOUTS, Job, Progress, Ready, Record, Report, decode_job, encode_record
from bench.wire import Call, RawSocket, copy_message, is_unencrypted, packed, transaction_changed

J = TypeVar("J", bound=Job)

PROGRESS_SECONDS = 0.5
CONNECT_SECONDS = 30
GONE = "the orchestrator is gone"
RECONNECT_SECONDS = 5
LOOK_SECONDS = 2.0
"""A worker looks this often whether its orchestrator lives."""
LONGEST_MICROSECONDS = 365 * 86_400 * 1_000_000
"""A year: no call of a run takes longer."""
_RESOLUTION_SECONDS = 2e-6
"""A microsecond of the database's clock and one of ours."""
_DRIFT = 15e-6
"""Seconds by which a clock may drift in a second: PHI, the frequency tolerance of NTP (RFC 5905, section 7.3)."""

_KEPT_BYTES = 256 << 20
"""So much memory is kept when it is free, not given back and taken again with each page of rows, fault by fault."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""

_ENDED_BY = {
    "57014": "statement_timeout",
    "55P03": "lock_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "57P05": "idle_session_timeout",
}
"""What a statement or a session may have been ended by, by its SQLSTATE (PostgreSQL's manual, appendix A)."""

_numbers = count()
_SUCCESS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_IN)


def main(kind: type[J], work: Callable[[psycopg.Connection[Any], J], None]) -> NoReturn:
    """Run one worker program: its job from BENCH_JOB, its database from libpq's variables. Ends the process.

    Exit status 0 when all of the job is done; 1 when not, and the last line on stderr says why.
    """
    try:
        job = decode_job(os.environ.get("BENCH_JOB", ""))
    except msgspec.MsgspecError as error:
        fail(f"BENCH_JOB holds no job that this worker knows ({error}): `bench run` or compose start workers")
    if not isinstance(job, kind):
        fail(f"BENCH_JOB holds a {type(job).__name__}, which is another program's")
    # Pages of rows are no cycles, and looking for cycles in them costs more than a page's gaps.
    gc.disable()
    _keep_memory()
    try:
        with connect(job) as connection:
            work(connection, job)
    except psycopg.Error as error:
        told = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
        words = "\n".join(filter(None, told)) or str(error).strip()
        limit = time_out(job, error)
        fail(f"{words} ({limit}: a setting of the role, the database or the server)" if limit else words)
    except BrokenPipeError:
        # Nobody reads the records any more: the orchestrator is gone. Keep Python from flushing stdout again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(GONE)
    sys.exit(0)


def time_out(job: Job, error: psycopg.Error) -> str:
    """Which time-out of the user's may have ended a statement or a session of this job, with its value, as in
    'lock_timeout is 200ms'; empty when it is no such error, or there is no such time-out."""
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
    """Open a session for a job, by libpq's variables. None of the user's time-outs ends it before `give_back_timeouts`.

    Ends the process when it leads to another server than the job's, where nobody holds the barrier closed and where
    a log, if there is one, is somebody else's.
    """
    connection = psycopg.connect(
        autocommit=True, application_name=job.session or f"bench {job.name}", connect_timeout=CONNECT_SECONDS
    )
    # First of all: a busy machine may take longer for what follows than a role lets its sessions be idle.
    connection.execute("; ".join(f"SET {name} TO 0" for name in _timeouts(connection)).encode())
    if job.server and (reached := server(connection)) != job.server:
        fail(
            f"it reached another server than the orchestrator: through {connection.info.host} it reached {reached}, "
            f"and not {job.server}; give an address that means one server to all, not a list of hosts or a localhost "
            "that is another machine's to some; after a fail-over run again"
        )
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(job.schema)))
    # So that a ctime without a time zone means the same to all workers.
    connection.execute("SET TimeZone TO 'UTC'")
    # psycopg leaves libpq non-blocking for its own event loop, which is not used from here on.
    connection.pgconn.nonblocking = 0
    return connection


def give_back_timeouts(connection: psycopg.Connection[Any]) -> None:
    """Let the user's time-outs rule a session of `connect`: what the log does is under the user's own settings."""
    connection.execute("; ".join(f"RESET {name}" for name in _timeouts(connection)).encode())


def _timeouts(connection: psycopg.Connection[Any]) -> list[str]:
    return [name for name in TIMEOUTS if name != "transaction_timeout" or connection.info.server_version >= 170000]


def server(connection: psycopg.Connection[Any]) -> str:
    """Which database of which server this session has reached."""
    row = connection.execute(SERVER.encode()).fetchone()
    reached = str(row[0]) if row else ""
    try:
        system = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return reached
    return f"{reached}, of the cluster {system[0]}" if system else reached


def fail(why: str) -> NoReturn:
    """End this worker with a sentence for people."""
    sys.exit(why)


def say(record: Record) -> None:
    """Print one record."""
    sys.stdout.buffer.write(encode_record(record) + b"\n")
    sys.stdout.buffer.flush()


class Statement:
    """A prepared statement on one connection; results are binary, parameters texts unless said otherwise."""

    def __init__(self, connection: psycopg.Connection[Any], query: str) -> None:
        self._pgconn = connection.pgconn
        self._encoding = connection.info.encoding
        self._before = self._pgconn.transaction_status
        self.name = b"bench_%d" % next(_numbers)
        self._checked(self._pgconn.prepare(self.name, query.encode()))

    def types(self) -> list[int]:
        """The oids of the types of its columns."""
        described = self._checked(self._pgconn.describe_prepared(self.name))
        return [described.ftype(column) for column in range(described.nfields)]

    def run(self, *parameters: bytes | bytearray) -> pq.abc.PGresult:
        """Execute and wait for the whole result."""
        self._pgconn.send_query_prepared(self.name, parameters, result_format=pq.Format.BINARY)
        return _answered(self._pgconn, self._encoding)[-1]

    def send(self, parameters: Sequence[bytes | None], formats: Sequence[pq.Format] | None = None) -> None:
        """Ask, without waiting. One question at a time: `receive` is next."""
        self._before = self._pgconn.transaction_status
        self._pgconn.send_query_prepared(self.name, parameters, param_formats=formats, result_format=pq.Format.BINARY)

    def receive(self) -> pq.abc.PGresult:
        """Wait for the answer to `send`.

        Raises:
            psycopg.Error: the server's error, even one that comes behind the rows, as a deferred constraint's does;
                OperationalError when the call began or ended a transaction.
        """
        result = _answered(self._pgconn, self._encoding)[0]
        _check_transaction(self._pgconn, self._before)
        return result

    def _checked(self, result: pq.abc.PGresult) -> pq.abc.PGresult:
        _check(result, self._encoding)
        return result


def _check(result: pq.abc.PGresult, encoding: str) -> None:
    """Raise the server's error as psycopg's exception for it, or OperationalError when the connection is gone."""
    if result.status not in _SUCCESS:
        error = psycopg.errors.error_from_result(result, encoding=encoding)
        # Without a state it is libpq that speaks and not the server: nothing came back.
        raise error if error.sqlstate else psycopg.OperationalError(str(error))


def _answered(pgconn: pq.abc.PGconn, encoding: str, first: pq.abc.PGresult | None = None) -> list[pq.abc.PGresult]:
    """Wait for all results of what was sent, after the first one if that came already.

    Raises the first error among them. libpq's `PQexec` returns the last one, which hides why the server ended the
    session: after its words it is only that the connection is gone.
    """
    results = [first] if first else []
    while (result := pgconn.get_result()) is not None:
        results.append(result)
    if not results:
        raise psycopg.OperationalError(pgconn.get_error_message(encoding))
    for result in results:
        _check(result, encoding)
    return results


def _same_transaction(pgconn: pq.abc.PGconn, call: Callable[..., int]) -> Callable[..., int]:
    """A call that may neither begin a transaction nor end one, like those of a `RawSocket`."""

    def checked(*values: bytes | bytearray) -> int:
        before = pgconn.transaction_status
        called = call(*values)
        _check_transaction(pgconn, before)
        return called

    return checked


def _check_transaction(pgconn: pq.abc.PGconn, before: int) -> None:
    if pgconn.transaction_status != before:
        raise transaction_changed(before)


def caller(connection: psycopg.Connection[Any], query: str, parameters: int) -> Callable[..., int]:
    """Prepare a statement that appends; the function that is returned calls it and yields how many rows that were.

    Its parameters are texts. A query says the number itself, in its only row; an INSERT says it in its tag.
    """
    statement = Statement(connection, query)
    if is_unencrypted(connection):
        count, call = RawSocket(connection).counter(), Call(statement.name, [pq.Format.TEXT] * parameters)
        return lambda *values: count(call.message(packed(values)))

    def through_libpq(*values: bytes | bytearray) -> int:
        result = statement.run(*values)
        return int(result.get_value(0, 0) or 0) if result.ntuples else result.command_tuples or 0

    return _same_transaction(connection.pgconn, through_libpq)


class BatchSender(NamedTuple):
    """A way to append for which a batch is one text."""

    wrap: Callable[[bytes], bytes]
    """Makes of the text what is sent: what it adds depends on nothing but the text's length."""
    count: Callable[[bytes | bytearray], int]
    """Sends it, waits, and yields how many rows that were."""


def text_caller(connection: psycopg.Connection[Any], query: str) -> BatchSender:
    """Prepare a statement that appends, whose only parameter is a text."""
    if not is_unencrypted(connection):
        return BatchSender(bytes, caller(connection, query, 1))
    call = Call(Statement(connection, query).name, [pq.Format.TEXT])
    return BatchSender(lambda text: call.message(packed([text])), RawSocket(connection).counter())


def copier(connection: psycopg.Connection[Any], query: str) -> BatchSender:
    """A COPY FROM STDIN, of rows in its text format."""
    if is_unencrypted(connection):
        return BatchSender(lambda rows: copy_message(query.encode(), rows), RawSocket(connection).counter())

    pgconn = connection.pgconn
    encoding = connection.info.encoding

    def through_libpq(rows: bytes | bytearray) -> int:
        pgconn.send_query(query.encode())
        begun = pgconn.get_result()
        if begun and begun.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_data(rows)
            pgconn.put_copy_end()
        return _answered(pgconn, encoding, begun)[-1].command_tuples or 0

    return BatchSender(bytes, _same_transaction(pgconn, through_libpq))


class Clock:
    """The database's clock, as far as this worker can tell.

    The offset comes from the quickest of several round trips, taken to be symmetric (Cristian, 1989).
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        ask = Statement(connection, "SELECT extract(epoch FROM clock_timestamp())::float8::text")
        samples = []
        for _ in range(7):
            sent = time.time()
            result = ask.run()
            received = time.time()
            database = float(result.get_value(0, 0) or b"nan")
            samples.append((received - sent, database - (sent + received) / 2))
        self.round_trip_seconds, self.offset_seconds = min(samples)
        self.measured_at = self.now()
        """Unix time on the database's clock."""

    def now(self) -> float:
        """Unix time on the database's clock."""
        return time.time() + self.offset_seconds

    def uncertainty_seconds(self, at: float) -> float:
        """How far the database's clock may be from `at`, which is what `now` returned.

        Half the round trip in which the offset was measured (Cristian, 1989), the resolution of both clocks, and what
        they may have drifted apart since then: NTP's root distance (RFC 5905, section 11.2).
        """
        return self.round_trip_seconds / 2 + _RESOLUTION_SECONDS + _DRIFT * max(0.0, at - self.measured_at)


def wait_at_barrier(connection: psycopg.Connection[Any], job: Job) -> Clock:
    """Say that this worker is ready; return when all are let go, under the time-outs of the user from then on."""
    clock = Clock(connection)
    barrier = Statement(
        connection,
        "SELECT pg_advisory_lock_shared($1::bigint)::text, pg_advisory_unlock_shared($1::bigint)::text, "
        # An orchestrator that dies lets go of the barrier, too.
        + ("'false'" if job.alive is None else f"pg_try_advisory_lock_shared({job.alive})::text"),
    )
    say(
        Ready(
            clock_offset_ms=clock.offset_seconds * 1e3,
            round_trip_ms=clock.round_trip_seconds * 1e3,
            job=job,
            session=_session(connection),
        )
    )
    if barrier.run(b"%d" % job.barrier).get_value(0, 2) == b"true":
        fail(GONE)
    give_back_timeouts(connection)
    return clock


class Lifeline:
    """Ends this worker when its orchestrator is gone, which holds an advisory lock for as long as it lives.

    Nobody else may: a worker in a container, or one at somebody's database, would go on for ever.
    """

    def __init__(self, connection: psycopg.Connection[Any], job: Job) -> None:
        """Begin to watch, once in a process."""
        self._key = job.alive
        self.due = math.inf if job.alive is None else 0.0
        """When it is time to `look` again (perf_counter)."""
        self.follow(connection)
        if job.alive is not None:
            # A thread would cost a reader a tenth of its rate: the C library is slower in a process that has two.
            signal.signal(signal.SIGALRM, self._look_meanwhile)
            signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)

    def follow(self, connection: psycopg.Connection[Any]) -> None:
        """Look over this connection from now on; what it does when the orchestrator is gone is cancelled."""
        self._connection = connection
        if self._key is not None:
            self._lock = Statement(connection, f"SELECT pg_try_advisory_lock_shared({self._key})::text")
            self.due = time.perf_counter() + LOOK_SECONDS

    def look(self) -> None:
        """Look whether the orchestrator lives, between two statements, when it is time to."""
        if time.perf_counter() < self.due:
            return
        if self._lock.run().get_value(0, 0) == b"true":
            fail(GONE)
        self.due = time.perf_counter() + LOOK_SECONDS

    def _look_meanwhile(self, *_: object) -> None:
        """Look for a worker that has not looked for some time, because it waits for a statement: over a connection that
        is there for that only."""
        if time.perf_counter() > self.due + LOOK_SECONDS and self._is_gone():
            with suppress(psycopg.Error):
                self._connection.pgconn.get_cancel().cancel()
            with suppress(OSError):  # perhaps nobody reads it any more
                os.write(sys.stderr.fileno(), f"{GONE}\n".encode())
            os._exit(1)

    def _is_gone(self) -> bool:
        with suppress(psycopg.Error), psycopg.connect(autocommit=True, connect_timeout=RECONNECT_SECONDS) as looking:
            row = looking.execute(f"SELECT pg_try_advisory_lock_shared({self._key})".encode()).fetchone()
            return bool(row and row[0])
        return False


def _session(connection: psycopg.Connection[Any]) -> dict[str, str]:
    asked = ["current_schema()::text", *(f"current_setting('{name}')" for name in SESSION)]
    result = Statement(connection, f"SELECT {', '.join(asked)}").run()
    found = [result.get_value(0, column) or b"" for column in range(len(asked))]
    settings = {name: value.decode() for name, value in zip(("schema", *SESSION), found, strict=True)}
    return {**settings, "server": server(connection), "transport": "wire" if is_unencrypted(connection) else "libpq"}


def histogram() -> HdrHistogram:
    """An empty histogram of microseconds: up to a year, within 1 %. What takes less than a microsecond is 0."""
    return HdrHistogram(1, LONGEST_MICROSECONDS, 2)


def record(into: HdrHistogram, microseconds: int, count: int) -> None:
    """Count one value so many times.

    Raises:
        ValueError: it is below 0 or longer than a year. HdrHistogram would drop it and report that to nobody.
    """
    if not into.record_value(microseconds, count):
        raise ValueError(f"{microseconds} us is no time that a histogram holds: it must be from 0 to a year")


def encoded(of: HdrHistogram) -> str:
    """A histogram as text for a record."""
    return str(of.encode().decode())


class Meter:
    """Time and CPU of a phase from its construction on, the latency of each call in it, and its live progress."""

    def __init__(self, clock: Clock) -> None:
        self._latency = histogram()
        self.calls: list[float] = []
        """Seconds that each call took since the last progress."""
        self._first_call_seconds: float | None = None
        self.started_at = clock.now()
        self._started = time.perf_counter()
        self._cpu_started = time.process_time()
        self._ended: tuple[float, float] | None = None
        """Seconds and CPU seconds until the last `end`."""
        self.next_progress = self._started
        """When progress is to be told next (perf_counter); at first at once."""
        self._last_progress = 0

    def count(self, sent: float, now: float) -> bool:
        """Count a call sent at `sent` and answered `now` (perf_counter); True when it is time for `progress`."""
        self.calls.append(now - sent)
        return now >= self.next_progress

    def progress(self, events: int, checksum: int = 0) -> None:
        """Tell the total so far, unless it was told already. It is time for that as soon as a first call counts."""
        now = time.perf_counter()
        if self._first_call_seconds is None and self.calls:
            self._first_call_seconds = now - self._started
        if self._first_call_seconds is not None:
            self.next_progress = now + PROGRESS_SECONDS
        self._note_calls()
        if events != self._last_progress:
            self._last_progress = events
            say(Progress(events, checksum))

    def end(self, awake_seconds: float = 0) -> None:
        """Make now the end of what is measured, instead of any earlier moment.

        CPU time in which the worker only waited, `awake_seconds`, does not count.
        """
        cpu_seconds = time.process_time() - self._cpu_started - awake_seconds
        self._ended = time.perf_counter() - self._started, max(0.0, cpu_seconds)

    def finish(self, events: int, checksum: int) -> Report:
        """Report what was measured until the last `end`, or until now when there was none."""
        if self._ended is None:
            self.end()
        seconds, cpu_seconds = self._ended or (0.0, 0.0)
        self._note_calls()
        return Report(
            events=events,
            checksum=checksum,
            started_at=self.started_at,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            latency=encoded(self._latency),
            first_call_seconds=self._first_call_seconds,
            memory_bytes=getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        )

    def _note_calls(self) -> None:
        # A histogram takes many of one value at once, and many calls take the same number of microseconds.
        for microseconds, calls in Counter([int(seconds * 1e6) for seconds in self.calls]).items():
            record(self._latency, microseconds, calls)
        self.calls.clear()
