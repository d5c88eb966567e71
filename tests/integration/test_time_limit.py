"""A run that does not go on: it says what it waits for, and a time limit ends it."""

import signal
from collections.abc import Callable

import psutil
import pytest

from bench.postgres.connection import Connection, name_session, our_name
from bench.run import waiting
from tests.conftest import Bench, broken_log, read_until, wait_until

SMALL = ("run", "--place", "local", "--scale", "1", "--insert-batch", "10", "--idle-timeout", "1")
FULL = """
    CREATE OR REPLACE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_sleep(600); END $$;"""
"""A log whose appends wait for room that nobody makes."""


def test_a_time_limit_ends_a_run_that_waits_for_ever(bench: Bench, address: str) -> None:
    log = broken_log(bench.folder / "full", FULL)
    ran = bench(*SMALL, "--dsn", address, "--log", str(log), "--limit", "100", "--time-limit", "2.5s", timeout=60)
    assert ran.returncode == 3, ran.stderr
    assert (
        "bench: the time limit was reached (append: 0 events, 0 of 1 worker done; producer-0: its state" in ran.stderr
    )
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
    words = ("--limit", "10000", "--insert-batch", "1", "--set", "fsync=off", "--time-limit", "600")
    running = bench.start(*SMALL, *words)
    read_until(running, "append: 1 producer started")
    stopped = processes(bench)
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    read_until(running, "nothing new for", says)
    for process in stopped:
        process.send_signal(signal.SIGCONT)
    stdout, stderr = running.communicate(timeout=600)
    assert running.returncode == 0, stderr
    assert "verdict: ok" in stdout


def test_a_worker_for_which_the_server_waits_is_named_once_while_others_go_on(
    log: Connection, another: Callable[[], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "SECONDS", 0)
    monkeypatch.setattr(waiting, "SILENT_SECONDS", 0)
    stopped, busy = another(), another()
    for session, worker in ((stopped, "producer-0"), (busy, "producer-1")):
        name_session(session, our_name(log, worker))
    busy.pgconn.send_query(b"SELECT pg_sleep(600)")
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = %s"
    wait_until(lambda: log.execute(at_work, [busy.info.backend_pid]).fetchone() == (1,))

    def said(silence: waiting.Silence, *others: int) -> list[str]:
        still = [("producer-0", 5), ("producer-1", 5), ("producer-2", 5)]
        return [silence.news([*still, ("producer-3", events)]) for events in others]

    first, told, *again = said(waiting.Silence(log, lambda: 0.0), 1, 2, 3)
    assert (first, again) == ("", [""])
    assert "producer-0: the server has been waiting for it for " in told
    assert "; producer-2: no session on the server" in told
    assert "producer-1" not in told, "its statement is at work"
    assert said(waiting.Silence(log, lambda: 0.0), 1, 1, 1) == [""] * 3, "nobody goes on"
    busy.cancel()
