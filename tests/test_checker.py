"""The checker against a slow and obvious reference, and against each fault by hand."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bench.checker import Delivered, Stored, Verdict, Written, judge, needs_audit
from bench.records import Anomaly, Example, Range
from consumer.ledger import Ledger

PRODUCERS = st.integers(0, 2)
SEQS = st.integers(0, 12)
EVENTS = st.sets(st.tuples(PRODUCERS, SEQS), max_size=40)
LIMIT = 13


def ranges(events: set[tuple[int, int]]) -> list[Range]:
    """Any way to write a set as ranges must do: here one each."""
    return [(producer, seq, seq) for producer, seq in sorted(events, reverse=True)]


def seen(delivery: list[tuple[int, int]], reader: str = "r") -> Delivered:
    """What a consumer says of a delivery."""
    ledger = Ledger(LIMIT)
    for etag, (producer, seq) in enumerate(delivery, 1):
        ledger.see([(etag, etag, b'{"producer":%d,"seq":%d,"value":%d}' % (producer, seq, seq))])
    return Delivered(reader, ledger.events, ledger.checksum, ledger.delivered(), ledger.anomalies())


def reference(
    acknowledged: set[tuple[int, int]],
    indeterminate: set[tuple[int, int]],
    stored: set[tuple[int, int]],
    delivery: list[tuple[int, int]],
) -> dict[str, int]:
    """The counts, event by event."""
    possible = acknowledged | indeterminate
    late = 0
    for index, (producer, seq) in enumerate(delivery):
        first_time = (producer, seq) not in delivery[:index]
        late += first_time and any(p == producer and s > seq for p, s in delivery[:index])
    phantoms_delivered = len(set(delivery) - possible)
    return {
        "skipped": len((acknowledged & stored) - set(delivery)),
        "lost": len(acknowledged - stored),
        "duplicated": sum(times - 1 for times in Counter(delivery).values()),
        "reordered": late,
        "phantom": max(len(stored - possible), phantoms_delivered),
        "indeterminate": len(indeterminate),
    }


def counts(verdict: Verdict) -> dict[str, int]:
    return {
        kind: getattr(verdict, kind)
        for kind in ("skipped", "lost", "duplicated", "reordered", "phantom", "indeterminate")
    }


@given(EVENTS, EVENTS, EVENTS, st.lists(st.tuples(PRODUCERS, SEQS), max_size=40))
def test_any_history_is_judged_as_event_by_event(
    acknowledged: set[tuple[int, int]],
    indeterminate: set[tuple[int, int]],
    stored: set[tuple[int, int]],
    delivery: list[tuple[int, int]],
) -> None:
    indeterminate -= acknowledged
    written = Written(ranges(acknowledged), ranges(indeterminate))
    verdict = judge(written, [seen(delivery)], Stored(ranges(stored)))
    expected = reference(acknowledged, indeterminate, stored, delivery)
    assert counts(verdict) == expected
    wrong = any(count for kind, count in expected.items() if kind != "indeterminate")
    assert verdict.ok == (not wrong)
    assert verdict.expected_events == len(acknowledged)
    assert verdict.expected_checksum == sum(seq for _, seq in acknowledged)


@given(EVENTS, EVENTS, st.lists(st.tuples(PRODUCERS, SEQS), max_size=40))
def test_without_an_audit_nothing_wrong_is_missed(
    acknowledged: set[tuple[int, int]], stored: set[tuple[int, int]], delivery: list[tuple[int, int]]
) -> None:
    stored |= set(delivery)  # a table holds what was read from it
    written = Written(ranges(acknowledged))
    if not needs_audit(written, [seen(delivery)], len(stored)):
        assert stored == acknowledged
        assert judge(written, [seen(delivery)], Stored(ranges(stored))).ok


@given(EVENTS)
def test_a_healthy_history_is_not_accused_and_needs_no_audit(events: set[tuple[int, int]]) -> None:
    written = Written(ranges(events))
    prefixes = {(producer, seq) for producer, seq in events if all((producer, s) in events for s in range(seq))}
    written = Written(ranges(prefixes))
    read = seen(sorted(prefixes, key=lambda event: event[1]))
    assert not needs_audit(written, [read, read], len(prefixes))
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
    verdict = judge(written, [Delivered("b", 0, 0, [])], Stored([(0, 0, 49)]))
    assert (verdict.skipped, verdict.lost) == (50, 50)
    assert Counter(fault.kind for fault in verdict.examples) == {"skipped": 10, "lost": 10}


def test_the_right_events_with_wrong_values_fail() -> None:
    written = Written([(0, 0, 9)])
    verdict = judge(written, [Delivered("b", 10, 44, [(0, 0, 9)])], Stored([(0, 0, 9)]))
    assert not verdict.ok
    assert verdict.wrong_checksums == 1


def test_each_read_is_held_to_the_same() -> None:
    written = Written([(0, 0, 9)])
    whole, part = Delivered("a", 10, 45, [(0, 0, 9)]), Delivered("b", 9, 36, [(0, 0, 8)])
    verdict = judge(written, [whole, part, part], Stored([(0, 0, 9)]))
    assert verdict.skipped == 2
    assert {fault.reader for fault in verdict.examples} == {"b"}


def test_rows_that_are_no_events_are_phantoms_counted_once() -> None:
    written = Written([(0, 0, 9)])
    read = Delivered("a", 12, 45, [(0, 0, 9)], [Anomaly("phantom", 2, [Example(etag=3), Example(etag=4)])])
    verdict = judge(written, [read], Stored([(0, 0, 9)], foreign=2))
    assert verdict.phantom == 2
    assert [fault.etag for fault in verdict.examples] == [3, 4]
