"""Reads a log, one page after the other, asking for the next page before handing out this one."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from bench.records import ConsumerJob
from bench.worker import Statement

Row = tuple[Any, ...]
"""etag, ctime in microseconds since 2000, payload as the text it was stored as, and whatever
else the cursor has, as it came."""

# Types of PostgreSQL, by their oid.
_BYTEA, _INT8, _JSONB = 17, 20, 3802


class Stuck(Exception):  # noqa: N818 - a finding, not an error
    """A page that ends where the one before ended: reading would never end."""


def pages(connection: psycopg.Connection[Any], job: ConsumerJob) -> Iterator[tuple[float, list[Row]]]:
    """Yield each page with the time (perf_counter) at which it was asked for. Goes on after an empty page, for ever.

    The cursor in a page's last row is all that is needed to ask for the next page, so the server works on that one
    while the caller looks at this one. A cursor is opaque: it goes back in the binary form in which it came. A member
    of a group gets `rejoin_pages` pages with events in them, and then the generator ends.

    Raises:
        Stuck: the cursor does not move on.
    """
    # Cheap objects, made in C: no datetime, and the payloads are parsed many at a time.
    transformer = Transformer(connection)
    read = Statement(connection, job.sql)

    cursor: list[bytes | None] = [None] * len(job.cursor)
    formats = [pq.Format.BINARY] * len(cursor)
    known = False
    taken = 0
    sent = time.perf_counter()
    read.send(cursor, formats)
    while True:
        result = read.receive()
        if not result.ntuples:
            yield sent, []
            sent = time.perf_counter()
            read.send(cursor, formats)
            continue
        transformer.set_pgresult(result, set_loaders=False)
        if not known:
            known = True
            transformer.set_loader_types([_INT8, _INT8] + [_BYTEA] * (result.nfields - 2), pq.Format.BINARY)
        rows: list[Row] = transformer.load_rows(0, result.ntuples, tuple)
        if result.ftype(2) == _JSONB:  # its binary form begins with the number of a version
            rows = [(*row[:2], row[2][1:], *row[3:]) for row in rows]
        asked_at, sent = sent, time.perf_counter()
        before, cursor = cursor, [result.get_value(result.ntuples - 1, column) for column in job.cursor]
        if cursor and cursor == before:
            yield asked_at, rows
            raise Stuck
        taken += 1
        if taken == job.rejoin_pages:
            yield asked_at, rows
            return
        read.send(cursor, formats)
        yield asked_at, rows
