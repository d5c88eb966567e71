"""The etags of a log's table: which are missing or doubled, and whether events are delivered with their own."""

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import NamedTuple

import psycopg

from bench.eventlog import Log
from bench.pairing import MODULUS, hashes, weights
from bench.postgres.audit import reading
from bench.postgres.connection import Connection, scalar
from bench.postgres.stepping import Cursor, event_of, read_page
from bench.records import EXAMPLES, Example
from bench.statements import Table, bounds_sql, doubled_sql, etag_checksum_sql, gaps_sql, numbered_sql

_ROWS = 1000
"""Rows fetched at a time."""


class Numbering(NamedTuple):
    """Whether each etag between a table's lowest and its highest occurs exactly once."""

    missing: list[tuple[int, int]]
    """Etags that no row has, as (first, last)."""
    doubled: int
    """Rows beyond the first with the same etag."""
    doubled_etags: list[int]
    """The first etags that several rows have."""


def numbering(connection: Connection, log: Log, table: Table, numbered: int) -> Numbering:
    """Find etags that are missing and etags that several rows have; `numbered` is the number of rows with an etag.

    Etags may begin anywhere. When no etag occurs twice, as a unique index proves, and there are as many etags as
    numbers from the lowest to the highest, none is missing either, and nothing need be sorted.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with reading(log):
        lowest, highest = connection.execute(bounds_sql(log)).fetchone() or (None, None)
        if lowest is None or (table.unique_etag and highest - lowest + 1 == numbered):
            return Numbering([], 0, [])
        missing: list[tuple[int, int]] = connection.execute(gaps_sql(log)).fetchall()
        distinct = highest - lowest + 1 - sum(last - first + 1 for first, last in missing)
        if distinct == numbered:
            return Numbering(missing, 0, [])
        doubled_etags = [etag for (etag,) in connection.execute(doubled_sql(log, EXAMPLES))]
        return Numbering(missing, numbered - distinct, doubled_etags)


def etag_checksum(connection: Connection, log: Log) -> int:
    """The checksum of `bench.pairing` over the events in the log's table that have an etag. PostgreSQL computes it
    where it can read all payloads, which takes about a second per million rows or less.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with suppress(psycopg.DataError, psycopg.ProgrammingError), connection.transaction():
        return int(scalar(connection, etag_checksum_sql(log))) % MODULUS
    from bench.postgres.stored import stored_rows  # noqa: PLC0415 - numpy

    checksum = 0
    with reading(log), closing(stored_rows(connection, log)) as pages:
        for page in pages:
            chosen = page.fits & (page.second == 1)
            checksum += int(hashes(page.first[chosen]) @ weights(page.producers[chosen], page.seqs[chosen]))
            for row, event in page.others:
                if event and page.second[row]:
                    checksum += hashes(int(page.first[row])) * weights(event.producer, event.seq)
    return checksum % MODULUS


class OtherEtags(NamedTuple):
    """Events that are delivered with another etag than the log's table has for them."""

    events: int
    examples: list[Example]
    """The first of them, as they were delivered."""


def other_etags(connection: Connection, log: Log, rows: int) -> OtherEtags:
    """Read the log from its start, at most `rows` events, and look up each delivered etag in the log's table:
    it must be the etag of a row with the same event.

    Raises:
        psycopg.Error: the log or its table cannot be read.
    """
    read = count = 0
    examples: list[Example] = []
    cursor: Cursor = ()
    while read < rows:
        page, cursor = read_page(connection, log, _ROWS, cursor)
        if not page:
            break
        read += len(page)
        others = other_events(connection, log, [Example(*event_of(payload), etag) for etag, _, payload, *_ in page])
        count += len(others)
        examples += others[: EXAMPLES - len(examples)]
    return OtherEtags(count, examples)


def other_events(connection: Connection, log: Log, events: Sequence[Example]) -> list[Example]:
    """The events whose etag is that of no row in the log's table, or of another event's row.

    Raises:
        psycopg.Error: the table cannot be read.
    """
    from bench.postgres.stored import parse_event  # noqa: PLC0415 - numpy

    others = []
    for first in range(0, len(events), _ROWS):
        some = events[first : first + _ROWS]
        rows = connection.execute(numbered_sql(log), [[event.etag for event in some]]).fetchall()
        stored = {(etag, event.producer, event.seq) for etag, payload in rows if (event := parse_event(payload or ""))}
        others += [event for event in some if (event.etag, event.producer, event.seq) not in stored]
    return others
