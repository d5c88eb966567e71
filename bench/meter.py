"""Measures a phase of a worker: the clock of the database, the latency of each call, CPU, memory, and progress."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import psycopg

from bench.histograms import SecondCounts
from bench.records import Progress, Record, Report, Timed, encode_record
from bench.statement import Statement

_REPORTS_PER_SECOND = 2
PROGRESS_SECONDS = 1 / _REPORTS_PER_SECOND
_RESOLUTION_SECONDS = 2e-6
"""A microsecond of the database's clock and one of ours."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_DRIFT = 15e-6
"""Seconds by which a clock may drift in a second: PHI, the frequency tolerance of NTP (RFC 5905, section 7.3)."""


def say(record: Record) -> None:
    """Print one record."""
    sys.stdout.buffer.write(encode_record(record) + b"\n")
    sys.stdout.buffer.flush()


def resident_bytes() -> int:
    """The resident memory of this process; 0 where the system does not show it as Linux does."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES
    return 0


class Clock:
    """The database's clock, as estimated by this worker.

    The offset comes from the quickest of several round trips, assumed to be symmetric (Cristian, 1989).
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        ask = Statement(connection, "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::float8::text")
        samples = []
        for _ in range(7):
            sent = time.time()
            result = ask.run()
            received = time.time()
            database = float(result.get_value(0, 0) or b"nan")
            samples.append((received - sent, database - (sent + received) / 2))
        self.round_trip_seconds, self.offset_seconds = min(samples)
        before_pc = time.perf_counter()
        self.measured_at = self.now()
        """Unix time on the database's clock."""
        self.measured_pc = time.perf_counter()
        """The same moment as perf_counter has it, or later by up to `_apart_seconds`."""
        self._apart_seconds = self.measured_pc - before_pc
        """Time in which both clocks were looked at: long when the process had to wait for a processor in between."""

    def now(self) -> float:
        """Unix time on the database's clock."""
        return time.time() + self.offset_seconds

    def uncertainty_seconds(self, at: float) -> float:
        """The largest error, in seconds, of a time `at` that `now` returned.

        Half the round trip in which the offset was measured (Cristian, 1989), the resolution of both clocks, the time
        between the looks at them, and the drift between them since the measurement: NTP's root distance (RFC 5905,
        section 11.2).
        """
        drift = _DRIFT * max(0.0, at - self.measured_at)
        return self.round_trip_seconds / 2 + self._apart_seconds + _RESOLUTION_SECONDS + drift


class Meter:
    """A meter of a phase: time and CPU from its construction on, the latency of each call, and live progress."""

    def __init__(self, clock: Clock, seconds: SecondCounts, metric: Timed, warm_up_seconds: int = 0) -> None:
        """Count the latencies of calls as `metric`, and report those in `seconds` of each second that is over."""
        self._clock = clock
        self._seconds = seconds
        self._metric = metric
        self._warm_up_seconds = warm_up_seconds
        self.warm_up_calls = 0
        """Calls that ended in the warm-up, without those since the last progress."""
        self.calls: list[float] = []
        """Seconds that each call since the last progress took, of those that ended before the next one is due."""
        self._late: list[tuple[float, float]] = []
        """The other calls: what each took, and its end (perf_counter)."""
        self._first_call_seconds: float | None = None
        self.started_at = clock.now()
        self._started = time.perf_counter()
        self._cpu_started = time.process_time()
        self._ended: tuple[float, float] | None = None
        """Seconds and CPU seconds until the last `end`."""
        self.next_progress = self._started
        """When the next progress record is due (perf_counter); the first one is due at once."""
        self._last_progress = 0
        self._second = 0
        """The second in which `calls` end."""

    def count(self, sent: float, now: float) -> bool:
        """Count a call sent at `sent` and answered `now` (perf_counter); True when `progress` is due."""
        self.calls.append(now - sent)
        if now < self.next_progress:
            return False
        self.was_late(now)
        return True

    def was_late(self, now: float) -> None:
        """Note that the last one of `calls` was answered `now` (perf_counter), and not before progress was due."""
        self._late.append((self.calls.pop(), now))

    def progress(self, events: int, checksum: int = 0, cursor: Callable[[], list[bytes]] = list) -> None:
        """Report the total so far, with a cursor, if the total has changed, and the latencies of the seconds that are
        over. Until a first call counts, progress is due again at once.
        """
        now = time.perf_counter()
        self._note_first_call(now)
        self._count_calls()
        if self._first_call_seconds is not None:
            # The second of all calls that end before then is known without a look at each.
            self.next_progress = self._seconds.next_part(now, _REPORTS_PER_SECOND)
        second = self._seconds.second(now)
        if second != self._second:
            self._second = second
            for record in self._seconds.over(now):
                say(record)
        if events != self._last_progress:
            self._last_progress = events
            say(Progress(events, checksum, resident_bytes(), cursor()))

    def end(self, awake_seconds: float = 0) -> None:
        """Make now the end of the measured time, instead of any earlier moment.

        `awake_seconds`, CPU time in which the worker only waited, does not count.
        """
        cpu_seconds = time.process_time() - self._cpu_started - awake_seconds
        self._ended = time.perf_counter() - self._started, max(0.0, cpu_seconds)

    def finish(self, events: int, checksum: int) -> Report:
        """Report the latencies that are not reported yet, and return the report of everything else that was measured
        until the last `end`, or until now without one.
        """
        self._note_first_call(time.perf_counter())
        if self._ended is None:
            self.end()
        seconds, cpu_seconds = self._ended or (0.0, 0.0)
        self._count_calls()
        for record in self._seconds.rest():
            say(record)
        return Report(
            events=events,
            checksum=checksum,
            started_at=self.started_at,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            clock_uncertainty_seconds=self._clock.uncertainty_seconds(self._clock.now()),
            first_call_seconds=self._first_call_seconds,
            memory_bytes=getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        )

    def _note_first_call(self, now: float) -> None:
        if self._first_call_seconds is None and (self.calls or self._late):
            self._first_call_seconds = now - self._started

    def _count_calls(self) -> None:
        if self.calls:
            self.warm_up_calls += len(self.calls) * (self._second < self._warm_up_seconds)
            self._seconds.count(self._metric, self._second, self.calls)
        if self._late:
            self.warm_up_calls += sum(self._seconds.second(end) < self._warm_up_seconds for _, end in self._late)
            self._seconds.count_by_end(self._metric, self._late)
