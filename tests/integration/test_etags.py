"""The etags of a log's table on a real Postgres: missing ones, doubled ones, and those of other events."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.pairing import MODULUS, hashes, weights
from bench.postgres import audit
from bench.postgres.connection import Connection
from bench.postgres.contract import table_of
from bench.postgres.etags import Numbering, etag_checksum, numbering, other_etags, other_events
from bench.records import Example
from bench.statements import Table
from tests.integration.test_audit import BIGSERIAL, HIGHEST, LOWEST, ONE_DATABASE

EVENT = '{"producer": 1, "seq": 2, "value": 2}'
KINDS = ["json", "jsonb", "text"]
STARTS = st.sampled_from([1, -3, 3_000_000_000, LOWEST, HIGHEST - 12])


@given(start=STARTS, offsets=st.lists(st.integers(0, 12), max_size=14), nulls=st.integers(0, 2))
@ONE_DATABASE
def test_etags_that_are_missing_or_doubled_are_found_wherever_they_begin(
    log: Connection, start: int, offsets: list[int], nulls: int
) -> None:
    etags = [start + offset for offset in offsets]
    log.execute("DROP TABLE IF EXISTS numbers; CREATE TABLE numbers (etag bigint, payload json)")
    log.execute("INSERT INTO numbers (etag) SELECT unnest(%s::bigint[])", [[*etags, *[None] * nulls]])
    numbers = BIGSERIAL.model_copy(update={"table": "numbers"})
    rows, numbered = audit.row_counts(log, numbers)
    assert (rows, numbered) == (len(etags) + nulls, len(etags))
    found = numbering(log, numbers, table_of(log, numbers), numbered)
    missing = {etag for first, last in found.missing for etag in range(first, last + 1)}
    assert missing == (set(range(min(etags), max(etags) + 1)) - set(etags) if etags else set())
    assert found.doubled == len(etags) - len(set(etags))
    assert found.doubled_etags == sorted(etag for etag, count in Counter(etags).items() if count > 1)
    if not found.doubled:
        assert numbering(log, numbers, Table(), numbered) == found


@pytest.mark.parametrize("kind", ["int", "bigint", "numeric", "numeric(30, 5)"])
def test_etags_may_be_any_whole_numbers(log: Connection, kind: str) -> None:
    log.execute(f"CREATE TABLE numbers (etag {kind}, payload json DEFAULT '1')".encode())
    log.execute("INSERT INTO numbers (etag) VALUES (7), (8), (8), (11), (NULL)")
    odd = 0
    if kind == "numeric":
        odd = log.execute("INSERT INTO numbers (etag) VALUES ('NaN'), (1e30), (-1e30)").rowcount
    numbers = BIGSERIAL.model_copy(update={"table": "numbers"})
    assert audit.row_counts(log, numbers) == (5 + odd, 4)
    assert numbering(log, numbers, table_of(log, numbers), 4) == Numbering([(9, 10)], 1, [8])
    assert audit.look_through(log, numbers) == ([], 5 + odd, [7, 8, 8, 11])


@given(seqs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**33)), max_size=6), kind=st.sampled_from(KINDS))
@ONE_DATABASE
def test_the_checksum_of_stored_etags_is_that_of_their_readers(
    log: Connection, seqs: list[tuple[int, int]], kind: str
) -> None:
    log.execute("DROP TABLE IF EXISTS kept")
    log.execute(f"CREATE TABLE kept (etag bigint, payload {kind})".encode())
    kept = BIGSERIAL.model_copy(update={"table": "kept"})
    for etag, (producer, seq) in enumerate(seqs, LOWEST if len(seqs) == 1 else 2**40):
        log.execute("INSERT INTO kept VALUES (%s, %s)", [etag, f'{{"producer": {producer}, "seq": {seq}}}'])
    etags = [LOWEST] if len(seqs) == 1 else range(2**40, 2**40 + len(seqs))
    expected = sum(hashes(etag) * weights(*event) for etag, event in zip(etags, seqs, strict=True)) % MODULUS
    assert etag_checksum(log, kept) == expected
    log.execute("INSERT INTO kept VALUES (1, '5'), (NULL, %s)", [EVENT])  # no event, no etag
    assert etag_checksum(log, kept) == expected


def test_an_event_is_looked_up_by_its_etag(log: Connection) -> None:
    for seq in range(3):
        log.execute("INSERT INTO events_log (payload) VALUES (%s)", [f'{{"producer":0,"seq":{seq},"value":{seq}}}'])
    right, other, absent = Example(0, 0, 1), Example(0, 1, 3), Example(0, 2, 9)
    assert other_events(log, BIGSERIAL, [right, other, absent]) == [other, absent]
    assert other_etags(log, BIGSERIAL, 3) == (0, [])
    log.execute(
        """CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
           RETURNS SETOF events_log LANGUAGE sql AS $$
               SELECT 10 * etag, ctime, payload FROM events_log WHERE 10 * etag > coalesce(last_etag, 0)
               ORDER BY etag LIMIT max_events $$"""
    )
    others = [Example(0, 0, 10), Example(0, 1, 20), Example(0, 2, 30)]
    assert other_etags(log, BIGSERIAL, 3) == (3, others)
