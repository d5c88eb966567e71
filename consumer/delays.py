"""Delays of events from their ctime to their delivery, and ctimes that are impossible as the time of logging.

A delay is a difference of two clocks, so it means something only where both show the same time. Nothing is clamped and
nothing is dropped: one impossible ctime shows that the log writes something else into that column, and then there is no
delay.
"""

import numpy as np

from bench.meter import Clock, encoded, histogram, record
from bench.records import ImpossibleCtimes
from consumer.rows import Numbers

DELAYS_PER_PAGE = 16
"""At least this many events of a page are timed, spread evenly: timing each would cost more than reading it."""
POSTGRES_EPOCH = 946_684_800
"""2000-01-01 as Unix time: what PostgreSQL counts microseconds from. Workers' sessions are in UTC."""
MINUS_INFINITY, INFINITY = -(2**63), 2**63 - 1
"""How PostgreSQL sends the two infinite timestamps (DT_NOBEGIN and DT_NOEND in its datatype/timestamp.h)."""


class Delays:
    """The delays of one tailing reader. Its clock was measured before the barrier, so before anybody appended."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._histogram = histogram()
        measured_at = clock.measured_at
        self._began = _microseconds(measured_at)
        self._earliest = _microseconds(measured_at - clock.uncertainty_seconds(measured_at))
        self._infinite = self._ahead = self._old = 0
        """Events."""
        self._most_ahead = self._most_old = 0
        """Microseconds."""

    def note(self, ctimes: Numbers) -> None:
        """Note the events of a page that has just come. All ctimes are checked; `DELAYS_PER_PAGE` or a few more events
        are timed."""
        now = self._clock.now()
        arrived, latest = _microseconds(now), _microseconds(now + self._clock.uncertainty_seconds(now))
        if int(ctimes.min()) < self._earliest or int(ctimes.max()) > latest:
            self._note_impossible(ctimes, arrived, latest)
        if self._infinite or self._ahead or self._old:
            return
        step = max(1, len(ctimes) // DELAYS_PER_PAGE)
        for ctime in ctimes[::step].tolist():
            # A delay below 0 is so by no more than the clocks' uncertainty: it cannot be distinguished from 0.
            record(self._histogram, max(0, arrived - ctime), step)

    def encoded(self) -> str:
        """The encoded histogram of microseconds for a record; an empty histogram when no event came."""
        return encoded(self._histogram)

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
