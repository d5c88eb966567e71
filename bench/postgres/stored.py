"""The rows of a log's table, page by page as arrays, taken apart as a consumer does it.

Import this where it is used: numpy takes a tenth of a second to load, and most commands need none.
"""

import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec
import numpy as np
import psycopg
from numpy.typing import NDArray

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.pairing import hashes, weights
from bench.postgres.connection import Connection
from bench.records import Example
from bench.statements import between_sql, cursor_columns, numbered_sql, read_sql, stored_sql
from consumer.positions import at_once
from consumer.reader import source_of
from consumer.rows import MisshapenError, Numbers, Page, columns
from consumer.templates import Templates

ROWS = 10_000
"""Rows fetched at a time."""
_CLOSE = 4
"""Etags lie close together when their range has fewer than this many numbers per etag."""
_LARGE = 1 << 62
"""Differences of smaller numbers have at most 64 bits."""


class Event(msgspec.Struct, gc=False):
    """The part of a payload that identifies the event; the consumer checks the rest."""

    producer: int
    seq: int


class _WholeEvent(Event, gc=False):
    """An event that may have a template."""

    value: int


_parse = msgspec.json.Decoder(Event).decode
_parse_whole = msgspec.json.Decoder(_WholeEvent).decode
_UNREADABLE = (msgspec.MsgspecError, RecursionError)
"""Errors for a payload that is no event; RecursionError for deeply nested arrays."""


class StoredPage(NamedTuple):
    """Some rows of a query."""

    first: Numbers
    second: Numbers
    """The first two columns of each row."""
    fits: NDArray[np.bool_]
    """Whether a row holds a producer's event with numbers below 2^62; `producers` and `seqs` are those of its event."""
    producers: Numbers
    seqs: Numbers
    others: list[tuple[int, Event | None]]
    """The row numbers of the other rows, in ascending order, with their events, which have a larger number; None for a
    row that holds no producer's event."""

    def numbers(self) -> Numbers:
        """The first column, the producer and the seq of each row that fits, as three rows of an array."""
        return np.stack((self.first, self.producers, self.seqs))[:, self.fits]

    def examples(self, rows: Sequence[int]) -> list[Example]:
        """The events in some rows, with the first column as their etags."""
        others = dict(self.others)
        events = [
            others[row] if row in others else Event(int(self.producers[row]), int(self.seqs[row])) for row in rows
        ]
        return [
            Example(event.producer, event.seq, etag) if event else Example(etag=etag)
            for event, etag in zip(events, self.first[list(rows)].tolist(), strict=True)
        ]


def stored_pages(
    connection: Connection, query: str, parameters: Sequence[Any] | None = None
) -> Generator[StoredPage, None, None]:
    """Yield the rows of a query, read by a cursor. Its columns are two bigints and a payload as text, none of them
    NULL. Close the iterator before the connection is used for anything else.

    Raises:
        psycopg.Error: the query fails.
    """
    templates = Templates(_may_be_template)
    with connection.transaction():
        connection.execute(f"DECLARE bench_rows NO SCROLL CURSOR FOR {query}".encode(), parameters)
        with _borrowed(connection):
            reads = source_of(connection, f"FETCH FORWARD {ROWS} FROM bench_rows")
            reads.ask()
            while reads.wait():
                page = reads.page()
                reads.ask()
                # While the server works on the next page.
                try:
                    yield _taken_apart(page, templates)
                except GeneratorExit:
                    reads.wait()
                    raise
        # A rollback would close the cursor too, but psycopg drops all prepared statements after one.
        connection.execute("CLOSE bench_rows")


@contextmanager
def _borrowed(connection: Connection) -> Iterator[None]:
    """Use the connection's socket without libpq, and return it as libpq left it: libpq waits without end for a long
    answer on a socket that blocks. When an answer may be under way at the
    end, as after an interrupt, the connection is broken off: libpq would take the answer for another one.
    """
    descriptor = connection.fileno()
    blocking = os.get_blocking(descriptor)
    try:
        yield
    except (psycopg.Error, GeneratorExit):
        raise
    except BaseException:
        with socket.socket(fileno=os.dup(descriptor)) as duplicate, suppress(OSError):
            duplicate.shutdown(socket.SHUT_RDWR)
        raise
    finally:
        os.set_blocking(descriptor, blocking)


