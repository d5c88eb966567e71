"""Reads figures of the server and of the log's tables in one query, cheap enough for once per second.

Views that a server does not have, or does not show us, are left out: their columns differ from PostgreSQL 14 to 18.
"""

import re
import time
from collections import Counter
from contextlib import suppress

import psutil
import psycopg

from bench.postgres.connection import Connection
from bench.results.series import SAMPLE_SECONDS, Figures, Samples, Series
from bench.statements import SCHEMA

LOCK_MS = 300
"""Longest wait for the lock of a table whose size is read: a log may lock its table for long."""

_HOLDERS = """
    SELECT greatest(age(backend_xmin), age(backend_xid)) AS transactions,
           extract(epoch FROM clock_timestamp() - xact_start) AS seconds
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
      AND coalesce(datname, current_database()) = current_database()
      AND coalesce(backend_xmin, backend_xid) IS NOT NULL
    UNION ALL
    SELECT age(transaction), extract(epoch FROM clock_timestamp() - prepared)
    FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT age(xmin), NULL FROM pg_replication_slots WHERE xmin IS NOT NULL"""
"""Everything for which a vacuum of the log must spare rows, by ComputeXidHorizons in PostgreSQL's procarray.c: sessions
of this database and standbys, but no vacuum; prepared transactions; slots. A slot has no time."""

SIZES = f"""
    SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint AS table_bytes,
           coalesce(sum(pg_indexes_size(c.oid)), 0)::bigint AS index_bytes
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = '{SCHEMA}' AND c.relkind IN ('r', 'p')"""
"""The query of the bytes of a log's tables and of their indexes."""

_PARTS = (
    f"""SELECT coalesce(sum(n_live_tup), 0)::bigint AS live_rows, coalesce(sum(n_dead_tup), 0)::bigint AS dead_rows,
               coalesce(sum(autovacuum_count), 0)::bigint AS autovacuums
        FROM pg_stat_user_tables WHERE schemaname = '{SCHEMA}'""",
    SIZES,
    f"""SELECT coalesce(max(transactions), 0)::bigint AS horizon_age,
               coalesce(max(seconds), 0)::float8 AS horizon_age_seconds
        FROM ({_HOLDERS}) AS holders""",
    "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS wal_bytes",
    """SELECT coalesce(max(pg_current_wal_insert_lsn() - restart_lsn), 0)::bigint AS slot_bytes
       FROM pg_replication_slots WHERE coalesce(database, current_database()) = current_database()""",
    "SELECT (num_timed + num_requested)::bigint AS checkpoints FROM pg_stat_checkpointer",
    "SELECT (checkpoints_timed + checkpoints_req)::bigint AS checkpoints FROM pg_stat_bgwriter",
)
"""Queries of one row each. A server has one of the last two."""


class FiguresQuery:
    """The query of all figures that a server shows."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        parts = [part for part in _PARTS if _can(connection, part)]
        self._query = f"SELECT * FROM {', '.join(f'({part}) AS part_{index}' for index, part in enumerate(parts))}"
        self._has_parts = bool(parts)

    def read(self) -> Figures:
        """Read the figures, by the names of `bench.results.series.UNITS`.

        Raises:
            psycopg.Error: the server does not answer, or a table stayed locked.
        """
        if not self._has_parts:
            return {}
        cursor = self._connection.execute(self._query.encode(), prepare=True)
        row = cursor.fetchone() or ()
        return dict(zip((column.name for column in cursor.description or ()), row, strict=True))


class Recorder:
    """Records the figures of a phase: at its start, once per second, and at its end."""

    def __init__(self, connection: Connection, query: FiguresQuery) -> None:
        self._connection = connection
        self._query = query
        self._process = psutil.Process()
        self._samples = Samples()
        self._waits: Counter[tuple[str, str]] = Counter()
        """Since the last sample."""
        self._own_cpu_before = own_cpu_seconds(connection)
        self.own_cpu_seconds: float | None = None
        """CPU time that the server spent on the session until `finish`; None where the role may not know it."""

    def start(self) -> None:
        """Record the figures at the start."""
        wait_for_locks(self._connection, LOCK_MS)
        self.began_at, self._began_pc = time.time(), time.perf_counter()
        self._due_pc = self._began_pc
        with suppress(psycopg.Error):
            self.record_if_due()

    def note_waits(self, backend: str, event: str, count: int) -> None:
        """Note how many backends of a kind were seen with a wait event."""
        self._waits[backend, event] += count

    def record_if_due(self) -> None:
        """Record the figures if the last time was a second ago.

        Raises:
            psycopg.Error: as `FiguresQuery.read` does.
        """
        now_pc = time.perf_counter()
        if now_pc >= self._due_pc:
            self._due_pc = max(self._due_pc + SAMPLE_SECONDS, now_pc)
            self._record()

    def _record(self) -> None:
        figures = {**self._query.read(), "orchestrator_memory": self._process.memory_info().rss}
        self._samples.add(time.perf_counter() - self._began_pc, figures, self._waits)
        self._waits.clear()

    def finish(self) -> Series:
        """Record the figures at the end, and return all of them.

        Raises:
            psycopg.Error: the server does not answer.
        """
        after = own_cpu_seconds(self._connection)
        if after is not None and self._own_cpu_before is not None:
            self.own_cpu_seconds = after - self._own_cpu_before
        with suppress(psycopg.errors.LockNotAvailable):
            self._record()
        wait_for_locks(self._connection, 0)
        return self._samples.series()


def _can(connection: Connection, query: str) -> bool:
    try:
        connection.execute(query.encode())
    except (psycopg.ProgrammingError, psycopg.NotSupportedError):
        return False
    return True


def wait_for_locks(connection: Connection, milliseconds: int) -> None:
    """Limit the wait for each lock in a session; 0 does not limit it."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [str(milliseconds)])


def own_cpu_seconds(connection: Connection) -> float | None:
    """The CPU time that the server has spent on this session so far; None where the role may not know it.

    The server reports a backend's getrusage with a statement (log_statement_stats): to the client, and not to its log.
    """
    details: list[str] = []

    def note(message: psycopg.errors.Diagnostic) -> None:
        details.append(message.message_detail or "")

    try:
        connection.execute(
            "SELECT set_config('log_min_messages', 'panic', false), set_config('client_min_messages', 'log', false),"
            " set_config('log_statement_stats', 'on', false)"
        )
    except psycopg.Error:
        return None
    connection.add_notice_handler(note)
    try:
        with suppress(psycopg.Error):
            connection.execute("SELECT 1")
            # What it reports of itself comes before the next statement, which lets the server log again.
            connection.execute("RESET log_statement_stats")
            connection.execute("RESET client_min_messages; RESET log_min_messages")
    finally:
        connection.remove_notice_handler(note)
    for detail in details:
        if total := re.search(r"\[([0-9.]+) s user, ([0-9.]+) s system total\]", detail):
            return float(total[1]) + float(total[2])
    return None
