"""Delays of events from their ctime to their delivery, and ctimes that are impossible as the time of logging.

A delay is a difference of two clocks, so it means something only where both show the same time. Nothing is clamped and
nothing is dropped: one impossible ctime shows that the log writes something else into that column, and then there is no
delay.
"""

from collections.abc import Sequence

import numpy as np
from hdrh.histogram import HdrHistogram

from bench.meter import Clock, encoded, histogram, record
from bench.records import ImpossibleCtimes, StepFigures
from consumer.rows import Numbers

_DIGITS_BITS = 11
"""Values are counted to this many binary digits: within 0.1 %, as finely as a histogram of three decimal digits."""
_MOST_WAITING = 4096
"""Values are counted when so many have come: to count a few costs as much as to count a thousand."""
POSTGRES_EPOCH = 946_684_800
"""2000-01-01 as Unix time: what PostgreSQL counts microseconds from. Workers' sessions are in UTC."""
MINUS_INFINITY, INFINITY = -(2**63), 2**63 - 1
"""How PostgreSQL sends the two infinite timestamps (DT_NOBEGIN and DT_NOEND in its datatype/timestamp.h)."""


class Counts:
    """Counts of microseconds, a page at a time: HdrHistogram itself takes one value per call, which costs more than
    reading an event."""

    def __init__(self) -> None:
        self._counts = np.zeros(64 << _DIGITS_BITS, np.int64)
        """By the number of binary digits that a value is shortened by, and what is left of it."""
        self._waiting: list[Numbers] = []
        self._values = 0
        """Number of values in `_waiting`."""

    def add(self, microseconds: Numbers) -> None:
        """Count values, none of them below 0."""
        self._waiting.append(microseconds)
        self._values += len(microseconds)
        if self._values >= _MOST_WAITING:
            self._count()

    def _count(self) -> None:
        microseconds = np.concatenate(self._waiting)
        self._waiting.clear()
        self._values = 0
        digits = np.frexp(microseconds.astype(np.float64))[1]
        shortened = np.maximum(digits - _DIGITS_BITS, 0)
        places = (shortened << _DIGITS_BITS) + (microseconds >> shortened)
        highest = int(places.max()) + 1
        self._counts[:highest] += np.bincount(places, minlength=highest)

    def histogram(self) -> HdrHistogram:
        """All values as a histogram.

        Raises:
            ValueError: one is longer than the histogram holds.
        """
        if self._waiting:
            self._count()
        filled = histogram()
        for place in np.flatnonzero(self._counts).tolist():
            shortened, left = place >> _DIGITS_BITS, place & ((1 << _DIGITS_BITS) - 1)
            record(filled, left << shortened, int(self._counts[place]))
        return filled


class Delays:
    """The delays of one tailing reader. Its clock was measured before the barrier, so before anybody appended."""

    def __init__(self, clock: Clock, ends: Sequence[float] = ()) -> None:
        """`ends` are the ends of all steps of an offered load but the last one, as Unix times on the database's
        clock."""
        self._clock = clock
        self._ends = np.array([_microseconds(end) for end in ends], np.int64)
        self._counts = [Counts() for _ in range(1 + len(ends))]
        """By the step in which the events were logged."""
        self._delivered = [0 for _ in self._counts]
        """Events by the step in which they were delivered."""
        measured_at = clock.measured_at
        self._began = _microseconds(measured_at)
        self._earliest = _microseconds(measured_at - clock.uncertainty_seconds(measured_at))
        self._infinite = self._ahead = self._old = 0
        """Events."""
        self._most_ahead = self._most_old = 0
        """Microseconds."""

    def note(self, ctimes: Numbers) -> None:
        """Note the events of a page that has just come: each of them."""
        now = self._clock.now()
        arrived, latest = _microseconds(now), _microseconds(now + self._clock.uncertainty_seconds(now))
        self._delivered[int(np.searchsorted(self._ends, arrived, "right"))] += len(ctimes)
        if int(ctimes.min()) < self._earliest or int(ctimes.max()) > latest:
            self._note_impossible(ctimes, arrived, latest)
        if self._infinite or self._ahead or self._old:
            return
        # A delay below 0 is so by no more than the clocks' uncertainty: it cannot be distinguished from 0.
        delays = np.maximum(arrived - ctimes, 0)
        if not len(self._ends):
            self._counts[0].add(delays)
            return
        steps = np.searchsorted(self._ends, ctimes, "right")
        for step in np.unique(steps):
            self._counts[step].add(delays[steps == step])

    def encoded(self) -> str:
        """The encoded histogram of microseconds for a record; an empty histogram when no event came."""
        every = histogram()
        for counts in self._counts:
            every.add(counts.histogram())
        return encoded(every)

    def by_step(self) -> list[StepFigures]:
        """What was measured of each step, as records."""
        figures = zip(self._counts, self._delivered, strict=True)
        return [
            StepFigures(step, encoded(counts.histogram()), delivered)
            for step, (counts, delivered) in enumerate(figures)
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
