"""Reads a log, one page after the other, asking for the next page before handing out this one."""

import time
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from bench.records import ConsumerJob
from bench.worker import Statement
from consumer.ledger import Page

# Types of PostgreSQL, by their oid.
_BYTEA, _JSONB = 17, 3802


class Stuck(Exception):  # noqa: N818 - a finding, not an error
    """A page that ends where the one before ended: reading would never end."""


def pages(connection: psycopg.Connection[Any], job: ConsumerJob) -> Iterator[tuple[float, Page | None]]:
    """Yield each page with the time (perf_counter) at which it was asked for. Goes on after an empty page, for ever.

    The cursor in a page's last row is all that is needed to ask for the next page, so the server works on that one
    while the caller looks at this one. A cursor is opaque: it goes back in the binary form in which it came. A member
    of a group gets `rejoin_pages` pages with events in them, and then the generator ends.

    Raises:
        Stuck: the cursor does not move on.
    """
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
        asked_at = sent
        if not result.ntuples:
            yield asked_at, None
            sent = time.perf_counter()
            read.send(cursor, formats)
            continue
        taken += 1
        before, cursor = cursor, [result.get_value(result.ntuples - 1, column) for column in job.cursor]
        stuck = cursor == before and bool(cursor)
        leaves = taken == job.rejoin_pages
        if not stuck and not leaves:
            sent = time.perf_counter()
            read.send(cursor, formats)
        # While the server works on the next page. Bytes are the cheapest objects: what they say is
        # told for many at a time.
        transformer.set_pgresult(result, set_loaders=False)
        if not known:
            known = True
            transformer.set_loader_types([_BYTEA] * result.nfields, pq.Format.BINARY)
        values: list[bytes] = []
        transformer.load_rows(0, result.ntuples, values.extend)
        etags, ctimes, payloads = (values[column :: result.nfields] for column in range(3))
        if result.ftype(2) == _JSONB:  # its binary form begins with the number of a version
            payloads = [payload[1:] for payload in payloads]
        yield asked_at, Page(etags, ctimes, payloads)
        if stuck:
            raise Stuck
        if leaves:
            return
