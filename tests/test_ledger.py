"""A consumer's ledger."""

import json

from hypothesis import given
from hypothesis import strategies as st

from bench.records import Anomaly, Example
from consumer.ledger import Ledger

Row = tuple[int, int, bytes]


def row(etag: int, producer: int, seq: int, ctime: int | None = None) -> Row:
    payload = json.dumps({"producer": producer, "seq": seq, "value": seq, "pad": "xx"}).encode()
    return etag, etag if ctime is None else ctime, payload


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=60), st.data())
def test_how_rows_are_cut_into_pages_makes_no_difference(events: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = [row(etag, *event) for etag, event in enumerate(events, 1)]
    whole, cut = Ledger(21), Ledger(21)
    whole.see(rows)
    while rows:
        size = data.draw(st.integers(1, len(rows)))
        cut.see(rows[:size])
        rows = rows[size:]
    for ledger in (whole, cut):
        assert ledger.events == len(events)
        assert ledger.checksum == sum(seq for _, seq in events)
        delivered = {(p, s) for p, first, last in ledger.delivered() for s in range(first, last + 1)}
        assert delivered == set(events)
    assert whole.delivered() == cut.delivered()
    assert whole.anomalies() == cut.anomalies()
    assert whole.max_etag_gap == cut.max_etag_gap


def test_a_healthy_log_of_any_size_is_one_range_a_producer() -> None:
    ledger = Ledger(5000)
    for seq in range(5000):
        ledger.see([row(seq * 2 + 1, 0, seq), row(seq * 2 + 2, 1, seq)])
    assert ledger.delivered() == [(0, 0, 4999), (1, 0, 4999)]
    assert ledger.anomalies() == []
    assert ledger.max_etag_gap == 1


def test_a_late_event_is_reordered_once_and_duplicated_after_that() -> None:
    ledger = Ledger(10)
    ledger.see([row(1, 0, 0), row(2, 0, 2), row(3, 0, 1), row(4, 0, 1)])
    kinds = {anomaly.kind: (anomaly.count, anomaly.examples) for anomaly in ledger.anomalies()}
    assert kinds == {
        "reordered": (1, [Example(producer=0, seq=1, etag=3)]),
        "duplicated": (1, [Example(producer=0, seq=1, etag=4)]),
    }
    assert ledger.delivered() == [(0, 0, 2)]


def test_a_payload_that_is_no_event_does_not_hide_the_others() -> None:
    ledger = Ledger(10)
    ledger.see([row(1, 0, 0), (2, 2, b'{"what": 1}'), (3, 3, b"null"), row(4, 0, 1)])
    assert ledger.delivered() == [(0, 0, 1)]
    assert ledger.anomalies() == [Anomaly("phantom", 2, [Example(etag=2), Example(etag=3)])]
    assert ledger.events == 4


def test_a_seq_beyond_the_limit_makes_no_later_event_look_late() -> None:
    ledger = Ledger(3)
    ledger.see([row(1, 0, 0), row(2, 0, 10**15), row(3, 0, 1), row(4, 0, 2)])
    assert [(anomaly.kind, anomaly.count) for anomaly in ledger.anomalies()] == [("phantom", 1)]


def test_gaps_are_between_events_delivered_one_after_the_other() -> None:
    ledger = Ledger(10)
    ledger.see([row(7, 0, 0)])
    assert ledger.max_etag_gap == 0
    ledger.see([row(8, 0, 1), row(11, 0, 2)])
    assert ledger.max_etag_gap == 3


def test_ctimes_are_compared_by_value() -> None:
    ledger = Ledger(10)
    ledger.see([row(1, 0, 0, ctime=5), row(2, 0, 1, ctime=5)])
    ledger.see([row(3, 0, 2, ctime=5), row(4, 0, 3, ctime=6)])
    assert ledger.repeated_ctimes == 2
