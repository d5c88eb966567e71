"""The waits of a reader: after an empty page, before it asks again; after a page of events, for its work with them."""

import math
import random
import time

from bench.job import ConsumerJob
from bench.statement import Statement
from bench.worker import Lifeline
from consumer.reader import Source

PIECE_SECONDS = 0.1
"""A longer wait is cut into pieces of this length, between which a reader learns whether it may stop."""


class Waits:
    """The waits of one reader; the random ones follow the job's seed and the reader's name."""

    def __init__(self, job: ConsumerJob, lifeline: Lifeline) -> None:
        self._job = job
        self._lifeline = lifeline
        self._chance = random.Random(f"{job.seed} {job.name}")  # noqa: S311 - waits, not secrets
        self.thinks = job.think_ms[1] > 0
        """Whether the reader works with each page that has events."""

    def think(self) -> None:
        """Work with a page of events."""
        until = time.perf_counter() + self._seconds(self._job.think_ms)
        while (left := until - time.perf_counter()) > 0:
            time.sleep(min(left, PIECE_SECONDS))
            self._lifeline.look()

    def for_more(self, reads: Source, stop: Statement, break_pc: float = math.inf) -> bool:
        """Wait after an empty page until it is time to ask again, because the poll interval is over or a notification
        came, or until `break_pc` (perf_counter); return True as soon as the reader may stop instead, which is when
        `stop` yields true.

        Without a poll interval only a notification or a break ends the wait: no page is read in between.
        """
        poll_ms = self._job.poll_ms
        until = min(break_pc, math.inf if poll_ms is None else time.perf_counter() + self._seconds(poll_ms))
        while stop.run().get_value(0, 0) != b"true":
            left = max(0.0, until - time.perf_counter())
            if self._is_woken(reads, min(left, PIECE_SECONDS)) or left <= PIECE_SECONDS:
                return False
            self._lifeline.look()
        return True

    def is_asleep(self, reads: Source) -> bool:
        """Whether only a notification could wake the reader, and none has come since the last page."""
        return self._job.poll_ms is None and not reads.await_notification(0)

    def _is_woken(self, reads: Source, seconds: float) -> bool:
        if self._job.listen:
            return reads.await_notification(seconds)
        time.sleep(seconds)
        return False

    def _seconds(self, range_ms: tuple[float, float]) -> float:
        return self._chance.uniform(*range_ms) / 1000
