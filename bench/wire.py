"""A worker's hot calls in the bytes of PostgreSQL's own protocol, on a connection that libpq opened.

A prepared statement is called again and again: Bind, Execute and Sync are sent as one message, and the answer is left
as it came, so that thousands of rows can be looked at as arrays. libpq would copy each row for itself, and then once
more for Python. The grammar of answers is in `bench.wire_grammar`. Where the connection is encrypted, only libpq can
use it. Source: PostgreSQL's manual, "Frontend/Backend Protocol", version 3.0.
"""

import os
import re
import select
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from socket import MSG_DONTWAIT, socket
from time import perf_counter
from typing import Any

import psycopg
from psycopg import pq

from bench.attribution import TransactionChangedError
from bench.wire_grammar import ROWS, Answer, Result, last_words, messages, misunderstood

SHORT_BYTES = 256
"""Longest answer to an append that is looked up as a whole."""
MOST_UNDERSTOOD = 256
FIRST_BUFFER_BYTES = 1 << 17

_SYNC = b"S\0\0\0\4"
_BOUND = b"2\0\0\0\4"
_READY = b"Z\0\0\0\5"
_LAST = b"\0ITE"
"""The last byte of an answer: the state in ReadyForQuery, or the NUL at the end of a message after it."""
_DONE = re.compile(rb"C\0\0\0.(?:SELECT|FETCH) (\d+)\0Z\0\0\0\x05([ITE])\Z", re.DOTALL)
_SELECTED = re.compile(rb"C\0\0\0.SELECT (\d+)\0", re.DOTALL)
_END_BYTES = 64
"""CommandComplete and ReadyForQuery together are shorter."""
_HEAD = struct.Struct("!i")
_NULL = _HEAD.pack(-1)

_TEXTS = (18, 19, 25, 114, 1042, 1043, 3802)
"""The oids of "char", name, text, json, char, varchar and jsonb, from PostgreSQL's pg_type.dat."""
_NUMBERS = (16, 20, 21, 23, 26, 28, 700, 701, 1082, 1083, 1114, 1184, 3220, 5069)
"""The oids of boolean, int8, int2, int4, oid, xid, float4, float8, date, time, timestamp, timestamptz, pg_lsn, xid8."""
_ARRAYS = (1007, 1016)
"""The oids of int4[] and int8[]."""
PLAIN_TYPES = frozenset((*_TEXTS, *_NUMBERS, *_ARRAYS))
"""Types whose rows cannot hold bytes that look like the end of a page, which has 14 bytes that are neither a text nor a
length: there is no NUL in a text, numbers have at most 8 bytes, and in an array a length stands before each number.
"""
_STATES = {b"I": pq.TransactionStatus.IDLE, b"T": pq.TransactionStatus.INTRANS, b"E": pq.TransactionStatus.INERROR}


def is_unencrypted(connection: psycopg.Connection[Any]) -> bool:
    """Whether a connection is encrypted neither by TLS nor by GSSAPI."""
    if connection.pgconn.ssl_in_use:
        return False
    try:
        encrypted = connection.execute("SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()").fetchone()
    except psycopg.Error:  # a server that is only like PostgreSQL
        return False
    return not (encrypted and encrypted[0])


