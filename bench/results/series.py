"""Figures over the time of a phase, as result.json has them: in at most `MOST_SAMPLES` samples, however long it lasts.

A sample stands for the interval that ends with it. Samples are `SAMPLE_SECONDS` apart; whenever there would be more
than `MOST_SAMPLES`, each two neighbours become one, so that an hour has a sample per 16 seconds.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field

from bench.results.base import StoredModel

SAMPLE_SECONDS = 1.0
MOST_SAMPLES = 240
MOST_WAITS = 8
"""Wait events that have a series of their own, of each kind of backend; the rest of the kind is summed as `OTHERS`."""
OTHERS = "others"

UNITS = {
    "live_rows": "rows",
    "dead_rows": "rows",
    "table_bytes": "bytes",
    "index_bytes": "bytes",
    "horizon_age": "transactions",
    "horizon_age_seconds": "s",
    "autovacuums": "runs",
    "wal_bytes": "bytes",
    "slot_bytes": "bytes",
    "checkpoints": "checkpoints",
    "orchestrator_memory": "bytes",
    "producer_memory": "bytes",
    "consumer_memory": "bytes",
}
"""The units of all figures. Rows and sizes are those of the tables in the log's schema; dead rows are as the server
estimates them. The horizon is the oldest transaction for which a vacuum must spare rows. WAL, checkpoints and
autovacuum runs count from the start of the phase. A slot keeps WAL from its restart_lsn on. Memory is resident: of the
orchestrator, and the largest of a producer and of a consumer."""
SINCE_THE_START = ("autovacuums", "wal_bytes", "checkpoints")
"""The figures that count from the start of the phase."""

Figures = Mapping[str, int | float | None]
Waits = Mapping[tuple[str, str], int]
"""Samples of backends by kind of backend and wait event."""


class Sample(StoredModel):
    """Progress of a phase at one moment."""

    seconds: float
    """Since the barrier was lifted."""
    events: int


class Unseen(StoredModel):
    """How far a tailing reader was behind: the most in the interval that ends at one moment and begins at the moment
    before."""

    seconds: float
    """Since the first producer started."""
    events: int
    """Events that were acknowledged and that the reader had not been given, or was never given."""
    lag_seconds: float
    """Age of the oldest of them since its acknowledgement; 0 when there were none."""


class Figure(StoredModel):
    """A figure over time."""

    unit: str
    values: list[int | float | None]
    """The largest value in each interval; None where it is unknown."""


class WaitSeries(StoredModel):
    """The backends of one kind that waited for one event, over time."""

    backend: str
    """As in `Wait`."""
    event: str
    """As in `Wait`; or `others`, for all events of this kind of backend that have no series of their own."""
    counts: list[int]
    """In each interval, how often such a backend was seen; there are four looks per second."""


class Series(StoredModel):
    """Figures over the time of a phase."""

    interval_seconds: float
    """Distance of the samples. The last interval may be shorter; one in which the server did not answer is longer."""
    seconds: list[float]
    """The end of each interval, in seconds since the barrier was lifted."""
    figures: dict[str, Figure]
    """By name; those that the server does not show are left out."""
    waits: list[WaitSeries] = Field(default=[])


class _Interval(NamedTuple):
    seconds: float
    figures: Figures
    waits: Counter[tuple[str, str]]

    def joined(self, later: "_Interval") -> "_Interval":
        figures = {name: _largest(self.figures.get(name), value) for name, value in later.figures.items()}
        return _Interval(later.seconds, {**self.figures, **figures}, self.waits + later.waits)


class Samples:
    """Collects the samples of a phase in their order."""

    def __init__(self) -> None:
        self._intervals: list[_Interval] = []
        self._per_interval = 1
        self._in_last = 1
        """Samples in the last interval."""

    def add(self, seconds: float, figures: Figures, waits: Waits) -> None:
        """Add the figures that were read `seconds` after the start, and the waits since the sample before."""
        sample = _Interval(seconds, figures, Counter(waits))
        if self._intervals and self._in_last < self._per_interval:
            self._intervals[-1] = self._intervals[-1].joined(sample)
            self._in_last += 1
            return
        self._intervals.append(sample)
        self._in_last = 1
        if len(self._intervals) > MOST_SAMPLES:
            self._join_neighbours()

    def _join_neighbours(self) -> None:
        pairs = [self._intervals[first : first + 2] for first in range(0, len(self._intervals), 2)]
        self._intervals = [pair[0].joined(pair[1]) if len(pair) > 1 else pair[0] for pair in pairs]
        self._in_last += self._per_interval if len(pairs[-1]) > 1 else 0
        self._per_interval *= 2

    def series(self) -> Series:
        """The series of everything that was added."""
        names = [name for name in UNITS if any(name in each.figures for each in self._intervals)]
        values = {name: [each.figures.get(name) for each in self._intervals] for name in names}
        for name in SINCE_THE_START:
            if name in values:
                values[name] = _since_the_first(values[name])
        return Series(
            interval_seconds=self._per_interval * SAMPLE_SECONDS,
            seconds=[each.seconds for each in self._intervals],
            figures={name: _figure(name, values[name]) for name in names},
            waits=self._waits(),
        )

    def _waits(self) -> list[WaitSeries]:
        totals: Counter[tuple[str, str]] = Counter()
        for each in self._intervals:
            totals.update(each.waits)
        by_backend: dict[str, list[str]] = {}
        for (backend, event), _ in totals.most_common():
            by_backend.setdefault(backend, []).append(event)
        series = []
        for backend, events in by_backend.items():
            for event in events[:MOST_WAITS]:
                counts = [each.waits[backend, event] for each in self._intervals]
                series.append(WaitSeries(backend=backend, event=event, counts=counts))
            if rest := events[MOST_WAITS:]:
                counts = [sum(each.waits[backend, event] for event in rest) for each in self._intervals]
                series.append(WaitSeries(backend=backend, event=OTHERS, counts=counts))
        return series


def _largest(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _since_the_first(values: list[int | float | None]) -> list[int | float | None]:
    first = next((value for value in values if value is not None), 0)
    return [None if value is None else value - first for value in values]


def _figure(name: str, values: list[int | float | None]) -> Figure:
    # In a function: CPython 3.13.0 crashes when pydantic, which builds a model at its first use, looks at the variables
    # of a frame that is amid a comprehension.
    return Figure(unit=UNITS[name], values=values)
