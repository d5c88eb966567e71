"""The payloads that producers build, and the messages in which nothing but their digits is changed."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.padding import padding
from bench.spec import MAX_LIMIT, MAX_SCALE, SMALLEST_PAYLOAD_BYTES
from producers.payloads import ARRAY, FEW, LINES, Batches, Delimiters, batch, column

FIRST = st.one_of(st.integers(0, 2000), st.integers(0, MAX_LIMIT))
PAYLOAD_BYTES = st.one_of(st.just(0), st.integers(SMALLEST_PAYLOAD_BYTES, 300))


def message(text: bytes) -> bytes:
    return b"B%b%%d\xff\xff\0" % struct.pack("!i", len(text)) + text + b"\0%sE\xff\xff"


@given(st.integers(0, MAX_SCALE), FIRST, st.integers(1, 1200), PAYLOAD_BYTES)
def test_each_payload_is_its_event_and_has_the_size_asked_for(
    producer: int, first: int, count: int, payload_bytes: int
) -> None:
    text = batch(producer, first, first + count - 1, payload_bytes, LINES)
    assert text.endswith(b"\n")
    lines = text.splitlines()
    events = [json.loads(line) for line in lines]
    assert [(e["producer"], e["seq"], e["value"]) for e in events] == [
        (producer, seq, seq) for seq in range(first, first + count)
    ]
    if payload_bytes:
        assert {len(line) for line in lines} == {payload_bytes}
    assert json.loads(batch(producer, first, first + count - 1, payload_bytes, ARRAY)) == events


@given(
    st.integers(0, MAX_SCALE),
    FIRST,
    st.one_of(st.integers(1, FEW + 2), st.integers(1, 1200)),
    st.lists(st.tuples(st.integers(0, 3000), st.sampled_from((0, 0, 0, -1, 1))), min_size=1, max_size=12),
    PAYLOAD_BYTES,
    st.sampled_from((ARRAY, LINES)),
)
def test_a_message_with_changed_digits_is_the_one_that_would_be_built(
    producer: int, first: int, events: int, later: list[tuple[int, int]], payload_bytes: int, delimiters: Delimiters
) -> None:
    batches = Batches(producer, payload_bytes, delimiters, message)
    for skipped, more in [(0, 0), *later]:
        first += skipped
        last = first + max(1, events + more) - 1
        assert batches.message(first, last) == message(batch(producer, first, last, payload_bytes, delimiters))
        first = last + 1


@pytest.mark.parametrize("events", [1, 2, FEW, FEW + 1, 250, 1000])
def test_batch_after_batch_from_the_first_event_on(events: int) -> None:
    batches = Batches(7, 0, ARRAY, message)
    for first in range(0, 12_000, events):
        last = first + events - 1
        assert batches.message(first, last) == message(batch(7, first, last, 0, ARRAY))


@given(FIRST, st.integers(1, 3000), st.integers(0, 9))
def test_a_column_holds_one_digit_of_each_number(first: int, events: int, exponent: int) -> None:
    digits = [f"{number:020d}"[-1 - exponent] for number in range(first, first + events)]
    assert column(first, events, 10**exponent).decode() == "".join(digits)


def test_the_smallest_padding_holds_the_largest_event() -> None:
    longest = batch(MAX_SCALE, MAX_LIMIT - 1, MAX_LIMIT - 1, 0, Delimiters(b"", b"", b""))
    assert len(longest) + len(',"pad":""') <= SMALLEST_PAYLOAD_BYTES


@pytest.mark.parametrize("window", [4 << 10, 64 << 10])
def test_padding_repeats_nothing_within_the_windows_of_pglz_and_lz4(window: int) -> None:
    text = padding(1 << 20)
    long_enough = 8
    last: dict[bytes, int] = {}
    for place in range(len(text) - long_enough):
        window_text = text[place : place + long_enough]
        assert place - last.get(window_text, -len(text)) > window
        last[window_text] = place


def test_padding_needs_no_escaping_and_a_shorter_one_is_the_start_of_a_longer_one() -> None:
    text = padding(1 << 18)
    assert json.dumps(text.decode()) == f'"{text.decode()}"'
    assert b"\\" not in text
    assert padding(1000) == text[:1000]
