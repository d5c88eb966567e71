"""Random pauses inside statements, on a real server: a rare race is found, and nothing of them stays."""

import signal
from pathlib import Path

import psycopg
import pytest

from bench import eventlog
from bench.errors import InfrastructureError
from bench.postgres import install, pauses
from bench.postgres.connection import Connection
from bench.results import store
from bench.statements import PAUSES, SCHEMA
from tests.conftest import Bench, broken_log, read_until, write_log
from tests.integration.test_bugs import planted

RUN = ("run", "--place", "local", "--mode", "tail", "--insert-batch", "1", "--idle-timeout", "0.5")
SHORT = (*RUN, "--scale", "4", "--limit", "100")
LONG = (*RUN, "--scale", "2", "--limit", "1000000")
PAUSE = ("--pause", "0..5ms", "--seed", "1")
BIGSERIAL = eventlog.load("bigserial")


def schemas(address: str) -> list[str]:
    """The schemas of a run that are in a database."""
    with psycopg.connect(address) as looking:
        rows = looking.execute("SELECT nspname FROM pg_namespace WHERE nspname ~ '^bench' ORDER BY 1")
        return [str(name) for (name,) in rows]


def test_a_rare_race_is_found_and_publishes_no_rate(bench: Bench, address: str) -> None:
    log = planted(bench.folder / "late-lock", "late-lock")
    ran = bench(*SHORT, *PAUSE, "--dsn", address, "--log", str(log), "--export-json", "result.json")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "verdict: FAILED, with pauses of 0..5 ms" in ran.stdout
    assert store.load(bench.folder / "result.json").trials[0].verdict.skipped
    assert schemas(address) == []


@pytest.mark.parametrize("log", ["advisory-lock", "lock-drain"])
def test_a_right_log_stays_ok_and_is_no_measure_of_speed(bench: Bench, address: str, log: str) -> None:
    ran = bench(*SHORT, *PAUSE, "--dsn", address, "--log", log, "--export-json", "result.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "verdict: ok, with pauses of 0..5 ms" in ran.stdout
    (trial,) = store.load(bench.folder / "result.json").trials
    assert trial.pause_ms == (0, 5)
    assert {trial.append.events_per_second, *(read.events_per_second for read in trial.reads)} == {None}
    assert schemas(address) == []
    for words in (("compare", "result.json", "result.json"), ("baseline", "save", "main", "result.json")):
        refused = bench(*words)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "--pause" in refused.stderr


def test_nothing_is_left_after_an_interrupt(bench: Bench, address: str) -> None:
    running = bench.start(*LONG, *PAUSE, "--dsn", address)
    read_until(running, "append: 2 producers started")
    assert schemas(address) == [SCHEMA, PAUSES]
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert schemas(address) == []


@pytest.mark.parametrize("next_command", [("clean",), (*SHORT, "--limit", "10", "--mode", "drain")])
def test_what_a_killed_run_leaves_goes_with_the_next_command(
    bench: Bench, address: str, next_command: tuple[str, ...]
) -> None:
    running = bench.start(*LONG, *PAUSE, "--dsn", address)
    read_until(running, "append: 2 producers started")
    running.kill()
    running.communicate()
    assert schemas(address) == [SCHEMA, PAUSES]
    ran = bench(*next_command, "--dsn", address)
    assert ran.returncode == 0, ran.stderr
    assert schemas(address) == []


def test_functions_that_cannot_be_paused_inside_are_named(bench: Bench, address: str) -> None:
    log = broken_log(
        bench.folder / "aside",
        "CREATE FUNCTION aside() RETURNS bigint LANGUAGE sql SET search_path = bench AS $$ SELECT 1::bigint $$;",
    )
    ran = bench(*SHORT, "--limit", "10", *PAUSE, "--mode", "drain", "--dsn", address, "--log", str(log))
    assert ran.returncode == 0, ran.stderr
    assert "cannot be paused inside aside(): it has a search_path" in ran.stderr


def test_only_sessions_that_are_to_pause_do(connection: Connection) -> None:
    with install.installed(connection, BIGSERIAL, "test"):
        pauses.add(connection, BIGSERIAL, "test")
        appended = "SELECT current_setting('bench_pause.calls', true) FROM log_event('[{}, {}]')"
        with connection.transaction():
            assert connection.execute(appended).fetchall() == [(None,), (None,)]
        connection.execute(pauses.session_sql((0, 1), 1, "producer-0").encode())
        with connection.transaction():
            connection.execute(appended)
            assert connection.execute("SELECT current_setting('bench_pause.calls')").fetchone() == ("4",)
        assert connection.execute("SELECT current_schema()").fetchone() == (SCHEMA,)


def test_the_schema_of_somebody_else_is_not_touched(connection: Connection) -> None:
    connection.execute(f"CREATE SCHEMA {PAUSES}".encode())
    with install.installed(connection, BIGSERIAL, "test"), pytest.raises(InfrastructureError, match=PAUSES):
        pauses.add(connection, BIGSERIAL, "test")
    assert schemas(connection.info.dsn) == [PAUSES]


def test_a_schema_that_a_run_left_alone_is_replaced(connection: Connection) -> None:
    install.make_schema(connection, f"{install.OURS}earlier", PAUSES)
    with install.installed(connection, BIGSERIAL, "test"):
        pauses.add(connection, BIGSERIAL, "test")
    assert schemas(connection.info.dsn) == []


def test_objects_that_a_log_makes_later_are_in_its_schema(connection: Connection, tmp_path: Path) -> None:
    text = "CREATE FUNCTION grow() RETURNS void LANGUAGE sql AS $$ CREATE TABLE grown (n int) $$;"
    log = eventlog.load(str(write_log(tmp_path / "growing", BIGSERIAL.schema_sql + text)))
    with install.installed(connection, log, "test"):
        pauses.add(connection, log, "test")
        connection.execute(pauses.session_sql((0, 1), 1, "producer-0").encode())
        connection.execute("SELECT grow()")
        assert connection.execute(f"SELECT to_regclass('{SCHEMA}.grown') IS NOT NULL".encode()).fetchone() == (True,)
