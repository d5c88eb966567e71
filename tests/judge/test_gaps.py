"""Each missing etag is explained once, by what was observed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.judge.checker import judge
from bench.judge.evidence import Delivered, Stored, Written
from bench.judge.gaps import Jump, explain, jump_over, with_commits


def test_of_missing_etags_ten_ranges_are_shown_in_order() -> None:
    missing = [(etag, etag + 1) for etag in range(90, 0, -5)]
    gaps = explain(missing, [(5, 5)], 0, drained=False)
    assert (gaps.unexplained, gaps.rolled_back) == (35, 1)
    assert gaps.examples == [(6, 6), *((etag, etag + 1) for etag in range(10, 55, 5))]


ETAGS = st.sets(st.integers(1, 40), max_size=30)


@given(ETAGS, ETAGS)
def test_every_missing_etag_is_explained_once(missing: set[int], rolled_back_etags: set[int]) -> None:
    gaps = explain([(etag, etag) for etag in missing], [(etag, etag) for etag in rolled_back_etags], 0, drained=False)
    assert gaps.rolled_back == len(missing & rolled_back_etags)
    assert (gaps.unexplained, gaps.unknown) == (len(missing - rolled_back_etags), 0)
    listed = {etag for first, last in gaps.examples for etag in range(first, last + 1)}
    assert listed <= missing - rolled_back_etags


def test_the_jump_that_passed_an_etag_is_found() -> None:
    jumps = [Jump(0, 5, 1.0), Jump(9, 12, 2.0)]
    assert jump_over(3, jumps) == jumps[0]
    assert jump_over(11, jumps) == jumps[1]
    assert jump_over(9, jumps) is None


@pytest.mark.parametrize(
    ("seen_commits", "explained"),
    [((0, 0), (0, 0, 5)), ((3, 1), (3, 1, 1)), ((5, 0), (5, 0, 0))],
)
def test_of_skipped_events_only_what_was_seen_is_said(
    seen_commits: tuple[int, int], explained: tuple[int, int, int]
) -> None:
    written = Written([(0, 0, 9)])
    verdict = judge(written, [Delivered("r", 5, 35, [(0, 5, 9)])], Stored([(0, 0, 9)]))
    gaps = with_commits(verdict, *seen_commits).gaps
    assert (gaps.late_commit, gaps.early_commit, gaps.skipped) == explained


@given(ETAGS)
def test_what_nobody_knows_of_missing_etags_is_not_called_unexplained(missing: set[int]) -> None:
    gaps = explain([(etag, etag) for etag in missing], None, 0, drained=True)
    assert (gaps.unknown, gaps.rolled_back, gaps.unexplained) == (len(missing), 0, 0)


def test_skipped_events_were_visible_only_when_reading_began_after_them() -> None:
    drained, tailed = (explain([], [], 3, drained=drained) for drained in (True, False))
    assert (drained.visible, drained.skipped) == (3, 0)
    assert (tailed.visible, tailed.skipped) == (0, 3)
