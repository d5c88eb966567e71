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

from bench.eventlog import Log
from bench.postgres.connection import Connection
from bench.statements import stored_sql
from consumer.positions import at_once
from consumer.reader import source_of
from consumer.rows import Numbers, Page, columns
from consumer.templates import Templates

ROWS = 2000
"""Rows fetched at a time."""


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
    """Whether a row's payload is written as most are; `producers` and `seqs` are those of its event."""
    producers: Numbers
    seqs: Numbers
    others: list[tuple[int, Event | None]]
    """The row numbers of the other rows, in ascending order, with their events, which may have numbers of any size;
    None for a row that holds no producer's event."""


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
    fits[[place for place, _ in misfits]] = False
    others = [(place, parse_event(payload)) for place, payload in misfits]
    return StoredPage(rows.etags, rows.ctimes, fits, producers, seqs, others)


def parse_event(payload: str | bytes) -> Event | None:
    """Parse a payload; None when it is no producer's event."""
    with suppress(*_UNREADABLE):
        return _parse(payload)
    return None


def _may_be_template(payload: bytes) -> bool:
    with suppress(*_UNREADABLE):
        event = _parse_whole(payload)
        return event.value == event.seq
    return False


def stored_rows(connection: Connection, log: Log, below: int | None = None) -> Generator[StoredPage, None, None]:
    """Yield the rows of the log's table, with their etags as first column and 1 as second; with 0 and 0 when a row has
    none.
    """
    return stored_pages(
        connection,
        f"""SELECT coalesce(etag, 0), (etag IS NOT NULL)::int::bigint, coalesce(payload, '')
            FROM ({stored_sql(log, below)}) AS stored (etag, payload)""",
    )
