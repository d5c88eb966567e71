"""Seconds add up to the whole, and the percentiles of any window are those of its values, to three digits."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.histograms import LONGEST_MICROSECONDS, bucket
from bench.results.models import Latency
from bench.results.timeline import Timeline, histogram

VALUES = st.integers(0, 5000) | st.integers(0, LONGEST_MICROSECONDS)
REPORTS = st.lists(st.tuples(st.integers(0, 30), st.lists(VALUES, max_size=20)), max_size=60)


def filled(reports: list[tuple[int, list[int]]]) -> Timeline:
    timeline = Timeline()
    for second, values in reports:
        timeline.add(second, Counter(map(bucket, values)).items())
    return timeline


@given(REPORTS, REPORTS)
def test_seconds_of_several_workers_add_up_to_the_whole(
    of_one: list[tuple[int, list[int]]], of_other: list[tuple[int, list[int]]]
) -> None:
    together = filled(of_one)
    together.add_all(filled(of_other))
    expected: dict[int, Counter[int]] = defaultdict(Counter)
    for second, values in [*of_one, *of_other]:
        expected[second].update(map(bucket, values))
    for second in range(31):
        assert dict(together.buckets(second)) == expected[second]
    assert together.total() == sum(expected.values(), Counter())
    assert together.total() == filled([*of_one, *of_other]).total()


@given(REPORTS, st.integers(0, 31), st.integers(0, 31))
def test_the_percentiles_of_a_window_are_those_of_its_values(
    reports: list[tuple[int, list[int]]], first: int, end: int
) -> None:
    values = sorted(value for second, of_second in reports if first <= second < end for value in of_second)
    latency = Latency.from_buckets(filled(reports).total(first, end))
    assert (latency is None) == (not values)
    if latency:
        for share, found in ((50, latency.p50), (90, latency.p90), (99, latency.p99), (99.9, latency.p99_9)):
            # HdrHistogram's rank, and the upper end of the value's bucket.
            rank = max(1, int(share * len(values) / 100 + 0.5))
            assert found * 1000 == pytest.approx(values[rank - 1], rel=0.001)
        assert latency.max * 1000 == pytest.approx(values[-1], rel=0.001)


@given(st.lists(VALUES, min_size=1, max_size=50))
def test_a_histogram_has_all_values(values: list[int]) -> None:
    made = histogram(sorted(Counter(map(bucket, values)).items()))
    assert made.get_total_count() == len(values)
    assert made.get_max_value() == pytest.approx(max(values), rel=0.001)
    assert made.get_min_value() == pytest.approx(min(values), rel=0.001)
