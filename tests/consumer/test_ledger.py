"""A consumer's ledger."""

import json
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.job import Payloads
from bench.padding import padding
from bench.records import EXAMPLES, Anomaly, Example
from bench.shapes import Shapes
from consumer.ledger import Ledger
from producers.payloads import Delimiters, batch
from tests.consumer.pages import Row, page, see

PAD = padding(20)
"""The beginning of each payload's padding."""


def row(etag: int, producer: int, seq: int, ctime: int | None = None) -> Row:
    payload = json.dumps({"producer": producer, "seq": seq, "value": seq, "pad": "xx"}).encode()
    return etag, etag if ctime is None else ctime, payload


def faults_of(events: list[tuple[int, int]]) -> dict[str, list[tuple[int, tuple[int, int]]]]:
    """The events that are doubled or late, with their etags, by their kind."""
    faults: dict[str, list[tuple[int, tuple[int, int]]]] = {}
    for etag, (producer, seq) in enumerate(events, 1):
        before = events[: etag - 1]
        if (producer, seq) in before:
            faults.setdefault("duplicated", []).append((etag, (producer, seq)))
        elif any(p == producer and s > seq for p, s in before):
            faults.setdefault("reordered", []).append((etag, (producer, seq)))
    return faults


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), max_size=60), st.data())
def test_how_rows_are_cut_into_pages_makes_no_difference(events: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = [row(etag, *event) for etag, event in enumerate(events, 1)]
    whole, cut = Ledger(21), Ledger(21)
    see(whole, rows)
    while rows:
        size = data.draw(st.integers(1, len(rows)))
        see(cut, rows[:size])
        rows = rows[size:]
    for ledger in (whole, cut):
        assert ledger.events == len(events)
        assert ledger.checksum == sum(seq for _, seq in events)
        delivered = {(p, s) for p, first, last in ledger.delivered() for s in range(first, last + 1)}
        assert delivered == set(events)
        assert ledger.distinct_events == len(delivered)
        assert ledger.highest_etag == (len(events) or None)
        expected = faults_of(events)
        anomalies = ledger.anomalies()
        assert {each.kind: each.examples for each in anomalies} == {
            kind: [Example(producer=p, seq=s, etag=etag) for etag, (p, s) in met[:EXAMPLES]]
            for kind, met in expected.items()
        }
        assert [each.count for each in anomalies] == sorted((len(met) for met in expected.values()), reverse=True)
        assert {each.kind: each.count for each in anomalies} == {kind: len(met) for kind, met in expected.items()}
    assert whole.delivered() == cut.delivered()
    assert whole.max_etag_gap == cut.max_etag_gap


def test_faults_of_many_pages_are_all_counted_and_the_first_are_examples() -> None:
    ledger = Ledger(1000)
    late = [(producer, seq) for seq in range(100) for producer in (0, 1)]
    see(ledger, [row(etag, producer, seq) for etag, (producer, seq) in enumerate(late[2:], 1)])
    for start in range(3):  # the first seqs of both producers come last, some of them again, page by page
        see(ledger, [row(300 + start * 20 + n, *event) for n, event in enumerate([*late[:2], *late[:8]])])
    counts = {each.kind: (each.count, len(each.examples)) for each in ledger.anomalies()}
    assert counts == {"duplicated": (28, EXAMPLES), "reordered": (2, 2)}
    assert ledger.delivered() == [(0, 0, 99), (1, 0, 99)]


def test_a_page_of_nothing_but_events_of_nobody() -> None:
    ledger = Ledger(10)
    see(ledger, [row(etag, etag % 2, 10 + etag) for etag in range(1, 200)])
    assert ledger.anomalies() == [
        Anomaly("phantom", 199, [Example(producer=etag % 2, seq=10 + etag, etag=etag) for etag in range(1, 11)])
    ]
    assert ledger.delivered() == []
    see(ledger, [row(200, 0, 1), row(201, 0, 0)])
    assert ledger.delivered() == [(0, 0, 1)]


@pytest.mark.parametrize("others", [0, 70])
def test_a_payload_that_is_nested_too_deep_is_a_phantom(others: int) -> None:
    ledger = Ledger(100)
    see(ledger, [*(row(seq + 1, 0, seq) for seq in range(others)), (99, 99, b"[" * 5000 + b"]" * 5000)])
    see(ledger, [(100, 100, b'{"producer": 0, "deep": ' + b"[" * 5000 + b"]" * 5000 + b"}")])
    assert ledger.anomalies() == [Anomaly("phantom", 2, [Example(etag=99), Example(etag=100)])]
    assert ledger.distinct_events == others


def test_a_healthy_log_of_any_size_is_one_range_per_producer() -> None:
    ledger = Ledger(5000)
    for seq in range(5000):
        see(ledger, [row(seq * 2 + 1, 0, seq), row(seq * 2 + 2, 1, seq)])
    assert ledger.delivered() == [(0, 0, 4999), (1, 0, 4999)]
    assert ledger.anomalies() == []
    assert ledger.max_etag_gap == 1


def test_a_late_event_is_reordered_once_and_duplicated_after_that() -> None:
    ledger = Ledger(10)
    see(ledger, [row(1, 0, 0), row(2, 0, 2), row(3, 0, 1), row(4, 0, 1)])
    kinds = {anomaly.kind: (anomaly.count, anomaly.examples) for anomaly in ledger.anomalies()}
    assert kinds == {
        "reordered": (1, [Example(producer=0, seq=1, etag=3)]),
        "duplicated": (1, [Example(producer=0, seq=1, etag=4)]),
    }
    assert ledger.delivered() == [(0, 0, 2)]


def test_a_payload_that_is_no_event_does_not_hide_the_others() -> None:
    ledger = Ledger(10)
    see(ledger, [row(1, 0, 0), (2, 2, b'{"what": 1}'), (3, 3, b"null"), row(4, 0, 1)])
    assert ledger.delivered() == [(0, 0, 1)]
    assert ledger.anomalies() == [Anomaly("phantom", 2, [Example(etag=2), Example(etag=3)])]
    assert ledger.events == 4


@pytest.mark.parametrize("seq", [10**15, 3, -1])
def test_a_seq_beyond_the_limit_makes_no_later_event_look_late(seq: int) -> None:
    ledger = Ledger(3)
    see(ledger, [row(1, 0, 0), row(2, 0, seq), row(3, 0, 1), row(4, 0, 2)])
    assert ledger.anomalies() == [Anomaly("phantom", 1, [Example(producer=0, seq=seq, etag=2)])]
    assert ledger.delivered() == [(0, 0, 2)]
    assert (ledger.events, ledger.distinct_events) == (4, 3)


def test_pages_are_looked_at_when_they_are_many_events_or_many_bytes() -> None:
    ledger = Ledger(10**6)
    small = page([row(etag, 0, etag) for etag in range(999)])
    large = page([(1, 1, b"x" * (2**19 - 100))])
    for pages, enough in (([small] * 2, False), ([small] * 3, True), ([large] * 2, False), ([large] * 3, True)):
        assert [ledger.take(each) for each in pages] == [False] * (len(pages) - 1) + [enough]
        for _ in ledger.look():
            pass
    assert ledger.events == 999 * 5 + 5
    for _ in ledger.look():
        pass
    assert ledger.events == 999 * 5 + 5


def test_the_highest_etag_and_those_that_fall_are_those_of_all_pages() -> None:
    ledger = Ledger(100)
    for etags, highest, falling in (([5, 3, 4], 5, 1), ([2], 5, 2), ([2, 9, 7], 9, 3), ([11], 11, 3)):
        see(ledger, [row(etag, 0, 0) for etag in etags])
        assert (ledger.highest_etag, ledger.falling_etags) == (highest, falling)


@pytest.mark.parametrize(("first", "jumps"), [(1, []), (2, [(0, 2, 7.5)])])
def test_a_first_etag_above_1_is_a_jump(first: int, jumps: list[tuple[int, int, float]]) -> None:
    ledger, without = Ledger(100, max_jumps=1), Ledger(100)
    for each in (ledger, without):
        see(each, [row(first, 0, 0), row(first + 1, 0, 1)], at=7.5)
    assert (ledger.jumps, without.jumps) == (jumps, [])
    see(ledger, [row(first + 3, 0, 2)], at=8.5)
    assert ledger.jumps == (jumps or [(first + 1, first + 3, 8.5)])


def test_gaps_are_between_events_delivered_one_after_the_other() -> None:
    ledger = Ledger(10)
    see(ledger, [row(7, 0, 0)])
    assert ledger.max_etag_gap == 0
    see(ledger, [row(8, 0, 1), row(11, 0, 2)])
    assert ledger.max_etag_gap == 3


def test_ctimes_are_compared_by_value() -> None:
    ledger = Ledger(10)
    see(ledger, [row(1, 0, 0, ctime=5), row(2, 0, 1, ctime=5)])
    see(ledger, [row(3, 0, 2, ctime=5), row(4, 0, 3, ctime=6)])
    assert ledger.repeated_ctimes == 2


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10**6), st.integers(-1, 1)), max_size=20))
def test_a_value_that_is_not_its_seq_is_corrupt(events: list[tuple[int, int, int]]) -> None:
    ledger = Ledger(10**7)
    see(
        ledger,
        [(etag, etag, b'{"producer":%d,"seq":%d,"value":%d}' % (p, s, s + d)) for etag, (p, s, d) in enumerate(events)],
    )
    by_kind = {anomaly.kind: anomaly.count for anomaly in ledger.anomalies()}
    assert by_kind.get("corrupt", 0) == sum(d != 0 for _, _, d in events)


