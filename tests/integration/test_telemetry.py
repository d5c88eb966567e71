"""A phase as a real server saw it."""

import csv
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from bench.places.api import Usage
from bench.places.local import postgres as embedded
from bench.places.local import workers
from bench.postgres.connection import Connection, our_name
from bench.postgres.telemetry import ON_CPU, WORKER, observer
from bench.results.series import OTHERS, UNITS
from bench.results.store import load
from bench.run.bottleneck import bottleneck
from bench.statements import SCHEMA
from tests.conftest import Bench, wait_until


@pytest.fixture
def usage(server: str, short_folder: Path) -> Callable[[], Usage | None]:
    postmaster = embedded.server(short_folder / "server")
    return lambda: workers.usage(postmaster)


def test_what_workers_wait_for_is_seen_and_counted(log: Connection, usage: Callable[[], Usage | None]) -> None:
    held = psycopg.connect(log.info.dsn, application_name="bench blocker")
    held.execute("SELECT pg_advisory_xact_lock(99)")
    with observer(log.info.dsn, log, usage) as watching:
        with psycopg.connect(log.info.dsn, autocommit=True, application_name=our_name(log, "producer-0")) as worker:
            waiting = threading.Thread(target=worker.execute, args=["SELECT pg_advisory_lock(99)"])
            with watching.observe():
                worker.execute(f"SET search_path TO {SCHEMA}".encode())
                worker.execute("SELECT * FROM log_event((SELECT json_agg(i) FROM generate_series(1, 500) AS i))")
                waiting.start()
                wait_until(lambda: watching.samples >= 3)
                held.close()
                waiting.join()
                worker.close()
        seen = watching.seen
    assert seen is not None
    assert seen.samples >= 3
    assert seen.waits[WORKER, "Lock:advisory"] >= 1
    assert seen.counters["rows_inserted"] == 500
    assert seen.counters["wal_bytes"] > 500 * 50
    assert seen.counters["table_bytes"] > 0
    assert seen.counters["commits"] >= 1
    assert seen.postgres_cpu_seconds is not None
    assert seen.postgres_memory_bytes
    assert seen.postgres_memory_bytes > 2**20
    waits = {key: count for key, count in seen.waits.items() if key[1] != ON_CPU}
    assert bottleneck(waits, 3, None, None) is not None


def test_figures_over_time_show_dead_rows_and_what_holds_them(
    log: Connection, another: Callable[[], Connection]
) -> None:
    with observer(log.info.dsn, log, lambda: None) as watching:
        with watching.observe():
            reading = another()
            reading.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            reading.execute("SELECT count(*) FROM events_log")
            log.execute("SELECT * FROM log_event((SELECT json_agg(i) FROM generate_series(1, 5000) AS i))")
            for _ in range(3):
                log.execute("UPDATE events_log SET payload = payload")
            log.execute("SELECT pg_stat_force_next_flush()" if log.info.server_version >= 150000 else "SELECT 1")
            log.execute("CHECKPOINT")
            # PostgreSQL 14 reports what a session did with its next statement, half a second later at the earliest.
            wait_until(lambda: log.execute("SELECT 1") and watching.samples >= 6)
        seen = watching.seen
    assert seen is not None
    figures = {name: [value for value in figure.values if value is not None] for name, figure in
               seen.series.figures.items()}  # fmt: skip
    assert figures["dead_rows"][0] == 0
    assert max(figures["dead_rows"]) == 15_000
    assert max(figures["live_rows"]) == 5000
    assert figures["table_bytes"][-1] > figures["table_bytes"][0]
    assert figures["index_bytes"][-1] > figures["index_bytes"][0]
    assert max(figures["horizon_age"]) >= 4
    assert max(figures["horizon_age_seconds"]) > 0
    assert figures["wal_bytes"][0] == 0
    assert figures["wal_bytes"][-1] > 20_000 * 50
    assert figures["checkpoints"][-1] >= 1
    assert figures["orchestrator_memory"][-1] > 2**20
    assert set(figures) <= set(UNITS)
    assert len(seen.series.seconds) >= 3
    events = {(wait.backend, wait.event): sum(wait.counts) for wait in seen.series.waits}
    assert all(count <= seen.waits[wait] for wait, count in events.items() if wait[1] != OTHERS)
    assert seen.own_cpu_seconds is not None
    assert seen.own_cpu_seconds > 0


def test_a_slot_that_nobody_reads_keeps_wal(log: Connection) -> None:
    log.execute("SELECT pg_create_logical_replication_slot('bench_test_kept', 'test_decoding')")
    try:
        with observer(log.info.dsn, log, lambda: None) as watching:
            with watching.observe():
                log.execute("SELECT * FROM log_event((SELECT json_agg(i) FROM generate_series(1, 5000) AS i))")
            seen = watching.seen
    finally:
        log.execute("SELECT pg_drop_replication_slot('bench_test_kept')")
    assert seen is not None
    slot = seen.series.figures["slot_bytes"].values
    assert (slot[-1] or 0) - (slot[0] or 0) > 5000 * 50


