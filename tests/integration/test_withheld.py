"""What a reader was not given: skipped, when it was given a later event; else withheld, with what held it back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from bench.paths import SQL
from bench.postgres.barrier import CONSUMERS_MAY_STOP
from bench.results import store
from bench.results.models import Trial
from tests.conftest import REPOSITORY, Bench, broken_log, read_until, wait_until, write_log

ONE = ("--scale", "1", "--limit", "100", "--insert-batch", "5", "--read-batch", "5", "--idle-timeout", "0.5")

READER = """
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE plpgsql AS $$ BEGIN
    {before}
    RETURN QUERY SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0) {where}
    ORDER BY e.etag LIMIT max_events;
END $$;
"""
HANGS_AT_5 = READER.format(before="IF last_etag = 5 THEN PERFORM pg_sleep(60); END IF;", where="")
HIDES_5 = READER.format(before="", where="AND e.etag <> 5")
HIDES_THE_LAST = READER.format(before="", where="AND e.etag < 100")
HIDES_WHAT_IS_NEW = READER.format(before="", where="AND e.ctime < clock_timestamp() - interval '60 s'")
STAYS_AT_5 = """
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
    SELECT * FROM events_log e WHERE e.etag > CASE last_etag WHEN 5 THEN 0 ELSE coalesce(last_etag, 0) END
    ORDER BY e.etag LIMIT max_events
$$;
"""
CAPPED = """
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE sql STABLE ROWS 1000 AS $$
    SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT least(max_events, 3)
$$;
"""
REFUSES_LARGE_PAGES = READER.format(
    before="IF max_events > 100 THEN RAISE EXCEPTION 'at most 100 events per page'; END IF;", where=""
)
DUE_LATER = """
ALTER TABLE events_log ADD due timestamptz NOT NULL
    DEFAULT clock_timestamp() + CASE nextval('due') % 10 WHEN 0 THEN interval '{later}' ELSE '0' END;
DROP FUNCTION get_event(bigint);
CREATE FUNCTION get_event(max_events bigint DEFAULT 1) RETURNS TABLE (etag bigint, ctime timestamp, payload json)
LANGUAGE sql AS $$
    DELETE FROM events_log WHERE etag = ANY (ARRAY(SELECT etag FROM events_log WHERE due <= clock_timestamp()
    ORDER BY etag LIMIT max_events FOR UPDATE SKIP LOCKED)) RETURNING etag, ctime, payload
$$;
"""
LEASED = """
ALTER TABLE events_log ADD leased_until timestamptz NOT NULL DEFAULT '-infinity';
DROP FUNCTION get_event(bigint);
CREATE FUNCTION get_event(max_events bigint DEFAULT 1) RETURNS TABLE (etag bigint, ctime timestamp, payload json)
LANGUAGE sql AS $$
    UPDATE events_log SET leased_until = clock_timestamp() + interval '60 s'
    WHERE etag = ANY (ARRAY(SELECT etag FROM events_log WHERE leased_until < clock_timestamp()
                            ORDER BY etag LIMIT max_events FOR UPDATE SKIP LOCKED))
    RETURNING etag, ctime, payload
