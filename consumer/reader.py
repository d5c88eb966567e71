"""Reads a log to its end, one page after the other, asking for the next page before handing out this one."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.adapt import Transformer
from psycopg.types.numeric import Int8BinaryLoader
from psycopg.types.string import ByteaBinaryLoader

from bench.records import ConsumerJob
from bench.worker import Statement, fail

Row = tuple[int, int, bytes]
"""etag, ctime in microseconds (only good for telling ctimes apart), payload as the text it was stored as."""


def pages(connection: psycopg.Connection[Any], job: ConsumerJob) -> Iterator[tuple[float, list[Row]]]:
    """Yield each page with the time (perf_counter) at which it was asked for, until one is empty.

    The cursor of a page's last row is all that is needed to ask for the next page, so the server works on that one
    while the caller looks at this one. A log whose cursor does not move on would be read for ever: that ends the
    worker.
    """
    # Three cheap objects a row, made in C: no datetime, and the payloads are parsed many at a time.
    connection.adapters.register_loader("timestamp", Int8BinaryLoader)
    connection.adapters.register_loader("json", ByteaBinaryLoader)
    connection.adapters.register_loader("jsonb", ByteaBinaryLoader)
    transformer = Transformer(connection)
    read = Statement(connection, job.sql)

    cursor: int | None = None
    sent = time.perf_counter()
    read.send(None)
    while True:
        result = read.receive()
        if not result.ntuples:
            yield sent, []
            return
        transformer.set_pgresult(result)
        rows = transformer.load_rows(0, result.ntuples, tuple)
        asked_at, sent = sent, time.perf_counter()
        last = rows[-1][0]
        if cursor is not None and last <= cursor:
            fail(f"the log does not move on: after etag {cursor} it delivered {last}, so reading would never end")
        cursor = last
        read.send(b"%d" % cursor)
        yield asked_at, rows
