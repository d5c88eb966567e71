"""The hot calls of a worker in the bytes of PostgreSQL's own protocol, on a connection that libpq opened.

A prepared statement is called again and again: Bind, Execute and Sync go out as one message, and what comes back is
left as it came, so that thousands of rows can be looked at as arrays. libpq would copy each row for itself, and then
once more for Python. Source: PostgreSQL's manual, "Frontend/Backend Protocol", version 3.0. Where libpq encrypts,
only libpq can speak.
"""

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from socket import MSG_DONTWAIT, socket
from time import perf_counter
from typing import Any

import psycopg
from psycopg import pq

SHORT_BYTES = 256
"""An answer that is no longer is looked up whole."""
MOST_UNDERSTOOD = 256
FIRST_BUFFER_BYTES = 1 << 17
ROWS = 5
"""Where the rows of an answer begin: after the word that the parameters were bound. Among the rows there may be other
messages, notices say."""

_SYNC = b"S\0\0\0\4"
_READY = b"Z\0\0\0\5"
_DONE = re.compile(rb"C\0\0\0.[A-Z]+(?: \d+)*? ?(\d*)\0Z\0\0\0\x05[ITE]\Z", re.DOTALL)
_SELECTED = re.compile(rb"C\0\0\0.SELECT (\d+)\0", re.DOTALL)
_END_BYTES = 64
"""A command's tag and the word that the server is ready are shorter."""
_NO_END = b"no answer ends like this"
_HEAD = struct.Struct("!i")
_NULL = _HEAD.pack(-1)

Message = tuple[bytes, int, int]
"""Type of a message, where its body begins in what was received and where it ends."""


