"""Latencies are counted as HdrHistogram counts them, second by second, and reported in small records."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from bench import meter
from bench.histograms import BUCKETS, LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS, SecondCounts, bucket
from bench.meter import Clock, Meter
from bench.records import BUCKETS_PER_RECORD, Interval, Record, encode_record, intervals
from tests.test_records import BIG, DOCKER_SPLITS_AT_BYTES

REFERENCE = HdrHistogram(1, LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS)
VALUES = st.integers(0, 5000) | st.integers(0, LONGEST_MICROSECONDS)


@given(VALUES)
def test_a_bucket_is_an_index_of_hdrhistogram(microseconds: int) -> None:
    assert bucket(microseconds) == REFERENCE.get_counts_array_index(microseconds) < BUCKETS


@pytest.mark.parametrize("microseconds", [-1, LONGEST_MICROSECONDS + 1])
def test_a_value_that_a_histogram_does_not_hold_is_an_error_and_not_dropped(microseconds: int) -> None:
    with pytest.raises(ValueError, match="a histogram cannot hold"):
        bucket(microseconds)


# In 2^-20 s, so that sums and differences are exact.
MOMENTS = st.integers(0, 5 << 20).map(lambda units: units / (1 << 20))
CALLS = st.lists(st.tuples(MOMENTS, MOMENTS), max_size=60).map(lambda calls: sorted(calls, key=lambda call: call[1]))


def counted(records: Iterable[Interval]) -> Counter[tuple[int, int]]:
    """The numbers of latencies by second and bucket."""
    counts: Counter[tuple[int, int]] = Counter()
    for record in records:
        for place, number in record.buckets:
            counts[record.second, place] += number
    return counts


def expected(calls: Iterable[tuple[float, float]]) -> Counter[tuple[int, int]]:
    return Counter((int(end), bucket(int(latency * 1e6))) for latency, end in calls)


@given(CALLS, st.integers(0, 60))
def test_a_call_belongs_to_the_second_in_which_it_ended(calls: list[tuple[float, float]], first: int) -> None:
    seconds = SecondCounts(opened_pc=0)
    reported: list[Interval] = []
    for part in (calls[:first], calls[first:]):
        now = part[-1][1] if part else 0.0
        seconds.count_by_end("read", part)
        assert not part
        over = list(seconds.over(now))
        assert all(record.second < int(now) for record in over)
        reported += over
    reported += seconds.rest()
    assert counted(reported) == expected(calls)
    assert list(seconds.rest()) == []


class Moved:
    """A clock for the meter, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.perf_counter = self.process_time = self.time = lambda: self.now


class Database(Clock):
    """A database's clock that is the meter's."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        self.measured_at = self.round_trip_seconds = self._apart_seconds = 0.0

    def now(self) -> float:
        return self._moved.now


@given(CALLS, st.integers(0, 6), st.sampled_from([0.0, 0.25, 1.5]), st.sampled_from([0.0, 0.25, 3.0]))
def test_a_meter_finds_the_seconds_of_all_calls_though_it_looks_at_the_ends_of_few(
    calls: list[tuple[float, float]], warm_up: int, slow: float, began: float
) -> None:
    made: list[tuple[float, float]] = []
    said: list[Record] = []
    moved = Moved()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "time", moved)
        patch.setattr(meter, "say", said.append)
        moved.now = began
        seconds = SecondCounts(opened_pc=0)
        measured = Meter(Database(moved), seconds, "append", warm_up)
        for latency, end in calls:
            moved.now = max(moved.now, began + end)
            made.append((latency, moved.now))
            if measured.count(moved.now - latency, moved.now):
                measured.progress(0)
                moved.now += slow
        measured.finish(0, 0)
    assert counted(record for record in said if isinstance(record, Interval)) == expected(made)
    assert measured.warm_up_calls == sum(end < warm_up for _, end in made)


def test_a_call_that_ended_before_the_opening_counts_in_the_first_second() -> None:
    seconds = SecondCounts(opened_pc=100)
    seconds.count_by_end("append", [(0.5, 99.5), (1.0, 100.5)])
    assert [record.second for record in seconds.rest()] == [0]


def test_the_widest_spread_of_latencies_is_reported_in_records_that_docker_does_not_split() -> None:
    records = intervals("end_to_end", 10**7, [(place, BIG) for place in range(BUCKETS)])
    assert sum(len(record.buckets) for record in records) == BUCKETS
    assert max(len(record.buckets) for record in records) == BUCKETS_PER_RECORD
    assert max(len(encode_record(record)) for record in records) < DOCKER_SPLITS_AT_BYTES
