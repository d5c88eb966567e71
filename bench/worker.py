"""The parts that all workers share: take a job, connect, measure the clock, wait at the barrier, run statements, print
records.

A worker knows nothing of where it runs. It uses libpq's own calls, because one statement per batch and a page of tuples
are all that it needs, and anything more would be measured with it.
"""

import ctypes
import gc
import math
import os
import select
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
"""A worker checks this often whether its orchestrator lives."""
LONGEST_MICROSECONDS = 365 * 86_400 * 1_000_000
"""A year: no call of a run takes longer."""
_RESOLUTION_SECONDS = 2e-6
"""A microsecond of the database's clock and one of ours."""
_DRIFT = 15e-6
"""Seconds by which a clock may drift in a second: PHI, the frequency tolerance of NTP (RFC 5905, section 7.3)."""

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

_numbers = count()
_SUCCESS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_IN)


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


def say(record: Record) -> None:
    """Print one record."""
    sys.stdout.buffer.write(encode_record(record) + b"\n")
    sys.stdout.buffer.flush()


class Statement:
    """A prepared statement on one connection; results are binary, parameters are text unless stated otherwise."""

    def __init__(self, connection: psycopg.Connection[Any], query: str) -> None:
        self._pgconn = connection.pgconn
        self._encoding = connection.info.encoding
        self._before = self._pgconn.transaction_status
        self.name = b"bench_%d" % next(_numbers)
        self._pgconn.send_prepare(self.name, query.encode())
        _answered(self._pgconn, self._encoding)

    def types(self) -> list[int]:
        """The oids of the column types."""
        self._pgconn.send_describe_prepared(self.name)
        (described,) = _answered(self._pgconn, self._encoding)
        return [described.ftype(column) for column in range(described.nfields)]

    def run(self, *parameters: bytes | bytearray) -> pq.abc.PGresult:
        """Execute the statement and wait for the whole result."""
        self._pgconn.send_query_prepared(self.name, parameters, result_format=pq.Format.BINARY)
        return _answered(self._pgconn, self._encoding)[-1]

    def send(self, parameters: Sequence[bytes | None], formats: Sequence[pq.Format] | None = None) -> None:
        """Execute the statement without waiting for the result. `receive` must be called before the next `send`."""
        self._before = self._pgconn.transaction_status
        self._pgconn.send_query_prepared(self.name, parameters, param_formats=formats, result_format=pq.Format.BINARY)

    def receive(self) -> pq.abc.PGresult:
        """Wait for the answer to `send`.

        Raises:
            psycopg.Error: the server's error, even one that comes after the rows, as a deferred constraint's does;
                OperationalError when the call began or ended a transaction.
        """
        result = _answered(self._pgconn, self._encoding)[0]
        _check_transaction(self._pgconn, self._before)
        return result


def _check(result: pq.abc.PGresult, encoding: str) -> None:
    """Raise the server's error as psycopg's exception for it, or OperationalError when the connection is gone."""
    if result.status not in _SUCCESS:
        error = psycopg.errors.error_from_result(result, encoding=encoding)
        # An error without a SQLSTATE comes from libpq and not from the server: nothing came back.
        raise error if error.sqlstate else psycopg.OperationalError(str(error))


def _next_result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    """Wait for the next result of the statement that was sent; None after the last one.

    Python waits here, and not libpq, which handles no signal and may keep the other threads from running: the lifeline
    of a worker is a signal, and a tunnel to Postgres is a thread.
    """
    with suppress(psycopg.Error):  # a lost connection is reported with the result
        while pgconn.flush():
            select.select([pgconn.socket], [pgconn.socket], [])
            pgconn.consume_input()
        while pgconn.is_busy():
            select.select([pgconn.socket], [], [])
            pgconn.consume_input()
    return pgconn.get_result()


def _answered(pgconn: pq.abc.PGconn, encoding: str, first: pq.abc.PGresult | None = None) -> list[pq.abc.PGresult]:
    """Wait for all results of the statement that was sent, after the first one if that has come already.

    Raises the first error among the results. libpq's `PQexec` returns the last one, which hides why the server ended
    the session: the error after the server's own says only that the connection is gone.
    """
    results = [first] if first else []
    while (result := _next_result(pgconn)) is not None:
        results.append(result)
    if not results:
        raise psycopg.OperationalError(pgconn.get_error_message(encoding))
    for result in results:
        _check(result, encoding)
    return results


def _same_transaction(pgconn: pq.abc.PGconn, call: Callable[..., int]) -> Callable[..., int]:
    """Make a call refuse to begin or to end a transaction, as the calls of a `RawSocket` do."""

    def checked(*values: bytes | bytearray) -> int:
        before = pgconn.transaction_status
        called = call(*values)
        _check_transaction(pgconn, before)
        return called

    return checked


def _check_transaction(pgconn: pq.abc.PGconn, before: int) -> None:
    if pgconn.transaction_status != before:
        raise transaction_changed(before)


