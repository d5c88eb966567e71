"""Readers that notifications wake: real runs with each log, and a reader that sleeps through events."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from bench import eventlog
from bench.job import ConsumerJob
from bench.judge.verdict import SleepingReader
from bench.postgres import install, notifications
from bench.postgres.barrier import ALIVE, CONSUMERS_MAY_STOP, hold_lock
from bench.postgres.connection import Connection
from bench.results import store
from bench.results.models import Trial
from bench.run.jobs import consumers
from bench.specfile import make
from bench.statement import Statement
from bench.statements import CHANNEL, SCHEMA
from bench.worker import Lifeline
from consumer.reader import Source, pages, source
from tests.conftest import Bench, read_until, wait_until, write_log
from tests.integration.test_workers import environment

BIGSERIAL = eventlog.load("bigserial")
SAFE = [name for name in eventlog.shipped() if eventlog.load(name).promises.tail]
GROUPS = [name for name in eventlog.shipped() if eventlog.load(name).group != "no"]
LOAD = ("--mode", "tail", "--scale", "4", "--insert-batch", "5", "--read-batch", "50", "--transaction-ms", "0..5")


def run(bench: Bench, address: str, *words: str, code: int = 0) -> tuple[Trial, str]:
    ran = bench("run", "--place", "local", "--dsn", address, "--export-json", "result.json", *words)
    assert ran.returncode == code, ran.stdout + ran.stderr
    (trial,) = store.load(bench.folder / "result.json").trials
    return trial, " ".join(ran.stdout.split())


@pytest.mark.parametrize("log", SAFE)
@pytest.mark.parametrize("flags", [("notify",), ("both", "--poll-interval", "0..20ms", "--abort-rate", "0.2")])
def test_a_reader_that_is_woken_is_given_everything_in_order(
    bench: Bench, address: str, log: str, flags: tuple[str, ...]
) -> None:
    trial, printed = run(bench, address, *LOAD, "--insert-loops", "20", "--log", log, "--wake", *flags)
    (read,) = trial.reads
    assert read.events == trial.verdict.expected_events > 0
    assert trial.verdict.sleeping == []
    assert (read.wake, read.poll_ms) == (flags[0], None if flags[0] == "notify" else (0, 20))
    assert "appended/s" in printed
    assert "delay p99 ms" in printed


@pytest.mark.parametrize("log", GROUPS)
def test_members_of_a_group_are_woken(bench: Bench, address: str, log: str) -> None:
    # A tailed bigserial log is right with one writer only.
    scale = ("--scale", "1", "--transaction-ms", "0") if log == "bigserial" else ()
    words = (*LOAD, "--insert-loops", "30", "--log", log, "--wake", "notify", *scale)
    trial, _ = run(bench, address, *words, "--group", "3", "--rejoin", "4", "--read-batch", "7")
    (read,) = trial.reads
    assert (read.members, read.events) == (3, trial.verdict.expected_events)


def test_a_named_client_is_woken(bench: Bench, address: str) -> None:
    words = (*LOAD, "--insert-loops", "30", "--log", "lock-drain", "--wake", "notify", "--cursor", "client")
    trial, _ = run(bench, address, *words, "--depth", "3")
    assert trial.reads[0].events == trial.verdict.expected_events == 600


def test_a_reader_that_thinks_is_given_everything(bench: Bench, address: str) -> None:
    words = ("--scale", "1", "--limit", "50", "--insert-batch", "5", "--read-batch", "5", "--consumer-think", "0..2ms")
    for mode in (("--mode", "drain"), ("--mode", "tail", "--wake", "notify")):
        trial, printed = run(bench, address, *words, *mode)
        assert trial.reads[0].events == 50
        assert "readers worked 0..2ms with each page" in printed


def asleep(looking: psycopg.Connection[tuple[str, str]]) -> Callable[[], bool]:
    """Make a function that returns whether the consumer has looked for its permission to stop several times, with no
    page in between."""
    query = (
        "SELECT query_start::text, query FROM pg_stat_activity "
        "WHERE application_name LIKE 'bench % consumer-%' AND datname = current_database()"
    )
    looks: set[str] = set()

    def is_asleep() -> bool:
        for started, statement in looking.execute(query.encode()):
            if "pg_try_advisory_lock_shared" in statement:
                looks.add(started)
            else:
                looks.clear()
        return len(looks) >= 3

    return is_asleep


def held_back(bench: Bench, address: str, *words: str) -> tuple[int, str]:
    """Run a log while a transaction holds all events back, which is rolled back when the last of them is committed and
    a reader that does not poll has fallen asleep; return exit code and output."""
    flags = ("--mode", "tail", "--scale", "2", "--limit", "50", "--insert-batch", "5", "--idle-timeout", "2")
    with psycopg.connect(address) as older, psycopg.connect(address, autocommit=True) as looking:
        running = bench.start(
            "run", "--place", "local", "--dsn", address, "--export-json", "result.json", *flags, *words
        )
        read_until(running, "append: starting")
        older.execute("SELECT pg_current_xact_id()")
        read_until(running, "append: 100 of 100 events")
        if "notify" in words:
            wait_until(asleep(looking), running)
        older.rollback()
        stdout, _ = running.communicate(timeout=60)
    return running.returncode, " ".join(stdout.split())


def test_a_reader_that_only_notifications_wake_is_caught_asleep(bench: Bench, address: str) -> None:
    code, printed = held_back(bench, address, "--log", "xid-horizon", "--wake", "notify")
    (trial,) = store.load(bench.folder / "result.json").trials
    assert code == 1
    assert trial.verdict.sleeping == [SleepingReader("consumer-1000", 100)]
    assert trial.verdict.by_reader == {"consumer-1000": {"overslept": 100}}
    assert (trial.verdict.withheld, trial.verdict.skipped, trial.reads[0].events) == (0, 0, 100)
    assert "stranded: woken by notifications alone" in printed
    assert "100 committed events were readable" in printed
    assert "--wake both" in printed


@pytest.mark.parametrize("wake", ["poll", "both"])
def test_a_reader_that_polls_as_well_is_not_accused(bench: Bench, address: str, wake: str) -> None:
    code, printed = held_back(bench, address, "--log", "xid-horizon", "--wake", wake)
    (trial,) = store.load(bench.folder / "result.json").trials
    assert code == 0, printed
    assert (trial.verdict.sleeping, trial.reads[0].events) == ([], 100)


def own_channel(folder: Path, body: str) -> Path:
    """Write a bigserial log whose own trigger does this, and whose log.toml names a channel."""
    trigger = f"""
        CREATE FUNCTION {CHANNEL}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$;
        CREATE TRIGGER {CHANNEL} AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION {CHANNEL}();"""
    return write_log(folder, BIGSERIAL.schema_sql + trigger, notify='"New events"')


ALONE = ("--mode", "tail", "--scale", "1", "--limit", "100", "--insert-batch", "5", "--transaction-ms", "2")


def test_a_log_may_notify_by_itself(bench: Bench, address: str) -> None:
    # Its trigger has the name of ours: a second one would be an error.
    folder = own_channel(bench.folder / "mine", "PERFORM pg_notify('New events', 'come')")
    trial, _ = run(bench, address, *ALONE, "--log", str(folder), "--wake", "notify")
    assert trial.reads[0].events == 100


def test_a_log_that_does_not_notify_as_it_says_leaves_its_reader_asleep(bench: Bench, address: str) -> None:
    folder = own_channel(bench.folder / "mine", "NOTIFY elsewhere")
    words = (*ALONE, "--log", str(folder), "--idle-timeout", "0.5")
    trial, printed = run(bench, address, *words, "--wake", "notify", code=1)
    (sleeping,) = trial.verdict.sleeping
    assert 0 < sleeping.events <= 100
    assert "stranded" in printed
    trial, _ = run(bench, address, *words, "--wake", "both")
    assert trial.verdict.sleeping == []


PARTS = """
    CREATE TABLE parts (
        etag bigserial, ctime timestamp DEFAULT clock_timestamp(), payload json, part int DEFAULT 0
    ) PARTITION BY LIST (part);
    CREATE TABLE part_0 PARTITION OF parts FOR VALUES IN (0);
    CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
    CREATE VIEW events_log AS SELECT etag, ctime, payload FROM parts;
    CREATE FUNCTION log_event(event json) RETURNS TABLE (etag bigint, ctime timestamp, payload json)
    LANGUAGE sql AS $$ INSERT INTO {into} (payload) SELECT event RETURNING etag, ctime, payload $$;
    CREATE FUNCTION get_event(last_etag bigint, max_events bigint)
    RETURNS TABLE (etag bigint, ctime timestamp, payload json)
    LANGUAGE sql AS $$ SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0) LIMIT max_events $$;"""


@pytest.mark.parametrize("into", ["parts", "part_0", "events_log"])
def test_writers_notify_whichever_table_they_insert_into(connection: Connection, tmp_path: Path, into: str) -> None:
    log = eventlog.load(str(write_log(tmp_path / "mine", PARTS.format(into=into), group='"no"')))
    with (
        install.installed(connection, log, "test"),
        psycopg.connect(connection.info.dsn, autocommit=True) as listener,
    ):
        notifications.add(connection, log)
        listener.execute(f"LISTEN {CHANNEL}".encode())
        connection.execute("SELECT log_event('{}')")
        assert [each.channel for each in listener.notifies(timeout=30, stop_after=1)] == [CHANNEL]


def test_a_log_without_a_table_of_its_own_must_notify_by_itself(bench: Bench, address: str, tmp_path: Path) -> None:
    schema = BIGSERIAL.schema_sql + "CREATE VIEW shown AS SELECT 1::bigint AS etag, '{}'::json AS payload;"
    folder = write_log(tmp_path / "mine", schema, table='"shown"', append='["log_event"]')
    ran = bench("run", "--place", "local", "--dsn", address, "--log", str(folder), *ALONE, "--wake", "notify")
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "log.toml: notify" in ran.stderr


@pytest.fixture
def session(log: Connection) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session as a worker has it, that listens."""
    with psycopg.connect(log.info.dsn, autocommit=True, options=f"-c search_path={SCHEMA}") as session:
        session.execute(f"LISTEN {CHANNEL}".encode())
        session.pgconn.nonblocking = 0
        yield session


