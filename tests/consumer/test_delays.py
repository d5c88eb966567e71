"""Delays are counted page by page and all at once: against the values, one by one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.histograms import LONGEST_MICROSECONDS, SecondCounts, bucket
from consumer.delays import POSTGRES_EPOCH, Counts, Delays
from tests.report.test_figures import FakeClock

PAGES = st.lists(
    st.lists(st.integers(0, 5000) | st.integers(0, LONGEST_MICROSECONDS), min_size=1, max_size=50)
    | st.builds(lambda value, times: [value] * times, st.integers(0, 10**7), st.integers(1, 5000)),
    min_size=1,
    max_size=5,
)


@given(PAGES, PAGES)
def test_every_delay_is_counted_in_its_bucket_and_forgotten_when_it_was_taken(
    of_one: list[list[int]], of_next: list[list[int]]
) -> None:
    counts = Counts()
    for pages in (of_one, of_next):
        for page in pages:
            counts.add(np.array(page, np.int64))
        assert dict(counts.take()) == Counter(bucket(value) for page in pages for value in page)
    assert counts.take() == []


@pytest.mark.parametrize("microseconds", [-1, LONGEST_MICROSECONDS + 1])
def test_a_delay_that_no_histogram_holds_is_an_error(microseconds: int) -> None:
    counts = Counts()
    counts.add(np.array([5, microseconds], np.int64))
    with pytest.raises(ValueError, match="a year"):
        counts.take()


@given(
    st.lists(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=30), min_size=1, max_size=5),
    st.lists(st.floats(0.1, 10), max_size=4).map(sorted),
)
def test_an_event_counts_in_the_step_in_which_it_was_logged(pages: list[list[int]], ends: list[float]) -> None:
    clock = FakeClock()
    began = clock.at
    seconds = SecondCounts(0)
    delays = Delays(clock, seconds, [began + end for end in ends])
    clock.at += 10
    expected = [0] * (1 + len(ends))
    for page in pages:
        delays.note(np.array(page, np.int64) + int((began - POSTGRES_EPOCH) * 1e6), answered_at=10)
        for microseconds in page:
            expected[sum(int(end * 1e6) <= microseconds for end in ends)] += 1
    steps = delays.steps()
    assert [sum(number for _, number in step.buckets) for step in steps] == expected
    # All of them were delivered ten seconds after the barrier.
    delivered_in = sum(int(end * 1e6) <= 10_000_000 for end in ends)
    assert [step.done for step in steps] == [sum(expected) * (n == delivered_in) for n in range(len(expected))]
    delays.count_all()
    assert sum(number for record in seconds.rest() for _, number in record.buckets) == sum(expected)