@pytest.mark.parametrize(
    ("change", "corrupt"),
    [
        (lambda text: text, 0),
        (lambda text: text.replace(b":", b": ").replace(b",", b", "), 0),  # as jsonb writes it
        (lambda text: text.replace(PAD, PAD[:-1], 1), 1),
        (lambda text: text.replace(PAD, PAD[::-1], 1), 1),
        (lambda text: text.replace(PAD, PAD + b"x", 1), 1),
        (lambda text: text.replace(b',"pad"', b',"dap"'), 1),
    ],
)
@pytest.mark.parametrize("seq", [0, 9, 10, 12345])
def test_padding_that_changed_is_corrupt(change: Callable[[bytes], bytes], corrupt: int, seq: int) -> None:
    payloads = Payloads(((200, 100.0),))
    text = batch(3, seq, seq, Shapes(payloads), Delimiters(b"", b"", b""))
    ledger = Ledger(10**6, payloads)
    see(ledger, [(1, 1, change(text))])
    assert sum(anomaly.count for anomaly in ledger.anomalies() if anomaly.kind == "corrupt") == corrupt


def corrupt(ledger: Ledger) -> int:
    return sum(anomaly.count for anomaly in ledger.anomalies() if anomaly.kind == "corrupt")


OBJECTS = b'{"kind":"plain","number":1.50}\n{"kind":"es\\"caped"}\n{"deep":{"seq":[7],"value":null}}\n{}'
MIXES = {
    "sizes": Payloads(((200, 50.0), (210, 30.0), (300, 20.0)), seed=5),
    "letters": Payloads(((200, 50.0), (300, 50.0)), entropy=0),
    "objects": Payloads(objects=zlib.compress(OBJECTS)),
}


