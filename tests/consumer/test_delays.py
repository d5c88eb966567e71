"""Delays are counted page by page and all at once: against the values, one by one."""

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from bench.meter import LONGEST_MICROSECONDS, histogram, record
from consumer.delays import POSTGRES_EPOCH, Counts, Delays
from tests.report.test_figures import FakeClock

PAGES = st.lists(
    st.lists(st.integers(0, 5000) | st.integers(0, LONGEST_MICROSECONDS), min_size=1, max_size=50)
    | st.builds(lambda value, times: [value] * times, st.integers(0, 10**7), st.integers(1, 5000)),
    min_size=1,
    max_size=5,
)


@given(PAGES)
def test_every_delay_is_counted_within_a_percent(pages: list[list[int]]) -> None:
    counts, exact = Counts(), histogram()
    for page in pages:
        counts.add(np.array(page, np.int64))
        for value in page:
            record(exact, value, 1)
    counted = counts.histogram()
    assert counted.get_total_count() == exact.get_total_count() == sum(map(len, pages))
    for share in (0, 50, 90, 99, 100):
        expected = exact.get_value_at_percentile(share)
        assert counted.get_value_at_percentile(share) == pytest.approx(expected, rel=0.02, abs=1)


def test_a_delay_beyond_the_histogram_is_an_error() -> None:
    counts = Counts()
    counts.add(np.array([4 * LONGEST_MICROSECONDS], np.int64))
    with pytest.raises(ValueError, match="a year"):
        counts.histogram()


@given(
    st.lists(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=30), min_size=1, max_size=5),
    st.lists(st.floats(0.1, 10), max_size=4).map(sorted),
)
def test_an_event_counts_in_the_step_in_which_it_was_logged(pages: list[list[int]], ends: list[float]) -> None:
    clock = FakeClock()
    began = clock.at
    delays = Delays(clock, [began + end for end in ends])
    clock.at += 10
    expected = [0] * (1 + len(ends))
    for page in pages:
        delays.note(np.array(page, np.int64) + int((began - POSTGRES_EPOCH) * 1e6))
        for microseconds in page:
            expected[sum(int(end * 1e6) <= microseconds for end in ends)] += 1
    counted = [HdrHistogram.decode(step.latency).get_total_count() for step in delays.by_step()]
    assert counted == expected
    # All of them were delivered ten seconds after the barrier.
    delivered_in = sum(int(end * 1e6) <= 10_000_000 for end in ends)
    assert [step.done for step in delays.by_step()] == [
        sum(expected) * (n == delivered_in) for n in range(len(expected))
    ]
    assert HdrHistogram.decode(delays.encoded()).get_total_count() == sum(expected)
