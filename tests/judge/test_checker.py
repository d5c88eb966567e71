"""The checker against a slow and obvious reference, and against each fault by hand."""

from collections import Counter
from dataclasses import dataclass, replace
from itertools import groupby
from random import Random
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.judge.checker import (
    accounted_for,
    beyond_the_last,
    judge,
    needs_audit,
    skipped,
    undelivered,
    without_doubtful_order,
)
from bench.judge.evidence import Delivered, Holder, Preloaded, Promise, Stored, Written
from bench.judge.ranges import Ranges, events_in
from bench.judge.stranded import Stranded
from bench.judge.verdict import SleepingReader, Verdict
from bench.records import EXAMPLES, Anomaly, Example, Range
from consumer.ledger import Ledger
from consumer.stream import Stream
from tests.consumer.pages import see

PRODUCERS = st.integers(0, 2)
SEQS = st.integers(0, 12)
EVENTS = st.sets(st.tuples(PRODUCERS, SEQS), max_size=40)
LIMIT = 13


def ranges(events: set[tuple[int, int]]) -> list[Range]:
    """Write a set of events as ranges, one per event, in an order that is not the usual one."""
    return [(producer, seq, seq) for producer, seq in sorted(events, reverse=True)]


HOLDER = Holder(17, "a", "psql", "idle in transaction", 12.5, wrote=True, wrote_here=False)


def seen(delivery: list[tuple[int, int]], reader: str = "r", below: Ranges = ()) -> Delivered:
    """A consumer's account of a delivery; `below` are the stored events with a lower etag than its highest one."""
    ledger = Ledger(LIMIT)
    for etag, (producer, seq) in enumerate(delivery, 1):
        see(ledger, [(etag, etag, b'{"producer":%d,"seq":%d,"value":%d}' % (producer, seq, seq))])
    delivered = ledger.delivered()[::-1]
    return Delivered(reader, ledger.events, ledger.checksum, delivered, ledger.anomalies(), below=below)


def reference(
    acknowledged: set[tuple[int, int]],
    indeterminate: set[tuple[int, int]],
    stored: set[tuple[int, int]],
    deliveries: list[list[tuple[int, int]]],
) -> dict[str, int]:
    """The counts, event by event."""
    possible = acknowledged | indeterminate
    expected = {
        "skipped": sum(len((acknowledged & stored) - set(delivery)) for delivery in deliveries),
        "withheld": 0,
        "lost": len(acknowledged - stored),
        "duplicated": sum(times - 1 for delivery in deliveries for times in Counter(delivery).values()),
        "reordered": 0,
        "phantom": len(stored - possible),
        "corrupt": 0,
        "indeterminate": len(indeterminate),
    }
    for delivery in deliveries:
        for index, (producer, seq) in enumerate(delivery):
            first_time = (producer, seq) not in delivery[:index]
            expected["reordered"] += first_time and any(p == producer and s > seq for p, s in delivery[:index])
        expected["phantom"] += max(0, len(set(delivery) - possible) - len(stored - possible))
    return expected


def counts(verdict: Verdict) -> dict[str, int]:
    return {
        kind: getattr(verdict, kind)
        for kind in ("skipped", "withheld", "lost", "duplicated", "reordered", "phantom", "corrupt", "indeterminate")
    }


DELIVERY = st.lists(st.tuples(PRODUCERS, SEQS), max_size=40)


