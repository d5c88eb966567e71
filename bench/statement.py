"""Prepared statements of a worker, and ways to append that are built on them: PostgreSQL's own protocol where the
connection is not encrypted, else libpq's calls.
"""

import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import psycopg
from psycopg import pq

from bench.wire import Call, RawSocket, copy_message, is_notified, is_unencrypted, packed, transaction_changed

_numbers = count()
_SUCCESS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.COPY_IN)


class Statement:
    """A prepared statement on one connection; results are binary, parameters are text unless stated otherwise."""

    def __init__(self, connection: psycopg.Connection[Any], query: str) -> None:
        self._pgconn = connection.pgconn
        self._encoding = connection.info.encoding
        self._before = self._pgconn.transaction_status
        self.name = b"bench_%d" % next(_numbers)
        self._pgconn.send_prepare(self.name, query.encode())
        _answered(self._pgconn, self._encoding)

    def types(self) -> list[int]:
        """The oids of the column types."""
        self._pgconn.send_describe_prepared(self.name)
        (described,) = _answered(self._pgconn, self._encoding)
        return [described.ftype(column) for column in range(described.nfields)]

    def run(self, *parameters: bytes | bytearray) -> pq.abc.PGresult:
        """Execute the statement and wait for the whole result."""
        self._pgconn.send_query_prepared(self.name, parameters, result_format=pq.Format.BINARY)
        return _answered(self._pgconn, self._encoding)[-1]

    def send(self, parameters: Sequence[bytes | None], formats: Sequence[pq.Format] | None = None) -> None:
        """Execute the statement without waiting for the result. `receive` must be called before the next `send`."""
        self._before = self._pgconn.transaction_status
        self._pgconn.send_query_prepared(self.name, parameters, param_formats=formats, result_format=pq.Format.BINARY)

    def receive(self) -> pq.abc.PGresult:
        """Wait for the answer to `send`.

        Raises:
            psycopg.Error: the server's error, even one that comes after the rows, as a deferred constraint's does;
                OperationalError when the call began or ended a transaction.
        """
        result = _answered(self._pgconn, self._encoding)[0]
        _check_transaction(self._pgconn, self._before)
        return result

    def await_notification(self, seconds: float) -> bool:
        """Wait until a notification comes, at most this long; return whether one came since the last call.

        Raises:
            psycopg.OperationalError: the connection is gone.
        """
        if is_notified(self._pgconn):
            return True
        if select.select([self._pgconn.socket], [], [], seconds)[0]:
            self._pgconn.consume_input()
        return is_notified(self._pgconn)


def _check(result: pq.abc.PGresult, encoding: str) -> None:
    """Raise the server's error as psycopg's exception for it, or OperationalError when the connection is gone."""
    if result.status not in _SUCCESS:
        error = psycopg.errors.error_from_result(result, encoding=encoding)
        # An error without a SQLSTATE comes from libpq and not from the server: nothing came back.
        raise error if error.sqlstate else psycopg.OperationalError(str(error))


def _next_result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    """Wait for the next result of the statement that was sent; None after the last one.

    Python waits here, and not libpq, which handles no signal and may keep the other threads from running: the lifeline
    of a worker is a signal, and a tunnel to Postgres is a thread.
    """
    with suppress(psycopg.Error):  # a lost connection is reported with the result
        while pgconn.flush():
            select.select([pgconn.socket], [pgconn.socket], [])
            pgconn.consume_input()
        while pgconn.is_busy():
            select.select([pgconn.socket], [], [])
            pgconn.consume_input()
    return pgconn.get_result()


def _answered(pgconn: pq.abc.PGconn, encoding: str, first: pq.abc.PGresult | None = None) -> list[pq.abc.PGresult]:
    """Wait for all results of the statement that was sent, after the first one if that has come already.

    Raises the first error among the results. libpq's `PQexec` returns the last one, which hides why the server ended
    the session: the error after the server's own says only that the connection is gone.
    """
    results = [first] if first else []
    while (result := _next_result(pgconn)) is not None:
        results.append(result)
    if not results:
        raise psycopg.OperationalError(pgconn.get_error_message(encoding))
    for result in results:
        _check(result, encoding)
    return results


def _same_transaction(pgconn: pq.abc.PGconn, call: Callable[..., int]) -> Callable[..., int]:
    """Make a call refuse to begin or to end a transaction, as the calls of a `RawSocket` do."""

    def checked(*values: bytes | bytearray) -> int:
        before = pgconn.transaction_status
        called = call(*values)
        _check_transaction(pgconn, before)
        return called

    return checked


def _check_transaction(pgconn: pq.abc.PGconn, before: int) -> None:
    if pgconn.transaction_status != before:
        raise transaction_changed(before)


def prepare_append(connection: psycopg.Connection[Any], query: str, parameters: int) -> Callable[..., int]:
    """Prepare a statement that appends; returns a function that executes it and returns the number of rows appended.

    Its parameters are texts. A SELECT yields the number in its only row; an INSERT has it in its tag.
    """
    statement = Statement(connection, query)
    if is_unencrypted(connection):
        count, call = RawSocket(connection).counter(), Call(statement.name, [pq.Format.TEXT] * parameters)
        return lambda *values: count(call.message(packed(values)))

    def through_libpq(*values: bytes | bytearray) -> int:
        result = statement.run(*values)
        return int(result.get_value(0, 0) or 0) if result.ntuples else result.command_tuples or 0

    return _same_transaction(connection.pgconn, through_libpq)


class BatchSender(NamedTuple):
    """A way to append in which a batch is one text."""

    wrap: Callable[[bytes], bytes]
    """Makes the message of a text: the bytes that it adds depend on the text's length only."""
    count: Callable[[bytes | bytearray], int]
    """Sends a message, waits, and returns the number of rows appended."""


def statement_sender(connection: psycopg.Connection[Any], query: str) -> BatchSender:
    """Prepare a statement that appends, whose only parameter is a text."""
    if not is_unencrypted(connection):
        return BatchSender(bytes, prepare_append(connection, query, 1))
    call = Call(Statement(connection, query).name, [pq.Format.TEXT])
    return BatchSender(lambda text: call.message(packed([text])), RawSocket(connection).counter())


def copy_sender(connection: psycopg.Connection[Any], query: str) -> BatchSender:
    """Send batches through COPY FROM STDIN, as rows in COPY's text format."""
    if is_unencrypted(connection):
        return BatchSender(lambda rows: copy_message(query.encode(), rows), RawSocket(connection).counter())

    pgconn = connection.pgconn
    encoding = connection.info.encoding

    def through_libpq(rows: bytes | bytearray) -> int:
        pgconn.send_query(query.encode())
        begun = _next_result(pgconn)
        if begun and begun.status == pq.ExecStatus.COPY_IN:
            pgconn.put_copy_data(rows)
            pgconn.put_copy_end()
        return _answered(pgconn, encoding, begun)[-1].command_tuples or 0

    return BatchSender(bytes, _same_transaction(pgconn, through_libpq))
