"""The protocol between orchestrator and workers."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.job import ProducerJob, decode_job, encode_job
from bench.records import (
    EXAMPLES,
    ROWS_PER_RECORD,
    Anomaly,
    Example,
    LedgerPart,
    Progress,
    call_times,
    decode_record,
    encode_record,
    jump_records,
    ledger_parts,
    page_times,
)

DOCKER_SPLITS_AT_BYTES = 16 * 1024
BIG = 2**63 - 1


@given(st.lists(st.tuples(st.integers(0, BIG), st.integers(0, BIG), st.integers(0, BIG)), max_size=1000))
def test_ledgers_survive_encoding(ranges: list[tuple[int, int, int]]) -> None:
    parts = [decode_record(encode_record(part)) for part in ledger_parts("delivered", ranges)]
    assert [each for part in parts if isinstance(part, LedgerPart) for each in part.ranges] == ranges


def test_the_largest_records_stay_under_what_docker_splits() -> None:
    ledger = LedgerPart("indeterminate", [(BIG, BIG, BIG)] * ROWS_PER_RECORD)
    anomaly = Anomaly("duplicated", BIG, [Example(BIG, BIG, BIG)] * EXAMPLES)
    assert len(encode_record(ledger)) < DOCKER_SPLITS_AT_BYTES
    (jumps,) = jump_records([(BIG, BIG, 1e10 / 3)] * ROWS_PER_RECORD)
    assert len(encode_record(jumps)) < DOCKER_SPLITS_AT_BYTES
    for timed in (page_times, call_times):
        (times,) = timed(1e10 / 3, 1 / 3, [(BIG, BIG)] * ROWS_PER_RECORD)
        assert len(encode_record(times)) < DOCKER_SPLITS_AT_BYTES
    assert len(encode_record(anomaly)) < DOCKER_SPLITS_AT_BYTES


def test_unknown_keys_are_refused_on_both_sides() -> None:
    job = ProducerJob("p", "s", 1, "copy", "COPY", 0, 1, 1)
    with pytest.raises(msgspec.ValidationError, match="unknown field `turbo`"):
        decode_job(encode_job(job)[:-1] + b',"turbo":true}')
    with pytest.raises(msgspec.ValidationError, match="unknown field `mood`"):
        decode_record(encode_record(Progress(1))[:-1] + b',"mood":"good"}')


@pytest.mark.parametrize("text", [b"", b"hello", b"{}", b'{"record":"gossip"}', b'{"record":"progress","events":"1"}'])
def test_what_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_record(text)
