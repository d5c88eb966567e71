"""The etags of a log's table on a real Postgres: missing ones, doubled ones, and those of other events."""

from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.errors import InfrastructureError
from bench.pairing import MODULUS, hashes, weights
from bench.postgres import audit
from bench.postgres.audit import Holdings
from bench.postgres.connection import Connection, scalar
from bench.postgres.contract import table_of
from bench.postgres.etags import Numbering, etag_checksum, numbering, numbering_of, other_etags, other_events
from bench.records import EXAMPLES, Example
from bench.statements import Table
from tests.integration.test_audit import BIGSERIAL, HIGHEST, LOWEST, ONE_DATABASE, as_read_back

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
    assert numbering_of(log, numbers, audit.look_through(log, numbers)) == found
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
    assert audit.look_through(log, numbers) == Holdings([], 5 + odd, [7, 8, 8, 11], 0, [(9, 10)], 1, [])


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


def spelt(producer: object, seq: object) -> str:
    return f'{{"producer":{producer},"seq":{seq},"value":{seq}}}'


ROWS = st.lists(
    st.tuples(
        st.integers(1, 8) | st.sampled_from([LOWEST, HIGHEST]),
        st.builds(spelt, st.integers(0, 1), st.integers(0, 5) | st.just(10**25)) | st.sampled_from(["5", EVENT]),
    ),
    max_size=30,
)


@pytest.mark.parametrize("rows_per_page", [3, 100])
@pytest.mark.parametrize("wire", [True, False])
@given(stored_rows=ROWS, others=ROWS, exchanges=st.randoms())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_events_with_other_etags_are_found_as_row_by_row(
    log: Connection,
    stored_rows: list[tuple[int, str]],
    others: list[tuple[int, str]],
    exchanges: Random,
    *,
    wire: bool,
    rows_per_page: int,
) -> None:
    delivered = exchanges.sample([*stored_rows, *others], len(stored_rows))
    log.execute("DROP FUNCTION IF EXISTS get_event(bigint, bigint); DROP TABLE IF EXISTS kept, given")
    log.execute("CREATE TABLE kept (etag bigint, payload json)")
    log.execute("CREATE TABLE given (nth bigserial, etag bigint, ctime timestamptz DEFAULT now(), payload json)")
    log.cursor().executemany("INSERT INTO kept VALUES (%s, %s)", stored_rows)
    log.cursor().executemany("INSERT INTO given (etag, payload) VALUES (%s, %s)", delivered)
    log.execute(
        """CREATE OR REPLACE FUNCTION get_event(last_nth bigint, max_events bigint)
           RETURNS SETOF given LANGUAGE sql AS $$
               SELECT * FROM given WHERE nth > coalesce(last_nth, 0) ORDER BY nth LIMIT max_events $$"""
    )
    kept = BIGSERIAL.model_copy(update={"table": "kept", "cursor": {"nth": "bigint"}})
    in_table = {(etag, as_read_back(payload)) for etag, payload in stored_rows}
    wrong = [
        Example(event[0], event[1], etag) if event else Example(etag=etag)
        for etag, event in [(etag, as_read_back(payload)) for etag, payload in delivered]
        if event is None or (etag, event) not in in_table
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.postgres.etags._ROWS", rows_per_page)
        patch.setattr("bench.postgres.stored.ROWS", 4)
        if not wire:
            patch.setattr("consumer.reader.is_unencrypted", lambda _: False)
        assert other_etags(log, kept, len(delivered)) == (len(wrong), wrong[:EXAMPLES])
        assert other_events(log, kept, wrong) == wrong


def test_a_log_that_cannot_be_read_once_more_is_an_error(log: Connection) -> None:
    log.execute("INSERT INTO events_log (payload) VALUES ('1')")
    log.execute(
        """CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
           RETURNS SETOF events_log LANGUAGE sql AS $$ SELECT etag, NULL::timestamptz, payload FROM events_log $$"""
    )
    with pytest.raises(InfrastructureError, match="get_event"):
        other_etags(log, BIGSERIAL, 1)
    assert scalar(log, "SELECT count(*) FROM events_log") == 1


def test_reading_once_more_ends_where_the_cursor_stands_still(log: Connection) -> None:
    log.execute("INSERT INTO events_log (payload) VALUES (%s)", [EVENT])
    log.execute(
        """CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
           RETURNS SETOF events_log LANGUAGE sql AS $$ SELECT * FROM events_log $$"""
    )
    assert other_etags(log, BIGSERIAL, 100) == (0, [])
