"""Sessions to which the server speaks unasked, while they append and read in each way: nothing is lost by it."""

import shutil
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import psycopg
import pytest

from bench import eventlog
from bench.job import ConsumerJob
from bench.paths import SQL
from bench.postgres.connection import Connection
from bench.run.jobs import consumers, producers
from bench.specfile import make
from bench.statement import copy_sender, prepare_append
from bench.statements import SCHEMA
from bench.worker import Lifeline
from consumer.reader import pages, source
from consumer.rows import columns
from producers.append import WAYS, Append
from tests.conftest import Bench, wait_until

WAYS_TO_SPEAK = ["wire", "libpq"]
BATCH = 5
NOISE_SQL = """
    CREATE SEQUENCE noises;
    CREATE TABLE styles (style text);
    CREATE FUNCTION noise() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        RAISE WARNING 'SELECT 7';
        PERFORM set_config('application_name', 'noise ' || nextval('noises'), false);
        PERFORM pg_notify('bench_log', repeat('long ', 100));
        EXECUTE 'LISTEN bench_log';
        INSERT INTO styles VALUES (current_setting('IntervalStyle'));
    END $$;
    CREATE FUNCTION noise_of_a_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE WARNING 'COPY 1';
        PERFORM noise();
        RETURN NULL;
    END $$;"""
APPEND_NOISE_SQL = """
    CREATE TRIGGER now AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION noise_of_a_row();
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON events_log DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION noise_of_a_row();"""
READ_NOISE_SQL = """
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE plpgsql AS $$ DECLARE event events_log; BEGIN
        PERFORM noise();
        FOR event IN SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0) ORDER BY 1 LIMIT max_events LOOP
            RAISE NOTICE 'a row';
            RETURN NEXT event;
        END LOOP;
    END $$;
    CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON events_client DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION noise_of_a_row();"""


@pytest.fixture
def session(log: Connection) -> Iterator[Connection]:
    """A session as a worker has it."""
    session = psycopg.connect(log.info.dsn, autocommit=True, options=f"-c search_path={SCHEMA}")
    session.execute("SET TimeZone TO 'UTC'")
    session.pgconn.nonblocking = 0
    yield session
    session.close()


@pytest.fixture(params=WAYS_TO_SPEAK)
def speaks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who speaks to the server: what follows is tried with both."""
    if request.param == "libpq":
        for module in ("bench.statement", "consumer.reader"):
            monkeypatch.setattr(f"{module}.is_unencrypted", lambda _: False)
    return str(request.param)


@pytest.fixture
def reload(log: Connection, server: str) -> Iterator[Callable[[], None]]:
    """Changes a setting that is reported to clients and reloads the server; rolled_back_etags in the end."""
    with psycopg.connect(server, autocommit=True) as admin:

        def change() -> None:
            admin.execute("ALTER SYSTEM SET IntervalStyle = 'iso_8601'")
            admin.execute("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'")
            admin.execute("SELECT pg_reload_conf()")

        yield change
        admin.execute("ALTER SYSTEM RESET IntervalStyle")
        admin.execute("ALTER SYSTEM RESET TimeZone")
        admin.execute("SELECT pg_reload_conf()")


def appender(session: Connection, way: str) -> Append:
    job = producers(make({"scale": 1, "append": way}, None), eventlog.load("bigserial"))[0]
    return WAYS[way](session, job, 0)  # type: ignore[index]


def until_reloaded(log: Connection, step: Callable[[], object]) -> None:
    """Step on until a step was made with the changed setting, and then some more."""
    deadline = time.monotonic() + 30
    while log.execute("SELECT count(*) > 2 FROM styles WHERE style = 'iso_8601'").fetchone() != (True,):
        step()
        assert time.monotonic() < deadline


@pytest.mark.parametrize("way", WAYS)
def test_an_append_is_counted_whatever_else_the_server_says(
    session: Connection, log: Connection, speaks: str, way: str, reload: Callable[[], None]
) -> None:
    log.execute(NOISE_SQL)
    log.execute(APPEND_NOISE_SQL)
    append = appender(session, way)
    batches = 0

    def step() -> None:
        nonlocal batches
        assert append(batches * BATCH, batches * BATCH + BATCH - 1) == BATCH
        batches += 1

    step()
    reload()
    until_reloaded(log, step)
    assert log.execute("SELECT count(*) FROM events_log").fetchone() == (batches * BATCH,)


def reader(way: str) -> ConsumerJob:
    flags: dict[str, dict[str, object]] = {
        "own": {},
        "client": {"cursor": "client"},
        "depth": {"cursor": "client", "depth": 3},
    }
    return consumers(make({"scale": 1, "limit": 1000, **flags[way]}, None), eventlog.load("bigserial"), BATCH)[0]


@pytest.mark.parametrize("way", ["own", "client", "depth"])
def test_each_event_is_read_whatever_else_the_server_says(
    session: Connection, log: Connection, speaks: str, way: str, reload: Callable[[], None]
) -> None:
    log.execute("""INSERT INTO events_log (payload) SELECT '{"seq":1}' FROM generate_series(1, 20)""")
    log.execute(NOISE_SQL)
    log.execute(READ_NOISE_SQL)
    given = pages(source(session, reader(way)), reader(way), Lifeline(session, reader(way)))
    read: list[int] = []

    def step() -> None:
        page = next(given).page
        read.extend(columns([page]).etags.tolist())
        if not page.events:
            log.execute("""INSERT INTO events_log (payload) SELECT '{"seq":1}' FROM generate_series(1, 20)""")

    step()
    reload()
    until_reloaded(log, step)
    while len(read) < 20 or read[-1] < 20:
        step()
    assert read == list(range(1, len(read) + 1))


def test_a_reload_leaves_the_time_zone_of_a_worker(
    session: Connection, log: Connection, reload: Callable[[], None]
) -> None:
    log.execute(NOISE_SQL)
    log.execute(APPEND_NOISE_SQL)
    append = appender(session, "generate")
    reload()
    until_reloaded(log, lambda: append(0, 0))
    assert session.execute("SHOW TimeZone").fetchone() == ("UTC",)


def test_notices_longer_than_any_buffer_are_taken_in(session: Connection, log: Connection, speaks: str) -> None:
    log.execute("""
        CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE WARNING '%', repeat('loud ', 200); RETURN NEW; END $$;
        CREATE TRIGGER loud BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION loud()""")
    sender = copy_sender(session, "COPY events_log (payload) FROM STDIN")
    for _ in range(2):
        assert sender.count(sender.wrap(b"{}\n" * 1000)) == 1000
    assert sender.count(sender.wrap(b"{}\n")) == 1


def ended(log: Connection, session: Connection) -> None:
    """Wait until the session's backend is gone."""
    pid = session.info.backend_pid
    wait_until(lambda: not log.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchall())


