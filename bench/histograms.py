"""Counts latencies as HdrHistogram does, with three significant digits, second by second.

A worker only counts: a bucket is an index into HdrHistogram's array of counts, and the orchestrator makes histograms of
the buckets. Seconds are those of the database's clock since the phase opened, or since the schedule of an offered load
started, so the seconds of all workers are the same. A latency belongs to the second in which it ended.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from bench.records import Interval, Timed, intervals

SIGNIFICANT_DIGITS = 3
LONGEST_MICROSECONDS = 365 * 86_400 * 1_000_000
"""A year: no call of a run takes longer."""
HALF_BITS = 10
"""A value of up to 11 binary digits, which is HALF_BITS + 1, has a bucket of its own; a longer one shares its bucket
with the values of the same length that begin with the same 11 digits. That is enough for three decimal digits, because
2^11 is the first power of two above 2 * 10^3 (HdrHistogram's subBucketCount)."""


def bucket(microseconds: int) -> int:
    """Return the bucket of a value. Each value of a bucket is within 0.1 % of the others, or equal to them.

    Raises:
        ValueError: the value is below 0 or longer than a year. HdrHistogram would drop it without an error.
    """
    if not 0 <= microseconds <= LONGEST_MICROSECONDS:
        raise ValueError(f"a histogram cannot hold {microseconds} us: it must be from 0 to a year")
    shortened = max(0, microseconds.bit_length() - HALF_BITS - 1)
    return (shortened << HALF_BITS) + (microseconds >> shortened)


BUCKETS = bucket(LONGEST_MICROSECONDS) + 1


class SecondCounts:
    """The latencies of one worker by metric and second, until they are reported."""

    def __init__(self, opened_pc: float) -> None:
        """Count seconds from `opened_pc` (perf_counter)."""
        self._opened_pc = opened_pc
        self._counts: dict[tuple[Timed, int], Counter[int]] = {}

    def second(self, at_pc: float) -> int:
        """Return the second of a moment (perf_counter).

        By the uncertainty of the clocks a call may end before the opening: it belongs to the first second.
        """
        return max(0, int(at_pc - self._opened_pc))

    def next_part(self, now_pc: float, parts: int) -> float:
        """Return when the next of the equal parts begins into which each second is divided (perf_counter)."""
        return self._opened_pc + (int((now_pc - self._opened_pc) * parts) + 1) / parts

    def count(self, metric: Timed, second: int, latencies: list[float]) -> None:
        """Count latencies, in seconds, that ended in one second, and empty the list.

        Raises:
            ValueError: a latency is none that a histogram can hold.
        """
        # Many calls take the same number of microseconds.
        counts = Counter([int(latency * 1e6) for latency in latencies])
        self.add(metric, second, ((bucket(microseconds), number) for microseconds, number in counts.items()))
        latencies.clear()

    def count_by_end(self, metric: Timed, calls: list[tuple[float, float]]) -> None:
        """Count the latencies of calls, each given by its latency in seconds and its end (perf_counter), and empty the
        list.

        Raises:
            ValueError: as `count` does.
        """
        by_second: dict[int, list[float]] = {}
        for latency, end in calls:
            by_second.setdefault(self.second(end), []).append(latency)
        for second, latencies in by_second.items():
            self.count(metric, second, latencies)
        calls.clear()

    def add(self, metric: Timed, second: int, buckets: Iterable[tuple[int, int]]) -> None:
        """Add numbers of values, by bucket."""
        counts = self._counts.setdefault((metric, second), Counter())
        for place, number in buckets:
            counts[place] += number

    def over(self, now_pc: float) -> Iterator[Interval]:
        """Yield the records of the seconds that are over, and forget them."""
        yield from self._records(self.second(now_pc))

    def rest(self) -> Iterator[Interval]:
        """Yield the records of all seconds that are not reported yet, and forget them."""
        yield from self._records(None)

    def _records(self, before: int | None) -> Iterator[Interval]:
        for metric, second in sorted(self._counts, key=lambda key: key[1]):
            if before is None or second < before:
                yield from intervals(metric, second, sorted(self._counts.pop((metric, second)).items()))
