"""Measures a phase of a worker: the clock of the database, the latency of each call, CPU, memory, and progress."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import psycopg
from hdrh.histogram import HdrHistogram

from bench.records import Progress, Record, Report, encode_record
from bench.statement import Statement

PROGRESS_SECONDS = 0.5
LONGEST_MICROSECONDS = 365 * 86_400 * 1_000_000
"""A year: no call of a run takes longer."""
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

    def progress(self, events: int, checksum: int = 0, cursor: Callable[[], list[bytes]] = list) -> None:
        """Report the total so far, with a cursor, if the total has changed. Until a first call counts, progress is due
        again at once."""
        now = time.perf_counter()
        if self._first_call_seconds is None and self.calls:
            self._first_call_seconds = now - self._started
        if self._first_call_seconds is not None:
            self.next_progress = now + PROGRESS_SECONDS
        self._note_calls()
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
