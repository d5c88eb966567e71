"""Reads a log page by page, asking for the next page before handing out the current one."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import psycopg
from psycopg import pq

from bench.job import ConsumerJob
from bench.quota import usable_processors
from bench.statement import Statement
from bench.wire import PLAIN_TYPES, Call, RawSocket, is_unencrypted, packed, unpacked
from bench.wire_grammar import ROWS, misunderstood
from bench.worker import Lifeline
from consumer.breaks import Breaks
from consumer.ledger import MANY_BYTES
from consumer.rows import Page, last_row, last_row_exactly, parts, row

EMPTY = Page(b"", 0)

AWAKE_PROCESSORS = 2
"""A reader waits awake only where it may use this many processors: one for itself, one for Postgres."""

_PAYLOAD = 2
"""Number of the payload's column."""
_JSONB = 3802
"""Oid of jsonb."""


class CursorStuck(Exception):  # noqa: N818 - a finding, not an error
    """A page ended with the cursor that the page before ended with: reading would never end."""


class TimedPage(NamedTuple):
    """A page, with the times (perf_counter) at which it was asked for and at which it had come."""

    asked_at: float
    answered_at: float
    page: Page


def pages(source: "Source", job: ConsumerJob, lifeline: Lifeline, breaks: Breaks | None = None) -> Iterator[TimedPage]:
    """Yield each page; after an empty page, ask again, without end.

    The cursor in a page's last row is all that is needed to ask for the next page, so the server works on the next
    page while the caller looks at this one. After a page so large that the next one could come before the caller
    has time for it, the next one is asked for later, because the time that the server took could not be measured.
    So is the page after a break, which the caller takes, and each page in a job with `think_ms`: a client that works
    with a page asks afterwards. A cursor is opaque: it goes back in the binary form in which it came. A member of a
    group gets `rejoin_pages` pages with events in them, and then the generator ends.

    Raises:
        CursorStuck: the cursor does not advance.
    """
    thinks = job.think_ms[1] > 0
    taken = 0
    breaks = breaks or Breaks()
    sent = time.perf_counter()
    source.ask()
    while True:
        events = source.wait()
        asked_at, answered_at = sent, time.perf_counter()
        if answered_at >= lifeline.due:
            lifeline.look()
        if not events:
            yield TimedPage(asked_at, answered_at, EMPTY)
            sent = time.perf_counter()
            source.ask()
            continue
        taken += 1
        stuck = not source.advance()
        leaves = taken == job.rejoin_pages
        ahead = (
            not stuck
            and not leaves
            and not thinks
            and source.size_bytes() <= MANY_BYTES
            and answered_at < breaks.next_pc
        )
        if ahead:
            sent = time.perf_counter()
            source.ask()
        # While the server works on the next page.
        yield TimedPage(asked_at, answered_at, source.page())
        if stuck:
            raise CursorStuck
        if leaves:
            return
        if not ahead:
            sent = time.perf_counter()
            source.ask()


class Source(Protocol):
    """A source of pages, one at a time: ask, wait for the number of events, advance, take the rows."""

    @property
    def waited_awake_seconds(self) -> float:
        """CPU time in which the source only waited."""

    def ask(self) -> None:
        """Ask for the page after the cursor."""

    def wait(self) -> int:
        """Wait for the page; returns its number of events."""

    def advance(self) -> bool:
        """Move the cursor to the page's last row; False when it was there already."""

    def cursor(self) -> list[bytes]:
        """The cursor that the source was advanced to, in binary; before the first page with events the one that it
        begins after, if any. Empty when the server keeps the cursor."""

    def size_bytes(self) -> int:
        """The page's approximate size, from what is known without looking at its rows."""

    def page(self) -> Page:
        """The page itself; available until the next `wait`."""

    def await_notification(self, seconds: float) -> bool:
        """Wait until a notification comes, at most this long; return whether one came. One that came with an empty page
        or since then is not waited for."""


def source(connection: psycopg.Connection[Any], job: ConsumerJob) -> Source:
    """The source of a job's pages on a connection."""
    # With less than one processor to spare, waiting awake would take the processor that Postgres needs.
    awake_seconds = job.awake_seconds if job.awake_seconds and usable_processors() >= AWAKE_PROCESSORS else 0
    return source_of(connection, job.sql, job.cursor, job.depth, awake_seconds, job.after)