@given(EVENTS, EVENTS, EVENTS, EVENTS, st.lists(DELIVERY, min_size=1, max_size=3))
def test_any_history_is_judged_as_event_by_event(
    acknowledged: set[tuple[int, int]],
    indeterminate: set[tuple[int, int]],
    aborted: set[tuple[int, int]],
    stored: set[tuple[int, int]],
    deliveries: list[list[tuple[int, int]]],
) -> None:
    indeterminate -= acknowledged
    aborted -= acknowledged | indeterminate
    written = Written(ranges(acknowledged), ranges(indeterminate), ranges(aborted))
    reads = [seen(delivery, f"reader-{number}", ranges(stored)) for number, delivery in enumerate(deliveries)]
    verdict = judge(written, reads, Stored(ranges(stored)))
    expected = reference(acknowledged, indeterminate, stored, deliveries)
    assert counts(verdict) == expected
    wrong = any(count for kind, count in expected.items() if kind != "indeterminate")
    assert verdict.ok == (not wrong)
    assert verdict.expected_events == len(acknowledged)
    assert verdict.expected_checksum == sum(seq for _, seq in acknowledged)
    assert verdict.aborted == len(aborted)
    assert verdict.wrong_checksums == 0
    missing = set().union(*((acknowledged & stored) - set(delivery) for delivery in deliveries))
    assert verdict.gaps.skipped == len(missing)
    lost, delivered = acknowledged - stored, set().union(*deliveries)
    assert [(fault.producer, fault.seq) for fault in verdict.examples if fault.kind == "lost"] == sorted(lost)[
        :EXAMPLES
    ]
    assert verdict.lost_after_delivery == len(lost & delivered)
    passed_over = {(p, s) for p, s in lost - delivered if any(p == producer and s < seq for producer, seq in delivered)}
    assert verdict.lost_and_passed == len(passed_over)
    assert accounted_for(written) == len(acknowledged | indeterminate | aborted)
    assert undelivered(written, reads) == any(acknowledged - set(delivery) for delivery in deliveries)
    for read, delivery in zip(reads, deliveries, strict=True):
        of_reader = skipped(written, read, Stored(ranges(stored)), Promise())
        assert events_in(of_reader) == len((acknowledged & stored) - set(delivery))
    for number, delivery in enumerate(deliveries):
        own = reference(acknowledged, indeterminate, stored, [delivery])
        met = verdict.by_reader[f"reader-{number}"]
        assert {kind: met.get(kind, 0) for kind in ("skipped", "duplicated", "reordered")} == {
            kind: own[kind] for kind in ("skipped", "duplicated", "reordered")
        }


@given(EVENTS, DELIVERY, st.data())
def test_members_of_a_group_are_judged_as_one(
    acknowledged: set[tuple[int, int]], delivery: list[tuple[int, int]], data: st.DataObject
) -> None:
    """However a delivery is dealt out to members, the same events are missing and the same number is doubled."""
    dealt: list[list[tuple[int, int]]] = [[], [], []]
    for event in delivery:
        dealt[data.draw(st.integers(0, 2))].append(event)
    stored = acknowledged | set(delivery)
    together = replace(Delivered.together("group", [seen(part) for part in dealt]), below=ranges(stored))
    verdict = judge(Written(ranges(acknowledged)), [together], Stored(ranges(stored)))
    assert verdict.skipped == len(acknowledged - set(delivery))
    assert verdict.duplicated == len(delivery) - len(set(delivery))
    assert verdict.phantom == len(set(delivery) - acknowledged)


def test_what_members_of_a_group_met_is_added_up() -> None:
    last = replace(HOLDER, pid=18)
    first = Delivered(
        "a",
        events=3,
        checksum=3,
        ranges=[(0, 0, 2)],
        anomalies=[Anomaly("corrupt", 1, [Example(producer=0, seq=1)])],
        falling_etags=1,
        stopped=["it hangs"],
        highest_etag=9,
        holders=[HOLDER],
        page_events=10,
        largest_page=12,
        oversized_pages=2,
    )
    second = Delivered(
        "b",
        events=3,
        checksum=6,
        ranges=[(0, 2, 3), (1, 1, 1)],
        falling_etags=2,
        stopped=["it goes on"],
        stranded=True,
        overslept_events=2,
        highest_etag=7,
        holders=[last],
        page_events=10,
        largest_page=11,
        oversized_pages=1,
    )
    alone = replace(first, below=[(0, 0, 1)])
    assert Delivered.together("a", [alone]) == alone
    doubled = Anomaly("duplicated", 1, [Example(producer=0, seq=2)])
    assert Delivered.together("group", [first, second, replace(first, ranges=[], anomalies=[], highest_etag=None)]) == (
        Delivered(
            "group",
            events=9,
            checksum=12,
            ranges=[(0, 0, 3), (1, 1, 1)],
            anomalies=[*first.anomalies, doubled],
            falling_etags=4,
            stopped=["it hangs", "it goes on", "it hangs"],
            stranded=True,
            overslept_events=2,
            highest_etag=9,
            holders=[HOLDER],
            page_events=10,
            largest_page=12,
            oversized_pages=5,
        )
    )


HEALTHY = Delivered("r", 10, 45, [(0, 0, 9)])
TEN = Stored([(0, 0, 9)])
GAP_FREE = Promise(gap_free=True)


