"""Breaks of a consumer: the phases of an offered load in which it does not read."""

import math
import time
from collections.abc import Sequence

from bench.worker import LOOK_SECONDS, Lifeline


class Breaks:
    """The breaks of one consumer, one after the other."""

    def __init__(self, phases: Sequence[tuple[float, bool]] = (), start_pc: float = 0.0) -> None:
        """`phases` are those of a job; the first one begins at `start_pc` (perf_counter)."""
        self._coming: list[tuple[float, float]] = []
        """When each break begins and ends (perf_counter), the next one last; adjacent breaks are one."""
        end = start_pc
        for seconds, reads in phases:
            begin, end = end, end + seconds
            if not reads and self._coming and self._coming[-1][1] == begin:
                self._coming[-1] = self._coming[-1][0], end
            elif not reads:
                self._coming.append((begin, end))
        self._coming.reverse()

    @property
    def next_pc(self) -> float:
        """When the next break begins (perf_counter); infinite without one."""
        return self._coming[-1][0] if self._coming else math.inf

    def take(self, lifeline: Lifeline) -> None:
        """Wait until the break that has begun is over. The consumer's session must not be in the midst of a call."""
        _, end = self._coming.pop()
        while (left_seconds := end - time.perf_counter()) > 0:
            time.sleep(min(left_seconds, LOOK_SECONDS))
            lifeline.look()
