"""Phases of an offered load in real runs: what is held open, what pauses, what is measured, and what is left."""

import signal
import subprocess
from pathlib import Path
from typing import get_args

import psycopg
import pytest

from bench.phases import OpenTransaction
from bench.results import store
from bench.results.models import LoadPhase, Trial
from tests.conftest import Bench, wait_until

WAITED_FOR_BY_XID_HORIZON = {"in this log", "in another table", "in another database", "prepared"}
HEAD = "mode = 'tail'\nproducers = 3\ninsert-batch = 5\nread-batch = 100\nidle-timeout = 2\n"


def phase(rate: int, duration: str, **keys: str) -> str:
    more = [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(["[[phase]]", f"rate = {rate}", f"duration = '{duration}'", *more])


def write(bench: Bench, *phases: str, head: str = HEAD) -> Path:
    file = bench.folder / "phases.toml"
    file.write_text("\n".join([head, *phases]))
    return file


def carried_out(bench: Bench, address: str, file: Path, *words: str) -> tuple[Trial, str]:
    ran = bench("run", "--place", "local", "--dsn", address, "--spec", str(file), "--export-json", "r.json", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (trial,) = store.load(bench.folder / "r.json").trials
    return trial, ran.stdout


def left(address: str) -> list[str]:
    """What is left open on the server: prepared transactions, databases, sessions."""
    with psycopg.connect(address) as looking:
        rows = looking.execute(
            """SELECT gid FROM pg_prepared_xacts
               UNION ALL SELECT datname FROM pg_database WHERE datname LIKE 'bench_elsewhere%'
               UNION ALL SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'bench by hand%'"""
        )
        return [str(name) for (name,) in rows]


@pytest.mark.parametrize("kind", get_args(OpenTransaction))
def test_a_transaction_is_held_open_for_its_phase_only(bench: Bench, address: str, kind: str) -> None:
    held = phase(300, "1.5s", name="'held'", open_transaction=f"'{kind}'")
    file = write(bench, phase(300, "1s", name="'clean'"), held, phase(300, "1s"))
    trial, printed = carried_out(bench, address, file, "--log", "xid-horizon")
    assert trial.verdict.expected_events == 1050
    assert trial.verdict.gaps.unexplained == 0
    assert [each.name for each in trial.load_phases] == ["clean", "held", "phase 3"]
    clean, held_phase, recovery = trial.load_phases
    assert (clean.open_transaction, held_phase.open_transaction, recovery.open_transaction) == (None, kind, None)
    assert (clean.held_seconds, recovery.held_seconds) == (None, None)
    assert held_phase.held_seconds
    opened, ended = held_phase.held_seconds
    assert held_phase.begin_seconds <= opened < ended
    assert ended >= held_phase.end_seconds
    assert sum(_events(each) for each in trial.load_phases) == pytest.approx(1050, abs=30)
    for each in trial.load_phases:
        assert each.append_ms
        assert each.end_to_end_ms
        assert each.largest_lag_seconds is not None
    if kind in WAITED_FOR_BY_XID_HORIZON:
        # Readers of this log are given nothing that came after the oldest open transaction.
        assert held_phase.largest_lag_seconds is not None
        assert held_phase.largest_lag_seconds > (held_phase.end_seconds - opened) / 2
        assert held_phase.end_to_end_ms
        assert held_phase.end_to_end_ms.max > (held_phase.end_seconds - opened) * 1e3 / 2
    (row,) = [line for line in printed.splitlines() if line.startswith("| held ")]
    assert f"| {kind} " in row
    assert left(address) == []


def _events(measured: LoadPhase) -> float:
    return (measured.achieved_per_second or 0) * (measured.end_seconds - measured.begin_seconds)


def test_a_log_whose_writers_wait_falls_behind_and_catches_up(bench: Bench, address: str) -> None:
    held = phase(300, "1.5s", open_transaction="'in this log'")
    trial, _ = carried_out(bench, address, write(bench, phase(300, "1s"), held, phase(300, "2s")), "--log", "counter")
    clean, held_phase, recovery = trial.load_phases
    assert held_phase.held_seconds
    assert clean.append_ms
    assert held_phase.append_ms
    assert held_phase.append_ms.max > (held_phase.end_seconds - held_phase.held_seconds[0]) * 1e3 / 2
    assert (held_phase.achieved_per_second or 0) < 300 < (recovery.achieved_per_second or 0)
    assert trial.verdict.expected_events == 1350


@pytest.mark.parametrize("readers", [("--consumers", "2"), ("--group", "2", "--rejoin", "3")])
def test_readers_that_pause_are_behind_and_come_back(bench: Bench, address: str, readers: tuple[str, ...]) -> None:
    file = write(bench, phase(300, "1s"), phase(300, "1.5s", read="false"), phase(300, "1.5s"))
    trial, printed = carried_out(bench, address, file, "--log", "lock-drain", *readers)
    reading, off, again = trial.load_phases
    assert (reading.read, off.read, again.read) == (True, False, True)
    assert off.largest_lag_seconds is not None
    assert off.largest_lag_seconds > 1
    assert off.largest_unseen is not None
    assert off.largest_unseen > 300
    assert off.end_to_end_ms
    assert again.end_to_end_ms
    assert off.end_to_end_ms.max > 1000
    assert again.end_to_end_ms.p50 < off.end_to_end_ms.p50
    assert trial.verdict.expected_events == 1200
    assert "| no reading " in printed


def test_readers_that_pause_to_the_end_read_the_rest_afterwards(bench: Bench, address: str) -> None:
    file = write(
        bench, phase(100, "0.5s"), phase(10, "3s", read="false"), head=HEAD.replace("timeout = 2", "timeout = 1")
    )
    trial, _ = carried_out(bench, address, file, "--log", "lock-drain")
    assert trial.reads[0].events == trial.verdict.expected_events == 81


def test_a_phase_in_which_nothing_is_offered(bench: Bench, address: str) -> None:
    file = write(bench, phase(200, "0.5s"), phase(0, "1s"), phase(200, "0.5s"))
    trial, _ = carried_out(bench, address, file, "--log", "lock-drain", "--arrival", "poisson")
    assert trial.load_phases[1].offered_per_second == 0
    assert trial.load_phases[1].append_ms is None
    assert trial.load_phases[1].end_to_end_ms is None or trial.load_phases[0].end_to_end_ms


def started(bench: Bench, address: str, kind: str, seconds: int = 60) -> "subprocess.Popen[str]":
    """A run that holds a transaction of this kind open for some time, when it does."""
    file = write(bench, phase(100, f"{seconds}s", open_transaction=f"'{kind}'"), phase(100, "1s"))
    running = bench.start("run", "--place", "local", "--dsn", address, "--log", "bigserial", "--spec", str(file))
    query = {
        "prepared": "SELECT count(*) > 0 FROM pg_prepared_xacts WHERE database = current_database()",
        "in another database": "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname LIKE 'bench_elsewhere%'"
        " AND state = 'idle in transaction'",
    }[kind]
    with psycopg.connect(address, autocommit=True) as looking:
        wait_until(lambda: looking.execute(query.encode()).fetchone() == (True,), running)
    return running


@pytest.mark.parametrize("kind", ["prepared", "in another database"])
def test_an_interrupted_run_leaves_nothing_open(bench: Bench, address: str, kind: str) -> None:
    running = started(bench, address, kind)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert left(address) == []


@pytest.mark.parametrize("kind", ["prepared", "in another database"])
def test_a_run_that_loses_a_worker_leaves_nothing_open(bench: Bench, address: str, kind: str) -> None:
    running = started(bench, address, kind)
    worker = next(each for each in bench.processes("producers") if not each.children())
    worker.kill()
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 3, stderr
    assert left(address) == []


@pytest.mark.parametrize("kind", ["prepared", "in another database"])
def test_what_a_killed_run_left_open_is_ended_by_clean(bench: Bench, address: str, kind: str) -> None:
    running = started(bench, address, kind)
    running.kill()
    running.communicate()
    with psycopg.connect(address, autocommit=True) as looking:
        alive = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'bench %'"
        wait_until(lambda: looking.execute(alive).fetchone() == (0,))
    assert left(address)
    cleaned = bench("clean", "--dsn", address)
    assert cleaned.returncode == 0, cleaned.stderr
    assert left(address) == []


def test_a_session_that_somebody_ends_in_its_phase_ends_the_run(bench: Bench, address: str) -> None:
    running = started(bench, address, "in another database", seconds=4)
    with psycopg.connect(address, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'bench_elsewhere%'")
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 3, stderr
    assert "phase 1" in stderr
    assert "in another database" in stderr
    assert left(address) == []


def test_a_server_of_our_own_allows_prepared_transactions_unless_told_otherwise(bench: Bench) -> None:
    file = write(bench, phase(100, "0.5s"), phase(100, "1s", open_transaction="'prepared'"))
    words = ("run", "--place", "local", "--spec", str(file), "--log", "lock-drain")
    ran = bench(*words)
    assert ran.returncode == 0, ran.stderr
    refused = bench(*words, "--set", "max_prepared_transactions=0")
    assert refused.returncode == 2
    assert "phase 2" in refused.stderr
    assert "max_prepared_transactions" in refused.stderr