def prepare_append(connection: psycopg.Connection[Any], query: str, parameters: int) -> Callable[..., int]:
    """Prepare a statement that appends; returns a function that executes it and returns the number of rows appended.

    Its parameters are texts. A SELECT yields the number in its only row; an INSERT has it in its tag.
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
    """A way to append in which a batch is one text."""

    wrap: Callable[[bytes], bytes]
    """Makes the message of a text: the bytes that it adds depend on the text's length only."""
    count: Callable[[bytes | bytearray], int]
    """Sends a message, waits, and returns the number of rows appended."""


def statement_sender(connection: psycopg.Connection[Any], query: str) -> BatchSender:
    """Prepare a statement that appends, whose only parameter is a text."""
    if not is_unencrypted(connection):
        return BatchSender(bytes, prepare_append(connection, query, 1))
    call = Call(Statement(connection, query).name, [pq.Format.TEXT])
    return BatchSender(lambda text: call.message(packed([text])), RawSocket(connection).counter())


def copy_sender(connection: psycopg.Connection[Any], query: str) -> BatchSender:
    """Send batches through COPY FROM STDIN, as rows in COPY's text format."""
    if is_unencrypted(connection):
        return BatchSender(lambda rows: copy_message(query.encode(), rows), RawSocket(connection).counter())

    pgconn = connection.pgconn
    encoding = connection.info.encoding

    def through_libpq(rows: bytes | bytearray) -> int:
        pgconn.send_query(query.encode())
        begun = _next_result(pgconn)
        if begun and begun.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_data(rows)
            pgconn.put_copy_end()
        return _answered(pgconn, encoding, begun)[-1].command_tuples or 0

    return BatchSender(bytes, _same_transaction(pgconn, through_libpq))


class Clock:
    """The database's clock, as estimated by this worker.

    The offset comes from the quickest of several round trips, assumed to be symmetric (Cristian, 1989).
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
        self.measured_pc = time.perf_counter()
        """The same moment as perf_counter has it."""

    def now(self) -> float:
        """Unix time on the database's clock."""
        return time.time() + self.offset_seconds

    def uncertainty_seconds(self, at: float) -> float:
        """The largest error, in seconds, of a time `at` that `now` returned.

        Half the round trip in which the offset was measured (Cristian, 1989), the resolution of both clocks, and the
        drift between them since the measurement: NTP's root distance (RFC 5905, section 11.2).
        """
        return self.round_trip_seconds / 2 + _RESOLUTION_SECONDS + _DRIFT * max(0.0, at - self.measured_at)


def wait_at_barrier(connection: psycopg.Connection[Any], job: Job) -> Clock:
    """Report that this worker is ready, and return when the barrier is released. The user's time-outs are in force from
    then on."""
    clock = Clock(connection)
    barrier = Statement(
        connection,
        "SELECT pg_advisory_lock_shared($1::bigint)::text, pg_advisory_unlock_shared($1::bigint)::text, "
        # An orchestrator that dies releases the barrier, too.
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
            self._lock = Statement(connection, f"SELECT pg_try_advisory_lock_shared({self._key})::text")
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


def histogram() -> HdrHistogram:
    """An empty histogram of microseconds: up to a year, within 1 %. Less than a microsecond counts as 0."""
    return HdrHistogram(1, LONGEST_MICROSECONDS, 2)


def record(into: HdrHistogram, microseconds: int, count: int) -> None:
    """Add `count` occurrences of one value.

    Raises:
        ValueError: the value is below 0 or longer than a year. HdrHistogram would drop it without an error.
    """
    if not into.record_value(microseconds, count):
        raise ValueError(f"a histogram cannot hold {microseconds} us: it must be from 0 to a year")


def encoded(of: HdrHistogram) -> str:
    """Encode a histogram as text for a record."""
    return str(of.encode().decode())


class Meter:
    """A meter of a phase: time and CPU from its construction on, the latency of each call, and live progress."""

    def __init__(self, clock: Clock) -> None:
        self._latency = histogram()
        self.calls: list[float] = []
        """Seconds that each call since the last progress took."""
        self._first_call_seconds: float | None = None
        self.started_at = clock.now()
        self._started = time.perf_counter()
        self._cpu_started = time.process_time()
        self._ended: tuple[float, float] | None = None
        """Seconds and CPU seconds until the last `end`."""
        self.next_progress = self._started
        """When the next progress record is due (perf_counter); the first one is due at once."""
        self._last_progress = 0

    def count(self, sent: float, now: float) -> bool:
        """Count a call sent at `sent` and answered `now` (perf_counter); True when `progress` is due."""
        self.calls.append(now - sent)
        return now >= self.next_progress

    def progress(self, events: int, checksum: int = 0) -> None:
        """Report the total so far if it has changed. Until a first call counts, progress is due again at once."""
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
        """Make now the end of the measured time, instead of any earlier moment.

        `awake_seconds`, CPU time in which the worker only waited, does not count.
        """
        cpu_seconds = time.process_time() - self._cpu_started - awake_seconds
        self._ended = time.perf_counter() - self._started, max(0.0, cpu_seconds)

    def finish(self, events: int, checksum: int) -> Report:
        """The report of everything measured until the last `end`, or until now without one."""
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
        # Many calls take the same number of microseconds, and a histogram takes many of one value at once.
        for microseconds, calls in Counter([int(seconds * 1e6) for seconds in self.calls]).items():
            record(self._latency, microseconds, calls)
        self.calls.clear()
