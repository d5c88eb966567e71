"""Delays of events from their ctime to their delivery, and ctimes that are impossible as the time of logging.

A delay is a difference of two clocks, so it means something only where both show the same time. Nothing is clamped and
nothing is dropped: a delay below 0 that the clocks' uncertainty explains is counted by itself, and one impossible ctime
shows that the log writes something else into that column, and then there is no delay.
"""

from collections.abc import Sequence

import numpy as np

from bench.histograms import BUCKETS, HALF_BITS, SecondCounts, bucket
from bench.meter import Clock
from bench.records import ImpossibleCtimes, StepFigures, step_figures
from consumer.rows import Numbers

_MOST_WAITING = 4096
"""Values are counted when so many have come: to count a few costs as much as to count a thousand."""
POSTGRES_EPOCH = 946_684_800
"""2000-01-01 as Unix time: what PostgreSQL counts microseconds from. Workers' sessions are in UTC."""
MINUS_INFINITY, INFINITY = -(2**63), 2**63 - 1
"""How PostgreSQL sends the two infinite timestamps (DT_NOBEGIN and DT_NOEND in its datatype/timestamp.h)."""


class Counts:
    """Counts of microseconds by bucket, a page at a time: one value per call would cost more than reading an event."""

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.int64)
        self._waiting: list[Numbers] = []
        self._values = 0
        """Number of values in `_waiting`."""

    def add(self, microseconds: Numbers) -> None:
        """Count values.

        Raises:
            ValueError: one is none that a histogram can hold.
        """
        self._waiting.append(microseconds)
        self._values += len(microseconds)
        if self._values >= _MOST_WAITING:
            self._count()

    def _count(self) -> None:
        microseconds = np.concatenate(self._waiting)
        self._waiting.clear()
        self._values = 0
        bucket(int(microseconds.min()))
        highest = bucket(int(microseconds.max())) + 1
        digits = np.frexp(microseconds.astype(np.float64))[1]
        shortened = np.maximum(digits - HALF_BITS - 1, 0)
        places = (shortened << HALF_BITS) + (microseconds >> shortened)
        self._counts[:highest] += np.bincount(places, minlength=highest)

    def take(self) -> list[tuple[int, int]]:
        """Return the buckets of all values, each with its number of values, and forget them.

        Raises:
            ValueError: as `add` does.
        """
        if self._waiting:
            self._count()
        places = np.flatnonzero(self._counts)
        counts = self._counts[places]
        self._counts[places] = 0
        return list(zip(places.tolist(), counts.tolist(), strict=True))


class Delays:
    """The delays of one tailing reader. Its clock was measured before the barrier, so before anybody appended."""

    def __init__(self, clock: Clock, seconds: SecondCounts, ends: Sequence[float] | None = None) -> None:
        """Count the delays of each second in `seconds`, by `count`. `ends` are the ends of all steps of an offered load
        but the last one, as Unix times on the database's clock; None for no figures by step.
        """
        self._clock = clock
        self._seconds = seconds
        self._second: int | None = None
        """The second of the delays that are in `_counts`; None when there are none."""
        self._counts = Counts()
        self._ends = np.array([_microseconds(end) for end in ends or ()], np.int64)
        self._by_step = [Counts() for _ in range(1 + len(ends))] if ends is not None else []
        """By the step in which the events were logged."""
        self._delivered = [0 for _ in self._by_step]
        """Events by the step in which they were delivered."""
        measured_at = clock.measured_at
        self._began = _microseconds(measured_at)
        self._earliest = _microseconds(measured_at - clock.uncertainty_seconds(measured_at))
        self._infinite = self._ahead = self._old = 0
        """Events."""
        self._most_ahead = self._most_old = 0
        """Microseconds."""
        self.negative = 0
        """Events with a delay below 0, by no more than the clocks' uncertainty."""
        self._most_negative = 0
        """Microseconds."""

    @property
    def most_negative_seconds(self) -> float:
        """The amount of the lowest delay below 0."""
        return self._most_negative / 1e6

    def note(self, ctimes: Numbers, answered_at: float) -> None:
        """Note the events of a page that has just come, at `answered_at` (perf_counter): each of them."""
        now = self._clock.now()
        arrived, latest = _microseconds(now), _microseconds(now + self._clock.uncertainty_seconds(now))
        if self._by_step:
            self._delivered[int(np.searchsorted(self._ends, arrived, "right"))] += len(ctimes)
        newest = int(ctimes.max())
        if int(ctimes.min()) < self._earliest or newest > latest:
            self._note_impossible(ctimes, arrived, latest)
        if self._infinite or self._ahead or self._old:
            return
        second = self._seconds.second(answered_at)
        if second != self._second:
            self.count_all()
            self._second = second
        if newest > arrived:
            self._most_negative = max(self._most_negative, newest - arrived)
            self.negative += int(np.count_nonzero(ctimes > arrived))
            ctimes = ctimes[ctimes <= arrived]
            if not len(ctimes):
                return
        delays = arrived - ctimes
        self._counts.add(delays)
        if self._by_step:
            steps = np.searchsorted(self._ends, ctimes, "right")
            for step in np.unique(steps):
                self._by_step[step].add(delays[steps == step])

    def count(self, now_pc: float) -> None:
        """Count the delays that were noted, if their second is over (perf_counter)."""
        if self._second not in {None, self._seconds.second(now_pc)}:
            self.count_all()

    def count_all(self) -> None:
        """Count the delays that were noted."""
        if self._second is not None:
            self._seconds.add("end_to_end", self._second, self._counts.take())
        self._second = None

    def steps(self) -> list[StepFigures]:
        """Return what was measured of each step, as records."""
        figures = zip(self._by_step, self._delivered, strict=True)
        return [
            part
            for step, (counts, delivered) in enumerate(figures)
            for part in step_figures(step, counts.take(), delivered)
        ]

    def impossible(self) -> ImpossibleCtimes | None:
        """The impossible ctimes; None when there are none."""
        if not (self._infinite or self._ahead or self._old):
            return None
        return ImpossibleCtimes(self._infinite, self._ahead, self._most_ahead / 1e6, self._old, self._most_old / 1e6)

    def _note_impossible(self, ctimes: Numbers, arrived: int, latest: int) -> None:
        infinite = (ctimes == MINUS_INFINITY) | (ctimes == INFINITY)
        finite = ctimes[~infinite]
        ahead, old = finite[finite > latest], finite[finite < self._earliest]
        self._infinite += int(np.count_nonzero(infinite))
        self._ahead += len(ahead)
        self._old += len(old)
        # Python's integers, because differences of 64-bit ones would overflow.
        self._most_ahead = max(self._most_ahead, int(ahead.max(initial=arrived)) - arrived)
        self._most_old = max(self._most_old, self._began - int(old.min(initial=self._began)))


def _microseconds(unix_seconds: float) -> int:
    """Convert a Unix time to PostgreSQL's microseconds since 2000."""
    return int((unix_seconds - POSTGRES_EPOCH) * 1e6)
