"""Keeps the schedule of an offered load, and measures how well.

A batch that is late is sent as soon as the answer before it has come; no batch is skipped, and no due time is moved.
So the latency from the due time includes the time that a batch waited for its turn, as a user's request does
("coordinated omission" is the name for leaving it out: Gil Tene, "How NOT to Measure Latency", 2013).
"""

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from bench.histograms import SecondCounts, bucket
from bench.records import Offered, StepFigures, step_figures


class Pace:
    """The pace of one producer."""

    def __init__(
        self,
        due_seconds: Iterator[float],
        limit: int,
        batch: int,
        ends: Sequence[float] = (),
        warm_up_seconds: int = 0,
    ) -> None:
        """`due_seconds` has the due times of all batches: `limit` events, `batch` events each. `ends` are the ends of
        all steps of the load but the last one, in seconds after the start of the schedule. Batches that are due in the
        warm-up are in no figure of `finish`.
        """
        self._coming = due_seconds
        self._left, self._batch = limit, batch
        self._due: deque[float] = deque([next(self._coming)])
        """Due times of batches that are not sent yet: those that are due, and the first one that is not."""
        self._warm_up_seconds = warm_up_seconds
        self._appends: list[tuple[float, float]] = []
        self._waits: list[tuple[float, float]] = []
        """Seconds from the time at which each batch was due to its commit; and to its sending, of batches that were
        waited for; each with its end (perf_counter)."""
        self._ends = [*ends, math.inf]
        self._latencies: list[list[float]] = [[] for _ in self._ends]
        """Seconds by the step in which a batch was due, since the last `count`."""
        self._buckets: list[Counter[int]] = [Counter() for _ in self._ends]
        """Numbers of the latencies before, by step and bucket."""
        self._answered = [0 for _ in self._ends]
        """Events by the step in which the answer came."""
        self._due_step = self._answer_step = 0
        self._events = 0
        """Events of the batch that was waited for."""
        self._start_pc = self._last_due = self._ended = 0.0
        self._largest_backlog = self._warm_up_events = 0
        self._most_behind = 0.0

    def start(self, start_pc: float) -> None:
        """Start the schedule at this moment (perf_counter); returns then."""
        self._start_pc = start_pc
        time.sleep(max(0.0, start_pc - time.perf_counter()))

    def wait(self, until: float) -> bool:
        """Wait until the next batch is due; False when `until` (perf_counter) comes first, if that is still to come."""
        due = self._start_pc + self._due[0]
        is_measured = self._due[0] >= self._warm_up_seconds
        now = time.perf_counter()
        waited = now < due
        if waited:
            if now < until < due:
                time.sleep(until - now)
                return False
            time.sleep(due - now)
            now = time.perf_counter()
            self._waits.append((now - due, now))
        elif now > due and is_measured:
            self._most_behind = max(self._most_behind, now - due)
        while self._start_pc + self._due[-1] <= now and (following := next(self._coming, None)) is not None:
            self._due.append(following)
        self._events = min(self._batch, self._left)
        if is_measured:
            late = len(self._due) - (self._start_pc + self._due[-1] > now) - waited
            self._largest_backlog = max(self._largest_backlog, min(late * self._batch, self._left))
        else:
            self._warm_up_events += self._events
        self._left -= self._batch
        self._last_due = self._due.popleft()
        return True

    def answered(self, now: float) -> None:
        """Note the answer to the batch that was waited for."""
        self._ended = now - self._start_pc
        latency = self._ended - self._last_due
        self._appends.append((latency, now))
        while self._last_due >= self._ends[self._due_step]:
            self._due_step += 1
        self._latencies[self._due_step].append(latency)
        while self._ended >= self._ends[self._answer_step]:
            self._answer_step += 1
        self._answered[self._answer_step] += self._events

    def count(self, seconds: SecondCounts) -> None:
        """Count the latencies since the last such call.

        Raises:
            ValueError: as `SecondCounts.count` does.
        """
        seconds.count_by_end("append", self._appends)
        seconds.count_by_end("lateness", self._waits)
        for latencies, buckets in zip(self._latencies, self._buckets, strict=True):
            buckets.update(bucket(int(latency * 1e6)) for latency in latencies)
            latencies.clear()

    def finish(self, seconds: SecondCounts) -> Offered:
        """Count the latencies since the last `count`, and report how the schedule was kept."""
        self.count(seconds)
        return Offered(
            last_due_seconds=self._last_due,
            ended_seconds=self._ended,
            largest_backlog=self._largest_backlog,
            most_behind_seconds=self._most_behind,
            warm_up_events=self._warm_up_events,
        )

    def steps(self) -> list[StepFigures]:
        """Report what was measured of each step until the last `count`, as records."""
        figures = zip(self._buckets, self._answered, strict=True)
        return [
            part
            for step, (buckets, answered) in enumerate(figures)
            for part in step_figures(step, sorted(buckets.items()), answered)
        ]
