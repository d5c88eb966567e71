"""A run and its server: workers that land elsewhere do nothing there, and neighbours are left alone."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench import eventlog, statements
from bench.errors import InfrastructureError
from bench.job import Job
from bench.judge.ranges import events_in
from bench.places.api import Messages, StartWorkers
from bench.places.dsn import variables
from bench.places.local import postgres as embedded
from bench.places.local import workers
from bench.postgres import install
from bench.postgres.barrier import cancel, terminate
from bench.postgres.connection import Connection, connected, our_name, pinned
from bench.postgres.server import session_settings
from bench.postgres.telemetry import observer
from bench.report.progress import watch
from bench.results.tracks import APPEND
from bench.run.jobs import consumers, producers
from bench.run.phase import Plan, carry_out
from bench.run.verdict import written_by
from bench.specfile import make
from bench.worker import connect
from consumer.__main__ import consume
from tests.conftest import Bench, wait_until

BIGSERIAL = eventlog.load("bigserial")
SPEC = make({"scale": 2, "limit": 10, "insert_batch": 1}, None)
APPENDING = Plan({APPEND: producers(SPEC, BIGSERIAL)}, 20, 5)


@pytest.fixture
def neighbour(server: str, connection: Connection) -> Iterator[Connection]:
    """Another database of the same server, with a log in it that a killed run left."""
    name = f"next_{connection.info.dbname}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            with connected(make_conninfo(server, dbname=name)) as there:
                install.make_schema(there, "left")
                install.install(there, BIGSERIAL)
                yield there
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def starting(log: Connection) -> Iterator[Callable[[str], StartWorkers]]:
    """Makes a way to start workers that connect to the database of this name."""
    with workers.forkserver() as forkserver:

        def starting_on(dbname: str) -> StartWorkers:
            environment, _ = variables(make_conninfo(log.info.dsn, dbname=dbname))
            return partial(workers.start_workers, forkserver, environment)

        yield starting_on


def events_in_log(connection: Connection) -> int:
    row = connection.execute(f"SELECT count(*) FROM {statements.SCHEMA}.events_log".encode()).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.parametrize("jobs", [producers(SPEC, BIGSERIAL), consumers(SPEC, BIGSERIAL, 10)])
def test_workers_that_reach_another_server_end_the_run_before_they_do_anything(
    log: Connection, neighbour: Connection, starting: Callable[[str], StartWorkers], jobs: Sequence[Job]
) -> None:
    with pytest.raises(InfrastructureError) as refused:
        carry_out(Plan({APPEND: jobs}, 20, 5), starting(neighbour.info.dbname), log, watch(quiet=True))
    words = str(refused.value)
    assert "it reached another server than the orchestrator" in words
    assert f"database {neighbour.info.dbname} (oid" in words
    assert f"not database {log.info.dbname} (oid" in words
    assert "give an address that leads every machine to the same server" in words
    assert events_in_log(neighbour) == 0


def test_a_worker_that_does_not_look_where_it_is_is_found_out_before_the_gate_opens(
    log: Connection, neighbour: Connection, starting: Callable[[str], StartWorkers]
) -> None:
    @contextmanager
    def careless(jobs: Sequence[Job]) -> Iterator[Messages]:
        with starting(neighbour.info.dbname)([replace(job, server="", barrier=1) for job in jobs]) as messages:
            yield messages

    neighbour.execute("SELECT pg_advisory_lock(1)")
    with pytest.raises(InfrastructureError, match=f"its session has server = 'database {neighbour.info.dbname} "):
        carry_out(APPENDING, careless, log, watch(quiet=True))
    assert events_in_log(neighbour) == 0


def test_workers_on_the_right_server_do_their_work(log: Connection, starting: Callable[[str], StartWorkers]) -> None:
    appended = carry_out(APPENDING, starting(log.info.dbname), log, watch(quiet=True))[APPEND]
    assert sum(worker.report.events for worker in appended.reported) == events_in_log(log) == 20


def test_producers_by_time_that_must_end_report_what_they_did(
    log: Connection, starting: Callable[[str], StartWorkers]
) -> None:
    spec = make({"scale": 2, "duration": "1h", "insert_batch": 3}, None)
    plan = Plan({APPEND: producers(spec, BIGSERIAL)}, None, 5, must_end=lambda: events_in_log(log) > 100)
    appended = carry_out(plan, starting(log.info.dbname), log, watch(quiet=True))[APPEND]
    written = written_by(appended)
    assert events_in(written.acknowledged) == events_in_log(log) > 100
    assert sum(worker.seq_limit for worker in appended.workers) == events_in_log(log)


@pytest.fixture
def own_environment(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(log.info.dsn)[0].items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("own_environment")
def test_a_member_that_joins_again_on_another_server_ends(
    log: Connection, neighbour: Connection, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for connection in (log, neighbour):
        connection.execute(f"SET search_path TO {statements.SCHEMA}".encode())
        connection.execute("SELECT log_event(json_agg(json_build_object('producer', 0, 'seq', i, 'value', i)))"
                           " FROM generate_series(0, 9) AS i")  # fmt: skip
    job = replace(consumers(SPEC, BIGSERIAL, 2)[0], rejoin_pages=2, server=session_settings(log)["server"])
    with connect(job) as first:
        monkeypatch.setenv("PGDATABASE", neighbour.info.dbname)
        with pytest.raises(SystemExit, match="it reached another server than the orchestrator"):
            consume(first, job)
    capfd.readouterr()  # the records that it printed


def test_where_a_list_of_hosts_led_can_be_named(connection: Connection) -> None:
    host = conninfo_to_dict(connection.info.dsn)["host"]
    several = make_conninfo(connection.info.dsn, host=f"/nowhere,{host}", port="1,5432")
    with connected(several) as reached:
        assert conninfo_to_dict(pinned(reached, several))["host"] == host
        with connected(pinned(reached, several)) as again:
            assert session_settings(again)["server"] == session_settings(reached)["server"]


@contextmanager
def asleep(dsn: str, application_name: str) -> Iterator[threading.Event]:
    """A session that sleeps on the server; yields an event that is set when it has ended."""
    over = threading.Event()
    with psycopg.connect(dsn, autocommit=True, application_name=application_name) as session:

        def sleep() -> None:
            try:
                session.execute("SELECT pg_sleep(60)")
            except psycopg.Error:
                over.set()

        sleeper = threading.Thread(target=sleep)
        sleeper.start()
        try:
            with psycopg.connect(dsn, autocommit=True) as looking:
                sleeps = "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
                wait_until(lambda: looking.execute(sleeps, [session.info.backend_pid]).fetchall())
            yield over
        finally:
            session.cancel()
            sleeper.join()


@contextmanager
def busy(dsn: str) -> Iterator[None]:
    """A session that computes."""
    with psycopg.connect(dsn, autocommit=True, application_name="psql") as session:

        def compute() -> None:
            with suppress(psycopg.errors.QueryCanceled):
                session.execute("SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")

        working = threading.Thread(target=compute)
        working.start()
        try:
            yield
        finally:
            session.cancel()
            working.join()


@pytest.mark.parametrize("end", [cancel, terminate])
def test_only_workers_of_the_own_database_are_ended(
    log: Connection, neighbour: Connection, end: Callable[[Connection, Sequence[str]], None]
) -> None:
    with (
        asleep(log.info.dsn, our_name(log, "consumer-1000")) as ours,
        asleep(log.info.dsn, our_name(log, "consumer-10")) as another,
        asleep(log.info.dsn, "bench consumer-1000") as somebody,
        asleep(neighbour.info.dsn, our_name(log, "consumer-1000")) as theirs,
    ):
        end(log, ["consumer-1000"])
        assert ours.wait(10)
        assert neighbour.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'bench%consumer%' AND state = 'active'"
        ).fetchone() == (3,)
        assert not another.is_set()
        assert not somebody.is_set()
        assert not theirs.is_set()


def test_what_a_neighbour_waits_for_is_not_ours(log: Connection, neighbour: Connection) -> None:
    with (
        asleep(neighbour.info.dsn, our_name(log, "consumer-1000")),
        asleep(neighbour.info.dsn, "psql"),
        observer(log.info.dsn, log, lambda: None) as watching,
        watching.observe(),
    ):
        wait_until(lambda: watching.samples >= 2)
    assert watching.seen is not None
    assert not [what for _, what in watching.seen.waits if "PgSleep" in what]


def test_what_a_neighbour_does_is_seen(log: Connection, neighbour: Connection) -> None:
    with observer(log.info.dsn, log, lambda: None) as watching:
        with watching.observe():
            with psycopg.connect(neighbour.info.dsn) as session:  # which tells what it did when it ends
                session.execute("CREATE TABLE many AS SELECT generate_series(1, 200000)")
            with busy(log.info.dsn):
                seen_so_far = watching.samples
                wait_until(lambda: watching.samples >= seen_so_far + 3)
        assert watching.seen is not None
        assert watching.seen.counters["rows_elsewhere"] >= 200_000
        assert watching.seen.counters["looks_with_others"] >= 2


def test_a_neighbours_workers_are_not_waited_for(
    log: Connection, neighbour: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(seconds: float) -> None:
        pytest.fail(f"it waits, for {seconds} s at first")

    monkeypatch.setattr("bench.postgres.telemetry.time.sleep", wait)
    with (
        asleep(neighbour.info.dsn, our_name(log, "consumer-1000")),
        observer(log.info.dsn, log, lambda: None) as watching,
        watching.observe(),
    ):
        pass
    assert watching.seen is not None


def test_a_setting_that_a_server_is_not_given_ends_the_run(bench: Bench, short_folder: Path) -> None:
    programs = embedded.binaries(None).folder
    folder = short_folder / "deaf"
    folder.mkdir()
    (folder / "initdb").symlink_to(programs / "initdb")
    (folder / "postgres").write_text(
        f"""#!/bin/sh
        for word do shift; case $word in --shared_buffers=*) ;; *) set -- "$@" "$word" ;; esac; done
        exec {programs}/postgres "$@"
        """
    )
    (folder / "postgres").chmod(0o755)
    words = ("--place", "local", "--pg-bin", str(folder), "--scale", "1", "--limit", "10", "--set", "work_mem=5120kB")
    ran = bench("run", *words, "--set", "shared_buffers=33MB")
    assert ran.returncode == 3
    assert "--set shared_buffers=33MB had no effect: the server has 128MB; does the image's entrypoint" in ran.stderr
    assert "append" not in ran.stderr
    assert bench("run", *words).returncode == 0
