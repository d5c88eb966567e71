"""What happens to sessions: ours keep the user's timeouts to the log, end with the orchestrator, and leave nothing."""

import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from bench import eventlog
from bench.errors import InfrastructureError, UsageError
from bench.job import encode_job
from bench.places import dsn
from bench.places.local import postgres as embedded
from bench.postgres import install
from bench.postgres.barrier import ALIVE, START, hold_lock
from bench.postgres.connection import Connection, connected, limited, refuse_lost
from bench.results import store
from bench.run.jobs import producers
from bench.spec import Spec
from bench.statements import SCHEMA
from bench.worker import connect, give_back_timeouts
from tests.conftest import Bench, broken_log, read_until, wait_until

RAISES = "CREATE FUNCTION uninstall_log() RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'the slot is in use'; END $$;"
SMALL = ("run", "--place", "local", "--scale", "1", "--limit", "100", "--insert-batch", "10")


@pytest.fixture
def own(server: str) -> Iterator[str]:
    """A database of the test's own for a whole run, with a role of its own."""
    name = f"own_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        yield make_conninfo(server, dbname=name)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def schemas(dsn: str) -> int:
    with psycopg.connect(dsn) as looking:
        row = looking.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [SCHEMA]).fetchone()
    return int(row[0]) if row else 0