@pytest.mark.parametrize(
    ("read", "stored", "promise", "met"),
    [
        (replace(HEALTHY, stopped=["cancelled", "cancelled"]), TEN, Promise(), {"given up": 2}),
        (replace(HEALTHY, stranded=True), TEN, Promise(), {"stranded": 1}),
        (replace(HEALTHY, largest_page=12, oversized_pages=3), TEN, Promise(), {"oversized pages": 3}),
        (replace(HEALTHY, overslept_events=4), TEN, Promise(), {"overslept": 4}),
        (replace(HEALTHY, checksum=44), TEN, Promise(), {}),
        (replace(HEALTHY, falling_etags=2), TEN, Promise(), {"reordered": 2}),
        (replace(HEALTHY, anomalies=[Anomaly("reordered", 3, [])], falling_etags=2), TEN, Promise(), {"reordered": 3}),
        (replace(HEALTHY, anomalies=[Anomaly("corrupt", 1, [])]), TEN, Promise(), {"corrupt": 1}),
        (replace(HEALTHY, anomalies=[Anomaly("phantom", 1, [])]), TEN, Promise(), {"phantom": 1}),
        (HEALTHY, replace(TEN, foreign=1), Promise(), {}),
        (HEALTHY, replace(TEN, missing_etags=[(4, 4)]), GAP_FREE, {}),
        (HEALTHY, replace(TEN, doubled=1), GAP_FREE, {}),
    ],
)
def test_each_fault_alone_fails_and_is_its_readers(
    read: Delivered, stored: Stored, promise: Promise, met: dict[str, int]
) -> None:
    stranded = [Stranded("consumer", "get_event", "no")] if read.stranded else []
    verdict = judge(Written(HEALTHY.ranges), [HEALTHY, replace(read, reader="other")], stored, promise, stranded)
    assert not verdict.ok
    assert verdict.by_reader == {"r": {}, "other": met}
    assert verdict.wrong_checksums == (read.checksum != HEALTHY.checksum)
    assert len(verdict.stopped) == ("given up" in met)
    assert len(verdict.oversized) == ("oversized pages" in met)
    assert verdict.stranded == stranded
    assert verdict.sleeping == ([SleepingReader("other", 4)] if "overslept" in met else [])


def test_each_open_transaction_that_readers_met_is_shown_once_and_at_most_ten() -> None:
    many = [replace(HOLDER, pid=pid, application=name) for pid in range(4) for name in "abc"]
    reads = [Delivered(f"reader-{pid}", 0, 0, [], holders=many[pid:]) for pid in range(4)]
    quick = Delivered("quick", 0, 0, [], holders=None)
    assert judge(Written([(0, 0, 9)]), [*reads, quick], TEN).holders == many[:EXAMPLES]
    assert judge(Written([(0, 0, 9)]), [quick], TEN).holders is None


@given(EVENTS, DELIVERY)
def test_what_a_log_does_not_promise_is_counted_and_excused(
    acknowledged: set[tuple[int, int]], delivery: list[tuple[int, int]]
) -> None:
    stored = acknowledged | set(delivery)
    read = seen(delivery, below=ranges(stored))
    strict = judge(Written(ranges(acknowledged)), [read], Stored(ranges(stored)))
    lax = judge(
        Written(ranges(acknowledged)),
        [read],
        Stored(ranges(stored)),
        Promise(etag_order=False, producer_order=False, once=False),
    )
    assert counts(strict) == counts(lax)
    assert lax.ok == (not strict.skipped and not strict.phantom)
    assert set(lax.excused) == {kind for kind in ("duplicated", "reordered") if getattr(strict, kind)}


def test_etags_that_fall_break_a_promise_of_etag_order_only() -> None:
    read = Delivered("r", 2, 1, [(0, 0, 0), (1, 1, 1)], falling_etags=1)
    written = Written([(0, 0, 0), (1, 1, 1)])
    assert judge(written, [read], Stored(written.acknowledged)).reordered == 1
    assert judge(written, [read], Stored(written.acknowledged), Promise(etag_order=False)).ok


def test_a_reading_that_was_given_up_did_not_skip_what_it_had_not_come_to() -> None:
    written = Written([(0, 0, 9)])
    verdict = judge(written, [Delivered("r", 4, 6, [(0, 0, 3)], stopped=["cancelled"])], Stored([(0, 0, 9)]))
    assert (verdict.skipped, verdict.withheld, verdict.ok) == (0, 6, False)


