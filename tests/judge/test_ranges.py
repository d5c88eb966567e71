"""Arithmetic of ranges against sets of events."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from bench.judge.ranges import Ranges, checksum, events_in, first_events, intersect, normal, subtract
from bench.records import Range

RANGE = st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 4)).map(
    lambda drawn: (drawn[0], drawn[1], drawn[1] + drawn[2])
)
RANGES = st.lists(RANGE, max_size=8)
"""Ranges in any order that may touch, overlap and lie within each other."""


def events(ranges: Ranges) -> set[tuple[int, int]]:
    return {(producer, seq) for producer, first, last in ranges for seq in range(first, last + 1)}


def are_normal(ranges: Ranges) -> bool:
    """Whether no range is empty, and each begins beyond the event that would continue the range before."""
    return all(first <= last for _, first, last in ranges) and all(
        (before[0], before[2] + 1) < (after[0], after[1]) for before, after in pairwise(ranges)
    )


@example([(0, 0, 4), (0, 1, 2), (1, 1, 3)], [(0, 3, 3), (1, 0, 1)])
@given(RANGES, RANGES)
def test_ranges_are_sets_of_events(one: list[Range], other: list[Range]) -> None:
    these, those = normal(one), normal(other)
    assert events(these) == events(one)
    left, common = subtract(these, those), intersect(these, those)
    assert events(left) == events(one) - events(other)
    assert events(common) == events(one) & events(other)
    assert all(are_normal(ranges) for ranges in (these, left, common))
    assert events_in(these) == len(events(one))
    assert sum(checksum(part) for part in these) == sum(seq for _, seq in events(one))


@given(RANGES, st.integers(0, 12))
def test_the_first_events_are_the_lowest(ranges: list[Range], most: int) -> None:
    assert first_events(normal(ranges), most) == sorted(events(ranges))[:most]
