"""Reading many payloads at once must give the result of reading them one by one."""

import json
from collections.abc import Generator
from typing import TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import consumer.ledger
import consumer.positions
from bench.job import Payloads
from bench.shapes import Shapes
from consumer.ledger import Ledger
from consumer.rows import columns
from consumer.templates import MOST_TEMPLATES, Templates
from producers.payloads import Delimiters, batch
from tests.consumer.pages import Row, page, see

T = TypeVar("T")

SPELLINGS = [
    b'{"producer":%(producer)d,"seq":%(seq)d,"value":%(value)d}',
    b'{"producer" : %(producer)d, "seq" : %(seq)d, "value" : %(value)d}',
    b'{"value": %(value)d, "seq": %(seq)d, "producer": %(producer)d}',
]


def spelt(spelling: bytes, producer: int, seq: int, value: int) -> bytes:
    return spelling % {b"producer": producer, b"seq": seq, b"value": value}


LIMIT = 10**9
"""Events per producer."""

DAMAGE = [
    lambda text: text.replace(b'"seq"', b'"sqe"'),
    lambda text: text.replace(b":", b":0", 1),
    lambda text: text.replace(b":", b":-", 1),
    lambda text: text[:-1] + b',"seq":3}',
    lambda text: text + b" ",
    lambda text: b"null",
    lambda text: b"",
    lambda text: text[:-1] + b"\xff}",
    lambda text: text.replace(b"1", b"10", 1),
    lambda text: text.replace(b"}", b"e2}"),
    lambda text: text.replace(b'"seq"', b'"s\\u0065q":2,"seq"'),
    lambda text: text.replace(b"{", b'{"deeper":{"seq":4},', 1),
    lambda text: text.replace(b":", b":" + b"9" * 20, 1),
]


def looked_at(rows: list[list[Row]], few: int, most_runs: int) -> Ledger:
    ledger = Ledger(LIMIT, max_jumps=5, batch=3, ordered=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer.ledger, "FEW", few)
        patch.setattr(consumer.positions, "MOST_RUNS", most_runs)
        for page in rows:
            see(ledger, page)
    return ledger


@st.composite
def histories(draw: st.DrawFn) -> list[list[Row]]:
    """Pages of events of some producers that go on where they are, now and then wrongly."""
    spelling = draw(st.sampled_from(SPELLINGS))
    start = draw(st.sampled_from([0, 0, 5, 95, 9_990, 99_999_999]))
    names = draw(st.lists(st.sampled_from([0, 1, 7, 10, 123, 40_000]), min_size=1, max_size=4, unique=True))
    seqs = dict.fromkeys(names, 0)
    etag, pages = 0, []
    if start:
        pages.append([(0, 0, spelt(spelling, name, start - 1, start - 1)) for name in names])
        seqs = dict.fromkeys(names, start)
    edits = draw(st.sampled_from([0, 1, 1, 2, 40]))
    for _ in range(draw(st.integers(1, 4))):
        page = []
        for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=40)):
            etag += 1
            seq, seqs[name] = seqs[name], seqs[name] + 1
            page.append((etag, etag, spelt(spelling, name, seq, seq)))
        for _ in range(draw(st.integers(0, edits))):
            if page:
                edit(draw, page, [*pages, page], spelling)
        pages.append(page)
    return [page for page in pages if page]


def edit(draw: st.DrawFn, page: list[Row], pages: list[list[Row]], spelling: bytes) -> None:
    """Make one fault in a page."""
    place = draw(st.integers(0, len(page) - 1))
    number, ctime, text = page[place]
    match draw(st.sampled_from(["drop", "double", "swap", "value", "damage", "ctime", "again", "far"])):
        case "drop":
            del page[place]
        case "double":
            page.insert(place, page[place])
        case "swap":
            other = draw(st.integers(0, len(page) - 1))
            page[place], page[other] = page[other], page[place]
        case "value":
            page[place] = (number, ctime, spelt(spelling, draw(st.sampled_from([0, 1, 7])), 3, 4))
        case "ctime":
            page[place] = (number, page[0][1], text)
        case "again":
            earlier = draw(st.sampled_from([each for each in pages if each]))
            page[place] = earlier[draw(st.integers(0, len(earlier) - 1))]
        case "far":
            seq = draw(st.sampled_from([LIMIT - 1, LIMIT, LIMIT + 1, 10**16 - 1, 2**63 - 1, 2**63, 2**64]))
            page[place] = (number, ctime, spelt(spelling, draw(st.sampled_from([0, 1, 7, -(2**63)])), seq, seq))
        case "damage":
            page[place] = (number, ctime, draw(st.sampled_from(DAMAGE))(text))


@settings(max_examples=400)
@given(histories())
def test_many_at_once_are_seen_as_one_by_one(pages: list[list[Row]]) -> None:
    one_by_one = looked_at(pages, few=10**9, most_runs=0)
    for most_runs in (0, 10**9):  # in the order of producers, and as they came
        at_once = looked_at(pages, few=0, most_runs=most_runs)
        for name in ("events", "checksum", "max_etag_gap", "repeated_ctimes", "falling_etags", "jumps"):
            assert getattr(at_once, name) == getattr(one_by_one, name), name
        for name in ("etag_checksum", "order_checksum"):
            assert getattr(at_once.stream, name) == getattr(one_by_one.stream, name), name
        assert at_once.backward_pages == one_by_one.backward_pages
        assert at_once.delivered() == one_by_one.delivered()
        assert at_once.anomalies() == one_by_one.anomalies()


@pytest.mark.parametrize("payload_bytes", [0, 200])
@pytest.mark.parametrize(("producers", "events"), [([3], 5000), ([0, 9], 3000), ([9, 10, 99, 100], 2000)])
def test_healthy_pages_are_read_at_once(producers: list[int], events: int, payload_bytes: int) -> None:
    shapes = Shapes(Payloads(((payload_bytes, 100.0),)))
    texts_of = [batch(name, 0, events - 1, shapes, Delimiters(b"", b"\n", b"")).split(b"\n") for name in producers]
    mixed = [text for texts in zip(*texts_of, strict=True) for text in texts]
    templates = Templates(lambda text: bool(json.loads(text)))
    at_once = 0
    for start in range(0, len(mixed), 500):
        texts = mixed[start : start + 500]
        rows = page([(etag, etag, text) for etag, text in enumerate(texts, start)])
        alike = ended(templates.read(rows.rows, len(texts)))
        at_once += bool(alike)
        if alike:
            numbered = alike.producers, alike.seqs
        else:
            numbered, misfits = templates.read_any(columns([rows]))
            assert not misfits
        expected = [json.loads(text) for text in texts]
        assert numbered[0].tolist() == [event["producer"] for event in expected]
        assert numbered[1].tolist() == [event["seq"] for event in expected]
        if alike:
            assert alike.etags.tolist() == alike.ctimes.tolist() == list(range(start, start + len(texts)))
    if len({len(str(name)) for name in producers}) == 1:
        assert at_once > len(mixed) // 500 // 2


def test_payloads_with_too_many_templates_are_not_read_at_once() -> None:
    templates = Templates(lambda _: True)
    texts = [b'{"producer":0,"seq":1,"value":1,"%d":""}' % (1000 + number) for number in range(MOST_TEMPLATES + 1)]
    rows = [(1, 1, text) for text in texts]
    assert templates.read_any(columns([page(rows[:-1])]))[1] == []
    assert templates.read_any(columns([page(rows)]))[1] == [(MOST_TEMPLATES, texts[-1])]


def ended(generator: Generator[None, None, T]) -> T:
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return cast(T, end.value)