$$;
"""


def run(bench: Bench, address: str, *words: str, code: int = 1) -> tuple[Trial, str]:
    ran = bench("run", "--place", "local", "--dsn", address, "--export-json", "result.json", *words)
    assert ran.returncode == code, ran.stdout + ran.stderr
    (trial,) = store.load(bench.folder / "result.json").trials
    return trial, " ".join(ran.stdout.split())


def queue(folder: Path, how: str) -> Path:
    """Write the skip-locked log with some SQL behind its own."""
    folder.mkdir()
    (folder / "log.toml").write_text((SQL / "skip-locked" / "log.toml").read_text())
    (folder / "schema.sql").write_text((SQL / "skip-locked" / "schema.sql").read_text() + how)
    return folder


@pytest.mark.parametrize("mode", ["tail", "drain"])
@pytest.mark.parametrize(
    ("how", "skipped", "withheld", "says"),
    [
        (HANGS_AT_5, 0, 95, "a read did not come back and was cancelled"),
        (STAYS_AT_5, 0, 95, "its cursor does not move on"),
        (HIDES_5, 1, 0, ""),
        (HIDES_THE_LAST, 0, 1, "no transaction was seen that could hold them back"),
        (HIDES_WHAT_IS_NEW, 0, 100, "They are due later (raise --idle-timeout), or the log never delivers them."),
        (HIDES_5 + CAPPED.replace("WHERE", "WHERE etag <> 5 AND"), 1, 0, ""),
    ],
    ids=["hangs", "stays", "hides one", "hides the last", "hides what is new", "short pages"],
)
def test_a_reader_skipped_what_it_was_past_and_was_not_given_the_rest(
    bench: Bench, address: str, mode: str, how: str, skipped: int, withheld: int, says: str
) -> None:
    folder = broken_log(bench.folder / "broken", how)
    trial, printed = run(bench, address, *ONE, "--log", str(folder), "--mode", mode)
    assert (trial.verdict.skipped, trial.verdict.withheld, trial.verdict.lost) == (skipped, withheld, 0)
    assert says in printed
    seen = trial.verdict.gaps
    assert seen.late_commit + seen.early_commit + seen.visible + seen.skipped == skipped
    assert "is past" not in printed
    assert ("visible before reading began" in printed) == (mode == "drain" and skipped > 0)
    assert not trial.append.client_bound
    assert not trial.reads[0].client_bound


@pytest.mark.parametrize("flags", [("--abort-rate", "0.3"), ()], ids=["with holes", "without"])
@pytest.mark.parametrize("bug", ["gap-timeout", "capped", "picky"])
def test_a_loss_is_no_stall_however_short_a_page_is(
    bench: Bench, address: str, bug: str, flags: tuple[str, ...]
) -> None:
    if bug == "gap-timeout":
        base = SQL / "gap-wait"
        how = (REPOSITORY / "tests" / "logs" / "bugs" / "gap-timeout.sql").read_text()
        folder = write_log(bench.folder / bug, (base / "schema.sql").read_text() + how)
        (folder / "log.toml").write_text((base / "log.toml").read_text())
    else:
        folder = broken_log(bench.folder / bug, CAPPED if bug == "capped" else REFUSES_LARGE_PAGES)
    words = ("--mode", "tail", "--scale", "8", "--limit", "200", "--insert-batch", "5", "--read-batch", "50")
    held = ("--transaction-ms", "0..50", "--idle-timeout", "0.5")
    trial, _ = run(bench, address, "--log", str(folder), *words, *held, *flags)
    assert trial.verdict.skipped > 0
    # Of the last events there may be no later one.
    assert trial.verdict.withheld <= trial.verdict.skipped / 5


@contextmanager
def writes_elsewhere(server: str) -> Iterator[str]:
    """Keep a transaction open in another database that has written something."""
    with psycopg.connect(server, application_name="somebody else") as other:
        other.execute("CREATE TEMP TABLE elsewhere (n int)")
        yield other.info.dbname
        other.rollback()


@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_what_a_transaction_in_another_database_holds_back_is_withheld_and_its_session_named(
    bench: Bench, address: str, server: str, mode: str
) -> None:
    words = ("--scale", "2", "--limit", "100", "--insert-batch", "10", "--idle-timeout", "0.5")
    with writes_elsewhere(server) as database:
        trial, printed = run(bench, address, *words, "--mode", mode, "--log", "xid-horizon")
    assert (trial.verdict.withheld, trial.verdict.skipped) == (200, 0)
    (holder, *_) = trial.verdict.holders or []
    assert (holder.application, holder.database, holder.state) == ("somebody else", database, "idle in transaction")
    assert holder.wrote
    assert not holder.wrote_here
    assert f"(somebody else) in database {database}, open for" in printed


@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_a_reader_waits_for_what_comes_late_and_then_all_is_well(
    bench: Bench, address: str, server: str, mode: str
) -> None:
    words = ("--scale", "2", "--limit", "100", "--insert-batch", "10", "--idle-timeout", "60", "--log", "xid-horizon")
    result = ("--export-json", "result.json", "--output", str(bench.folder / "kept"))
    with writes_elsewhere(server):
        running = bench.start("run", "--place", "local", "--dsn", address, "--mode", mode, *words, *result)
        if mode == "tail":
            read_until(running, "append: 200 of 200")
        asks = (
            f"query LIKE '%pg_try_advisory_lock_shared({CONSUMERS_MAY_STOP})%' "
            "AND query_start > backend_start + interval '1 s'"
        )
        wait_until(lambda: consumers(address, asks), running)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 0, stdout + stderr
    (trial,) = store.load(bench.folder / "result.json").trials
    assert trial.reads[0].events == 200
    assert trial.reads[0].longest_wait_seconds > 0


def test_a_writer_that_keeps_a_drained_reader_waiting_is_named_and_nothing_is_skipped(
    bench: Bench, address: str
) -> None:
    """A lock-drain reader waits inside of its read for whoever holds a writer's lock."""
    words = ("--mode", "tail", "--scale", "2", "--limit", "2000", "--insert-batch", "5", "--transaction-ms", "0..2")
    with psycopg.connect(address, application_name="late writer") as writer:
        running = bench.start(
            *("run", "--place", "local", "--dsn", address, "--log", "lock-drain", "--idle-timeout", "1", *words),
            *("--export-json", "result.json"),
        )
        read_until(running, "append: 2 producers started")
        writer.execute("""INSERT INTO bench.events_log (payload) VALUES ('{"producer": 999, "seq": 0, "value": 0}')""")
        stopped = "a read did not come back and was cancelled"
        read_until(running, "append: 4,000 of 4,000")
        wait_until(lambda: not consumers(address), running)
        writer.rollback()
        stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 1, stdout + stderr
    (trial,) = store.load(bench.folder / "result.json").trials
    assert stopped in stdout
    assert trial.verdict.skipped == 0
    assert trial.verdict.withheld > 0
    holder = next(holder for holder in trial.verdict.holders or [] if holder.application == "late writer")
    assert holder.wrote_here


