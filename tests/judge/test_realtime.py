"""The real-time order of appends, against its definition, pair by pair."""

from typing import NamedTuple

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st

from bench.judge.checker import judge
from bench.judge.evidence import Delivered, Promise, Stored, Written
from bench.judge.realtime import Appends, RealTimeOrder, real_time_order
from bench.judge.verdict import EarlierAppend
from bench.records import EXAMPLES

MOMENTS = st.integers(0, 20)


class Append(NamedTuple):
    """An append with the etags lowest .. lowest + more."""

    producer: int
    first: int
    began_after: int
    acknowledged_by: float
    lowest: int
    more: int

    @property
    def highest(self) -> int:
        return self.lowest + self.more


APPENDS = st.lists(
    st.builds(
        lambda producer, first, began, lasted, lowest, more: Append(
            producer, first, began, float("inf") if lasted is None else began + lasted, lowest, more
        ),
        st.integers(0, 3),
        st.integers(0, 9),
        MOMENTS,
        st.none() | st.integers(1, 6),
        st.integers(1, 12),
        st.integers(0, 3),
    ),
    max_size=25,
)


def columns(appends: list[Append]) -> Appends:
    rows = [(*each[:5], each.highest) for each in appends]
    producer, first, began, acknowledged, lowest, highest = np.array(rows, float).reshape(-1, 6).T
    integers = (column.astype(np.int64) for column in (producer, first, lowest, highest))
    producers, firsts, lows, highs = integers
    return Appends(producers, firsts, began, acknowledged, lows, highs)


def came_first(one: Append, other: Append) -> bool:
    return one.acknowledged_by < other.began_after


@given(APPENDS)
def test_inverted_appends_are_those_of_the_definition(appends: list[Append]) -> None:
    pairs = [(one, other) for one in appends for other in appends if came_first(one, other)]
    inverted = {
        number
        for number, other in enumerate(appends)
        if any(came_first(one, other) and one.highest > other.lowest for one in appends)
    }
    order = real_time_order(columns(appends))
    event(f"inverted: {bool(inverted)}, pairs: {bool(pairs)}")
    assert order.inverted == len(inverted)
    assert order.pairs == sum(one.producer != other.producer for one, other in pairs)
    assert len(order.examples) == min(EXAMPLES, len(inverted))
    for fault in order.examples:
        earlier = fault.earlier_append
        assert earlier
        assert any(
            (other.producer, other.first, other.lowest) == (fault.producer, fault.seq, fault.etag)
            and (one.producer, one.first, one.highest) == (earlier.producer, earlier.seq, earlier.etag)
            and came_first(one, other)
            and other.began_after - one.acknowledged_by == earlier.seconds
            and earlier.etag > other.lowest
            for one, other in pairs
        )


@given(APPENDS)
def test_an_order_by_the_time_of_the_acknowledgement_is_not_accused(appends: list[Append]) -> None:
    """Etags in the order of the acknowledgements, without overlaps, are those of a log that keeps the order."""
    kept = [
        each._replace(lowest=4 * number)
        for number, each in enumerate(sorted(appends, key=lambda each: each.acknowledged_by))
    ]
    assert real_time_order(columns(kept)).inverted == 0


def test_appends_closer_than_their_clocks_are_right_are_no_pair() -> None:
    first = Append(0, 0, began_after=0, acknowledged_by=5, lowest=90, more=0)
    assert real_time_order(columns([first, Append(1, 0, 5, 9, 1, 0)])) == RealTimeOrder()
    later = real_time_order(columns([first, Append(1, 3, 6, 9, 1, 0)]))
    assert (later.pairs, later.inverted) == (1, 1)
    assert later.examples[0].earlier_append == EarlierAppend(0, 0, 90, 1.0)


WRITTEN, READ, STORED = Written([(0, 0, 9)]), Delivered("r", 10, 45, [(0, 0, 9)]), Stored([(0, 0, 9)])


def test_an_inverted_append_fails_a_log_that_promises_the_order_and_is_excused_elsewhere() -> None:
    order = real_time_order(columns([Append(0, 0, 0, 5, 90, 0), Append(1, 3, 6, 9, 1, 0)]))
    for promise, excused in ((Promise(real_time=True), []), (Promise(), ["inverted"])):
        verdict = judge(WRITTEN, [READ], STORED, promise, order=order)
        assert (verdict.ok, verdict.inverted, verdict.excused) == (bool(excused), 1, excused)
        assert (verdict.real_time_pairs, verdict.untested) == (1, [])
        assert [(fault.kind, fault.producer, fault.seq) for fault in verdict.examples] == [("inverted", 1, 3)]


def test_an_order_that_was_promised_and_not_tried_is_untested() -> None:
    for order, pairs, untested in (
        (None, None, ["real_time"]),
        (RealTimeOrder(), 0, ["real_time"]),
        (RealTimeOrder(pairs=3), 3, []),
    ):
        verdict = judge(WRITTEN, [READ], STORED, Promise(real_time=True), order=order)
        assert (verdict.ok, verdict.real_time_pairs, verdict.untested) == (True, pairs, untested)
        assert judge(WRITTEN, [READ], STORED, order=order).untested == []
