"""The payloads that producers build."""

import json

from hypothesis import given
from hypothesis import strategies as st

from bench.spec import MAX_LIMIT, MAX_SCALE, SMALLEST_PAYLOAD_BYTES
from producers.append import payloads


@given(
    st.integers(0, MAX_SCALE),
    st.one_of(st.integers(0, 2000), st.integers(0, MAX_LIMIT)),
    st.integers(1, 1200),
    st.one_of(st.just(0), st.integers(SMALLEST_PAYLOAD_BYTES, 300)),
)
def test_each_payload_is_its_event_and_has_the_size_asked_for(
    producer: int, first: int, count: int, payload_bytes: int
) -> None:
    lines = payloads(producer, first, first + count - 1, payload_bytes, b"\n").split(b"\n")
    events = [json.loads(line) for line in lines]
    assert [(e["producer"], e["seq"], e["value"]) for e in events] == [
        (producer, seq, seq) for seq in range(first, first + count)
    ]
    if payload_bytes:
        assert {len(line) for line in lines} == {payload_bytes}


def test_the_smallest_padding_holds_the_largest_event() -> None:
    longest = payloads(MAX_SCALE, MAX_LIMIT - 1, MAX_LIMIT - 1, 0, b",")
    assert len(longest) + len(',"pad":""') <= SMALLEST_PAYLOAD_BYTES
