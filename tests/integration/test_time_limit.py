"""A run that does not go on: it says what it waits for, and a time limit ends it."""

import signal
from collections.abc import Callable

import psutil
import pytest

from tests.conftest import Bench, broken_log, read_until

SMALL = ("run", "--place", "local", "--scale", "1", "--insert-batch", "10", "--idle-timeout", "1")
FULL = """
    CREATE OR REPLACE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_sleep(600); END $$;"""
"""A log whose appends wait for room that nobody makes."""


def test_a_time_limit_ends_a_run_that_waits_for_ever(bench: Bench, address: str) -> None:
    log = broken_log(bench.folder / "full", FULL)
    ran = bench(*SMALL, "--dsn", address, "--log", str(log), "--limit", "100", "--time-limit", "2.5s", timeout=60)
    assert ran.returncode == 3, ran.stderr
    assert "bench: the time limit is over (append: 0 events, 0 of 1 worker done; producer-0: its state" in ran.stderr
    assert "waiting for PgSleep); everything that was started is stopped" in ran.stderr
    assert bench.processes() == []


def postgres(bench: Bench) -> list[psutil.Process]:
    (postmaster,) = [each for each in bench.processes("postgres") if str(bench.home) in " ".join(each.cmdline())]
    return [postmaster, *postmaster.children(recursive=True)]


def producer(bench: Bench) -> list[psutil.Process]:
    return [each for each in bench.processes("producers") if not each.children()]


@pytest.mark.parametrize(
    ("processes", "says"),
    [(postgres, "PostgreSQL does not answer"), (producer, "producer-0: the server has been waiting for it")],
)
def test_what_stands_still_is_named(
    bench: Bench, processes: Callable[[Bench], list[psutil.Process]], says: str
) -> None:
    running = bench.start(*SMALL, "--limit", "10000", "--insert-batch", "1", "--time-limit", "60")
    read_until(running, "append: 1 producer started")
    stopped = processes(bench)
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    read_until(running, "nothing new for", says)
    for process in stopped:
        process.send_signal(signal.SIGCONT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 0, stderr
    assert "verdict: ok" in stdout
