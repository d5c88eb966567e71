"""Observes Postgres during a phase: samples of its backends' waits, figures over time, and counters before and after.

Everything goes through one connection that nothing else uses, a few times a second. Views are read as JSON, because
their columns differ from PostgreSQL 14 to 18.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from bench.places.api import Usage
from bench.postgres.connection import (
    CONNECT_SECONDS,
    Connection,
    name_session,
    our_name,
    scalar,
    switch_off_timeouts,
)
from bench.postgres.figures import SIZES, FiguresQuery, Recorder
from bench.results.series import Series
from bench.statements import SCHEMA

SAMPLE_SECONDS = 0.25
USAGE_SECONDS = 2.0
"""Memory is sampled less often: adding up processes costs more than a query."""
JOIN_SECONDS = 2.0
LINGER_SECONDS = 2.0
"""Longest wait for workers' sessions to end after their workers: a session adds to the counters when it ends."""

WORKER = "worker"
"""The kind of a backend that serves one of our workers, in addition to PostgreSQL's own kinds."""
RETENTION = "retention"
"""The kind of the backend that deletes behind readers, and the name of its session."""
ON_CPU = "CPU"
"""Stands for the wait event of a backend that waits for nothing: it runs, or would if a processor were free."""

_WAITS = f"""
    SELECT CASE WHEN application_name = %(retention)s THEN '{RETENTION}'
                WHEN starts_with(application_name, %(workers)s) THEN '{WORKER}' ELSE backend_type END,
           CASE WHEN wait_event IS NULL THEN '{ON_CPU}' ELSE wait_event_type || ':' || wait_event END,
           count(*)
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND application_name <> %(orchestrator)s
      AND coalesce(datname, current_database()) = current_database()
      AND backend_type IS NOT NULL AND coalesce(wait_event_type, '') <> 'Activity'
      AND NOT (backend_type = 'client backend' AND state = 'idle'
               AND (NOT starts_with(application_name, %(workers)s) OR application_name = %(retention)s))
    GROUP BY 1, 2"""
"""Sessions in our database, and the server's own processes, which are in none; other databases are not this run's."""

_OTHERS = """
    SELECT EXISTS (SELECT FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND state = 'active' AND pid <> pg_backend_pid()
                     AND coalesce(wait_event_type, '') NOT IN ('Lock', 'Timeout')
                     AND NOT (datname = current_database() AND starts_with(application_name || ' ', %(workers)s)))"""
"""Whether a session that is not this run's is working, in any database; a session that waits or sleeps is not."""

_NOTIFY_QUEUE = "SELECT pg_notification_queue_usage()"

_WORKERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND starts_with(application_name, %(workers)s) AND pid <> pg_backend_pid()"
)

_VIEWS = {
    "wal": "SELECT to_json(v) FROM pg_stat_wal AS v",
    "database": "SELECT to_json(v) FROM pg_stat_database AS v WHERE datname = current_database()",
    "others": "SELECT json_build_object('commits', coalesce(sum(xact_commit), 0), "
    "'rows', coalesce(sum(tup_inserted + tup_updated + tup_deleted), 0)) FROM pg_stat_database "
    "WHERE datname <> current_database()",
    "checkpointer": "SELECT to_json(v) FROM pg_stat_checkpointer AS v",
    "bgwriter": "SELECT to_json(v) FROM pg_stat_bgwriter AS v",
    "io": "SELECT json_agg(v) FROM pg_stat_io AS v",
    "tables": f"SELECT json_agg(v) FROM pg_stat_user_tables AS v WHERE schemaname = '{SCHEMA}'",
    "sizes": f"SELECT to_json(v) FROM ({SIZES}) AS v",
}
"""Views that a server does not have, or does not show us, are left out."""