COPY = "COPY events_log (payload) FROM STDIN"


@pytest.mark.parametrize("rows", [b"{}\n", b"{}\n" * 100_000])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_a_session_that_was_ended_says_why(
    session: Connection, log: Connection, speaks: str, rows: bytes, calls_before: int
) -> None:
    sender = copy_sender(session, COPY)
    for _ in range(calls_before):
        sender.count(sender.wrap(b"{}\n"))
    log.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
    ended(log, session)
    with pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection due to administrator command"):
        sender.count(sender.wrap(rows))


def test_a_session_that_idled_in_its_transaction_says_so(session: Connection, log: Connection, speaks: str) -> None:
    count = prepare_append(session, "SELECT '1'", 0)
    # The end must not come before the answer to BEGIN is read: libpq would take both for that answer.
    session.execute("SET idle_in_transaction_session_timeout = '1s'")
    session.execute("BEGIN")
    ended(log, session)
    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout, match="idle-in-transaction timeout"):
        count()


def test_an_error_at_the_end_of_the_transaction_is_one(session: Connection, log: Connection, speaks: str) -> None:
    log.execute("""
        CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON events_client DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION late()""")
    log.execute("INSERT INTO events_log (payload) VALUES ('{}')")
    given = pages(source(session, reader("client")), reader("client"), Lifeline(session, reader("client")))
    with pytest.raises(psycopg.errors.RaiseException, match="too late"):
        next(given)


def test_a_cursor_that_looks_like_a_row_moves_on(session: Connection, log: Connection) -> None:
    row = "44 00000012 0001 00000008"  # and then a value of 8 bytes
    log.execute(f"""
        INSERT INTO events_log (payload) SELECT '{{}}' FROM generate_series(1, 30);
        CREATE FUNCTION looking(last bytea) RETURNS TABLE (etag bigint, ctime timestamp, payload json, place bytea)
        LANGUAGE sql AS $$
            SELECT etag, ctime, payload, '\\x{row}'::bytea || int8send(etag)
            FROM events_log
            WHERE etag > coalesce(('x' || encode(substr(last, 12, 8), 'hex'))::bit(64)::bigint, 0)
            ORDER BY etag LIMIT 7
        $$""")
    job = ConsumerJob("consumer", SCHEMA, 0, "SELECT * FROM looking($1)", [3], 1, 1000, 0, 1000)
    read: list[int] = []
    for _, _, page in islice(pages(source(session, job), job, Lifeline(session, job)), 6):
        read += columns([page]).etags.tolist()
    assert read == list(range(1, 31))


APPNAME = """
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE plpgsql AS $$ BEGIN
        PERFORM set_config('application_name', 'my reader', false);
        RETURN QUERY SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0) ORDER BY e.etag LIMIT max_events;
    END $$;"""
LISTENS = """
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE 'LISTEN bench_log';
        RETURN QUERY SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0) ORDER BY e.etag LIMIT max_events;
    END $$;
    CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY bench_log; RETURN NULL; END $$;
    CREATE TRIGGER notify AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION notify();"""


def warning(when: str) -> str:
    """SQL that warns at the end of the transaction that inserts or deletes some events."""
    return f"""
    CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'late'; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER warn {when} ON events_log DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION warn();"""


RUNS = {
    "a setting changes as a page is read": ("bigserial", APPNAME, ("--read-batch", "100")),
    "notifications come between pages": ("bigserial", LISTENS, ("--mode", "tail", "--read-batch", "20")),
    "a queue warns as it commits": ("skip-locked", warning("AFTER DELETE"), ("--read-batch", "10")),
    "an append warns as it commits": ("bigserial", warning("AFTER INSERT"), ("--append", "generate")),
}


@pytest.mark.parametrize("what", RUNS)
def test_a_healthy_log_is_found_healthy_although(bench: Bench, address: str, tmp_path: Path, what: str) -> None:
    name, noise, flags = RUNS[what]
    log = tmp_path / "log"
    shutil.copytree(SQL / name, log)
    with (log / "schema.sql").open("a") as schema:
        schema.write(noise)
    words = ("--dsn", address, "--log", str(log), "--scale", "1", "--limit", "500", "--insert-batch", "10", *flags)
    ran = bench("run", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