def test_a_reading_that_was_given_up_is_not_ok() -> None:
    written = Written([(0, 0, 9)])
    verdict = judge(written, [Delivered("r", 10, 45, [(0, 0, 9)], stopped=["it goes on"])], Stored([(0, 0, 9)]))
    assert not verdict.ok
    assert verdict.stopped == ["r: it goes on"]


@given(
    EVENTS,
    EVENTS,
    EVENTS,
    DELIVERY,
    st.sampled_from([(), (HOLDER,), None]),
    st.sampled_from([(), ("cancelled",)]),
    st.builds(Promise, producer_order=st.booleans(), by_etag=st.booleans(), replay=st.booleans()),
)
def test_a_reader_skipped_only_what_it_was_given_a_later_event_of(
    acknowledged: set[tuple[int, int]],
    stored: set[tuple[int, int]],
    below: set[tuple[int, int]],
    delivery: list[tuple[int, int]],
    holders: tuple[Holder, ...] | None,
    stopped: tuple[str, ...],
    promise: Promise,
) -> None:
    read = replace(seen(delivery, below=ranges(below)), holders=holders, stopped=stopped)
    verdict = judge(Written(ranges(acknowledged)), [read], Stored(ranges(stored)), promise)
    nothing_open = not stopped and holders == ()
    highest = {producer: max(seq for _, seq in seqs) for producer, seqs in groupby(sorted(delivery), lambda e: e[0])}
    passed_over = kept_back = 0
    for producer, seq in (acknowledged & stored) - set(delivery):
        goes_by_etag = promise.by_etag or (promise.producer_order and promise.replay and nothing_open)
        passed_by_etag = (producer, seq) in below and goes_by_etag
        passed_by_producer = seq < highest.get(producer, -1) and promise.producer_order
        passed_over += passed_by_etag or passed_by_producer
        kept_back += not (passed_by_etag or passed_by_producer)
    assert (verdict.skipped, verdict.withheld) == (passed_over, kept_back)
    assert verdict.gaps.skipped == passed_over
    assert verdict.holders == (list(holders) if kept_back and holders is not None else None)
    assert verdict.ok <= (passed_over + kept_back == 0)


@pytest.mark.parametrize(
    ("change", "promise", "passed_over"),
    [
        ({}, Promise(by_etag=False), 2),
        ({"holders": None}, Promise(by_etag=False), 0),
        ({"holders": (HOLDER,)}, Promise(by_etag=False), 0),
        ({"stopped": ("cancelled",)}, Promise(by_etag=False), 0),
        ({"stranded": True}, Promise(by_etag=False), 0),
        ({}, Promise(by_etag=False, replay=False), 0),
        ({}, Promise(by_etag=False, producer_order=False), 0),
        ({"holders": (HOLDER,)}, Promise(), 2),
    ],
)
def test_a_reader_that_waited_in_vain_is_past_lower_etags(
    change: dict[str, Any], promise: Promise, passed_over: int
) -> None:
    """Seqs 8 and 9 have lower etags than what was delivered, and no later event of their producer was."""
    read = replace(Delivered("r", 8, 28, [(0, 0, 7)], below=[(0, 0, 9)]), **change)
    verdict = judge(Written([(0, 0, 9)]), [read], Stored([(0, 0, 9)]), promise)
    assert (verdict.skipped, verdict.withheld) == (passed_over, 2 - passed_over)


def test_the_last_event_of_all_is_withheld_and_never_skipped() -> None:
    written = Written([(0, 0, 9)])
    verdict = judge(written, [Delivered("r", 9, 36, [(0, 0, 8)], below=[(0, 0, 7)])], Stored([(0, 0, 9)]))
    assert (verdict.skipped, verdict.withheld, verdict.ok) == (0, 1, False)


def test_what_is_left_in_a_queue_is_withheld_because_it_may_be_due_later() -> None:
    written = Written([(0, 0, 9)])
    queue = Promise(etag_order=False, producer_order=False, by_etag=False, replay=False)
    read = Delivered("r", 8, 28, [(0, 0, 4), (0, 7, 9)], below=[(0, 0, 9)])
    verdict = judge(written, [read], Stored([(0, 5, 5)], removed=read.ranges), queue)
    assert (verdict.skipped, verdict.withheld, verdict.lost) == (0, 1, 1)


