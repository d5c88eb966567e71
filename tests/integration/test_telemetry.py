"""A phase as a real server saw it."""

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
