"""Rows of (etag, ctime, payload, ...) as they come over the wire, taken apart as arrays.

A row is a DataRow message: `D`, its length, the number of its columns, and of each column a length and a value.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.wire import messages

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]

_ETAG, _CTIME, _PAYLOAD = 11, 23, 35
"""Where the values are in a row whose first two columns are 8 bytes each."""
FRAME = [*range(11), *range(19, 23), *range(31, 35)]
"""The bytes of a row before its payload that are no value: lengths, and how many columns there are."""
_LENGTHS = [*range(7, 11), *range(19, 23)]
"""Those with the lengths of etag and ctime, which are `_EIGHTS`."""
_EIGHTS = np.array([0, 0, 0, 8] * 2, np.uint8)
_SHORT_RUN = 8
_SHORT_RUNS = 4
"""After so many short runs of rows of one length, rows are looked for one by one."""
_size, _pack = struct.Struct("!i").unpack_from, struct.Struct("!i").pack


class Page(NamedTuple):
    """Rows as they were delivered."""

    rows: bytes
    """DataRow messages, one after the other; perhaps with others between."""
    events: int
    jsonb: bool = False
    """Whether payloads are jsonb, whose binary form begins with the number of its version."""


class Texts(NamedTuple):
    """Payloads of one length."""

    places: Numbers
    """Which events they are of."""
    rows: Bytes
    """A payload a row."""


class Columns(NamedTuple):
    """Rows column by column."""

    etags: Numbers
    ctimes: Numbers
    """Microseconds since 2000."""
    texts: list[Texts]
    first: Bytes | None
    """The first row when all are of its length, else None."""
    payload_at: int
    """Where the payload begins in a row."""

    def payloads(self) -> list[bytes]:
        """The payloads in the order of the rows."""
        found = [b""] * len(self.etags)
        for places, rows in self.texts:
            for place, text in zip(places.tolist(), rows, strict=True):
                found[place] = text.tobytes()
        return found


class MisshapenError(ValueError):
    """A row without an etag, a ctime or a payload."""


def columns(pages: Sequence[Page]) -> Columns:
    """Take pages apart, as if they were one.

    Raises:
        MisshapenError: a row is not as it must be.
    """
    received = b"".join([page.rows for page in pages])
    events = sum(page.events for page in pages)
    version = int(any(page.jsonb for page in pages))
    payload_at = _PAYLOAD + version
    everything = np.frombuffer(received, np.uint8)
    starts = _starts(received, everything)
    if len(starts) != events:
        raise MisshapenError(f"{len(starts)} rows where {events} were told")
    if not events:
        return Columns(starts, starts, [], None, payload_at)
    if starts[-1] + _PAYLOAD > len(received):
        raise MisshapenError("a row without an etag, a ctime or a payload")
    size = len(received) // events
    rows = everything.reshape(events, size) if _follow_each_other(starts, size, len(received)) else None
    heads = everything[starts[:, None] + np.arange(_PAYLOAD)] if rows is None else rows
    if (heads[:, _LENGTHS] != _EIGHTS).any():
        raise MisshapenError("a row without an etag or a ctime")
    lengths = words(heads, _PAYLOAD - 4, ">i4")
    texts = []
    for length in np.unique(lengths).tolist():
        if length < version:
            raise MisshapenError("a row without a payload")
        places = np.flatnonzero(lengths == length)
        if rows is not None and len(places) == events:
            found = rows[:, payload_at : _PAYLOAD + length]
        else:
            found = everything[starts[places][:, None] + np.arange(payload_at, _PAYLOAD + length)]
        texts.append(Texts(places, found))
    first = None if rows is None else rows[0]
    return Columns(etags_of(heads), ctimes_of(heads), texts, first, payload_at)


def etags_of(rows: Bytes) -> Numbers:
    """The etags of rows that begin with well-formed heads."""
    return words(rows, _ETAG, ">i8")


def ctimes_of(rows: Bytes) -> Numbers:
    """Their ctimes."""
    return words(rows, _CTIME, ">i8")


def words(rows: Bytes, place: int, of: str) -> Numbers:
    """The word at a place in each row, of which there must be one; `of` is its type as numpy calls it. Rows follow each
    other without gaps.
    """
    return np.ndarray((len(rows),), of, rows, place, rows.shape[1:]).astype(np.int64)


def last_row(received: bytes | bytearray, end: int, first: int, columns: int) -> list[bytes | None]:
    """The values of the first `columns` columns of the last row before `end`; the rows begin at `first`."""
    # No JSON text has a NUL in it, so the last place that looks like a row's start nearly always is one.
    start = received.rfind(b"D\0\0\0", first, end)
    if start < 0 or start + 1 + _size(received, start + 1)[0] != end:
        start = [begins - 5 for kind, begins, _ in messages(received, end, first) if kind == b"D"][-1]
    values: list[bytes | None] = []
    place = start + 7
    for _ in range(columns):
        (size,) = _size(received, place)
        place += 4
        values.append(None if size < 0 else bytes(received[place : place + size]))
        place += max(size, 0)
    return values


def row(values: Sequence[bytes | None]) -> bytes:
    """A DataRow message of these values."""
    body = b"".join([_pack(-1) if each is None else _pack(len(each)) + each for each in values])
    return b"D" + struct.pack("!iH", len(body) + 6, len(values)) + body


def _starts(received: bytes, everything: Bytes) -> Numbers:
    """Where each row begins."""
    end = len(received)
    found: list[Numbers] = []
    start, short = 0, 0
    while start < end and short < _SHORT_RUNS:
        size = 1 + _size(received, start + 1)[0]
        if received[start : start + 1] != b"D":
            start += size
            continue
        rows = everything[start : start + (end - start) // size * size].reshape(-1, size)
        alike = (rows[:, :5] == rows[0, :5]).all(axis=1)
        run = len(rows) if alike.all() else int(alike.argmin())
        short = short + 1 if run < _SHORT_RUN else 0
        found.append(start + np.arange(run) * size)
        start += run * size
    found.append(np.array([begins - 5 for kind, begins, _ in messages(received, end, start) if kind == b"D"], np.int64))
    return np.concatenate(found)


def _follow_each_other(starts: Numbers, size: int, end: int) -> bool:
    events = len(starts)
    return events * size == end and bool((starts == np.arange(events) * size).all())
