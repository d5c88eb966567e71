"""The grammar of PostgreSQL's answers, and a reader that holds every message of an answer to it.

    answer = (call {call} | copy) ReadyForQuery
    call   = BindComplete {DataRow} (CommandComplete | EmptyQueryResponse)
    copy   = CopyInResponse CommandComplete

ErrorResponse may stand wherever one of these messages may, and then only ReadyForQuery follows; after a fatal one the
server closes the connection. NoticeResponse, ParameterStatus and NotificationResponse belong to no answer: they may
stand before, between and after any of these messages, and do not change what the answer means. The content of a
ParameterStatus can be ignored: everything sent is ASCII, rows are binary, and a worker's own TimeZone outlives a
reload. After ReadyForQuery an ErrorResponse may come as well, when the server ends the session. There is no
PortalSuspended, because all rows are requested, and no description, because none is requested: any other message is
an error, and never makes a shorter answer.

Source: PostgreSQL's manual, "Frontend/Backend Protocol", version 3.0: "Extended Query", "COPY Operations",
"Asynchronous Operations" and "Message Formats".
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple, Self

import psycopg

ROWS = 5
"""Offset of the first row in a call's answer, just past BindComplete. Among the rows there may be asynchronous
messages."""
ASYNCHRONOUS = frozenset((b"N", b"S", b"A"))
"""NoticeResponse, ParameterStatus, NotificationResponse."""

READY_BYTES = 6
"""The length of ReadyForQuery."""

_NOTHING, _READY = b"", b"Z"
_FOLLOWS = {
    _NOTHING: b"2GE",
    b"2": b"DCIE",
    b"D": b"DCE",
    b"C": b"2ZE",
    b"I": b"2ZE",
    b"G": b"CE",
    b"E": b"ZE",
    _READY: b"E",
}
"""The grammar: the types of messages that may follow each type. 2 is BindComplete, D is DataRow, C is CommandComplete,
I is EmptyQueryResponse, G is CopyInResponse, E is ErrorResponse, Z is ReadyForQuery."""
_LENGTHS = {b"2": range(4, 5), b"I": range(4, 5), _READY: range(5, 6)}
_LEAST_BYTES = 4
"""A length counts itself."""
_LONG = b"DENA"
_LONGEST_BYTES = 30_000
"""Only the types in _LONG may be longer: any other message with such a length is garbage (fe-protocol3.c)."""
_ROW = ord("D")

_size_at = struct.Struct("!i").unpack_from

Message = tuple[bytes, int, int]
"""Type of a message, and the offsets of the start and of the end of its body."""


def messages(received: bytes | bytearray | memoryview, end: int, start: int = 0) -> Iterator[Message]:
    """The messages in the received bytes; the last one may end beyond them.

    Raises:
        psycopg.OperationalError: a length is too small for a message.
    """
    while start + 5 <= end:
        (size,) = _size_at(received, start + 1)
        if size < _LEAST_BYTES:
            raise misunderstood(f"a message of {size} bytes")
        yield bytes(received[start : start + 1]), start + 5, start + 1 + size
        start += 1 + size


class Result(NamedTuple):
    """The result of one call."""

    start: int
    """Offset in the buffer of the start of its rows."""
    end: int
    """Offset of the end of its rows."""
    number: int
    """The number in the command's tag: rows selected, inserted or copied; else 0."""