def source_of(
    connection: psycopg.Connection[Any],
    sql: str,
    cursor: Sequence[int] = (),
    depth: int = 1,
    awake_seconds: float = 0,
    after: Sequence[bytes] = (),
) -> Source:
    """The source of the pages that a query yields on a connection: the server's own protocol where nothing is
    encrypted, else libpq. `cursor`, `depth` and `after` are those of a ConsumerJob; a page is waited for without
    sleeping for `awake_seconds`.
    """
    statement = Statement(connection, sql)
    types = statement.types()
    if not is_unencrypted(connection):
        return _Libpq(statement, types, cursor, after)
    return _Wire(RawSocket(connection, awake_seconds, types), statement, types, cursor, depth, after)


class _Wire:
    """A source that takes rows as the server sends them."""

    def __init__(
        self,
        raw: RawSocket,
        statement: Statement,
        types: Sequence[int],
        cursor: Sequence[int],
        depth: int,
        after: Sequence[bytes],
    ) -> None:
        self._raw = raw
        self._call = Call(statement.name, [pq.Format.BINARY] * len(cursor), depth)
        self._depth = depth
        self._events = 0
        self._largest = 0
        self._columns = cursor
        self._cursor = packed(after or [None] * len(cursor))
        self._jsonb = types[2] == _JSONB
        self._last_row = last_row if PLAIN_TYPES.issuperset(types) else last_row_exactly

    @property
    def waited_awake_seconds(self) -> float:
        return self._raw.waited_awake_seconds

    def ask(self) -> None:
        self._raw.send(self._call.message(self._cursor))

    def wait(self) -> int:
        self._events = self._raw.receive()
        if self._depth > 1:
            results = self._raw.results()
            if len(results) != self._depth:
                raise misunderstood(f"{len(results)} results came for {self._depth} calls")
            sizes = [result.number for result in results]
            self._events, self._largest = sum(sizes), max(sizes)
        return self._events

    def advance(self) -> bool:
        if not self._columns:
            return True  # the server keeps the cursor
        before, received = self._cursor, self._raw.buffer
        self._cursor = parts(received, self._last_row(received, self._raw.rows_end, ROWS), self._columns)
        return self._cursor != before

    def cursor(self) -> list[bytes]:
        return unpacked(self._cursor)

    def size_bytes(self) -> int:
        return self._raw.rows_end

    def page(self) -> Page:
        received = memoryview(self._raw.buffer)
        if self._depth > 1:
            results = self._raw.results()
            rows = b"".join([received[result.start : result.end] for result in results])
            return Page(rows, self._events, self._jsonb, self._largest, [result.number for result in results])
        return Page(bytes(received[ROWS : self._raw.rows_end]), self._events, self._jsonb, self._events)

    def await_notification(self, seconds: float) -> bool:
        return self._raw.await_notification(seconds)


class _Libpq:
    """A source of identical rows where only libpq can read the server's bytes; one read at a time."""

    waited_awake_seconds = 0.0

    def __init__(
        self, statement: Statement, types: Sequence[int], cursor: Sequence[int], after: Sequence[bytes]
    ) -> None:
        self._statement = statement
        self._formats = [pq.Format.BINARY] * len(cursor)
        self._columns = cursor
        self._cursor: list[bytes | None] = [*after] or [None] * len(cursor)
        self._jsonb = types[2] == _JSONB

    def ask(self) -> None:
        self._statement.send(self._cursor, self._formats)

    def wait(self) -> int:
        self._result = self._statement.receive()
        return self._result.ntuples

    def advance(self) -> bool:
        before = self._cursor
        self._cursor = [self._result.get_value(self._result.ntuples - 1, column) for column in self._columns]
        return self._cursor != before or not before

    def cursor(self) -> list[bytes]:
        return [value for value in self._cursor if value is not None]

    def size_bytes(self) -> int:
        return self._result.ntuples * len(self._result.get_value(0, _PAYLOAD) or b"")

    def page(self) -> Page:
        result = self._result
        values = [[result.get_value(place, column) for column in range(3)] for place in range(result.ntuples)]
        return Page(b"".join(map(row, values)), result.ntuples, self._jsonb, result.ntuples)

    def await_notification(self, seconds: float) -> bool:
        return self._statement.await_notification(seconds)
