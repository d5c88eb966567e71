"""Stepping a log by hand: sessions that append and a reader that goes from page to page. Nothing here is timed."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from bench.eventlog import Log
from bench.postgres.connection import Connection, own_timeouts
from bench.statements import SCHEMA, cursor_columns, read_sql

PATIENCE_SECONDS = 1.0
"""A reader or writer that gets nowhere for so long is held up."""
APPEND_SECONDS = 30
"""An append by hand that takes longer would never end."""


@contextmanager
def session(conninfo: str) -> Iterator[Connection]:
    """Open a session in the log's schema, in which nothing waits longer than our patience for a lock."""
    with psycopg.connect(conninfo, autocommit=True, application_name="bench by hand") as opened:
        own_timeouts(opened)
        opened.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
        opened.execute(f"SET lock_timeout = '{PATIENCE_SECONDS}s'".encode())
        yield opened


def append(writer: Connection, *seqs: int, producer: int = 0) -> int:
    """Append events of a producer as one array; returns how many rows the log says it has of them."""
    events = json.dumps([{"producer": producer, "seq": seq, "value": seq} for seq in seqs])
    writer.execute(f"SET statement_timeout = '{APPEND_SECONDS}s'".encode())
    row = writer.execute("SELECT count(*) FROM log_event(%s)", [events]).fetchone()
    return int(row[0]) if row else 0


class Reading:
    """Reads on, page after page, and notes what it was given."""

    def __init__(self, log: Log, reader: Connection, read_batch: int) -> None:
        reader.execute(f"SET statement_timeout = '{PATIENCE_SECONDS}s'".encode())
        self._log = log
        self._reader = reader
        self._read_batch = read_batch
        self._cursor: Cursor = ()
        self.etags: list[int] = []
        self.events: list[tuple[int, int]] = []
        """(producer, seq) of each."""

    def page(self) -> int:
        """Read one page; returns its size, 0 when the read waited in vain."""
        try:
            rows, self._cursor = read_page(self._reader, self._log, self._read_batch, self._cursor)
        except psycopg.errors.QueryCanceled:
            return 0
        self.etags += [row[0] for row in rows]
        self.events += [event_of(row[2]) for row in rows]
        return len(rows)

    def until(self, events: int, seconds: float) -> None:
        """Read on until so many different events have come, or for so long."""
        deadline = time.monotonic() + seconds
        while len(set(self.events)) < events and time.monotonic() < deadline:
            self.page()


def event_of(payload: object) -> tuple[int, int]:
    """The (producer, seq) of a payload; (-1, -1) when it is no event of ours."""
    if isinstance(payload, dict) and {"producer", "seq"} <= payload.keys():
        return payload["producer"], payload["seq"]
    return -1, -1


Cursor = tuple[Any, ...]
"""A reader's position, whatever a log makes of it; () is the start."""


def read_page(connection: Connection, log: Log, read_batch: int, after: Cursor = ()) -> tuple[list[Cursor], Cursor]:
    """Read one page by hand: its rows, which begin with etag, ctime and payload, and the cursor for the next page."""
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(read_sql(log, read_batch).encode(), after or [None] * len(log.cursor))
        rows = cursor.fetchall()
    return rows, tuple(rows[-1][column] for column in cursor_columns(log)) if rows else after
