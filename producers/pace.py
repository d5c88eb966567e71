"""Keeps the schedule of an offered load, and measures how well.

A batch that is late is sent as soon as the answer before it has come; no batch is skipped, and no due time is moved.
So the latency from the due time includes the time that a batch waited for its turn, as a user's request does
("coordinated omission" is the name for leaving it out: Gil Tene, "How NOT to Measure Latency", 2013).
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence

from bench.meter import encoded, histogram, record
from bench.records import Offered, StepFigures


class Pace:
    """The pace of one producer."""

    def __init__(self, due_seconds: Iterator[float], limit: int, batch: int, ends: Sequence[float] = ()) -> None:
        """`due_seconds` has the due times of all batches: `limit` events, `batch` events each. `ends` are the ends of
        all steps of the load but the last one, in seconds after the start of the schedule."""
        self._coming = due_seconds
        self._left, self._batch = limit, batch
        self._due: deque[float] = deque([next(self._coming)])
        """Due times of batches that are not sent yet: those that are due, and the first one that is not."""
        self._ends = [*ends, math.inf]
        self._latencies, self._lateness = [histogram() for _ in self._ends], histogram()
        """Latencies by the step in which a batch was due."""
        self._answered = [0 for _ in self._ends]
        """Events by the step in which the answer came."""
        self._due_step = self._answer_step = 0
        self._events = 0
        """Events of the batch that was waited for."""
        self._start_pc = self._last_due = self._ended = 0.0
        self._largest_backlog = 0
        self._most_behind = 0.0

    def start(self, start_pc: float) -> None:
        """Start the schedule at this moment (perf_counter); returns then."""
        self._start_pc = start_pc
        time.sleep(max(0.0, start_pc - time.perf_counter()))

    def wait(self, until: float) -> bool:
        """Wait until the next batch is due; False when `until` (perf_counter) comes first, if that is still to come."""
        due = self._start_pc + self._due[0]
        now = time.perf_counter()
        waited = now < due
        if waited:
            if now < until < due:
                time.sleep(until - now)
                return False
            time.sleep(due - now)
            now = time.perf_counter()
            record(self._lateness, int((now - due) * 1e6), 1)
        elif now > due:
            self._most_behind = max(self._most_behind, now - due)
        while self._start_pc + self._due[-1] <= now and (following := next(self._coming, None)) is not None:
            self._due.append(following)
        late = len(self._due) - (self._start_pc + self._due[-1] > now) - waited
        self._largest_backlog = max(self._largest_backlog, min(late * self._batch, self._left))
        self._events = min(self._batch, self._left)
        self._left -= self._batch
        self._last_due = self._due.popleft()
        return True

    def answered(self, now: float) -> None:
        """Note the answer to the batch that was waited for."""
        self._ended = now - self._start_pc
        while self._last_due >= self._ends[self._due_step]:
            self._due_step += 1
        record(self._latencies[self._due_step], int((self._ended - self._last_due) * 1e6), 1)
        while self._ended >= self._ends[self._answer_step]:
            self._answer_step += 1
        self._answered[self._answer_step] += self._events

    def report(self) -> Offered:
        """Report how the schedule was kept."""
        latency = histogram()
        for each in self._latencies:
            latency.add(each)
        return Offered(
            latency=encoded(latency),
            lateness=encoded(self._lateness),
            last_due_seconds=self._last_due,
            ended_seconds=self._ended,
            largest_backlog=self._largest_backlog,
            most_behind_seconds=self._most_behind,
        )

    def steps(self) -> list[StepFigures]:
        """Report what was measured of each step."""
        figures = zip(self._latencies, self._answered, strict=True)
        return [StepFigures(step, encoded(latency), answered) for step, (latency, answered) in enumerate(figures)]