def consumers(address: str, condition: str = "true") -> int:
    """How many consumers' sessions there are, of which this holds."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'bench %consumer%' AND {condition}"
    with psycopg.connect(address, autocommit=True) as looking:
        row = looking.execute(query.encode()).fetchone()
        return int(row[0]) if row else 0


@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_events_of_a_queue_that_are_due_later_are_withheld_or_come_when_they_are_waited_for(
    bench: Bench, address: str, mode: str
) -> None:
    words = ("--scale", "2", "--limit", "100", "--insert-batch", "10", "--mode", mode)
    sequence = "CREATE SEQUENCE due;"
    folder = queue(bench.folder / "minute", sequence + DUE_LATER.format(later="60 s"))
    trial, printed = run(bench, address, *words, "--log", str(folder), "--idle-timeout", "0.5")
    assert (trial.verdict.withheld, trial.verdict.skipped, trial.verdict.lost) == (20, 0, 0)
    assert "due later (raise --idle-timeout)" in printed
    folder = queue(bench.folder / "second", sequence + DUE_LATER.format(later="1500 ms"))
    trial, _ = run(bench, address, *words, "--log", str(folder), "--idle-timeout", "30", code=0)
    assert trial.reads[0].events == 200
    assert trial.reads[0].longest_wait_seconds > 0


@pytest.mark.parametrize("words", [("--mode", "drain"), ("--mode", "tail", "--group", "3", "--rejoin", "5")])
def test_once_is_said_to_be_untested_while_a_lease_has_not_run_out(
    bench: Bench, address: str, words: tuple[str, ...]
) -> None:
    folder = queue(bench.folder / "leased", LEASED)
    load = ("--scale", "2", "--limit", "100", "--insert-batch", "10", "--read-batch", "7")
    trial, printed = run(bench, address, *load, *words, "--log", str(folder), code=0)
    assert trial.verdict.kept_after_delivery == 200
    assert "Untested: 200 events that were delivered are still in the table." in printed
    trial, printed = run(bench, address, *load, *words, "--log", "skip-locked", code=0)
    assert trial.verdict.kept_after_delivery == 0
    assert "still in the table" not in printed


def test_an_empty_page_now_and_then_is_no_end(bench: Bench, address: str) -> None:
    every_second = "CREATE SEQUENCE calls;" + READER.format(
        before="IF nextval('calls') % 2 = 0 THEN RETURN; END IF;",
        where="",
    )
    folder = broken_log(bench.folder / "pauses", every_second)
    for mode in ("drain", "tail"):
        trial, _ = run(bench, address, *ONE, "--log", str(folder), "--mode", mode, code=0)
        assert trial.reads[0].events == 100


def test_a_prepared_transaction_and_a_session_of_another_role_are_named(
    bench: Bench, server: str, address: str
) -> None:
    with psycopg.connect(address, autocommit=True) as admin, writes_elsewhere(server) as database:
        admin.execute("CREATE ROLE unprivileged LOGIN; GRANT CREATE ON DATABASE runs TO unprivileged")
        admin.execute("BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'forgotten'")
        try:
            where = psycopg.conninfo.make_conninfo(address, user="unprivileged")
            trial, printed = run(bench, where, *ONE, "--log", "xid-horizon")
        finally:
            admin.execute("ROLLBACK PREPARED 'forgotten'")
            admin.execute("DROP OWNED BY unprivileged; DROP ROLE unprivileged")
    assert (trial.verdict.withheld, trial.verdict.skipped) == (100, 0)
    holders = {(holder.application, holder.database, holder.state) for holder in trial.verdict.holders or []}
    assert {("forgotten", "runs", "prepared"), ("somebody else", database, None)} <= holders
    assert "prepared transaction 'forgotten' in database runs, prepared for" in printed


@pytest.mark.parametrize("words", [("--cursor", "client", "--depth", "4"), ("--group", "2"), ("--consumers", "2")])
@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_several_readers_and_named_clients_are_held_to_the_same(
    bench: Bench, address: str, words: tuple[str, ...], mode: str
) -> None:
    readers = 2 if "--consumers" in words else 1
    folder = broken_log(bench.folder / "hides", HIDES_5)
    trial, _ = run(bench, address, *ONE, "--log", str(folder), "--mode", mode, *words)
    assert (trial.verdict.skipped, trial.verdict.withheld) == (readers, 0)
    folder = broken_log(bench.folder / "new", HIDES_WHAT_IS_NEW)
    trial, _ = run(bench, address, *ONE, "--log", str(folder), "--mode", mode, *words)
    assert (trial.verdict.skipped, trial.verdict.withheld) == (0, 100 * readers)


TWICE = """
ALTER TABLE events_log ADD times int NOT NULL DEFAULT 0;
DROP FUNCTION get_event(bigint);
CREATE FUNCTION get_event(max_events bigint DEFAULT 1) RETURNS TABLE (etag bigint, ctime timestamp, payload json)
LANGUAGE sql AS $$
    DELETE FROM events_log WHERE times > 1;
    UPDATE events_log SET times = times + 1
    WHERE etag = ANY (ARRAY(SELECT etag FROM events_log WHERE due <= clock_timestamp()
                            ORDER BY etag LIMIT max_events FOR UPDATE SKIP LOCKED))
    RETURNING etag, ctime, payload
