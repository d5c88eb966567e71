"""Rows as they come over the wire."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.wire import packed
from consumer.rows import MisshapenError, Page, columns, last_row, parts, row
from tests.consumer.pages import Row, page

# Some look like the start of a row.
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0x44, 0x44 << 32, 0x4400000008, 8]))
TEXTS = st.one_of(st.binary(max_size=3), st.sampled_from([b"{}", b'{"a":1}', b'{"a":2}', b"D" * 9]))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, TEXTS), max_size=60)
NOTICE = b"N" + struct.pack("!i", 4 + 10) + b"SNOTICE\0\0\0"


@given(st.lists(ROWS, min_size=1, max_size=4), st.lists(st.one_of(st.none(), st.binary(max_size=9)), max_size=2))
def test_columns_are_the_rows_that_were_sent(pages: list[list[Row]], more: list[bytes | None]) -> None:
    taken_apart = columns([page(rows, *more) for rows in pages])
    rows = [each for rows in pages for each in rows]
    assert (
        list(zip(taken_apart.etags.tolist(), taken_apart.ctimes.tolist(), taken_apart.payloads(), strict=True)) == rows
    )


@pytest.mark.parametrize("end", [11, 19, None])
def test_what_only_looks_like_a_row_is_none(end: int | None) -> None:
    rows = [(1, 1, b"{}"), (2, 2, page([(3, 3, b"{}")]).rows[:end]), (4, 4, b"{}")]
    assert columns([page(rows)]).payloads() == [payload for _, _, payload in rows]


@given(ROWS, st.data())
def test_messages_between_rows_are_passed_over(rows: list[Row], data: st.DataObject) -> None:
    parts = [page([each]).rows for each in rows]
    parts.insert(data.draw(st.integers(0, len(parts))), NOTICE)
    taken_apart = columns([Page(b"".join(parts), len(rows))])
    assert taken_apart.etags.tolist() == [etag for etag, _, _ in rows]


@example([(0, 0x0000_0044_0000_0008, b"")], [], b"")
@given(
    ROWS.filter(bool),
    st.lists(st.one_of(st.none(), st.binary(max_size=20)), max_size=3),
    st.sampled_from([b"", NOTICE]),
)
def test_the_last_row_is_found_from_behind(rows: list[Row], more: list[bytes | None], behind: bytes) -> None:
    sent = b"before" + page(rows, *more).rows + behind
    etag, ctime, payload = rows[-1]
    values = [etag.to_bytes(8, "big", signed=True), ctime.to_bytes(8, "big", signed=True), payload, *more]
    start = last_row(sent, len(sent), len(b"before"))
    for columns_ in ([], [0], [2, 0], [1], range(len(values))):
        assert parts(sent, start, columns_) == packed([values[column] for column in columns_])


@pytest.mark.parametrize(
    "values",
    [
        [None, b"12345678", b"{}"],
        [b"12345678", None, b"{}"],
        [b"12345678", b"12345678", None],
        [b"1234", b"12345678", b"{}"],
    ],
)
def test_a_row_without_its_columns_is_refused(values: list[bytes | None]) -> None:
    healthy = page([(1, 1, b"{}")]).rows
    with pytest.raises(MisshapenError):
        columns([Page(healthy + row(values), 2)])


def test_a_page_that_has_another_number_of_rows_than_it_says_is_refused() -> None:
    with pytest.raises(MisshapenError, match="2 rows where 3 were announced"):
        columns([Page(page([(1, 1, b"{}"), (2, 2, b"{}")]).rows, 3)])


def test_jsonb_has_a_version_in_front() -> None:
    rows = page([(1, 1, b'\x01{"a": 1}'), (2, 2, b"\x01[]")])
    assert columns([rows._replace(jsonb=True)]).payloads() == [b'{"a": 1}', b"[]"]