@dataclass(frozen=True)
class Observation:
    """A phase as the server saw it."""

    seconds: float
    samples: int
    waits: Mapping[tuple[str, str], int]
    """How often a backend of a kind was seen with a wait event: (kind, wait event) to a number of samples."""
    counters: Mapping[str, int]
    """The server's counts during the phase, by the names of `counters`; also how often sessions of others were looked
    for, and how often one was working."""
    postgres_cpu_seconds: float | None
    """None where Postgres cannot be seen as processes."""
    postgres_memory_bytes: int | None
    """The largest sample."""
    began_at: float
    """Unix time of this machine."""
    series: Series
    """The figures of the server and of the orchestrator over time."""
    own_cpu_seconds: float | None
    """CPU time that the server spent on the observer's samples; None where the role may not know it."""
    notify_queue_share: float | None = None
    """The largest sample of the share of NOTIFY's queue that is in use; None where the server does not report it."""


class Observer:
    """An observer of phases, one after the other, on a connection of its own."""

    def __init__(self, conninfo: str, orchestrator: Connection, usage: Callable[[], Usage | None]) -> None:
        self._connection = psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS)
        switch_off_timeouts(self._connection)
        name_session(self._connection, our_name(orchestrator, "telemetry"))
        self._names = {
            "orchestrator": our_name(orchestrator),
            "workers": f"{our_name(orchestrator)} ",
            "retention": our_name(orchestrator, RETENTION),
        }
        self._usage = usage
        self._has_notify_queue = self._can(_NOTIFY_QUEUE)
        self._views = {name: query for name, query in _VIEWS.items() if self._can(query)}
        self._figures = FiguresQuery(self._connection)
        with suppress(psycopg.Error):
            # A session's first sample takes ten times as long as the others, so it is taken before a phase.
            self._look()
            self._others_are_at_work()
            self._figures.read()
        self.seen: Observation | None = None
        """The observation of the last phase; None when the server went away meanwhile."""
        self.samples = 0
        """Number of samples of backends' waits in this phase."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def observe(self) -> Iterator[Callable[[], float]]:
        """Observe the `with`; the observation is in `seen` afterwards. Yields a function that returns for how many
        seconds the server has not answered.
        """
        waits: Counter[tuple[str, str]] = Counter()
        recorder = Recorder(self._connection, self._figures)
        over = threading.Event()
        memory = 0
        looks_for_others = with_others = 0
        notify_queue: list[float] = []
        answered = time.monotonic()
        self.seen, self.samples = None, 0

        def look_for_others() -> None:
            nonlocal looks_for_others, with_others
            with_others += self._others_are_at_work()
            looks_for_others += 1

        def sample() -> None:
            nonlocal memory, answered
            looked = time.monotonic()
            while not over.wait(SAMPLE_SECONDS):
                with suppress(psycopg.Error):  # the phase itself notices a server that is gone
                    for kind, wait, count in self._look():
                        waits[kind, wait] += count
                        recorder.note_waits(kind, wait, count)
                    look_for_others()
                    if self._has_notify_queue:
                        notify_queue.append(scalar(self._connection, _NOTIFY_QUEUE))
                    self.samples += 1
                    answered = time.monotonic()
                    recorder.record_if_due()
                if time.monotonic() - looked > USAGE_SECONDS:
                    looked = time.monotonic()
                    usage = self._usage()
                    memory = max(memory, usage.memory_bytes if usage else 0)

        look_for_others()  # at both ends, as a phase may be over before its first sample
        before, usage_before, began = self._counters(), self._usage(), time.perf_counter()
        recorder.start()
        sampler = threading.Thread(target=sample, name="telemetry", daemon=True)
        sampler.start()
        try:
            yield lambda: time.monotonic() - answered
        finally:
            over.set()
            sampler.join(JOIN_SECONDS)  # a server that no longer answers must not hold us up
        seconds = time.perf_counter() - began
        usage = self._usage()
        with suppress(psycopg.Error):
            look_for_others()
            self._await_sessions()
            series = recorder.finish()
            after = self._counters()
            self.seen = Observation(
                seconds=seconds,
                samples=self.samples,
                waits=waits,
                counters={
                    **{name: after[name] - count for name, count in before.items() if name in after},
                    "looks_for_others": looks_for_others,
                    "looks_with_others": with_others,
                },
                postgres_cpu_seconds=usage.cpu_seconds - usage_before.cpu_seconds if usage and usage_before else None,
                postgres_memory_bytes=max(memory, usage.memory_bytes) if usage else None,
                began_at=recorder.began_at,
                series=series,
                own_cpu_seconds=recorder.own_cpu_seconds,
                notify_queue_share=max(notify_queue, default=None),
            )

    def _look(self) -> list[tuple[str, str, int]]:
        return self._connection.execute(_WAITS, self._names, prepare=True).fetchall()

    def _others_are_at_work(self) -> bool:
        row = self._connection.execute(_OTHERS, self._names, prepare=True).fetchone()
        return bool(row and row[0])

    def _can(self, query: str) -> bool:
        try:
            self._connection.execute(query)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return False
        return True

    def _counters(self) -> dict[str, int]:
        return counters({name: scalar(self._connection, query) for name, query in self._views.items()})

    def _await_sessions(self) -> None:
        deadline = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < deadline:
            if not scalar(self._connection, _WORKERS, self._names):
                return
            time.sleep(0.01)


@contextmanager
def observer(conninfo: str, orchestrator: Connection, usage: Callable[[], Usage | None]) -> Iterator[Observer]:
    """Open an observer of this orchestrator's workers, and close it in the end."""
    opened = Observer(conninfo, orchestrator, usage)
    try:
        yield opened
    finally:
        opened.close()