@contextmanager
def long_answers(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Let libpq receive answers of any length: after 32 KB it reads on without polling (pqReadData in fe-misc.c)."""
    blocking = os.get_blocking(connection.pgconn.socket)
    os.set_blocking(connection.pgconn.socket, False)
    yield
    os.set_blocking(connection.pgconn.socket, blocking)


class RawSocket:
    """The connection's socket, for calls of prepared statements, one at a time. libpq must be idle meanwhile.

    An answer is complete when the grammar in `bench.wire_grammar` says so. Two kinds of answers are recognized without
    reading each message: an answer that equals one that was read before, and, where no row can hold bytes that look
    like the end of a page, a page that begins and ends as the grammar demands.
    """

    def __init__(
        self, connection: psycopg.Connection[Any], awake_seconds: float = 0, types: Sequence[int] = ()
    ) -> None:
        """Take the connection's socket.

        For `awake_seconds` it waits for an answer without sleeping. `types` are the oids of the columns in the rows to
        come, if they are known: rows of PLAIN_TYPES need not be read one by one.
        """
        self._awake_seconds = awake_seconds
        self.waited_awake_seconds = 0.0
        """Total seconds of waiting without sleeping: CPU time in which nothing was done."""
        self._pgconn = connection.pgconn
        self._encoding = connection.info.encoding
        self._socket = socket(fileno=os.dup(connection.pgconn.socket))
        # libpq left the socket non-blocking. Blocking is safe for libpq too, because it polls before it reads, except
        # for long answers (see `long_answers`).
        os.set_blocking(self._socket.fileno(), True)
        self._plain = bool(types) and PLAIN_TYPES.issuperset(types)
        self._last = _LAST if self._plain else bytes(range(256))
        """Received bytes are not looked at while they end with a byte that is not among these."""
        self._searched = 0
        """Up to this offset the page has been searched for ReadyForQuery."""
        self._understood: dict[bytes, int] = {}
        self._answer: Answer | None = None
        """The reader of the answer that is coming, once messages had to be looked at."""
        self._results: list[Result] | None = None
        """The results of the last answer, if its messages were looked at."""
        self._answered = 0
        """Bytes of the last answer as it came, with any messages that came after it."""
        self._farewell: psycopg.Error | None = None
        """Why the server ended the session, if it sent that unasked."""
        self._ends: tuple[bytes, ...] = ()
        """The bytes after the rows of the last page, if there was one: the next page mostly ends with them, too."""
        self._end_bytes = self._end_number = 0
        """Length of those bytes, and the number in their tag."""
        self.buffer = bytearray(FIRST_BUFFER_BYTES)
        """The received bytes."""
        self.rows_end = 0
        """Offset in the buffer of the end of the last answer's rows; the rows begin at `ROWS`."""
        self.tagged = 0
        """The number in the command's tag: rows selected or inserted."""

    def send(self, call: bytes | bytearray) -> None:
        """Send a call.

        Raises:
            psycopg.Error: the server ended the session, in its own words if it left any.
        """
        try:
            self._socket.sendall(call)
        except OSError as error:
            raise self._lost(0, error.strerror) from error

    def counter(self) -> Callable[[bytes | bytearray], int]:
        """Make a function that sends a call that appends, waits, and returns the number of rows: the answer's only
        value, else the number in its tag. The function raises the errors of `send` and `receive`.

        Most answers are alike, and equal answers mean the same, so each is parsed once and then looked up.
        """
        send, receive, known = self._socket.sendall, self._socket.recv, self._understood.get

        def count(call: bytes | bytearray) -> int:
            try:
                send(call)
                answer = receive(SHORT_BYTES)
            except OSError as error:
                raise self._lost(0, error.strerror) from error
            rows = known(answer)
            return self._understand(answer) if rows is None else rows

        return count

    def _understand(self, answer: bytes) -> int:
        """Parse an answer that begins with these bytes, and remember its meaning if these bytes are all of it."""
        self.buffer[: len(answer)] = answer
        tagged = self.receive(len(answer))
        value = self._only_value()
        rows = tagged if value is None else int(value or 0)
        if len(answer) == self._answered and len(self._understood) < MOST_UNDERSTOOD:
            self._understood[answer] = rows
        return rows

    def _only_value(self) -> bytes | None:
        """The first value of the first row; empty for NULL, None when there is no row."""
        for kind, start, _ in messages(self.buffer, self.rows_end):
            if kind == b"D":
                (size,) = _HEAD.unpack_from(self.buffer, start + 2)
                return bytes(self.buffer[start + 6 : start + 6 + max(size, 0)])
        return None

    def receive(self, filled: int = 0) -> int:
        """Wait for the whole answer to a call; it stays in `buffer` until the next one. Returns `tagged`.

        `filled` bytes of the answer are in the buffer already.

        Raises:
            psycopg.Error: the server's error, as psycopg's exception for it; OperationalError when the server is gone,
                when the answer breaks the grammar, or when the call began or ended a transaction.
        """
        self._answer = self._results = None
        self._searched = 0
        buffer, receive = self.buffer, self._socket.recv_into
        whole = filled > 0 and self._is_whole(filled)
        # A server that waits for a while goes to sleep, and is slow to wake up: each microsecond counts from its last
        # byte to the next call.
        while not whole:
            if filled == len(buffer):
                buffer = self._grow()
            space = memoryview(buffer)[filled:]
            began = now = perf_counter()
            got = -1
            try:
                while got < 0 and now - began < self._awake_seconds:
                    try:
                        got = receive(space, 0, MSG_DONTWAIT)
                    except BlockingIOError:
                        now = perf_counter()
                self.waited_awake_seconds += now - began
                if got < 0:
                    got = receive(space)
            except OSError as error:
                raise self._lost(filled, error.strerror) from error
            if not got:
                if not self._is_answered(filled):
                    raise self._lost(filled)
                break
            filled += got
            whole = (buffer.endswith(self._ends, 0, filled) and buffer.startswith(_BOUND)) or (
                buffer[filled - 1] in self._last and self._is_whole(filled)
            )
        if self._results is None:
            self.rows_end, self.tagged = filled - self._end_bytes, self._end_number
        return self.tagged

    def _grow(self) -> bytearray:
        """Make the buffer twice as long."""
        self.buffer = self.buffer + bytes(len(self.buffer))
        return self.buffer

    def _is_whole(self, filled: int) -> bool:
        """Whether these bytes are a whole answer; raises the error in the answer. Notes its end and its number."""
        if self._plain and self._answer is None:
            if not self._is_ready(filled):
                return False
            done = _DONE.search(self.buffer, max(0, filled - _END_BYTES), filled)
            if done and self.buffer.startswith(_BOUND):
                self._check_state(done[2])
                self._ends, self._end_bytes, self._end_number = (done[0],), len(done[0]), int(done[1])
                return True
        return self._read(filled)

    def _is_ready(self, filled: int) -> bool:
        """Whether these bytes hold any that look like ReadyForQuery: only then is a page read message by message."""
        # A search for one byte is ten times as fast as one for five.
        at = self.buffer.find(b"Z", self._searched, filled)
        while at >= 0 and not self.buffer.startswith(_READY, at, filled):
            at = self.buffer.find(b"Z", at + 1, filled)
        self._searched = max(0, filled - len(_READY)) if at < 0 else at
        return at >= 0

    def _read(self, filled: int) -> bool:
        """Read the answer's messages as far as they have come; True when it is whole."""
        if self._answer is None:
            self._answer = Answer(self._encoding)
        whole = self._answer.read(self.buffer, filled)
        if whole:
            self._finish(self._answer, filled)
        return whole

    def _is_answered(self, filled: int) -> bool:
        """Whether these bytes, the last ones of the connection, are an answer, perhaps with a part of another message
        after it."""
        if self._read(filled):
            return True
        answered = self._answer is not None and self._answer.ready_end > 0
        if self._answer is not None and answered:
            self._finish(self._answer, filled)
        return answered

    def _finish(self, answer: Answer, filled: int) -> None:
        self._farewell = self._farewell or answer.farewell
        if answer.error:
            raise answer.error
        self._check_state(answer.state)
        self._results = answer.tidy(self.buffer)
        self._answered = filled
        last = self._results[-1]
        self.rows_end, self.tagged = last.end, last.number

    def results(self) -> list[Result]:
        """The results of the last answer, one for each call."""
        if self._results is None:
            self._results = self._split_results()
        return self._results

    def _split_results(self) -> list[Result]:
        """The results of an answer with plain rows. Messages are read one by one only if asynchronous ones stand
        between the results."""
        filled = self.rows_end + self._end_bytes
        results = []
        start = ROWS
        for done in _SELECTED.finditer(self.buffer, ROWS, filled):
            results.append(Result(start, done.start(), int(done[1])))
            start = done.end() + ROWS
            if not self.buffer.startswith((_BOUND, _READY), done.end()):
                answer = Answer(self._encoding)
                if not answer.read(self.buffer, filled):
                    raise misunderstood("its last message is longer than the answer")
                return answer.tidy(self.buffer)
        return results

    def _check_state(self, state: bytes) -> None:
        """Compare the transaction's state with the one that libpq knows, which is the state before the calls."""
        if _STATES.get(state) != self._pgconn.transaction_status:
            raise transaction_changed(self._pgconn.transaction_status)

    def await_notification(self, seconds: float) -> bool:
        """Wait until a notification comes, at most this long; return whether one came. One that came with the last
        answer or since then is not waited for. May return early when the server sends something else unasked.

        Raises:
            psycopg.Error: as `send` does.
        """
        if is_notified(self._pgconn) or (self._answer and self._answer.notified):
            return True
        if not select.select([self._socket], [], [], seconds)[0]:
            return False
        unasked = Answer.after_one(self._encoding)
        filled, whole = 0, False
        while not whole:
            if filled == len(self.buffer):
                self._grow()
            try:
                got = self._socket.recv_into(memoryview(self.buffer)[filled:])
            except OSError as error:
                raise self._lost(filled, error.strerror) from error
            filled += got
            if not got:
                raise self._lost(filled)
            whole = unasked.read(self.buffer, filled)
        if unasked.farewell:
            raise self._lost(filled)
        return unasked.notified

    def _lost(self, filled: int, why: str | None = None) -> psycopg.Error:
        """The error for a lost connection: the server's last words if there are any, among the `filled` bytes in the
        buffer or after them.
        """
        received = bytes(self.buffer[:filled])
        with suppress(OSError):
            while rest := self._socket.recv(FIRST_BUFFER_BYTES, MSG_DONTWAIT):
                received += rest
        return (
            self._farewell
            or last_words(received, self._encoding)
            or psycopg.OperationalError(": ".join(filter(None, ("server closed the connection unexpectedly", why))))
        )


def is_notified(pgconn: pq.abc.PGconn) -> bool:
    """Whether libpq has received notifications since the last call of this function."""
    notified = False
    while pgconn.notifies():
        notified = True
    return notified


def transaction_changed(before: int) -> TransactionChangedError:
    """The error for a call that began a transaction and left it open, or that ended one that was not its own."""
    idle = before == pq.TransactionStatus.IDLE
    did = "left a transaction open" if idle else "ended the transaction that it was called in"
    return TransactionChangedError(f"it {did}; a log must leave transactions to its callers")


def copy_message(statement: bytes, rows: bytes) -> bytes:
    """The messages that copy rows into a table: the statement, its data and the end, without a wait between them.

    The server ignores the data when the statement fails.
    """
    return b"".join(
        (b"Q", _HEAD.pack(5 + len(statement)), statement, b"\0d", _HEAD.pack(4 + len(rows)), rows, b"c\0\0\0\4")
    )


def packed(values: Iterable[bytes | None]) -> bytes:
    """Encode values as in a Bind or DataRow message: each value follows its length, which is -1 for NULL."""
    return b"".join([_NULL if each is None else _HEAD.pack(len(each)) + each for each in values])


def unpacked(values: bytes) -> list[bytes]:
    """Decode values that `packed` encoded; NULLs are left out."""
    decoded: list[bytes] = []
    start = 0
    while start < len(values):
        (length,) = _HEAD.unpack_from(values, start)
        start += _HEAD.size
        if length >= 0:
            decoded.append(values[start : start + length])
            start += length
    return decoded


class Call:
    """A maker of messages that call a prepared statement, once or several times in one transaction."""

    def __init__(self, name: bytes, formats: Sequence[pq.Format], times: int = 1) -> None:
        count = len(formats)
        self._times = times
        self._start = b"\0" + name + b"\0" + struct.pack(f"!H{count}HH", count, *formats, count)
        # Results in binary; then Execute, for all rows.
        self._end = b"\0\1\0\1E\0\0\0\x09\0\0\0\0\0"
        self._rest = 4 + len(self._start) + 4

    def message(self, parameters: bytes) -> bytes:
        """The message for these parameters, encoded by `packed`."""
        once = b"".join((b"B", _HEAD.pack(self._rest + len(parameters)), self._start, parameters, self._end))
        return once * self._times + _SYNC
