"""The etags of append transactions, found by looking through a log's table.

Import this where it is used: numpy takes a tenth of a second to load, and most commands need none.
"""

from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.eventlog import Log
from bench.postgres.connection import Connection
from bench.postgres.stored import StoredPage, stored_pages
from bench.statements import stored_sql


class AppendEtags(NamedTuple):
    """The etags of some appends of one producer, as columns of equal length."""

    lowest: NDArray[np.int64]
    """Meaningless where there are no rows."""
    highest: NDArray[np.int64]
    rows: NDArray[np.int64]
    """Rows with an etag that hold an event of the append."""


def append_etags(connection: Connection, log: Log, batch: int, appends: Sequence[int]) -> list[AppendEtags]:
    """Look up the etags of each producer's first appends: of the producer with the number p, `appends[p]` appends of
    `batch` events each. Takes about a second per million rows.

    Raises:
        psycopg.Error: the log's table cannot be read.
    """
    starts = np.cumsum([0, *appends], dtype=np.int64)
    integers = np.iinfo(np.int64)
    lowest, highest = np.full(starts[-1], integers.max), np.full(starts[-1], integers.min)
    rows = np.zeros(starts[-1], np.int64)
    query = f"""
        SELECT etag, 0::bigint, coalesce(payload, '')
        FROM ({stored_sql(log)}) AS stored (etag, payload) WHERE etag IS NOT NULL"""
    with closing(stored_pages(connection, query)) as pages:
        for page in pages:
            producers, seqs, etags = _events(page)
            ours = (producers >= 0) & (producers < len(appends)) & (seqs >= 0)
            producers, numbers, etags = producers[ours], seqs[ours] // batch, etags[ours]
            asked = numbers < np.array(appends)[producers]
            places, etags = starts[producers[asked]] + numbers[asked], etags[asked]
            np.minimum.at(lowest, places, etags)
            np.maximum.at(highest, places, etags)
            np.add.at(rows, places, 1)
    return [AppendEtags(lowest[start:end], highest[start:end], rows[start:end]) for start, end in pairwise(starts)]


def _events(page: StoredPage) -> tuple[NDArray[np.int64], ...]:
    """Producers, seqs and etags of a page's events, as columns; without numbers of more than 64 bits, which no producer
    appended.
    """
    others = [
        (event.producer, event.seq, int(page.first[row]))
        for row, event in page.others
        if event and all(0 <= number < 1 << 63 for number in (event.producer, event.seq))
    ]
    alike = np.stack([column[page.fits] for column in (page.producers, page.seqs, page.first)], axis=1)
    return tuple(np.concatenate([alike, np.array(others, np.int64).reshape(-1, 3)]).T)
