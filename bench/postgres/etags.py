"""The etags of a log's table: which are missing or doubled, and whether events are delivered with their own."""

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from bench.eventlog import Log
from bench.pairing import MODULUS
from bench.postgres.audit import Holdings, look_through, reading
from bench.postgres.connection import Connection, scalar
from bench.records import EXAMPLES, Example
from bench.statements import Table, bounds_sql, doubled_sql, etag_checksum_sql, gaps_sql, numbered_sql

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.postgres.stored import StoredPage

    Numbers = NDArray[np.int64]

_ROWS = 10_000
"""Events looked up at a time."""


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
        return Numbering(missing, numbered - distinct, _doubled_etags(connection, log))


def numbering_of(connection: Connection, log: Log, holdings: Holdings) -> Numbering:
    """The numbering of a table that was looked through.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with reading(log):
        return Numbering(
            holdings.missing, holdings.doubled, _doubled_etags(connection, log) if holdings.doubled else []
        )


def _doubled_etags(connection: Connection, log: Log) -> list[int]:
    return [etag for (etag,) in connection.execute(doubled_sql(log, EXAMPLES))]


def etag_checksum(connection: Connection, log: Log) -> int:
    """The checksum of `bench.pairing` over the events in the log's table that have an etag. PostgreSQL computes it
    where it can read all payloads, which takes about a second per million rows or less.

    Raises:
        InfrastructureError: the log's table or view fails when it is read.
    """
    with suppress(psycopg.DataError, psycopg.ProgrammingError), connection.transaction():
        return int(scalar(connection, etag_checksum_sql(log))) % MODULUS
    return look_through(connection, log).etag_checksum


class OtherEtags(NamedTuple):
    """Events that are delivered with another etag than the log's table has for them."""

    events: int
    examples: list[Example]
    """The first of them, as they were delivered."""


def other_etags(connection: Connection, log: Log, rows: int, after: Sequence[bytes] = ()) -> OtherEtags:
    """Read the log from its start, or from the cursor `after` on, at most `rows` events, and look up each delivered
    etag in the log's table: it must be the etag of a row with the same event.

    Raises:
        psycopg.Error: the log or its table cannot be read.
    """
    from bench.postgres.stored import delivered_pages  # noqa: PLC0415 - numpy

    read = count = 0
    examples: list[Example] = []
    with closing(delivered_pages(connection, log, _ROWS, after)) as pages:
        for page in pages:
            others = _unlike_stored(connection, log, page)
            count += len(others)
            examples += page.examples(others[: EXAMPLES - len(examples)])
            read += len(page.first)
            if read >= rows:
                break
    return OtherEtags(count, examples)


def _unlike_stored(connection: Connection, log: Log, page: "StoredPage") -> list[int]:
    """The rows of a page of deliveries whose etag is that of no row in the log's table, or of another event's row."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    from bench.postgres.stored import rows_with_etags  # noqa: PLC0415 - numpy

    delivered, parts = page.numbers(), []
    large: set[Example] = set()
    with closing(rows_with_etags(connection, log, page.first)) as table:
        for part in table:
            parts.append(part.numbers())
            large.update(part.examples([row for row, event in part.others if event]))
    stored = np.concatenate([delivered[:, :0], *parts], axis=1)
    unlike = []
    if not np.array_equal(stored, delivered):
        unlike = np.flatnonzero(page.fits)[~_are_among(delivered, stored)].tolist()
    others = [row for row, _ in page.others]
    unlike += [row for row, event in zip(others, page.examples(others), strict=True) if event not in large]
    return sorted(unlike)


def _are_among(columns: "Numbers", others: "Numbers") -> "NDArray[np.bool_]":
    """Which columns of the first array are columns of the second one, too."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    numbers = np.concatenate((others, columns), axis=1)
    first = others.shape[1]
    # Of equal columns, those of the second array come first: lexsort is stable.
    order = np.lexsort(numbers)
    ordered = numbers[:, order]
    begins = np.append(True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0))[: len(order)]
    is_there = np.empty(len(order), np.bool_)
    is_there[order] = (order[begins] < first)[np.cumsum(begins) - 1]
    return is_there[first:]


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
