"""Steps a log by hand: sessions that append and a reader that goes from page to page. Nothing here is measured."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from bench.eventlog import Log
from bench.postgres.connection import Connection, scalar, switch_off_timeouts
from bench.statements import SCHEMA, cursor_columns, read_sql

PATIENCE_SECONDS = 1.0
"""A reader or writer that makes no progress for this long is blocked."""
APPEND_SECONDS = 30
"""An append by hand that takes longer than this would never end."""


@contextmanager
def session(conninfo: str, lock_seconds: float = PATIENCE_SECONDS) -> Iterator[Connection]:
    """Open a session in the log's schema, in which no statement waits longer than `lock_seconds` for a lock."""
    with psycopg.connect(conninfo, autocommit=True, application_name="bench by hand") as opened:
        switch_off_timeouts(opened)
        opened.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
        opened.execute(f"SET lock_timeout = '{lock_seconds}s'")
        yield opened


def append(writer: Connection, *seqs: int, producer: int = 0) -> int:
    """Append a producer's events as one array; returns the number of rows that log_event returned."""
    events = json.dumps([{"producer": producer, "seq": seq, "value": seq} for seq in seqs])
    writer.execute(f"SET statement_timeout = '{APPEND_SECONDS}s'")
    return int(scalar(writer, "SELECT count(*) FROM log_event(%s)", [events]))


class Reading:
    """A reader that goes from page to page and collects the events that it is given."""

    def __init__(self, log: Log, reader: Connection, read_batch: int) -> None:
        reader.execute(f"SET statement_timeout = '{PATIENCE_SECONDS}s'")
        self._log = log
        self._reader = reader
        self._read_batch = read_batch
        self._cursor: Cursor = ()
        self.etags: list[int] = []
        self.events: list[tuple[int, int]] = []
        """(producer, seq) of each event."""

    def page(self) -> int:
        """Read one page; returns its number of events, 0 when the read was blocked."""
        try:
            rows, self._cursor = read_page(self._reader, self._log, self._read_batch, self._cursor)
        except psycopg.errors.QueryCanceled:
            return 0
        self.etags += [row[0] for row in rows]
        self.events += [event_of(row[2]) for row in rows]
        return len(rows)

    def until(self, events: int, seconds: float) -> None:
        """Read on until that many distinct events have come, or until that many seconds are over."""
        deadline = time.monotonic() + seconds
        while len(set(self.events)) < events and time.monotonic() < deadline:
            self.page()


def event_of(payload: object) -> tuple[int, int]:
    """The (producer, seq) of a payload; (-1, -1) when it is no event of ours."""
    if isinstance(payload, dict) and {"producer", "seq"} <= payload.keys():
        return payload["producer"], payload["seq"]
    return -1, -1


Cursor = tuple[Any, ...]
"""A reader's position, in the log's own form; () is the start."""


def read_page(connection: Connection, log: Log, read_batch: int, after: Cursor = ()) -> tuple[list[Cursor], Cursor]:
    """Read one page by hand: its rows, which begin with etag, ctime and payload, and the cursor for the next page."""
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(read_sql(log, read_batch), after or [None] * len(log.cursor))
        rows = cursor.fetchall()
    return rows, tuple(rows[-1][column] for column in cursor_columns(log)) if rows else after
