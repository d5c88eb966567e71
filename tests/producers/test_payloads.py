"""The payloads that producers build, and the messages in which nothing but their digits is changed."""

import json
import re
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.job import Payloads
from bench.padding import padding
from bench.shapes import Shapes
from bench.spec import MAX_LIMIT, MAX_SCALE
from bench.values import SMALLEST_PAYLOAD_BYTES
from producers.payloads import ARRAY, FEW, LINES, Batches, Delimiters, batch, column, messages

FIRST = st.one_of(st.integers(0, 2000), st.integers(0, MAX_LIMIT))
PAYLOAD_BYTES = st.one_of(st.just(0), st.integers(SMALLEST_PAYLOAD_BYTES, 300))


def of_size(payload_bytes: int) -> Shapes:
    return Shapes(Payloads(((payload_bytes, 100.0),)))


def message(text: bytes) -> bytes:
    return b"B%b%%d\xff\xff\0" % struct.pack("!i", len(text)) + text + b"\0%sE\xff\xff"


@given(st.integers(0, MAX_SCALE), FIRST, st.integers(1, 1200), PAYLOAD_BYTES)
def test_each_payload_is_its_event_and_has_the_size_asked_for(
    producer: int, first: int, count: int, payload_bytes: int
) -> None:
    shapes = of_size(payload_bytes)
    text = batch(producer, first, first + count - 1, shapes, LINES)
    assert text.endswith(b"\n")
    lines = text.splitlines()
    events = [json.loads(line) for line in lines]
    assert [(e["producer"], e["seq"], e["value"]) for e in events] == [
        (producer, seq, seq) for seq in range(first, first + count)
    ]
    if payload_bytes:
        assert {len(line) for line in lines} == {payload_bytes}
    assert json.loads(batch(producer, first, first + count - 1, shapes, ARRAY)) == events


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
    shapes = of_size(payload_bytes)
    batches = Batches(producer, shapes, delimiters, message)
    for skipped, more in [(0, 0), *later]:
        first += skipped
        last = first + max(1, events + more) - 1
        assert batches.message(first, last) == message(batch(producer, first, last, shapes, delimiters))
        first = last + 1


@pytest.mark.parametrize("events", [1, 2, FEW, FEW + 1, 250, 1000])
def test_batch_after_batch_from_the_first_event_on(events: int) -> None:
    batches = Batches(7, of_size(0), ARRAY, message)
    for first in range(0, 12_000, events):
        last = first + events - 1
        assert batches.message(first, last) == message(batch(7, first, last, of_size(0), ARRAY))


SIZES = ((80, 50.0), (123, 30.0), (300, 20.0))


@given(st.integers(0, MAX_SCALE), FIRST, st.integers(1, 1200), st.integers(0, 6), st.integers(0, 9))
def test_each_payload_of_a_mix_has_the_size_of_its_event_to_the_byte(
    producer: int, first: int, count: int, entropy: int, seed: int
) -> None:
    shapes = Shapes(Payloads(SIZES, entropy, seed=seed))
    last = first + count - 1
    lines = bytes(messages(producer, shapes, LINES, bytes)(first, last)).splitlines()
    assert [len(line) for line in lines] == [SIZES[number][0] for number in shapes.numbers(producer, first, last)]
    events = [json.loads(line) for line in lines]
    assert [(e["producer"], e["seq"], e["value"]) for e in events] == [
        (producer, seq, seq) for seq in range(first, first + count)
    ]
    assert len({letter for event in events for letter in event["pad"]}) <= 2**entropy
    assert json.loads(bytes(messages(producer, shapes, ARRAY, bytes)(first, last))) == events


OBJECTS: list[dict[str, Any]] = [
    {"kind": "a % b %d", "text": 'back\\slash "quoted" \n\t end'},
    {},
    {"deep": {"seq": 3, "value": [1, 2.5, None, True]}, "größe": "ü\u20ac"},
]


@given(st.integers(0, MAX_SCALE), FIRST, st.integers(1, 300), st.integers(0, 1), st.integers(1, len(OBJECTS)))
def test_each_payload_from_a_file_is_its_object_with_the_numbers_added(
    producer: int, first: int, count: int, is_ascii: int, objects: int
) -> None:
    lines = "\n".join(
        json.dumps(each, ensure_ascii=bool(is_ascii), separators=(", ", ":\t")) for each in OBJECTS[:objects]
    )
    shapes = Shapes(Payloads(objects=zlib.compress(lines.encode())))
    last = first + count - 1
    expected = [
        {"producer": producer, "seq": seq, "value": seq, **OBJECTS[number]}
        for seq, number in zip(range(first, last + 1), shapes.numbers(producer, first, last), strict=True)
    ]
    assert json.loads(bytes(messages(producer, shapes, ARRAY, bytes)(first, last))) == expected
    rows = bytes(messages(producer, shapes, LINES, bytes)(first, last)).split(b"\n")[:-1]
    assert not any(b"\t" in row for row in rows)  # COPY would take it for the end of a column
    columns = [re.sub(rb"\\(.)", lambda escape: {b"t": b"\t"}.get(escape[1], escape[1]), row) for row in rows]
    assert [json.loads(column) for column in columns] == expected


@given(FIRST, st.integers(1, 3000), st.integers(0, 9))
def test_a_column_holds_one_digit_of_each_number(first: int, events: int, exponent: int) -> None:
    digits = [f"{number:020d}"[-1 - exponent] for number in range(first, first + events)]
    assert column(first, events, 10**exponent).decode() == "".join(digits)


def test_the_smallest_padding_holds_the_largest_event() -> None:
    longest = batch(MAX_SCALE, MAX_LIMIT - 1, MAX_LIMIT - 1, of_size(0), Delimiters(b"", b"", b""))
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