def test_once_is_untested_while_delivered_events_are_still_in_a_queues_table() -> None:
    written = Written([(0, 0, 9)])
    queue = Promise(etag_order=False, producer_order=False, by_etag=False, replay=False, redelivers=True)
    read = Delivered("r", 10, 45, [(0, 0, 9)])
    stored = Stored([(0, 2, 4)], removed=read.ranges)
    assert judge(written, [read], stored, queue).kept_after_delivery == 3
    assert judge(written, [read], Stored([(0, 0, 9)])).kept_after_delivery == 0
    again = replace(read, anomalies=[Anomaly("duplicated", 1, [])])
    assert judge(written, [again], stored, queue).kept_after_delivery == 0  # it was tried, and found


def test_lost_events_that_were_delivered_had_been_stored() -> None:
    written = Written([(0, 0, 9)])
    verdict = judge(written, [Delivered("r", 7, 25, [(0, 0, 2), (0, 4, 7)])], Stored([(0, 5, 8)]))
    assert (verdict.lost, verdict.lost_after_delivery, verdict.lost_and_passed) == (6, 4, 1)


def test_what_was_skipped_after_all_was_written_was_visible() -> None:
    written = Written([(0, 0, 9)])
    promise = Promise(drained=True)
    gaps = judge(written, [Delivered("r", 5, 35, [(0, 5, 9)])], Stored([(0, 0, 9)]), promise).gaps
    assert (gaps.visible, gaps.skipped) == (5, 0)


def test_etags_that_are_doubled_fail_a_log_that_promises_no_gaps() -> None:
    written, read = Written([(0, 0, 2)]), Delivered("r", 3, 3, [(0, 0, 2)])
    stored = Stored([(0, 0, 2)], doubled=1, doubled_etags=[7])
    for promise, ok in ((Promise(), True), (Promise(gap_free=True), False)):
        verdict = judge(written, [read], stored, promise)
        assert verdict.ok == ok
        assert (verdict.gaps.doubled, verdict.gaps.doubled_etags) == (1, [7])


def test_rows_that_are_no_events_are_shown() -> None:
    written, read = Written([(0, 0, 2)]), Delivered("r", 3, 3, [(0, 0, 2)])
    verdict = judge(written, [read], Stored([(0, 0, 2)], foreign=2, foreign_etags=[17, 19]))
    assert verdict.phantom == 2
    assert [(fault.kind, fault.etag, fault.producer) for fault in verdict.examples] == [
        ("phantom", 17, None),
        ("phantom", 19, None),
    ]


def test_gaps_fail_a_log_that_promises_none() -> None:
    written = Written([(0, 0, 1)], rolled_back_etags=[(2, 2)])
    read = Delivered("r", 2, 1, [(0, 0, 1)])
    stored = Stored([(0, 0, 1)], missing_etags=[(2, 2)])
    assert judge(written, [read], stored).ok
    assert not judge(written, [read], stored, Promise(gap_free=True)).ok


@dataclass
class History:
    """A healthy history, until it is edited."""

    acknowledged: set[tuple[int, int]]
    stored: set[tuple[int, int]]
    delivery: list[tuple[int, int]]

    def edit(self, how: str, draw: st.DataObject) -> None:
        """Let one thing go wrong. The table holds what was read from it, whatever else happens."""
        of = draw.draw(st.sampled_from(sorted(self.acknowledged)))
        other = draw.draw(st.tuples(PRODUCERS, SEQS))
        if how in {"lose", "lose and invent"}:
            self.stored.discard(of)
        if how in {"lose", "skip", "lose and invent", "skip and repeat"}:
            self.delivery = [event for event in self.delivery if event != of]
        if how in {"store", "lose and invent"}:
            self.stored.add(other)
        if how in {"lose and invent", "repeat", "skip and repeat"}:
            self.delivery += [other]
        if how == "swap":
            self.delivery.reverse()
        self.stored |= set(self.delivery)


EDITS = ("lose", "skip", "store", "repeat", "lose and invent", "skip and repeat", "swap")


def test_without_an_audit_nothing_wrong_is_missed() -> None:
    audited: list[bool] = []

    @hypothesis.settings(max_examples=200)
    @given(EVENTS.filter(bool), st.lists(st.sampled_from(EDITS), max_size=2), st.data())
    def holds(acknowledged: set[tuple[int, int]], edits: list[str], data: st.DataObject) -> None:
        history = History(acknowledged, set(acknowledged), sorted(acknowledged))
        for how in edits:
            history.edit(how, data)
        read, written = seen(history.delivery), Written(ranges(history.acknowledged))
        audited.append(needs_audit(written, [read], len(history.stored)))
        hypothesis.event(f"audited: {audited[-1]}, edits: {len(edits)}")
        if not audited[-1]:
            assert history.stored == history.acknowledged
            assert judge(written, [read], Stored(ranges(history.stored))).ok

    holds()
    assert 0.1 < sum(audited) / len(audited) < 0.9, "hardly a history goes one of the two ways"