def _taken_apart(page: Page, templates: Templates) -> StoredPage:
    alike = at_once(templates.read(page.rows, page.events))
    if alike:
        return StoredPage(alike.etags, alike.ctimes, np.ones(page.events, np.bool_), alike.producers, alike.seqs, [])
    rows = columns([page])
    (producers, seqs), misfits = templates.read_any(rows)
    fits = np.ones(len(seqs), np.bool_)
    others: list[tuple[int, Event | None]] = []
    for row, payload in misfits:
        event = parse_event(payload)
        if event and max(abs(event.producer), abs(event.seq)) < _LARGE:
            producers[row], seqs[row] = event.producer, event.seq
        else:
            fits[row] = False
            others.append((row, event))
    return StoredPage(rows.etags, rows.ctimes, fits, producers, seqs, others)


def parse_event(payload: str | bytes) -> Event | None:
    """Parse a payload; None when it is no producer's event."""
    with suppress(*_UNREADABLE):
        return _parse(payload)
    return None


def page_checksum(page: StoredPage, has_etag: NDArray[np.bool_]) -> int:
    """The checksum of `bench.pairing`, not yet reduced modulo 2^64, over a page's events that have an etag, which is
    in the first column."""
    chosen = page.fits & has_etag
    checksum = int(hashes(page.first[chosen]) @ weights(page.producers[chosen], page.seqs[chosen]))
    for row, event in page.others:
        if event and has_etag[row]:
            checksum += hashes(int(page.first[row])) * weights(event.producer, event.seq)
    return checksum


def _may_be_template(payload: bytes) -> bool:
    with suppress(*_UNREADABLE):
        event = _parse_whole(payload)
        return event.value == event.seq
    return False


def stored_rows(connection: Connection, log: Log) -> Generator[StoredPage, None, None]:
    """Yield the rows of the log's table. The first column is a row's etag and the second one is 1; both are 0 when a
    row has no etag.
    """
    return stored_pages(connection, _as_columns(stored_sql(log)))


def rows_with_etags(connection: Connection, log: Log, etags: Numbers) -> Generator[StoredPage, None, None]:
    """Yield the rows of the log's table that have these etags, and perhaps rows that have other ones, as `stored_rows`
    does. Etags that lie close together are looked up as a range, which is faster.
    """
    lowest, highest = int(etags.min()), int(etags.max())
    if highest - lowest < _CLOSE * len(etags):
        return stored_pages(connection, _as_columns(between_sql(log)), [lowest, highest])
    array = f"{{{','.join(map(str, etags.tolist()))}}}"  # psycopg takes long to write lists
    return stored_pages(connection, _as_columns(numbered_sql(log)), [array])


def _as_columns(query: str) -> str:
    return f"""
        SELECT coalesce(etag, 0), (etag IS NOT NULL)::int::bigint, coalesce(payload, '')
        FROM ({query}) AS stored (etag, payload)"""


def delivered_pages(
    connection: Connection, log: Log, rows: int, after: Sequence[bytes] = ()
) -> Generator[StoredPage, None, None]:
    """Read the log from its start, or from the cursor `after` on, as a consumer does, up to an empty page; yields pages
    of `rows` rows, with their etags as first column. The log has a cursor. Between pages the connection may be used for
    anything else.

    Raises:
        InfrastructureError: a row lacks an etag, a ctime or a payload.
        psycopg.Error: the log cannot be read.
    """
    templates = Templates(_may_be_template)
    with _borrowed(connection):
        reads = source_of(connection, read_sql(log, rows), cursor_columns(log), after=after)
        blocking = os.get_blocking(connection.fileno())  # as this source needs it
    advances = True
    while advances:
        with _borrowed(connection):
            os.set_blocking(connection.fileno(), blocking)
            reads.ask()
            if not reads.wait():
                return
        try:
            advances = reads.advance()
            page = _taken_apart(reads.page(), templates)
        except MisshapenError as error:
            raise InfrastructureError(f"cannot read the log once more: get_event gave {error}") from error
        yield page
