"""Bytes that a server sent, read once more: by a `RawSocket` in pieces of any length, and by libpq itself."""

import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import psycopg
from psycopg import pq

from bench.wire import RawSocket
from consumer.rows import row

_STARTED = b"R\0\0\0\x08\0\0\0\0" + b"S\0\0\0\x19client_encoding\0UTF8\0" + b"Z\0\0\0\x05I"
"""A server lets a client in."""
_TEXT = 25
"""The type's oid."""


class Outcome(NamedTuple):
    """What an answer means."""

    error: type[psycopg.Error] | None
    words: str = ""
    rows: tuple[bytes, ...] = ()
    number: int = 0
    """The only value, else the number in the last result's tag."""


class Pieces:
    """A socket that gives what was sent in these pieces, one each time that it is read; it ends with an empty one."""

    def __init__(self, answers: Iterable[Sequence[bytes]]) -> None:
        self._answers = deque(answers)
        self._pieces: deque[bytes] = deque()
        self._held, self._other = socket.socketpair()

    def fileno(self) -> int:
        return self._held.fileno()

    def sendall(self, call: bytes) -> None:
        self._pieces += self._answers.popleft()

    def recv(self, most: int, flags: int = 0) -> bytes:
        assert self._pieces, "it waits for what never comes"
        piece = self._pieces.popleft()
        if len(piece) > most or not piece:
            self._pieces.appendleft(piece[most:])
        return piece[:most]

    def recv_into(self, space: memoryview, most: int = 0, flags: int = 0) -> int:
        piece = self.recv(len(space))
        space[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._held.close()
        self._other.close()


@contextmanager
def line(
    *answers: Sequence[bytes], types: Sequence[int] = (), state: int = pq.TransactionStatus.IDLE
) -> Iterator[RawSocket]:
    """A line to a server that answers the first call with the pieces of the first answer, and so on."""
    pieces = Pieces(answers)
    pgconn = SimpleNamespace(socket=pieces.fileno(), transaction_status=state)
    connection: Any = SimpleNamespace(pgconn=pgconn, info=SimpleNamespace(encoding="utf-8"))

    def taken(fileno: int) -> Pieces:
        os.close(fileno)
        return pieces

    with patch("bench.wire.socket", taken):
        yield RawSocket(connection, types=types)
    pieces.close()


class Libpq:
    """libpq, connected to a server that sends what it is given here."""

    def __init__(self, folder: str) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{folder}/.s.PGSQL.5432")
            listening.listen()
            conninfo = f"host={folder} port=5432 user=nobody dbname=none gssencmode=disable"
            self._pgconn = pq.PGconn.connect_start(conninfo.encode())
            self._server, _ = listening.accept()
        self._pgconn.connect_poll()
        self._server.recv(1000)
        self._server.sendall(_STARTED)
        while self._pgconn.connect_poll() != pq.PollingStatus.OK:
            pass
        self._pgconn.nonblocking = 0

    def outcome(self, answer: bytes, calls: int) -> Outcome:
        """What this answer to so many calls means, which are one COPY for 0. Rows need their descriptions."""
        if calls > 1:
            self._pgconn.enter_pipeline_mode()
        if calls:
            for _ in range(calls):
                self._pgconn.send_query_prepared(b"call", [], result_format=pq.Format.BINARY)
        else:
            self._pgconn.send_query(b"COPY")
        if calls > 1:
            self._pgconn.pipeline_sync()
        self._server.sendall(answer)
        results = list(self._results(calls))
        self._server.recv(1 << 16)
        if calls > 1:
            self._pgconn.exit_pipeline_mode()
        return _meaning(results)

    def _results(self, calls: int) -> Iterator[pq.abc.PGresult]:
        nulls = 0
        while nulls < max(calls, 1):
            result = self._pgconn.get_result()
            if result is None:
                nulls += 1
                continue
            if result.status == pq.ExecStatus.COPY_IN:
                self._pgconn.put_copy_end()
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                return
            yield result
        if calls > 1:
            while (result := self._pgconn.get_result()) is None or result.status != pq.ExecStatus.PIPELINE_SYNC:
                pass

    def close(self) -> None:
        self._pgconn.finish()
        self._server.close()


def _meaning(results: Sequence[pq.abc.PGresult]) -> Outcome:
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            error = psycopg.errors.error_from_result(result)
            return Outcome(type(error), error.diag.message_primary or "")
    rows = [
        row([result.get_value(number, column) for column in range(result.nfields)])
        for result in results
        for number in range(result.ntuples)
    ]
    last = results[-1]
    counts = last.ntuples == last.nfields == 1 and last.ftype(0) == _TEXT
    number = int(last.get_value(0, 0) or 0) if counts else last.command_tuples or 0
    return Outcome(None, "", tuple(rows), number)