@given(EVENTS)
def test_a_healthy_history_is_not_accused_and_needs_no_audit(events: set[tuple[int, int]]) -> None:
    written = Written(ranges(events))
    prefixes = {(producer, seq) for producer, seq in events if all((producer, s) in events for s in range(seq))}
    written = Written(ranges(prefixes))
    read = seen(sorted(prefixes, key=lambda event: event[1]))
    assert not needs_audit(written, [read, read], len(prefixes))
    assert not undelivered(written, [read, read])
    assert judge(written, [read, read], Stored(ranges(prefixes))).ok


def test_one_event_in_a_hundred_million_is_found_at_once() -> None:
    limit = 100_000_000
    written = Written([(0, 0, limit - 1)])
    read = Delivered("r", limit - 1, 0, [(0, 0, 41), (0, 43, limit - 1)])
    verdict = judge(written, [read], Stored([(0, 0, limit - 1)]))
    assert verdict.skipped == 1
    assert [(fault.kind, fault.producer, fault.seq) for fault in verdict.examples] == [("skipped", 0, 42)]


def test_all_are_counted_and_ten_are_shown() -> None:
    written = Written([(0, 0, 99)])
    reads = [Delivered(reader, 0, 0, [], below=[(0, 0, 49)]) for reader in ("a", "b")]
    verdict = judge(written, reads, Stored([(0, 0, 49)]))
    assert (verdict.skipped, verdict.lost) == (100, 50)
    assert Counter(fault.kind for fault in verdict.examples) == {"skipped": 10, "lost": 10}


def test_the_right_events_with_wrong_values_fail() -> None:
    written = Written([(0, 0, 9)])
    verdict = judge(written, [Delivered("b", 10, 44, [(0, 0, 9)])], Stored([(0, 0, 9)]))
    assert not verdict.ok
    assert verdict.wrong_checksums == 1


def test_each_read_is_held_to_the_same() -> None:
    written = Written([(0, 0, 9)])
    whole, part = Delivered("a", 10, 45, [(0, 0, 9)]), Delivered("b", 9, 37, [(0, 0, 7), (0, 9, 9)])
    verdict = judge(written, [whole, part, part], Stored([(0, 0, 9)]))
    assert verdict.skipped == 2
    assert {fault.reader for fault in verdict.examples} == {"b"}


def test_rows_that_are_no_events_are_phantoms_counted_once() -> None:
    written = Written([(0, 0, 9)])
    read = Delivered("a", 12, 45, [(0, 0, 9)], [Anomaly("phantom", 2, [Example(etag=3), Example(etag=4)])])
    verdict = judge(written, [read], Stored([(0, 0, 9)], foreign=2))
    assert verdict.phantom == 2
    assert [fault.etag for fault in verdict.examples] == [3, 4]


ETAGS_OF_EVENTS = st.dictionaries(st.tuples(PRODUCERS, SEQS), st.integers(1, 99), min_size=1, max_size=20)


def checksummed(etags: dict[tuple[int, int], int], reader: str = "r") -> Delivered:
    """A consumer's account of events with etags, which are delivered in the order of the dictionary."""
    stream, events = Stream(ordered=True), list(etags)
    producers, seqs = np.array(events, np.int64).T
    for _ in stream.note(producers, seqs, np.array(list(etags.values()), np.int64)):
        pass
    checksum = sum(seq for _, seq in events)
    return Delivered(
        reader,
        len(events),
        checksum,
        ranges(set(events)),
        etag_checksum=stream.etag_checksum,
        order_checksum=stream.order_checksum,
    )


@given(ETAGS_OF_EVENTS, st.data())
def test_a_reader_that_is_given_other_etags_than_the_stored_ones_is_inconsistent(
    etags: dict[tuple[int, int], int], data: st.DataObject
) -> None:
    exchanged = data.draw(st.permutations(list(etags.values())))
    other = dict(zip(etags, exchanged, strict=True))
    events = ranges(set(etags))
    stored = Stored(events, etag_checksum=checksummed(etags).etag_checksum, other_etags=3)
    for promise, excused in ((Promise(), []), (Promise(one_etag=False), ["inconsistent"])):
        verdict = judge(Written(events), [checksummed(etags, "a"), checksummed(other, "b")], stored, promise)
        assert verdict.inconsistent == (3 if other != etags else 0)
        assert verdict.by_reader["a"] == {}
        assert verdict.ok == (other == etags or bool(excused))
        assert verdict.excused == (excused if other != etags else [])