def can_speak(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing is encrypted between us and the server."""
    if connection.pgconn.ssl_in_use:
        return False
    try:
        encrypted = connection.execute("SELECT encrypted FROM pg_stat_gssapi WHERE pid = pg_backend_pid()").fetchone()
    except psycopg.Error:  # a server that is only like PostgreSQL
        return False
    return not (encrypted and encrypted[0])


@contextmanager
def long_answers(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Lets libpq have answers of any length: when it has 32 KB it reads on without a look (pqReadData in fe-misc.c)."""
    blocking = os.get_blocking(connection.pgconn.socket)
    os.set_blocking(connection.pgconn.socket, False)
    yield
    os.set_blocking(connection.pgconn.socket, blocking)


class Line:
    """The connection's socket, for calls of prepared statements, one at a time. libpq must be idle meanwhile."""

    def __init__(self, connection: psycopg.Connection[Any], awake_seconds: float = 0) -> None:
        self._awake_seconds = awake_seconds
        self.waited_awake_seconds = 0.0
        """How long it waited without sleeping: CPU time in which nothing was done."""
        self._socket = socket(fileno=os.dup(connection.pgconn.socket))
        # libpq has it non-blocking. It looks whether there is something before it reads, so it does not wait in vain on
        # a blocking one either, unless an answer is long.
        os.set_blocking(self._socket.fileno(), True)
        self._understood: dict[bytes, int] = {}
        self._answered = 0
        self._end = _NO_END
        """What the last answer ended with, behind its rows: the one after it mostly ends with the same."""
        self.buffer = bytearray(FIRST_BUFFER_BYTES)
        """What was received."""
        self.rows_end = 0
        """Where the rows of the last answer end in the buffer; they begin at `ROWS`."""
        self.tagged = 0
        """The number that the command's tag ended with: rows that were selected or inserted."""

    def send(self, call: bytes) -> None:
        """Send a call.

        Raises:
            psycopg.OperationalError: the connection is gone.
        """
        try:
            self._socket.sendall(call)
        except OSError as error:
            raise _lost(error) from error

    def counter(self) -> Callable[[bytes | bytearray], int]:
        """Returns a function that sends a call that appends, and waits for the number of rows: the answer's only value,
        else its tag's. It raises what `receive` raises.

        An answer that was understood once means the same again, and most are alike.
        """
        send, receive, known = self._socket.sendall, self._socket.recv, self._understood.get

        def count(call: bytes | bytearray) -> int:
            try:
                send(call)
                answer = receive(SHORT_BYTES)
            except OSError as error:
                raise _lost(error) from error
            rows = known(answer)
            return self._understand(answer) if rows is None else rows

        return count

    def _understand(self, answer: bytes) -> int:
        """Look at an answer that begins like this, and remember what it means if that is all of it."""
        self.buffer[: len(answer)] = answer
        tagged = self.receive(len(answer))
        value = self._only_value()
        rows = int(value) if value else tagged
        if len(answer) == self._answered and len(self._understood) < MOST_UNDERSTOOD:
            self._understood[answer] = rows
        return rows

    def _only_value(self) -> bytes:
        for kind, start, _ in messages(self.buffer, self.rows_end):
            if kind == b"D":
                (size,) = _HEAD.unpack_from(self.buffer, start + 2)
                return bytes(self.buffer[start + 6 : start + 6 + max(size, 0)])
        return b""

    def receive(self, filled: int = 0) -> int:
        """Wait for the whole answer to a call; it lies in `buffer` till the next one. Returns `tagged`.

        `filled` bytes of it are in the buffer already.

        Raises:
            psycopg.Error: the server's error, as psycopg's exception for it; OperationalError when it is gone.
        """
        buffer, receive = self.buffer, self._socket.recv_into
        # A server that waits for long goes to sleep, and is slow to wake up: from its last byte to what is sent next,
        # each microsecond counts.
        while not (
            buffer.endswith(self._end, 0, filled)
            or (buffer.endswith(_READY, 0, max(filled - 1, 0)) and self._is_whole(filled))
        ):
            if filled == len(buffer):
                buffer = self.buffer = buffer + bytes(len(buffer))
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
                raise _lost(error) from error
            if not got:
                self._raise_error(filled)
                raise psycopg.OperationalError("the server closed the connection unexpectedly")
            filled += got
        self._answered = filled
        self.rows_end = filled - len(self._end)
        return self.tagged

    def _is_whole(self, filled: int) -> bool:
        """Whether these bytes, which look like the end of an answer, are one; raises the error that is in it."""
        done = _DONE.search(self.buffer, max(0, filled - _END_BYTES), filled)
        if done:
            self._end, self.tagged = done[0], int(done[1] or 0)
            return True
        self._raise_error(filled)
        found = {kind: (start, end) for kind, start, end in messages(self.buffer, filled)}
        if found.get(b"Z", (0, 0))[1] != filled:
            return False
        rows_end = found.get(b"C", (5, 0))[0] - 5
        self._end, self.tagged = bytes(self.buffer[rows_end:filled]), 0
        return True

    def results(self) -> list[tuple[int, int, int]]:
        """Of each result of the last answer where its rows begin and end in the buffer, and their number."""
        found = []
        start = ROWS
        for done in _SELECTED.finditer(self.buffer, ROWS, self._answered):
            found.append((start, done.start(), int(done[1])))
            start = done.end() + ROWS
        return found

    def _raise_error(self, filled: int) -> None:
        for kind, start, end in messages(self.buffer, filled):
            if kind == b"E" and end <= filled:
                raise _error(bytes(self.buffer[start:end]))


def messages(received: bytes | bytearray | memoryview, end: int, start: int = 0) -> Iterator[Message]:
    """The messages in what was received; the last one may end behind it."""
    while start + 5 <= end:
        (size,) = _HEAD.unpack_from(received, start + 1)
        yield bytes(received[start : start + 1]), start + 5, start + 1 + size
        start += 1 + size


def copy_message(statement: bytes, rows: bytes) -> bytes:
    """The message that copies rows into a table: the statement, its data and its end, without a wait between them.

    Data for a statement that failed is passed over by the server.
    """
    return b"".join(
        (b"Q", _HEAD.pack(5 + len(statement)), statement, b"\0d", _HEAD.pack(4 + len(rows)), rows, b"c\0\0\0\4")
    )


def packed(values: Iterable[bytes | None]) -> bytes:
    """Values as they are sent, as parameters or in a row: of each its length, which is -1 for NULL, and itself."""
    return b"".join([_NULL if each is None else _HEAD.pack(len(each)) + each for each in values])


class Call:
    """Makes the message that calls a prepared statement, or makes several calls of it in one transaction."""

    def __init__(self, name: bytes, formats: Sequence[pq.Format], times: int = 1) -> None:
        count = len(formats)
        self._times = times
        self._start = b"\0" + name + b"\0" + struct.pack(f"!H{count}HH", count, *formats, count)
        # Results in binary; execute, all rows.
        self._end = b"\0\1\0\1E\0\0\0\x09\0\0\0\0\0"
        self._rest = 4 + len(self._start) + 4

    def message(self, parameters: bytes) -> bytes:
        """The message for these parameters, as `packed` makes them."""
        once = b"".join((b"B", _HEAD.pack(self._rest + len(parameters)), self._start, parameters, self._end))
        return once * self._times + _SYNC


def _lost(error: OSError) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"server closed the connection unexpectedly: {error.strerror}")


def _error(body: bytes) -> psycopg.Error:
    """The server's error; its fields are a letter and a text each."""
    fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0") if field}
    words = "\n".join(fields[key] for key in (b"M", b"D", b"H") if key in fields)
    try:
        return psycopg.errors.lookup(fields.get(b"C", ""))(words)
    except KeyError:
        return psycopg.DatabaseError(words)