class Answer:
    """The reader of one answer, and everything read so far."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._at = 0
        """Offset of the next message."""
        self._last = _NOTHING
        """The type of the last message that belongs to the grammar."""
        self._start = self._rows = 0
        """Offset of the result that is being read, and its rows so far."""
        self._results: list[tuple[int, int, int, int]] = []
        """For each result the offsets of its start, of the end of its rows and of its end, and its tag's number."""
        self.error: psycopg.Error | None = None
        """The server's error."""
        self.farewell: psycopg.Error | None = None
        """Why the server ends the session, if it sent that after the answer."""
        self.state = b""
        """The transaction's state after the answer, from ReadyForQuery: I, T or E."""
        self.ready_end = 0
        """Offset of the end of ReadyForQuery."""
        self.notified = False
        """Whether a notification came before, in or after the answer."""

    @classmethod
    def after_one(cls, encoding: str) -> Self:
        """Make a reader of the messages that come after an answer: asynchronous ones, and the reason why the server
        ends the session."""
        reader = cls(encoding)
        reader._last = _READY
        return reader

    def read(self, received: bytearray, filled: int) -> bool:
        """Read the messages that came since the last call; `received` is filled up to `filled`.

        Returns whether the answer is complete, together with any messages that came after it.

        Raises:
            psycopg.OperationalError: a message breaks the grammar.
        """
        while self._at + 5 <= filled:
            (size,) = _size_at(received, self._at + 1)
            kind = bytes(received[self._at : self._at + 1])
            self._check(kind, size)
            end = self._at + 1 + size
            if end > filled:
                break
            if kind not in ASYNCHRONOUS:
                self._note(kind, received, end)
            elif kind == b"A":
                self.notified = True
            self._at = end
            if kind == b"D":
                self._read_rows(received, filled)
        return self._last == _READY and self._at == filled

    def tidy(self, received: bytearray) -> list[Result]:
        """Move the messages of a complete answer together at the buffer's start, so that asynchronous ones stay only
        among rows. Returns the results; the rows of each begin `ROWS` bytes after the end of the result before.
        """
        at = 0
        results = []
        for start, rows_end, end, number in self._results:
            _move(received, start, end, at)
            results.append(Result(at + ROWS, at + rows_end - start, number))
            at += end - start
        _move(received, self.ready_end - READY_BYTES, self.ready_end, at)
        return results

    def _check(self, kind: bytes, size: int) -> None:
        """Check a message's type and length, before its body is waited for."""
        lengths = _LENGTHS.get(kind) or range(_LEAST_BYTES, 1 << 31 if kind in _LONG else _LONGEST_BYTES)
        if size not in lengths or not (kind in ASYNCHRONOUS or kind in _FOLLOWS[self._last]):
            last = f"after {self._last.decode()}" if self._last else "first"
            raise misunderstood(f"a message {kind.decode('latin-1')!r} of {size} bytes came {last}")

    def _read_rows(self, received: bytearray, filled: int) -> None:
        """Read the rows that follow a row; to be quick with thousands of rows, it looks at their lengths only."""
        at = self._at
        while at + 5 <= filled and received[at] == _ROW:
            (size,) = _size_at(received, at + 1)
            if size < _LEAST_BYTES or at + 1 + size > filled:
                break
            at += 1 + size
            self._rows += 1
        self._at = at

    def _note(self, kind: bytes, received: bytearray, end: int) -> None:
        body = self._at + 5
        if kind == b"E":
            self._note_error(bytes(received[body:end]))
            return
        if kind in b"2G":
            self._start, self._rows = self._at, 0
        elif kind == b"D":
            self._rows += 1
        elif kind in b"CI":
            self._results.append((self._start, self._at, end, self._number(bytes(received[body:end]))))
        else:
            self.state, self.ready_end = bytes(received[body:end]), end
        self._last = kind

    def _note_error(self, body: bytes) -> None:
        error = error_of(body, self._encoding)
        if self._last == _READY:
            self.farewell = error
            return
        self._last = b"E"
        self.error = self.error or error

    def _number(self, tag: bytes) -> int:
        """The number at the end of a command's tag; 0 without one."""
        words = tag.rstrip(b"\0").split(b" ")
        number = int(words[-1]) if words[-1].isdigit() else 0
        if words[0] == b"SELECT" and self._rows not in (0, number):
            raise misunderstood(f"{self._rows} rows came, and then the tag {tag!r}")
        return number


def misunderstood(why: str) -> psycopg.OperationalError:
    """The error for an answer that breaks the grammar."""
    return psycopg.OperationalError(
        f"cannot understand the server's answer: {why}; connect to PostgreSQL itself, with no proxy in between"
    )


def last_words(received: bytes, encoding: str) -> psycopg.Error | None:
    """The server's reason for ending the session, if the bytes received from the start of an answer hold one.

    A backend that must end because another one crashed sends its reason in a notice.
    """
    notice = None
    for kind, start, end in messages(received, len(received)):
        if end > len(received):
            break
        body = received[start:end]
        if kind == b"E":
            return error_of(body, encoding)
        if kind == b"N" and _fields(body).get(b"C", b"").startswith(b"57P"):
            notice = error_of(body, encoding)
    return notice


def error_of(body: bytes, encoding: str) -> psycopg.Error:
    """Make psycopg's exception of the body of an ErrorResponse or NoticeResponse."""
    fields = _fields(body)
    message = b"\n".join(fields[key] for key in (b"M", b"D", b"H") if key in fields).decode(encoding, "replace")
    state = fields.get(b"C", b"").decode("ascii", "replace")
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.errors.get_base_exception(state)
    return kind(message, info={ord(key): value for key, value in fields.items()}, encoding=encoding)


def _fields(body: bytes) -> dict[bytes, bytes]:
    """The fields of an ErrorResponse or NoticeResponse, by their letter."""
    return {field[:1]: field[1:] for field in body.split(b"\0") if field}


def _move(received: bytearray, start: int, end: int, to: int) -> None:
    if start != to:
        received[to : to + end - start] = received[start:end]