@given(ETAGS_OF_EVENTS, st.sets(st.tuples(PRODUCERS, SEQS), max_size=3))
def test_etags_are_compared_only_where_the_same_events_are(
    etags: dict[tuple[int, int], int], dropped: set[tuple[int, int]]
) -> None:
    part = {event: etag for event, etag in etags.items() if event not in dropped} or etags
    stored = Stored(ranges(set(etags)), etag_checksum=checksummed(etags).etag_checksum)
    assert judge(Written(ranges(set(etags))), [checksummed(part)], stored).inconsistent == 0


def test_at_least_one_event_is_inconsistent_where_another_reading_shows_none() -> None:
    etags = {(0, 0): 1, (0, 1): 2}
    stored = Stored([(0, 0, 1)], etag_checksum=checksummed({(0, 0): 1, (0, 1): 3}).etag_checksum)
    assert judge(Written([(0, 0, 1)]), [checksummed(etags)], stored).inconsistent == 1


@given(ETAGS_OF_EVENTS, st.lists(st.randoms(use_true_random=False), min_size=1, max_size=4))
def test_readers_disagree_with_the_first_one_by_their_orders(
    etags: dict[tuple[int, int], int], shuffles: list[Random]
) -> None:
    orders = [list(etags)]
    for shuffle in shuffles:
        orders.append(list(etags))
        shuffle.shuffle(orders[-1])
    reads = [checksummed({event: etags[event] for event in order}, f"r{n}") for n, order in enumerate(orders)]
    events, stored = ranges(set(etags)), Stored(ranges(set(etags)))
    disagreeing = sum(order != orders[0] for order in orders)
    verdict = judge(Written(events), reads, stored, Promise(one_order=True))
    assert (verdict.disagreeing, verdict.ok) == (disagreeing, not disagreeing)
    assert judge(Written(events), reads, stored).ok


@given(st.integers(0, 9), st.integers(0, 9))
def test_a_cursor_that_went_back_is_counted_apart_from_etags_that_fall_within_a_page(within: int, between: int) -> None:
    written = Written([(0, 0, 1)])
    read = Delivered("r", 2, 1, [(0, 0, 1)], falling_etags=within + between, backward_pages=between)
    for promise, failing in (
        (Promise(), within + between),
        (Promise(etag_order=False), between),
        (Promise(forward=False), within),
        (Promise(etag_order=False, by_etag=False), 0),
    ):
        verdict = judge(written, [read], Stored(written.acknowledged), promise)
        assert verdict.reordered == (within if promise.etag_order else 0)
        assert verdict.rewound == (between if promise.by_etag else 0)
        assert verdict.ok == (not failing)


def test_pieces_of_batches_are_a_fault_with_its_examples() -> None:
    written = Written([(0, 0, 3)])
    read = Delivered("r", 4, 6, [(0, 0, 3)], [Anomaly("torn", 1, [Example(producer=0, seq=1)])])
    verdict = judge(written, [read], Stored(written.acknowledged))
    assert (verdict.torn, verdict.ok) == (1, False)
    assert [(fault.kind, fault.producer, fault.seq) for fault in verdict.examples] == [("torn", 0, 1)]


def test_etags_that_log_event_returned_are_compared_too() -> None:
    written = Written([(0, 0, 3)], returned=[Example(0, 1, 9), Example(0, 2, 3)])
    read = Delivered("r", 4, 6, [(0, 0, 3)])
    verdict = judge(written, [read], Stored([(0, 0, 3)], returned_otherwise=[Example(0, 1, 9)]))
    assert (verdict.inconsistent, verdict.ok) == (1, False)
    assert [(fault.kind, fault.reader, fault.seq, fault.etag) for fault in verdict.examples] == [
        ("inconsistent", None, 1, 9)
    ]


def test_one_reader_or_one_missing_row_is_enough_for_an_audit() -> None:
    written = Written([(0, 0, 9)])
    whole = Delivered("whole", 10, 45, [(0, 0, 9)])
    twice = replace(whole, reader="twice", anomalies=[Anomaly("duplicated", 1, [Example(0, 3, 4)])])
    assert not needs_audit(written, [whole], 10)
    assert needs_audit(written, [whole, twice], 10)
    assert needs_audit(written, [], 9)
    assert not needs_audit(written, [], 10)