@pytest.fixture(params=["wire", "libpq"])
def speaks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who speaks to the server: each test is done with both."""
    if request.param == "libpq":
        monkeypatch.setattr("consumer.reader.is_unencrypted", lambda _: False)
    return str(request.param)


def reader() -> ConsumerJob:
    return consumers(make({"scale": 1, "limit": 1000, "mode": "tail"}, None), BIGSERIAL, 10)[0]


NOTIFY = f"NOTIFY {CHANNEL}".encode()
LONG_SECONDS = 60.0


def test_a_notification_is_noticed_whenever_it_comes(
    log: Connection, session: psycopg.Connection[tuple[object, ...]], speaks: str
) -> None:
    reads = source(session, reader())
    given = pages(reads, reader(), Lifeline(session, reader()))
    another = Statement(session, "SELECT '1'")
    assert next(given).page.events == 0
    assert not reads.await_notification(0)
    # Between two pages.
    log.execute(NOTIFY)
    assert reads.await_notification(LONG_SECONDS)
    assert next(given).page.events == 0
    assert not reads.await_notification(0)
    # Taken in with the answer to another statement.
    log.execute(NOTIFY)
    wait_until(lambda: another.run().get_value(0, 0) == b"1" and reads.await_notification(0))
    assert next(given).page.events == 0
    # Many at once, longer than a buffer.
    log.execute(f"SELECT pg_notify('{CHANNEL}', repeat('x', 7000) || i) FROM generate_series(1, 100) AS i".encode())
    assert reads.await_notification(LONG_SECONDS)
    # With a page: the server sends it before the answer ends.
    log.execute("""INSERT INTO events_log (payload) VALUES ('{"seq":1}')""")
    log.execute(NOTIFY)
    while not next(given).page.events:
        pass
    while next(given).page.events:
        pass
    while reads.await_notification(0):
        assert next(given).page.events == 0


def test_a_notification_in_the_answer_of_an_empty_page_wakes(
    log: Connection, session: psycopg.Connection[tuple[object, ...]], speaks: str
) -> None:
    """It is sent while the page is read, and comes with the page: nothing more comes afterwards."""
    log.execute(
        """CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
           RETURNS SETOF events_log LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(77); END $$"""
    )
    reads = source(session, reader())
    with psycopg.connect(log.info.dsn) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(77)")
        reads.ask()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted"
        wait_until(lambda: log.execute(waiting).fetchone() == (1,))
        holder.execute(NOTIFY)
        holder.commit()
    assert reads.wait() == 0
    assert reads.await_notification(LONG_SECONDS)


def sleep_on(reads: Source) -> None:
    """Sleep until a notification comes."""
    while not reads.await_notification(LONG_SECONDS):
        pass


def test_a_reader_whose_session_is_ended_while_it_sleeps_says_why(
    log: Connection, session: psycopg.Connection[tuple[object, ...]], speaks: str
) -> None:
    reads = source(session, reader())
    reads.ask()
    assert reads.wait() == 0
    log.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
    # Between two answers libpq takes the server's last words for a notice: it knows only that the connection is gone.
    expected = psycopg.errors.AdminShutdown if speaks == "wire" else psycopg.OperationalError
    with pytest.raises(expected):
        sleep_on(reads)


def test_a_sleeping_reader_ends_with_its_orchestrator(log: Connection) -> None:
    (job,) = consumers(make({"scale": 1, "limit": 10, "mode": "tail", "wake": "notify"}, None), BIGSERIAL, 10)
    with (
        hold_lock(log, CONSUMERS_MAY_STOP),
        psycopg.connect(log.info.dsn, autocommit=True) as orchestrator,
        psycopg.connect(log.info.dsn, autocommit=True) as looking,
    ):
        orchestrator.execute("SELECT pg_advisory_lock(%s)", [ALIVE])
        process = subprocess.Popen(
            [sys.executable, "-m", "consumer"],
            env=environment(log, replace(job, alive=ALIVE, session="bench 1 consumer-10")),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(asleep(looking))
        orchestrator.close()  # which frees its lock
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr.strip()) == (1, "the orchestrator is gone")