def sessions(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as looking:
        return [
            name
            for (name,) in looking.execute(
                "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        ]


def await_no_sessions(dsn: str) -> None:
    wait_until(lambda: not sessions(dsn))


@pytest.mark.parametrize("code", ["", "USING ERRCODE = 'object_in_use'"])
def test_a_log_that_cannot_be_uninstalled_costs_no_verdict_and_no_later_run(bench: Bench, own: str, code: str) -> None:
    how = RAISES.replace("in use';", f"in use' {code};")
    ran = bench(*SMALL, "--dsn", own, "--log", str(broken_log(bench.folder / "log", how)), "--export-json", "r.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert store.load(bench.folder / "r.json").ok
    assert "uninstall_log() failed: the slot is in use" in ran.stderr
    assert schemas(own) == 0
    assert bench(*SMALL, "--dsn", own).returncode == 0


def test_the_error_of_a_trial_is_not_hidden_by_that_of_its_clearing_away(bench: Bench, own: str) -> None:
    how = RAISES + "DROP FUNCTION get_event(text, bigint); DROP FUNCTION get_event(bigint, bigint);"
    ran = bench(*SMALL, "--dsn", own, "--log", str(broken_log(bench.folder / "log", how)))
    assert ran.returncode == 2
    assert "does not define get_event" in ran.stderr
    assert schemas(own) == 0


def test_who_is_in_the_way_of_the_drop_is_named_and_the_verdict_is_there_first(bench: Bench, own: str) -> None:
    running = bench.start(*SMALL, "--dsn", own, "--transaction-ms", "50..50", "--export-json", "r.json")
    read_until(running, "append: 1 producer started")
    with psycopg.connect(own, application_name="somebody's pg_dump") as peeking:
        peeking.execute(f"SELECT count(*) FROM {SCHEMA}.events_log".encode())
        pid = peeking.info.backend_pid
        stdout, stderr = running.communicate(timeout=120)
    assert running.returncode == 0, stderr
    assert "verdict: ok" in stdout
    assert f"pid {pid} (somebody's pg_dump" in stderr
    assert f"the schema {SCHEMA} is left in the database" in stderr
    assert schemas(own) == 1
    assert bench(*SMALL, "--dsn", own).returncode == 0
    assert schemas(own) == 0


def test_a_run_whose_own_session_is_ended_leaves_nothing(bench: Bench, own: str) -> None:
    running = bench.start(*SMALL, "--dsn", own, "--transaction-ms", "60000..60000")
    read_until(running, "append: 1 producer started")
    with psycopg.connect(own, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name ~ '^bench [0-9]+$'"
        )
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 3
    assert "terminating connection due to administrator command" in stderr
    assert schemas(own) == 0
    await_no_sessions(own)


@pytest.mark.parametrize("words", [("--limit", "10000000"), ("--transaction-ms", "60000..60000")])
def test_workers_end_when_their_orchestrator_is_killed(bench: Bench, own: str, words: tuple[str, ...]) -> None:
    running = bench.start(*SMALL, "--dsn", own, *words)
    read_until(running, "append: 1 producer started")
    running.send_signal(signal.SIGKILL)
    running.wait()
    await_no_sessions(own)
    assert bench(*SMALL, "--dsn", own).returncode == 0


def test_a_worker_looks_for_itself_whether_its_orchestrator_lives(log: Connection) -> None:
    """Without a socket or a pipe that would tell it, and while a statement of its own waits."""
    (job,) = producers(
        Spec.model_validate({"scale": 1, "insert_batch": 1, "insert_loops": 10}), eventlog.load("bigserial")
    )
    job = replace(job, alive=ALIVE, session="bench 1 waiting")
    variables, _ = dsn.variables(log.info.dsn)
    with psycopg.connect(log.info.dsn, autocommit=True) as orchestrator, hold_lock(log, START) as lift:
        orchestrator.execute("SELECT pg_advisory_lock(%s)", [ALIVE])
        worker = subprocess.Popen(
            [sys.executable, "-m", "producers"],
            env={**variables, "BENCH_JOB": encode_job(job).decode(), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith('{"record":"ready"')
        log.execute("BEGIN")
        log.execute("LOCK TABLE events_log IN ACCESS EXCLUSIVE MODE")
        lift()
        stands = "SELECT FROM pg_stat_activity WHERE application_name = 'bench 1 waiting'"
        wait_until(lambda: orchestrator.execute(f"{stands} AND wait_event = 'relation'".encode()).fetchall(), worker)
    _, complaint = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert "the orchestrator is gone" in complaint
    wait_until(lambda: not log.execute(stands.encode()).fetchall())
    log.execute("ROLLBACK")


def test_timeouts_of_a_role_end_nothing_of_ours(bench: Bench, own: str) -> None:
    slow = (
        "statement_timeout=150ms lock_timeout=150ms idle_session_timeout=150ms idle_in_transaction_session_timeout=1s"
    )
    options = " ".join(f"-c {each}" for each in slow.split())
    ran = bench(
        *SMALL, "--scale", "6", "--limit", "3000", "--dsn", make_conninfo(own, options=options), "--mode", "drain"
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_worker_is_under_no_timeout_of_the_role_until_it_is_given_back(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in dsn.variables(connection.info.dsn)[0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGOPTIONS", "-c idle_session_timeout=100s")
    (job,) = producers(Spec.model_validate({"scale": 1}), eventlog.load("bigserial"))
    with connect(job) as session:
        assert session.execute("SHOW idle_session_timeout").fetchone() == ("0",)
        give_back_timeouts(session)
        assert session.execute("SHOW idle_session_timeout").fetchone() == ("100s",)


def test_a_timeout_of_the_role_that_ends_a_read_is_told_as_such(bench: Bench, own: str) -> None:
    slow = """CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
        RETURNS SETOF events_log LANGUAGE plpgsql AS $$ BEGIN
          IF last_etag >= 50 THEN PERFORM pg_sleep(30); END IF;
          RETURN QUERY SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0)
          ORDER BY e.etag LIMIT max_events;
        END $$;"""
    folder = str(broken_log(bench.folder / "slow", slow))
    address = make_conninfo(own, options="-c statement_timeout=700ms")
    ran = bench(*SMALL, "--dsn", address, "--log", folder, "--read-batch", "10")
    assert ran.returncode == 1, ran.stderr
    assert "50 withheld" in ran.stdout
    assert "a read was ended by statement_timeout, which is 700 ms in its session" in " ".join(ran.stdout.split())


@pytest.mark.parametrize(
    ("setting", "flags", "body"),
    [
        ("statement_timeout=700ms", (), "PERFORM pg_sleep(30)"),
        ("lock_timeout=300ms", ("--scale", "2"), "PERFORM pg_advisory_xact_lock(42), pg_sleep(30)"),
        ("idle_in_transaction_session_timeout=300ms", ("--transaction-ms", "900"), "NULL"),
    ],
)
def test_a_timeout_of_the_role_that_ends_an_append_is_told_as_such(
    bench: Bench, own: str, setting: str, flags: tuple[str, ...], body: str
) -> None:
    log = f"""ALTER FUNCTION log_event(json) RENAME TO original; CREATE FUNCTION log_event(event json)
        RETURNS SETOF events_log LANGUAGE plpgsql AS
        $$ BEGIN {body}; RETURN QUERY SELECT * FROM original(event); END $$"""
    folder = str(broken_log(bench.folder / "slow", log))
    ran = bench(*SMALL, *flags, "--dsn", make_conninfo(own, options=f"-c {setting}"), "--log", folder)
    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert f"({setting.replace('=', ' is ')}: a setting of the role, the database or the server)" in ran.stderr


@pytest.mark.parametrize("way", ["option", "role"])
def test_read_only_sessions_are_refused(bench: Bench, own: str, way: str) -> None:
    address = make_conninfo(own, options="-c default_transaction_read_only=on")
    if way == "role":
        with psycopg.connect(own, autocommit=True) as admin:
            name = admin.info.dbname
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only TO on".encode())
        address = own
    ran = bench(*SMALL, "--dsn", address)
    assert ran.returncode == 3
    assert "read_only is on" in ran.stderr
    assert "internal error" not in ran.stderr


def test_read_only_by_a_flag_is_bad_input(bench: Bench) -> None:
    ran = bench(*SMALL, "--set", "default_transaction_read_only=on")
    assert ran.returncode == 2
    assert "--set default_transaction_read_only" in ran.stderr


def test_another_run_is_named(connection: Connection) -> None:
    log, says = eventlog.load("bigserial"), f"pid {connection.info.backend_pid}"
    with (
        install.installed(connection, log, "first"),
        connected(connection.info.dsn) as second,
        pytest.raises(InfrastructureError, match=says),
        install.installed(second, log, "second"),
    ):
        pass


def test_nothing_waits_longer_than_it_is_let(connection: Connection) -> None:
    with pytest.raises(psycopg.OperationalError), limited(connection, 0.2):
        connection.execute("SELECT pg_sleep(60)")
    assert connection.broken


def test_a_connection_that_is_gone_is_noticed_without_asking(connection: Connection, server: str) -> None:
    refuse_lost(connection)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    assert select.select([connection.fileno()], [], [], 60)[0]
    with pytest.raises(psycopg.OperationalError, match="administrator command"):
        refuse_lost(connection)


def test_settings_of_the_log_that_forbid_writing(connection: Connection) -> None:
    log = eventlog.load("bigserial")
    connection.execute("SET default_transaction_read_only TO on")
    asks = log.model_copy(update={"settings": {"default_transaction_read_only": "on"}})
    with pytest.raises(UsageError, match="nothing can be appended"), install.installed(connection, asks, "r"):
        pass


def test_a_standby_is_refused_before_anything_starts(bench: Bench, short_folder: Path) -> None:
    folder = short_folder / "standby"
    folder.mkdir(mode=0o711)
    programs = embedded.binaries(None)
    embedded.init(programs, folder)
    (folder / "data" / "standby.signal").touch()
    standby = embedded.start(programs, folder, {"hot_standby": "on"})
    try:
        embedded.await_answer(standby, folder)
        ran = bench(*SMALL, "--dsn", embedded.conninfo(folder))
        checked = bench("logs", "check", "bigserial", "--dsn", embedded.conninfo(folder))
    finally:
        standby.terminate()
        standby.wait()
    for each in (ran, checked):
        assert each.returncode == 3, each.stderr
        assert "it is a standby" in each.stderr
        assert "primary" in each.stderr