def counters(views: Mapping[str, Any]) -> dict[str, int]:
    """Counters from the statistics views of any version from 14 to 18, given as rows of JSON, under names of our own.

    Counters that a version does not have are left out. WAL's fsyncs are in pg_stat_wal up to 17 and in pg_stat_io from
    18 on; checkpoints are in pg_stat_bgwriter up to 16.
    """
    wal, database, tables = (views.get(name) for name in ("wal", "database", "tables"))
    checkpoints = views.get("checkpointer") or views.get("bgwriter") or {}
    data = [row for row in views.get("io") or [] if row["object"] == "relation"]
    logged = [row for row in views.get("io") or [] if row["object"] == "wal"]
    by_name = {
        "wal_bytes": _get(wal, "wal_bytes"),
        "wal_records": _get(wal, "wal_records"),
        "wal_full_page_images": _get(wal, "wal_fpi"),
        "wal_buffers_full": _get(wal, "wal_buffers_full"),
        "wal_fsyncs": _sum(logged, "fsyncs") if logged else _get(wal, "wal_sync"),
        "commits": _get(database, "xact_commit"),
        "commits_elsewhere": _get(views.get("others"), "commits"),
        "rows_elsewhere": _get(views.get("others"), "rows"),
        "blocks_hit": _get(database, "blks_hit"),
        "blocks_read": _get(database, "blks_read"),
        "temp_bytes": _get(database, "temp_bytes"),
        "checkpoints_timed": _get(checkpoints, "num_timed", "checkpoints_timed"),
        "checkpoints_requested": _get(checkpoints, "num_requested", "checkpoints_req"),
        "data_reads": _sum(data, "reads"),
        "data_writes": _sum(data, "writes"),
        "data_extends": _sum(data, "extends"),
        "data_fsyncs": _sum(data, "fsyncs"),
        "rows_inserted": _sum(tables, "n_tup_ins"),
        "table_scans": _sum(tables, "seq_scan"),
        "index_scans": _sum(tables, "idx_scan"),
        "autovacuums": _sum(tables, "autovacuum_count"),
        "table_bytes": _get(views.get("sizes"), "table_bytes"),
        "index_bytes": _get(views.get("sizes"), "index_bytes"),
    }
    return {name: count for name, count in by_name.items() if count is not None}


def _get(row: Mapping[str, Any] | None, *names: str) -> int | None:
    """The value of the first of these columns that the row has; None when it has none of them."""
    return next((int(row[name]) for name in names if name in row), None) if row else None


def _sum(rows: list[Mapping[str, Any]] | None, name: str) -> int | None:
    return sum(int(row[name] or 0) for row in rows) if rows else None
