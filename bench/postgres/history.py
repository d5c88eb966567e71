"""The history of the events in a log's table: when they were logged and committed, and in which transactions."""

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from bench.eventlog import Log
from bench.judge import exposure
from bench.postgres.connection import Connection, scalar
from bench.records import Range
from bench.statements import Table, commits_sql, stories_sql, transactions_sql


class Story(NamedTuple):
    """The history of a stored event, from the log's table and the server. Unix times on the database's clock."""

    etag: int
    logged_at: float | None
    """Its ctime; None where the table has none, or where Python's dates cannot hold it."""
    visible_at: float | None
    """When its transaction was committed; None where the server keeps no commit times."""


def stories(
    connection: Connection, log: Log, table: Table, events: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], Story]:
    """Look up events, given as (producer, seq), in the log's table. Events that the table lacks are left out.

    Raises:
        psycopg.Error: the table cannot be read.
    """
    from bench.postgres.stored import parse_event  # noqa: PLC0415 - numpy

    etags = _etags(connection, log, set(events))
    query = stories_sql(log, table, commits=_keeps_commit_times(connection))
    by_event = {}
    for etag, payload, logged_at, visible_at in connection.execute(query, [list(etags.values())]).fetchall():
        event = parse_event(payload or "")
        if event is not None and etags.get((event.producer, event.seq)) == etag:
            by_event[event.producer, event.seq] = Story(etag, _calendar(logged_at), _calendar(visible_at))
    return by_event


def _keeps_commit_times(connection: Connection) -> bool:
    return bool(scalar(connection, "SELECT current_setting('track_commit_timestamp')::bool"))


def _etags(connection: Connection, log: Log, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """The etags of the wanted events; events that are stored without an etag are left out."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    from bench.postgres.stored import stored_rows  # noqa: PLC0415 - numpy

    etags: dict[tuple[int, int], int] = {}
    wanted_seqs = [seq for _, seq in wanted]
    with closing(stored_rows(connection, log)) as pages:
        for page in pages:
            rows = np.flatnonzero(page.fits & np.isin(page.seqs, wanted_seqs)).tolist()
            events = [(row, (int(page.producers[row]), int(page.seqs[row]))) for row in rows]
            events += [(row, (event.producer, event.seq)) for row, event in page.others if event]
            etags.update((event, int(page.first[row])) for row, event in events if event in wanted and page.second[row])
            if len(etags) == len(wanted):
                break
    return etags


_LAST_TIME = 253_402_300_800.0
"""The end of the year 9999, the last that Python's dates have."""


def _calendar(unix_time: float | None) -> float | None:
    """A time that can be shown, else None: a timestamp may also be infinite, or in the year 200000."""
    return unix_time if unix_time is not None and 0 <= unix_time < _LAST_TIME else None


class Commits(NamedTuple):
    """The events that lie in a reader's jumps over etags, by the time of their commit."""

    late: list[Range]
    """Events that were committed after the reader had asked for the page with the later event."""
    early: list[Range]
    """Events whose commit began before that."""


def commits(connection: Connection, log: Log, jumps: Sequence[tuple[int, int, float]]) -> Commits:
    """Look up the commits of the events that lie in a reader's jumps over etags, given as (etag before, etag after,
    when the reader asked). Finds no events where the server keeps no commit times.

    Raises:
        psycopg.Error: the log's table cannot be read, or has no column xmin.
    """
    if not _keeps_commit_times(connection):
        return Commits([], [])
    from bench.postgres.runs import Runs  # noqa: PLC0415 - numpy
    from bench.postgres.stored import stored_pages  # noqa: PLC0415 - numpy

    late, early = Runs(), Runs()
    parameters = [[jump[part] for jump in jumps] for part in range(3)]
    query = f"""SELECT coalesce(late::int, -1)::bigint, 0::bigint, coalesce(payload, '')
                FROM ({commits_sql(log)}) AS passed (payload, late)"""
    with closing(stored_pages(connection, query, parameters)) as pages:
        for page in pages:
            late.add_page(page, page.first == 1)
            early.add_page(page, page.first == 0)
    return Commits(late.ranges(), early.ranges())


def transactions(connection: Connection, log: Log, table: Table) -> exposure.Commits | exposure.Unknown:
    """The transactions whose events the log's table holds, with their etags and the times of their commits; or why
    they are unknown.

    Raises:
        psycopg.Error: the table cannot be read.
    """
    if not table.xmin:
        return "no xmin"
    if not _keeps_commit_times(connection):
        return "no commit times"
    import numpy as np  # noqa: PLC0415 - see bench.stats

    with connection.cursor(binary=True) as cursor:
        arrays = cursor.execute(transactions_sql(log)).fetchone() or (None,) * 4
    # 20 bytes for the dimensions and the type; then each element, of 8 bytes, stands after its length (array_send).
    lowest, highest, events, at = (
        np.frombuffer((array or b"")[20:], [("length", ">i4"), ("element", kind)])["element"]
        for array, kind in zip(arrays, (">i8", ">i8", ">i8", ">f8"), strict=True)
    )
    known = ~np.isnan(at)
    lowest, highest, events = (column[known].astype(np.int64) for column in (lowest, highest, events))
    return exposure.Commits(lowest, highest, events, at[known].astype(np.float64))