def test_events_that_are_reported_twice_count_once() -> None:
    twice = [(0, 0, 4), (0, 3, 9)]
    written = Written([(1, 0, 9), (1, 5, 9)], indeterminate=twice, aborted=[(2, 0, 1), (2, 1, 1)], unattempted=twice)
    verdict = judge(written, [], Stored([(1, 0, 9)]))
    assert (verdict.expected_events, verdict.indeterminate, verdict.aborted, verdict.unattempted) == (10, 10, 2, 10)
    assert accounted_for(written) == 22


@given(EVENTS, EVENTS, st.data())
def test_preloaded_events_have_an_account_of_their_own(
    written: set[tuple[int, int]], preloaded: set[tuple[int, int]], data: st.DataObject
) -> None:
    before = {(producer + 10, seq) for producer, seq in preloaded}
    again = data.draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
    gone = data.draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
    changed = data.draw(st.integers(0, 3))
    account = Preloaded(ranges(before), ranges(gone), changed, [Example(10, 1, 7)] * changed)
    stored = Stored(ranges(written), preloaded=account)
    verdict = judge(Written(ranges(written)), [seen(sorted(again) + sorted(written))], stored)
    counts = (verdict.duplicated, verdict.lost, verdict.corrupt, verdict.phantom, verdict.skipped, verdict.withheld)
    assert counts == (len(again), len(gone), changed, 0, 0, 0)
    assert verdict.ok == (not again and not gone and not changed)
    assert verdict.expected_events == len(written)
    alone = judge(Written(ranges(written)), [seen(sorted(written))], Stored(ranges(written)))
    assert alone.ok


def test_a_further_row_of_a_preloaded_event_is_no_phantom() -> None:
    account = Preloaded([(10, 0, 9)])
    stored = Stored([(0, 0, 2), (10, 6, 6)], preloaded=account)
    written = Written([(0, 0, 2)])
    assert judge(written, [seen([(0, 0), (0, 1), (0, 2)])], stored).ok
    verdict = judge(written, [seen([(0, 0), (10, 6), (0, 1), (0, 2)])], stored)
    assert (verdict.duplicated, verdict.phantom) == (1, 0)
    beyond = replace(stored, ranges=[(0, 0, 2), (10, 10, 10)])
    assert judge(written, [seen([(0, 0), (0, 1), (0, 2)])], beyond).phantom == 1


def test_a_phantom_that_was_deleted_behind_readers_is_counted() -> None:
    written = Written([(0, 0, 9)], aborted=[(0, 10, 10)])
    stored = Stored([(0, 5, 9)], removed=[(0, 0, 4)], deleted=[(0, 0, 4), (0, 10, 10), (7, 3, 3)])
    verdict = judge(written, [HEALTHY], stored)
    assert (verdict.phantom, verdict.lost, verdict.ok) == (2, 0, False)
    assert [(fault.producer, fault.seq) for fault in verdict.examples] == [(0, 10), (7, 3)]


def test_a_lost_event_that_was_deleted_behind_readers_is_known_to_have_been_stored() -> None:
    read = Delivered("r", 6, 39, [(0, 4, 9)])
    verdict = judge(Written([(0, 0, 9)]), [read], Stored([(0, 6, 9)], removed=[(0, 4, 5)], deleted=[(0, 1, 5)]))
    assert (verdict.lost, verdict.lost_and_passed) == (4, 1)


def test_events_after_a_phantom_beyond_the_last_seq_are_not_called_reordered() -> None:
    written = Written([(0, 0, 4)], aborted=[(0, 5, 5)])
    read = seen([(0, 0), (0, 9), (0, 1), (0, 2), (0, 3), (0, 4)])
    assert judge(written, [read], Stored([(0, 0, 4), (0, 9, 9)])).reordered == 4
    assert beyond_the_last(written, read) == [0]
    verdict = judge(written, [without_doubtful_order(written, read)], Stored([(0, 0, 4), (0, 9, 9)]))
    assert (verdict.reordered, verdict.phantom, verdict.ok) == (0, 1, False)
    rolled_back = seen([(0, 1), (0, 0), (0, 5), (0, 2), (7, 3)])
    assert without_doubtful_order(written, rolled_back) == rolled_back
