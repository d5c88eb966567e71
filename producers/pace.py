"""Keeps the schedule of an offered load, and measures how well.

A batch that is late is sent as soon as the answer before it has come; no batch is skipped, and no due time is moved.
So the latency from the due time includes the time that a batch waited for its turn, as a user's request does
("coordinated omission" is the name for leaving it out: Gil Tene, "How NOT to Measure Latency", 2013).
"""

import time
from collections import deque
from collections.abc import Iterator

from bench.meter import encoded, histogram, record
from bench.records import Offered


class Pace:
    """The pace of one producer."""

    def __init__(self, due_seconds: Iterator[float], limit: int, batch: int) -> None:
        """`due_seconds` has the due times of all batches: `limit` events, `batch` events each."""
        self._coming = due_seconds
        self._left, self._batch = limit, batch
        self._due: deque[float] = deque([next(self._coming)])
        """Due times of batches that are not sent yet: those that are due, and the first one that is not."""
        self._latency, self._lateness = histogram(), histogram()
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
        self._left -= self._batch
        self._last_due = self._due.popleft()
        return True

    def answered(self, now: float) -> None:
        """Note the answer to the batch that was waited for."""
        self._ended = now - self._start_pc
        record(self._latency, int((self._ended - self._last_due) * 1e6), 1)

    def report(self) -> Offered:
        """Report how the schedule was kept."""
        return Offered(
            latency=encoded(self._latency),
            lateness=encoded(self._lateness),
            last_due_seconds=self._last_due,
            ended_seconds=self._ended,
            largest_backlog=self._largest_backlog,
            most_behind_seconds=self._most_behind,
        )