def test_a_table_that_is_locked_for_long_does_not_stop_the_observer(
    log: Connection, another: Callable[[], Connection]
) -> None:
    with observer(log.info.dsn, log, lambda: None) as watching:
        locking = another()
        with watching.observe():
            locking.execute("BEGIN; LOCK TABLE events_log")
            first = watching.samples
            wait_until(lambda: watching.samples >= first + 8)  # of which some are due for figures
            locking.execute("ROLLBACK")
        assert watching.seen is not None


def test_what_a_role_may_not_see_is_left_out(log: Connection) -> None:
    log.execute("CREATE ROLE bench_test_guest LOGIN")
    try:
        log.execute(f"GRANT USAGE ON SCHEMA {SCHEMA} TO bench_test_guest")
        guest = psycopg.conninfo.make_conninfo(log.info.dsn, user="bench_test_guest")
        with observer(guest, log, lambda: None) as watching:
            with watching.observe():
                log.execute("SELECT * FROM log_event('[1, 2]')")
            seen = watching.seen
    finally:
        log.execute(f"REVOKE USAGE ON SCHEMA {SCHEMA} FROM bench_test_guest")
        log.execute("DROP ROLE bench_test_guest")
    assert seen is not None
    assert seen.own_cpu_seconds is None
    assert {"dead_rows", "table_bytes", "horizon_age"} <= set(seen.series.figures)


def test_a_run_stores_series_and_exports_them(bench: Bench, address: str) -> None:
    small = ("--scale", "2", "--insert-batch", "5", "--rate", "500:2.5s", "--mode", "tail")
    ran = bench("run", "--place", "local", "--dsn", address, *small, "--export-json", "run.json")
    assert ran.returncode == 0, ran.stderr
    (trial,) = load(bench.folder / "run.json").trials
    phase = trial.telemetry.phases["append + read 1000"]
    assert phase.series is not None
    assert phase.series.interval_seconds == 1
    assert len(phase.series.seconds) >= 3
    for name in ("orchestrator_memory", "producer_memory", "consumer_memory"):
        assert (phase.series.figures[name].values[-1] or 0) > 2**20, name
    assert phase.observer_cpu_seconds
    exported = bench("export", "series", "run.json")
    assert exported.returncode == 0, exported.stderr
    rows = list(csv.DictReader(exported.stdout.splitlines()))
    assert {row["phase"] for row in rows} == {"append + read 1000"}
    metrics = {row["metric"] for row in rows}
    assert {"progress", "unseen", "lag", "live_rows", "wal_bytes", "consumer_memory"} <= metrics
    progress = [row for row in rows if row["metric"] == "progress" and row["subject"] == "append"]
    assert int(progress[-1]["value"]) == trial.append.events


def test_the_queue_of_notifications_is_measured(log: Connection, usage: Callable[[], Usage | None]) -> None:
    long = "SELECT pg_notify('queue', repeat('x', 7000) || i) FROM generate_series(1, 50) AS i"
    with observer(log.info.dsn, log, usage) as watching, psycopg.connect(log.info.dsn) as listener:
        listener.execute("LISTEN queue")
        listener.commit()
        listener.execute("SELECT 1")  # a listener in a transaction keeps what it has not read in the queue
        with watching.observe():
            log.execute(long)
            wait_until(lambda: watching.samples >= 2)
    assert watching.seen
    assert watching.seen.notify_queue_share
    assert 0 < watching.seen.notify_queue_share < 1


def test_a_neighbour_in_another_database_is_told_of(bench: Bench, server: str, address: str) -> None:
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            # What a session did is counted at its end.
            with psycopg.connect(server, autocommit=True) as neighbour:
                for _ in range(10):
                    neighbour.execute("SELECT txid_current()")

    neighbour = threading.Thread(target=work)
    neighbour.start()
    try:
        small = ("--scale", "2", "--insert-batch", "1", "--limit", "300", "--transaction-ms", "0..2")
        ran = bench("run", "--place", "local", "--dsn", address, *small, "--export-markdown", "page.md")
    finally:
        over.set()
        neighbour.join()
    assert ran.returncode == 0, ran.stderr
    words = r"others were at work on this server: [\d,]+ commits in other databases.*; WAL is the whole server's"
    assert re.search(rf"\nappend .*\n(?: .*\n)* +{words}\n", ran.stdout), ran.stdout
    assert re.search(rf"; {words}\. Run ", (bench.folder / "page.md").read_text())


def test_a_phase_in_which_the_server_goes_away_is_not_seen(log: Connection) -> None:
    with observer(log.info.dsn, log, lambda: None) as watching:
        with watching.observe():
            pass
        assert watching.seen is not None
        with watching.observe():
            log.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
                [our_name(log, "telemetry")],
            )
        assert watching.seen is None


def test_a_process_that_is_gone_has_no_usage() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert workers.usage(child) is None
