"""The delivered events as one stream, against slow and obvious references."""

from collections import deque
from itertools import groupby, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.pairing import MODULUS, hashes, weights
from bench.records import Example
from consumer.ledger import Ledger
from consumer.stream import Stream
from tests.consumer.pages import Row, page

BIGINT = st.integers(-(2**63), 2**63 - 1)
EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=60, unique=True)


def event(etag: int, seq: int) -> Row:
    return etag, etag, b'{"producer":0,"seq":%d,"value":%d}' % (seq, seq)


def noted(events: list[tuple[int, int]], etags: list[int], cuts: list[int], batch: int = 0) -> Stream:
    stream = Stream(batch, ordered=True)
    for first, last in zip([0, *cuts], [*cuts, len(events)], strict=True):
        if last > first:
            producers, seqs = np.array(events[first:last], np.int64).T
            deque(stream.note(producers, seqs, np.array(etags[first:last], np.int64)), maxlen=0)
    return stream


@given(BIGINT, BIGINT, BIGINT)
def test_one_number_and_many_have_one_hash_and_one_weight(etag: int, producer: int, seq: int) -> None:
    many = [np.array([number], np.int64) for number in (etag, producer, seq)]
    assert hashes(many[0]).tolist() == [hashes(etag)]
    assert weights(*many[1:]).tolist() == [weights(producer, seq)]


@given(EVENTS, st.data())
def test_checksums_know_which_etag_each_event_has_and_in_which_order_they_came(
    events: list[tuple[int, int]], data: st.DataObject
) -> None:
    """However the stream is cut into looks."""
    etags = data.draw(st.lists(BIGINT, min_size=len(events), max_size=len(events)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    whole, cut = noted(events, etags, []), noted(events, etags, cuts)
    assert (whole.etag_checksum, whole.order_checksum) == (cut.etag_checksum, cut.order_checksum)
    expected = sum(hashes(etag) * weights(*event) for event, etag in zip(events, etags, strict=True))
    assert whole.etag_checksum == expected % MODULUS
    one, other = (data.draw(st.integers(0, len(events) - 1)) for _ in range(2))
    swapped = list(range(len(events)))
    swapped[one], swapped[other] = other, one
    exchanged = noted(events, [etags[place] for place in swapped], [])
    assert (exchanged.etag_checksum == whole.etag_checksum) == (hashes(etags[one]) == hashes(etags[other]))
    moved = noted([events[place] for place in swapped], [etags[place] for place in swapped], [])
    assert moved.etag_checksum == whole.etag_checksum
    assert (moved.order_checksum == whole.order_checksum) == (one == other)


@given(st.integers(2, 5), st.integers(1, 3), st.data())
def test_a_batch_is_torn_once_per_piece_after_its_first(batch: int, producers: int, data: st.DataObject) -> None:
    """Producers' events come in their order, in pieces of any length."""
    left = {producer: list(range(data.draw(st.integers(1, 12)))) for producer in range(producers)}
    events: list[tuple[int, int]] = []
    while any(left.values()):
        producer = data.draw(st.sampled_from([producer for producer in left if left[producer]]))
        piece = data.draw(st.integers(1, len(left[producer])))
        events += [(producer, seq) for seq in left[producer][:piece]]
        del left[producer][:piece]
    pieces = [list(group) for _, group in groupby(events, lambda event: event[0])]
    torn = [piece[0] for piece in pieces if piece[0][1] % batch]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=4)))
    stream = noted(events, list(range(len(events))), cuts, batch)
    assert stream.torn == len(torn)
    assert stream.torn_examples == [Example(producer, seq) for producer, seq in torn[:10]]


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=8), st.data())
def test_a_page_that_begins_with_a_lower_etag_than_the_last_one_goes_back(
    pages: list[list[int]], data: st.DataObject
) -> None:
    """However many pages are looked at together, and however many reads were sent together."""
    ledger = Ledger(10**6)
    etags = [etag for each in pages for etag in each]
    seqs = iter(range(len(etags)))
    backward = sum(after[0] < before[-1] for before, after in pairwise(pages))
    falling = sum(after < before for before, after in pairwise(etags))
    while pages:
        together = pages[: data.draw(st.integers(1, len(pages)))]
        pages = pages[len(together) :]
        rows = [[event(etag, next(seqs)) for etag in each] for each in together]
        if data.draw(st.booleans()):
            ledger.take(page([row for each in rows for row in each])._replace(sizes=[0, *map(len, rows)]))
        else:
            for each in rows:
                ledger.take(page(each))
        deque(ledger.look(), maxlen=0)
    assert (ledger.backward_pages, ledger.falling_etags) == (backward, falling)


@given(EVENTS, st.data())
def test_events_in_any_other_order_or_with_any_exchanged_etags_have_other_checksums(
    events: list[tuple[int, int]], data: st.DataObject
) -> None:
    etags = list(range(1, len(events) + 1))
    order = data.draw(st.permutations(range(len(events))))
    whole = noted(events, etags, [])
    moved = noted([events[place] for place in order], [etags[place] for place in order], [])
    assert (moved.order_checksum == whole.order_checksum) == (order == sorted(order))
    exchanged = noted(events, [etags[place] for place in order], [])
    assert (exchanged.etag_checksum == whole.etag_checksum) == (order == sorted(order))
