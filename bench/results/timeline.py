"""The latencies of one metric over a phase, second by second: sparse histograms, which add up."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

from hdrh.histogram import HdrHistogram

from bench.histograms import LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS

_MOST_OPEN = 5
"""More seconds than this are packed: workers report a second soon after it is over, and a few of them late."""


class Timeline:
    """Numbers of latencies by second and bucket (see `bench.histograms`), of one worker or of several together."""

    def __init__(self) -> None:
        self._open: dict[int, Counter[int]] = {}
        self._packed: dict[int, tuple[array[int], array[int]]] = {}
        """Buckets, and the number of latencies in each: a tenth of the memory."""

    def add(self, second: int, buckets: Iterable[tuple[int, int]]) -> None:
        """Add numbers of latencies in buckets of one second."""
        counts = self._open.get(second)
        if counts is None:
            counts = self._open[second] = Counter(dict(self._unpacked(second)))
            self._packed.pop(second, None)
        for place, number in buckets:
            counts[place] += number
        if len(self._open) > _MOST_OPEN:
            oldest = min(self._open)
            closed = sorted(self._open.pop(oldest).items())
            self._packed[oldest] = array("H", [place for place, _ in closed]), array("Q", [each for _, each in closed])

    def add_all(self, other: "Timeline") -> None:
        """Add all latencies of another timeline."""
        for second in range(other.seconds):
            if buckets := other.buckets(second):
                self.add(second, buckets)

    @property
    def seconds(self) -> int:
        """The number of seconds, up to the last one with a latency."""
        return max([-1, *self._open, *self._packed]) + 1

    def buckets(self, second: int) -> list[tuple[int, int]]:
        """The buckets of one second that hold a latency, in their order, each with its number of latencies."""
        return sorted(self._open[second].items()) if second in self._open else list(self._unpacked(second))

    def total(self, first: int = 0, end: int | None = None) -> Counter[int]:
        """The numbers of latencies by bucket, of the seconds from `first` to `end`, which is not included; None is the
        end of the timeline.
        """
        total: Counter[int] = Counter()
        for second in range(first, self.seconds if end is None else min(end, self.seconds)):
            for place, number in self.buckets(second):
                total[place] += number
        return total

    def _unpacked(self, second: int) -> Iterator[tuple[int, int]]:
        packed = self._packed.get(second)
        return zip(*packed, strict=True) if packed else iter(())


def histogram(buckets: Iterable[tuple[int, int]]) -> HdrHistogram:
    """Make an HdrHistogram of microseconds of the numbers of latencies in buckets."""
    filled = HdrHistogram(1, LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS)
    places = []
    total = 0
    for place, number in buckets:
        filled.counts[place] += number
        places.append(place)
        total += number
    if total:
        filled.set_internal_tacking_values(min(places), max(places), total)
    return filled
