"""The chances to fail of a tailed log, against a count by brute force."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from bench.judge.exposure import FEWEST_OVERLAPS, Commits, Exposure, Pages, measure, together

WHEN = st.integers(0, 12)


class Transaction(NamedTuple):
    """A committed transaction with the etags lowest .. lowest + events - 1, in steps of `step`."""

    lowest: int
    events: int
    step: int
    at: int

    @property
    def etags(self) -> list[int]:
        return [self.lowest + number * self.step for number in range(self.events)]


class Page(NamedTuple):
    asked_at: int
    given: int


TRANSACTIONS = st.lists(st.builds(Transaction, st.integers(1, 30), st.integers(1, 4), st.integers(1, 3), WHEN))
PAGES = st.lists(st.builds(Page, WHEN, st.integers(0, 20)))
CALLS = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=8).map(sorted))


def commits(transactions: list[Transaction]) -> Commits:
    lowest, highest, events = (
        np.array(column, np.int64)
        for column in (
            [each.lowest for each in transactions],
            [each.etags[-1] for each in transactions],
            [each.events for each in transactions],
        )
    )
    return Commits(lowest, highest, events, np.array([each.at for each in transactions], np.float64))


def pages_of(pages: list[Page], size: int, uncertainty: float = 0) -> Pages:
    asked = sorted(pages)
    return Pages(
        np.array([page.asked_at for page in asked], np.float64),
        np.array([page.given for page in asked], np.int64),
        size,
        uncertainty,
    )


def pairs(times: list[int]) -> list[tuple[int, int]]:
    """The calls of a producer, one after the other, from an ascending list of times."""
    return list(zip(times[::2], times[1::2], strict=False))


def is_at_risk(page: Page, size: int, uncertainty: float, transactions: list[Transaction]) -> bool:
    committed = [each for each in transactions if each.at <= page.asked_at - uncertainty]
    still_open = [each for each in transactions if each.at > page.asked_at + uncertainty]
    for first in still_open:
        if all(first.lowest <= other.lowest for other in still_open):
            below = sum(each.events for each in transactions if each.lowest < first.lowest)
            beyond = any(etag > first.lowest for each in committed for etag in each.etags)
            return beyond and below < page.given + size
    return False


@given(TRANSACTIONS, PAGES, st.integers(1, 10), st.sampled_from([0, 0.5, 1]))
def test_pages_at_risk_are_those_of_the_definition(
    transactions: list[Transaction], pages: list[Page], size: int, uncertainty: float
) -> None:
    expected = sum(is_at_risk(page, size, uncertainty, transactions) for page in pages)
    event(f"at risk: {bool(expected)}")
    counted = measure(commits(transactions), [], [pages_of(pages, size, uncertainty)], [])
    assert counted.pages_at_risk == expected
    assert counted.pages == sum(page.asked_at <= max((each.at for each in transactions), default=-1) for page in pages)


@given(st.lists(st.integers(1, 9), max_size=8), st.data())
def test_a_page_is_at_risk_where_a_naive_reader_would_pass_an_event(sizes: list[int], data: st.DataObject) -> None:
    """Transactions that do not interleave, and a naive reader that has every event up to its position."""
    transactions, etag = [], 1
    for events in sizes:
        transactions.append(Transaction(etag, events, 1, data.draw(WHEN)))
        etag += events
    asked_at, size = data.draw(WHEN), data.draw(st.integers(1, 10))
    visible = sorted(etag for each in transactions if each.at <= asked_at for etag in each.etags)
    later = [etag for each in transactions if each.at > asked_at for etag in each.etags]
    prefix = [etag for number, etag in enumerate(visible, 1) if etag == number]
    given_before = data.draw(st.integers(0, len(prefix)))
    page = visible[given_before : given_before + size]
    passed = any(etag < max(page) for etag in later) if page else False
    counted = measure(commits(transactions), [], [pages_of([Page(asked_at, given_before)], size)], [])
    event(f"passed: {passed}")
    assert counted.pages_at_risk == passed


@given(CALLS, PAGES)
def test_transactions_overlap_those_of_other_producers(times: list[list[int]], pages: list[Page]) -> None:
    calls = [(number, *pair) for number, own in enumerate(times) for pair in pairs(own)]
    overlapped = sum(
        any(theirs != own and begin < other_end and end > other_begin for theirs, other_begin, other_end in calls)
        for own, begin, end in calls
    )
    amid = sum(sum(begin <= page.asked_at < end for _, begin, end in calls) >= 2 for page in pages)
    columns = [np.array(pairs(own), np.float64).reshape(-1, 2) for own in times]
    counted = measure("no xmin", columns, [pages_of(pages, 1)], None)
    assert (counted.transactions, counted.overlapped, counted.pages_amid_overlap) == (len(calls), overlapped, amid)
    assert counted.pages_at_risk is counted.out_of_order is counted.rolled_back_between is None


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 4)), max_size=12), st.randoms())
def test_commits_out_of_order_are_those_after_a_higher_etag(lots: list[tuple[int, int]], random: object) -> None:
    transactions = [Transaction(lowest, events, 1, at) for at, (lowest, events) in enumerate(lots)]
    expected = sum(
        any(etag > late.lowest for early in transactions[:number] for etag in early.etags)
        for number, late in enumerate(transactions)
    )
    random.shuffle(transactions)  # type: ignore[attr-defined]
    assert measure(commits(transactions), [], [], []).out_of_order == expected


@pytest.mark.parametrize(("asked", "untimed"), [([1, 2], 7), ([1, 2, 4], 0), ([], 7)])
def test_pages_without_times_count_as_such_unless_they_came_after_the_last_transaction(
    asked: list[int], untimed: int
) -> None:
    pages = pages_of([Page(at, 0) for at in asked], 1)._replace(untimed=7)
    counted = measure(commits([Transaction(1, 2, 1, 3)]), [], [pages], [])
    assert (counted.pages, counted.untimed) == (len([at for at in asked if at <= 3]), untimed)


def test_rollbacks_lie_between_where_a_higher_etag_was_committed() -> None:
    counted = measure(commits([Transaction(1, 2, 1, 0), Transaction(8, 2, 1, 1)]), [], [], [(3, 4), (5, 7), (10, 11)])
    assert counted.rolled_back_between == 2


@pytest.mark.parametrize(
    ("exposure", "exposed"),
    [
        (Exposure(out_of_order=0, pages_at_risk=0), False),
        (Exposure(out_of_order=5, pages_at_risk=0, pages_amid_overlap=9, overlapped=1000), False),
        (Exposure(out_of_order=5, pages_at_risk=1), True),
        (Exposure(out_of_order=0, pages_at_risk=0, pages_amid_overlap=9, overlapped=FEWEST_OVERLAPS - 1), False),
        (Exposure(out_of_order=0, pages_at_risk=0, pages_amid_overlap=9, overlapped=FEWEST_OVERLAPS), True),
        (Exposure(out_of_order=0, pages_at_risk=0, overlapped=FEWEST_OVERLAPS), False),
        (Exposure(unknown="no xmin", pages_amid_overlap=9, overlapped=1000), None),
        (Exposure(unknown="taken away", pages_amid_overlap=9, ordered=False), True),
        (Exposure(unknown="taken away", ordered=False), False),
    ],
)
def test_only_a_chance_to_fail_is_exposure(exposure: Exposure, *, exposed: bool | None) -> None:
    assert exposure.exposed is exposed


def test_trials_together_are_exposed_when_one_is_and_unknown_when_one_is() -> None:
    known, idle = Exposure(out_of_order=3, pages_at_risk=2), Exposure(out_of_order=0, pages_at_risk=0)
    assert together([known, idle]).exposed
    assert together([idle, idle]).exposed is False
    assert together([idle, Exposure(unknown="no xmin")]).exposed is None