$$;
"""


@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_members_that_had_an_event_twice_are_not_taken_for_members_that_had_all(
    bench: Bench, address: str, mode: str
) -> None:
    due = DUE_LATER.format(later="1500 ms").partition("DROP FUNCTION")[0]
    folder = queue(bench.folder / "twice", "CREATE SEQUENCE due;" + due + TWICE)
    toml = (folder / "log.toml").read_text().replace("once = true", "once = false")
    (folder / "log.toml").write_text(toml)
    words = ("--scale", "2", "--limit", "100", "--insert-batch", "10", "--read-batch", "20", "--group", "3")
    trial, printed = run(bench, address, *words, "--mode", mode, "--log", str(folder), "--idle-timeout", "4", code=0)
    assert trial.verdict.withheld == 0
    assert trial.verdict.duplicated > 0
    assert trial.reads[0].events == 200
    assert "at least once" in printed


def test_a_log_without_an_order_skips_nothing_that_may_be_due_later(bench: Bench, address: str) -> None:
    schema = (
        (SQL / "bigserial" / "schema.sql").read_text()
        + """
        ALTER TABLE events_log ADD due timestamptz NOT NULL DEFAULT clock_timestamp();
        CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.due := NEW.due + CASE NEW.etag % 10 WHEN 0 THEN interval '1 h' ELSE '0' END; RETURN NEW; END $$;
        CREATE TRIGGER later BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION later();
        DROP FUNCTION get_event(bigint, bigint);
        CREATE FUNCTION get_event(last_due timestamptz, last_etag bigint, max_events bigint DEFAULT 1)
        RETURNS TABLE (etag bigint, ctime timestamp, payload json, due timestamptz) LANGUAGE sql AS $$
            SELECT e.etag, e.ctime, e.payload, e.due FROM events_log e
            WHERE (e.due, e.etag) > (coalesce(last_due, '-infinity'), coalesce(last_etag, 0))
              AND e.due <= clock_timestamp()
            ORDER BY e.due, e.etag LIMIT max_events
        $$"""
    )
    changes = {"cursor": '{ due = "timestamptz", etag = "bigint" }', "order": '"none"', "group": '"no"'}
    folder = write_log(bench.folder / "due", schema, **changes)
    trial, _ = run(bench, address, *ONE, "--log", str(folder))
    assert (trial.verdict.skipped, trial.verdict.withheld) == (0, 10)
