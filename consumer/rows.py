"""Rows of (etag, ctime, payload, ...) as they come over the wire, taken apart as arrays.

A row is a DataRow message: `D`, its length, the number of its columns, and for each column a length and a value.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.wire import packed
from bench.wire_grammar import ASYNCHRONOUS, messages

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]

_ETAG, _CTIME, _PAYLOAD = 11, 23, 35
"""Offsets of the values in a row whose first two columns are 8 bytes each."""
FRAME = [*range(11), *range(19, 23), *range(31, 35)]
"""Offsets of the bytes of a row that stand before its payload and belong to no value: lengths and a column count."""
_EIGHT = 8
"""The length of an etag and of a ctime."""
_size = struct.Struct("!i").unpack_from


class Page(NamedTuple):
    """Rows as they were delivered."""

    rows: bytes
    """DataRow messages, one after the other; there may be asynchronous messages among them."""
    events: int
    jsonb: bool = False
    """Whether payloads are jsonb, whose binary form begins with the number of its version."""
    largest: int = 0
    """The most events that one read yielded; several reads that were sent together make one such page."""
    sizes: Sequence[int] = ()
    """Of several reads that were sent together, the number of events that each yielded."""


class PayloadGroup(NamedTuple):
    """Payloads of one length."""

    places: Numbers
    """The row numbers of these payloads."""
    rows: Bytes
    """One payload per row."""


class Columns(NamedTuple):
    """Rows column by column."""

    etags: Numbers
    ctimes: Numbers
    """Microseconds since 2000."""
    groups: list[PayloadGroup]
    first: Bytes | None
    """The first row if all rows have its length, else None."""
    payload_at: int
    """Offset of the payload in a row."""

    def payloads(self) -> list[bytes]:
        """The payloads in the order of the rows."""
        payloads = [b""] * len(self.etags)
        for places, rows in self.groups:
            for place, payload in zip(places.tolist(), rows, strict=True):
                payloads[place] = payload.tobytes()
        return payloads


class MisshapenError(ValueError):
    """A row without an etag, a ctime or a payload."""


def columns(pages: Sequence[Page]) -> Columns:
    """Take pages apart as if they were one page.

    Raises:
        MisshapenError: a row lacks an etag, a ctime or a payload, or there are more or fewer rows than announced.
    """
    received = b"".join([page.rows for page in pages])
    events = sum(page.events for page in pages)
    version = int(any(page.jsonb for page in pages))
    payload_at = _PAYLOAD + version
    everything = np.frombuffer(received, np.uint8)
    starts = _starts(received, everything)
    if len(starts) != events:
        raise MisshapenError(f"{len(starts)} rows where {events} were announced")
    if not events:
        return Columns(starts, starts, [], None, payload_at)
    if starts[-1] + _PAYLOAD > len(received):
        raise MisshapenError("a row without an etag, a ctime or a payload")
    size = len(received) // events
    rows = everything.reshape(events, size) if _follow_each_other(starts, size, len(received)) else None
    heads = _cut(received, starts, _PAYLOAD) if rows is None else rows
    if any((words(heads, value - 4, ">i4") != _EIGHT).any() for value in (_ETAG, _CTIME)):
        raise MisshapenError("a row without an etag or a ctime")
    lengths = words(heads, _PAYLOAD - 4, ">i4")
    groups = []
    for length in np.unique(lengths).tolist():
        if length < version:
            raise MisshapenError("a row without a payload")
        places = np.flatnonzero(lengths == length)
        if rows is not None and len(places) == events:
            payloads = rows[:, payload_at : _PAYLOAD + length]
        else:
            payloads = _cut(received, starts[places] + payload_at, _PAYLOAD + length - payload_at)
        groups.append(PayloadGroup(places, payloads))
    first = None if rows is None else rows[0]
    return Columns(etags_of(heads), ctimes_of(heads), groups, first, payload_at)


def etags_of(rows: Bytes) -> Numbers:
    """The etags of rows that begin with well-formed heads."""
    return words(rows, _ETAG, ">i8")


def ctimes_of(rows: Bytes) -> Numbers:
    """The ctimes of rows that begin with well-formed heads."""
    return words(rows, _CTIME, ">i8")


def words(rows: Bytes, place: int, of: str) -> Numbers:
    """The word at one offset in each row; `of` is the word's type in numpy's notation. There is at least one row, and
    rows follow each other without gaps.
    """
    return np.ndarray((len(rows),), of, rows, place, rows.shape[1:]).astype(np.int64)


def last_row(received: bytes | bytearray, end: int, first: int) -> int:
    """Offset of the last row before `end`; the rows begin at `first`."""
    # No JSON text holds a NUL, so the last bytes that look like a row's start nearly always are one. The bytes of a
    # ctime may look like one too, with a length that fits, but then the length of an etag does not follow.
    start = received.rfind(b"D\0\0\0", first, end)
    if (
        start < 0
        or start + 1 + _size(received, start + 1)[0] != end
        or not received.startswith(b"\0\0\0\x08", start + _ETAG - 4)
    ):
        start = last_row_exactly(received, end, first)
    return start


def last_row_exactly(received: bytes | bytearray, end: int, first: int) -> int:
    """Return what `last_row` returns, but look at each message, for rows whose values may look like rows.

    Raises:
        MisshapenError: there is no row.
    """
    starts = _row_starts(received, end, first)
    if not starts:
        raise MisshapenError("rows by their number, but no row")
    return starts[-1]


def parts(received: bytes | bytearray, start: int, columns: Sequence[int]) -> bytes:
    """Cut columns out of the row that begins at `start`, one after the other, as they were sent: lengths and values."""
    fields = b""
    for column in columns:
        place = start + 7
        for _ in range(column):
            (size,) = _size(received, place)
            place += 4 if size < 0 else 4 + size
        (size,) = _size(received, place)
        fields += received[place : place + 4 if size < 0 else place + 4 + size]
    return fields


def row(values: Sequence[bytes | None]) -> bytes:
    """Make a DataRow message of these values."""
    body = packed(values)
    return b"D" + struct.pack("!iH", len(body) + 6, len(values)) + body


def _starts(received: bytes, everything: Bytes) -> Numbers:
    """Offset of each row: of each D that is followed by a length and by the length of an etag."""
    candidates = np.flatnonzero(everything == ord("D"))
    candidates = candidates[candidates + _ETAG <= len(received)]
    candidates = candidates[_lengths(received, candidates + _ETAG - 4) == _EIGHT]
    ends = np.append(candidates[1:], len(received))
    # Candidates that follow each other without a gap, from the first byte to the last, are all the rows and no others.
    if len(candidates) and candidates[0] == 0 and (candidates + 1 + _lengths(received, candidates + 1) == ends).all():
        starts: Numbers = candidates
        return starts
    return np.array(_row_starts(received, len(received), 0), np.int64)


def _row_starts(received: bytes | bytearray, end: int, first: int) -> list[int]:
    """Offset of each row: asynchronous messages may stand among the rows, and no others."""
    starts = []
    for kind, body, _ in messages(received, end, first):
        if kind == b"D":
            starts.append(body - 5)
        elif kind not in ASYNCHRONOUS:
            raise MisshapenError(f"a message {kind.decode('latin-1')!r} among its rows")
    return starts


def _lengths(received: bytes, places: Numbers) -> Numbers:
    """The four-byte words at these offsets."""
    return words(_cut(received, places, 4), 0, ">i4")


def _cut(received: bytes, places: Numbers, size: int) -> Bytes:
    """`size` bytes from each offset on, one row per offset."""
    if not size or not len(places):
        return np.empty((len(places), size), np.uint8)
    windows = np.ndarray((len(received) - size + 1,), f"V{size}", received, strides=(1,))
    cut: Bytes = windows[places].view(np.uint8).reshape(-1, size)
    return cut


def _follow_each_other(starts: Numbers, size: int, end: int) -> bool:
    events = len(starts)
    return events * size == end and bool((starts == np.arange(events) * size).all())
