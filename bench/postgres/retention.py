"""Deletes events behind readers while a log is tailed, in a session of its own, once per second."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import pq

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.judge.ranges import normal
from bench.postgres.connection import (
    CONNECT_SECONDS,
    Connection,
    in_words,
    name_session,
    our_name,
    switch_off_timeouts,
)
from bench.postgres.telemetry import RETENTION
from bench.records import Range
from bench.statement import Statement
from bench.statements import SCHEMA, retention_sql
from bench.values import Retained

INTERVAL_SECONDS = 1.0
STOP_SECONDS = 5.0
"""Longest wait for a statement that was cancelled because the run ends early."""
MANY_RANGES = 200
"""Once there are this many more than after the last time, adjacent ranges are joined."""

Cursors = Callable[[], Sequence[Sequence[bytes]]]
"""Returns the cursor of each reader; an empty one for a reader that has not reported any."""


@dataclass
class Deleted:
    """The events that were deleted behind readers."""

    ranges: list[Range] = field(default_factory=list)
    foreign: int = 0
    """Rows without a producer or a seq that were deleted, too."""
    statements: int = 0
    """Those that deleted something."""
    seconds: float = 0.0
    """The time that all statements took."""
    _most: int = MANY_RANGES

    def add(self, ranges: Sequence[Range], foreign: int = 0) -> None:
        """Add the events that a statement deleted, and the number of rows that were none."""
        self.statements += bool(ranges or foreign)
        self.foreign += foreign
        self.ranges.extend(ranges)
        if len(self.ranges) > self._most:
            self.ranges[:] = normal(self.ranges)
            self._most = len(self.ranges) + MANY_RANGES


def deleted_events(deletions: Sequence[Deleted]) -> list[Range]:
    """All events that were deleted, as normal ranges."""
    return normal([part for behind in deletions for part in behind.ranges])


@contextmanager
def deleting(
    conninfo: str, orchestrator: Connection, log: Log, retained: Retained, readers: int, cursors: Cursors
) -> Iterator[Deleted]:
    """Delete from the log's table, which may be a view, while the `with` lasts.

    Raises:
        InfrastructureError: a statement failed; this is raised at the end.
    """
    deleted = Deleted()
    over = threading.Event()
    failures: list[psycopg.Error] = []
    last = b"%d" % retained.events if retained.events is not None else b"%r" % retained.seconds
    formats = [pq.Format.BINARY] * (readers * len(log.cursor)) + [pq.Format.TEXT]
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        switch_off_timeouts(connection)
        name_session(connection, our_name(orchestrator, RETENTION))
        connection.execute(f"SET search_path TO {SCHEMA}".encode())
        connection.execute("SET TimeZone TO 'UTC'")  # as the writers' sessions, for a ctime without a time zone
        statement = Statement(connection, retention_sql(log, readers, retained))

        def delete() -> None:
            try:
                while not over.wait(INTERVAL_SECONDS):
                    positions = cursors()
                    if all(positions):
                        began_pc = time.perf_counter()
                        statement.send([*(value for cursor in positions for value in cursor), last], formats)
                        deleted.add(*_events(statement.receive()))
                        deleted.seconds += time.perf_counter() - began_pc
            except psycopg.Error as error:
                failures.append(error)

        thread = threading.Thread(target=delete, name="retention", daemon=True)
        thread.start()
        try:
            yield deleted
            over.set()
            thread.join()  # a statement under way ends, because what it deletes must be known
        except BaseException:
            over.set()
            with suppress(psycopg.Error):  # the connection may be what was lost
                connection.cancel_safe(timeout=STOP_SECONDS)
            thread.join(STOP_SECONDS)
            raise
    if failures:
        raise InfrastructureError(
            f"cannot delete events of the log {log.name} (--retention): {in_words(failures[0])}; "
            "leave --retention out, or change `passed` in log.toml"
        )


def _events(result: pq.abc.PGresult) -> tuple[list[Range], int]:
    """The deleted events as ranges, and the number of rows that were none."""
    ranges: list[Range] = []
    foreign = 0
    for row in range(result.ntuples):
        values = [result.get_value(row, column) for column in range(4)]
        producer, first, last, rows = (int.from_bytes(value or b"", signed=True) for value in values)
        if None in values:
            foreign += rows
        else:
            ranges.append((producer, first, last))
    return ranges, foreign