def respelt(payload: bytes) -> bytes:
    """A payload as jsonb writes it: other spaces, and keys in another order."""
    return json.dumps(dict(sorted(json.loads(payload).items()))).encode()


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("spelling", [bytes, respelt])
@pytest.mark.parametrize("page_size", [10, 700])
def test_each_event_of_a_mix_must_have_its_own_size_or_object(
    mix: str, spelling: Callable[[bytes], bytes], page_size: int
) -> None:
    """Events whose payloads are exchanged, all but producer, seq and value, are corrupt, unless these are alike."""
    shapes, events = Shapes(MIXES[mix]), 2800
    texts = batch(3, 0, events - 1, shapes, Delimiters(b"", b"\n", b"")).split(b"\n")
    numbers = shapes.numbers(3, 0, events - 1)
    formats = [[*shapes.formats(3, digits)] for digits in range(5)]
    exchanged = [
        (seq, formats[len(str(seq))][numbers[seq + 1]] % (seq, seq))
        for seq in range(500, events - 1, 3)
        if numbers[seq] != numbers[seq + 1]
    ]
    assert len(exchanged) > 300
    for changes in ([], exchanged[:1], exchanged):
        of_changes = dict(changes)
        ledger = Ledger(10**6, MIXES[mix])
        for first in range(0, events, page_size):
            seqs = range(first, first + page_size)
            see(ledger, [(seq + 1, 0, spelling(of_changes.get(seq, texts[seq]))) for seq in seqs])
        assert corrupt(ledger) == len(changes)
        assert (ledger.events, ledger.checksum) == (events, sum(range(events)))
        assert ledger.delivered() == [(3, 0, events - 1)]


def test_a_page_whose_events_all_have_one_size_is_not_right_for_that() -> None:
    payloads = Payloads(((200, 50.0), (300, 50.0)))
    shapes = Shapes(payloads)
    short = [shapes.formats(3, 4)[0] % (seq, seq) for seq in range(1000, 3000)]
    ledger = Ledger(10**6, payloads)
    for first in range(0, 2000, 100):
        see(ledger, [(seq, 0, short[seq]) for seq in range(first, first + 100)])
    assert corrupt(ledger) == sum(shapes.numbers(3, 1000, 2999))


def test_an_object_that_lacks_a_key_or_has_another_is_corrupt() -> None:
    payloads = Payloads(objects=zlib.compress(b'{"kind":"plain","n":1}'))
    for changed, is_corrupt in (
        (b'"n":1', 0), (b'"n": 1.0', 0), (b'"n":2', 1), (b'"m":1', 1), (b'"n":"1"', 1), (b'"n":1,"m":1', 1),
    ):  # fmt: skip
        ledger = Ledger(100, payloads)
        see(ledger, [(1, 0, b'{"producer":3,"seq":0,"value":0,"kind":"plain",%b}' % changed)])
        assert corrupt(ledger) == is_corrupt, changed


def test_jumps_over_etags_are_remembered_up_to_a_number() -> None:
    ledger = Ledger(100, max_jumps=2)
    see(ledger, [row(3, 0, 0), row(4, 0, 1), row(7, 0, 2)], at=1.5)
    see(ledger, [row(9, 0, 3)], at=2.5)
    assert ledger.jumps == [(0, 3, 1.5), (4, 7, 1.5)]
    assert ledger.falling_etags == 0
    see(ledger, [row(8, 0, 4), row(9, 0, 5)])
    assert ledger.falling_etags == 1


def test_memory_does_not_grow_with_healthy_events() -> None:
    ledger = Ledger(10**6)

    def see_more(first: int) -> None:
        for seq in range(first, first + 50_000, 1000):
            see(ledger, [row(etag + 1, 0, etag) for etag in range(seq, seq + 1000)])

    see_more(0)
    tracemalloc.start()
    see_more(50_000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 10_000
