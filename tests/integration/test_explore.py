"""All orders of a few sessions, on a real server: right logs come out clean, and bugs are found in a few steps."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psycopg
import pytest

from bench import eventlog
from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.explore import breakpoints, data, machine
from bench.explore.carried import Carried
from bench.explore.explore import explore_log
from bench.explore.machine import Machine
from bench.explore.models import FILE, Exploration, ExploredLog, Settings
from bench.explore.scope import Program, Scope, Statement, scopes
from bench.explore.search import Search
from bench.explore.sessions import Explorer
from bench.places.local import postgres as embedded
from bench.postgres import install
from bench.postgres.connection import Connection
from bench.postgres.contract import table_of
from tests.conftest import Bench, write_log
from tests.integration.test_bugs import planted

NUMBERED_BY_THE_FUNCTION = """
    CREATE TABLE events_log (
        etag bigint PRIMARY KEY, ctime timestamp NOT NULL DEFAULT clock_timestamp(), payload json NOT NULL
    );
    CREATE SEQUENCE numbers;
    CREATE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE plpgsql AS $$
    DECLARE
        one json;
        number bigint;
    BEGIN
        FOR one IN
            SELECT value
            FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
        LOOP
            {numbering}
            RETURN QUERY INSERT INTO events_log (etag, payload) VALUES (number, one) RETURNING *;
        END LOOP;
    END $$;
    CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
    LANGUAGE sql STABLE AS $$
        SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events
    $$;
"""
LATE_LOCK = "number := nextval('numbers'); PERFORM pg_advisory_xact_lock(7);"
EARLY_LOCK = "PERFORM pg_advisory_xact_lock(7); number := nextval('numbers');"
HORIZON_AFTER_A_NOTICE = """
    CREATE OR REPLACE FUNCTION get_event(last_xid xid8, last_etag bigint, max_events bigint) RETURNS SETOF events_log
    LANGUAGE plpgsql VOLATILE AS $$
    DECLARE
        given events_log[] := ARRAY(
            SELECT e FROM events_log e WHERE (xid, etag) > (coalesce(last_xid, '0'), coalesce(last_etag, 0))
            ORDER BY e.xid, e.etag LIMIT max_events);
        horizon xid8;
    BEGIN
        PERFORM pg_notify('readers', 'a page');
        horizon := pg_snapshot_xmin(pg_current_snapshot());
        RETURN QUERY SELECT * FROM unnest(given) AS e WHERE e.xid < horizon;
    END $$;
"""


def explored(log: Log, connection: Connection, **settings: float) -> ExploredLog:
    return explore_log(log, Settings.model_validate(settings), connection, connection.info.dsn, "test", lambda _: None)


@contextmanager
def opened(log: Log, scope: Scope, connection: Connection) -> Iterator[Machine]:
    with install.installed(connection, log, "test"), breakpoints.installed(connection, log):
        saved = data.noted(Explorer(connection))
        with machine.opened(log, scope, connection.info.dsn, connection, saved) as ready:
            yield ready


def scope_of(*programs: tuple[Statement, ...], inside: bool = False) -> Scope:
    return Scope(
        "by hand",
        tuple(
            Program(f"session {number}", program, is_reader=program[0].kind == "page")
            for number, program in enumerate(programs)
        ),
        inside=inside,
    )


APPEND, COMMIT, PAGE = Statement("append", 1), Statement("commit"), Statement("page")


def etags(carried: Carried, reader: int) -> list[int]:
    return [each.etag for each in carried.delivered[reader]]


def test_bigserial_skips_an_event_and_breaks_no_promise(connection: Connection) -> None:
    log = explored(eventlog.load("bigserial"), connection, seconds=20)
    (found,) = [each for each in log.counterexamples if each.kinds == ["skipped"]]
    assert not found.promised
    assert log.ok
    assert found.steps == 5
    assert [step.kind for step in found.trace] == ["append", "append", "commit", "page", "commit"]
    assert found.counts == {"skipped": 1}


@pytest.mark.parametrize("name", eventlog.shipped())
def test_no_log_that_ships_breaks_its_promise(connection: Connection, name: str) -> None:
    log = explored(eventlog.load(name), connection, seconds=4, seed=1)
    assert log.ok, log.counterexamples
    assert not any(scope.impossible for scope in log.scopes)
    assert all(scope.orders for scope in log.scopes)


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        ("backwards", "duplicated"),
        ("cache", "skipped"),
        ("category-lock", "skipped"),
        ("etag-cursor", "skipped"),
        ("gap-timeout", "skipped"),
        ("horizon-second", "skipped"),
        ("notify-only", "withheld"),
        ("row-trigger", "skipped"),
        ("system-xmin", "reordered"),
    ],
)
def test_a_bug_that_an_order_shows_is_found_in_a_few_steps(
    connection: Connection, tmp_path: Path, bug: str, kind: str
) -> None:
    log = explored(eventlog.load(str(planted(tmp_path / bug, bug))), connection, seconds=300)
    steps = [each.steps for each in log.counterexamples if kind in each.kinds]
    assert steps, log
    assert max(steps) <= 8


@pytest.mark.parametrize(("numbering", "kinds"), [(LATE_LOCK, ["skipped"]), (EARLY_LOCK, [])])
def test_a_lock_that_comes_after_the_number_is_found(
    connection: Connection, tmp_path: Path, numbering: str, kinds: list[str]
) -> None:
    log = eventlog.load(
        str(
            write_log(
                tmp_path / "lock", NUMBERED_BY_THE_FUNCTION.format(numbering=numbering), tail="true", group='"no"'
            )
        )
    )
    result = explored(log, connection, seconds=120 if kinds else 10)
    assert [kind for each in result.counterexamples for kind in each.kinds] == kinds
    assert result.ok is not bool(kinds)


def test_a_bug_between_two_statements_of_a_function_needs_a_stop(connection: Connection) -> None:
    right = eventlog.load("xid-horizon")
    log = right.model_copy(update={"schema_sql": right.schema_sql + HORIZON_AFTER_A_NOTICE})
    result = explored(log, connection, seconds=300)
    (found,) = [each for each in result.counterexamples if each.promised]
    assert found.scope == "inside statements"
    assert set(found.kinds) <= {"skipped", "withheld"}
    assert found.steps <= 8
    assert any((step.kind, step.end) == ("page", "stops") for step in found.trace)
    assert not any(scope.failing for scope in result.scopes if not scope.inside)


def test_a_counterexample_is_seen_again_by_psql(connection: Connection, server: str) -> None:
    right = eventlog.load("xid-horizon")
    log = right.model_copy(update={"schema_sql": right.schema_sql + HORIZON_AFTER_A_NOTICE})
    (found,) = [each for each in explored(log, connection, seconds=300).counterexamples if each.promised]
    psql = embedded.binaries(None).folder / "psql"
    ran = subprocess.run(
        [psql, "-X", "-q", "-d", connection.info.dsn, "-f", "-"],
        input=found.sql,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    order, _, in_the_table = ran.stdout.partition("In the table:")
    assert "stops" in order
    an_event = r'^ +[0-9]+ .*({"producer": [01], "seq": 0, "value": 0})'
    stored = set(re.findall(an_event, in_the_table, re.MULTILINE))
    assert len(stored) == 2
    assert len(stored - set(re.findall(an_event, order, re.MULTILINE))) == sum(found.counts.values()) == 1


def test_the_same_seed_gives_the_same_orders(connection: Connection) -> None:
    log = eventlog.load("lock-drain")
    scope = list(scopes(log, 2, "none"))[-1]
    assert scope.inside

    def turns(ready: Machine, seed: int) -> list[tuple[int, ...]]:
        search = Search(ready, scope.programs, 3, seed)
        return [
            tuple(choice.chosen for choice in carried.choices)
            for carried in search.orders(lambda: search.carried_out >= 40)
        ]

    with opened(log, scope, connection) as ready:
        first = turns(ready, 3)
        assert turns(ready, 3) == first
        assert turns(ready, 4) != first


def test_a_writer_that_waits_goes_on_when_the_lock_is_free(connection: Connection) -> None:
    scope = scope_of((APPEND, COMMIT), (APPEND, COMMIT), (PAGE,))
    with opened(eventlog.load("advisory-lock"), scope, connection) as ready:
        ready.start(scope.programs)
        assert ready.advance(0).end == "done"
        waiting = ready.advance(1)
        assert (waiting.end, waiting.waits_for) == ("waits", (0,))
        assert ready.enabled() == [0, 2]
        ready.advance(0)
        assert ready.enabled() == [1, 2]
        carried = ready.finish()
        assert [part.woken_by for part in carried.parts if part.session == 1] == [None, 0, None]
        assert etags(carried, 2) == [1, 2]


def test_a_number_that_is_drawn_and_not_yet_inserted_is_a_state(connection: Connection) -> None:
    scope = scope_of((APPEND, COMMIT), (APPEND, COMMIT), (PAGE,), inside=True)
    with opened(eventlog.load("bigserial"), scope, connection) as ready:
        ready.start(scope.programs)
        assert ready.advance(0).stop == "before the insert on events_log"
        assert ready.advance(0).stop == "before nextval(events_log_etag_seq)"
        assert ready.advance(0).stop == "after nextval(events_log_etag_seq)"
        while ready.advance(1).end == "stops":
            pass
        ready.advance(1)
        assert ready.advance(2).etags == (2,)
        carried = ready.finish()
        assert sorted(etag for etag, _ in carried.stored if etag) == [1, 2]


def test_orders_begin_with_the_data_of_the_installed_log(connection: Connection) -> None:
    scope = scope_of((APPEND, COMMIT), (PAGE,))
    for name in ("counter", "sequencer", "logical-slot", "skip-locked"):
        with opened(eventlog.load(name), scope, connection) as ready:
            for _ in range(3):
                ready.start(scope.programs)
                carried = ready.finish()
                assert etags(carried, 1) == [1], name
                assert carried.acknowledged == [(0, 0)]


def test_a_deadlock_is_a_finding_about_the_log(connection: Connection, tmp_path: Path) -> None:
    """Each append takes two locks, in an order that depends on the producer."""
    crossed = (
        "PERFORM pg_advisory_xact_lock((one ->> 'producer')::int);"
        "PERFORM pg_advisory_xact_lock(1 - (one ->> 'producer')::int);"
        "number := nextval('numbers');"
    )
    log = eventlog.load(
        str(
            write_log(
                tmp_path / "crossed", NUMBERED_BY_THE_FUNCTION.format(numbering=crossed), tail="true", group='"no"'
            )
        )
    )
    result = explored(log, connection, seconds=120)
    (found,) = result.counterexamples
    assert found.kinds == ["stranded"]
    assert any("deadlock" in failure for failure in found.failures)


def test_code_that_cannot_be_stopped_inside_is_named(connection: Connection, tmp_path: Path) -> None:
    schema = (
        NUMBERED_BY_THE_FUNCTION.format(numbering=EARLY_LOCK)
        + """
        CREATE FUNCTION aside() RETURNS bigint LANGUAGE sql SET search_path = bench AS $$ SELECT nextval('numbers') $$;
        CREATE FUNCTION direct() RETURNS bigint LANGUAGE sql AS $$ SELECT pg_catalog.nextval('numbers') $$;
    """
    )
    log = eventlog.load(str(write_log(tmp_path / "aside", schema, group='"no"')))
    with install.installed(connection, log, "test"), breakpoints.installed(connection, log):
        reasons = breakpoints.out_of_reach(connection, log)
    assert [reason.partition(":")[0] for reason in reasons] == ["aside()", "direct()"]


def test_defaults_views_and_parsed_bodies_use_the_functions_that_stop(connection: Connection, tmp_path: Path) -> None:
    schema = (
        NUMBERED_BY_THE_FUNCTION.format(numbering=EARLY_LOCK)
        + """
        CREATE TABLE other (id bigserial);
        CREATE VIEW drawing AS SELECT nextval('numbers') AS number;
        CREATE FUNCTION parsed() RETURNS bigint BEGIN ATOMIC SELECT nextval('numbers'); END;
    """
    )
    log = eventlog.load(str(write_log(tmp_path / "bound", schema, group='"no"')))
    with install.installed(connection, log, "test"), breakpoints.installed(connection, log) as ran:
        assert table_of(connection, log).ctime
        for bound in ("ALTER TABLE", "CREATE OR REPLACE VIEW", "CREATE OR REPLACE FUNCTION bench.parsed"):
            assert bound in ran.partition("$do$;")[2]


def test_the_number_of_an_identity_column_is_drawn_before_the_triggers_of_the_log(
    connection: Connection, tmp_path: Path
) -> None:
    """A lock in a row trigger comes too late for an identity column, too."""
    schema = """
        CREATE TABLE events_log (
            etag bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            ctime timestamp NOT NULL DEFAULT clock_timestamp(),
            payload json NOT NULL
        );
        CREATE FUNCTION one_writer() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(7);
            RETURN NEW;
        END $$;
        CREATE TRIGGER one_writer BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION one_writer();
        CREATE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE sql AS $$
            INSERT INTO events_log (payload)
            SELECT value
            FROM json_array_elements(CASE json_typeof(event) WHEN 'array' THEN event ELSE json_build_array(event) END)
            RETURNING *
        $$;
        CREATE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1) RETURNS SETOF events_log
        LANGUAGE sql STABLE AS $$
            SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT max_events
        $$;
    """
    log = eventlog.load(str(write_log(tmp_path / "identity", schema, tail="true", group='"no"')))
    scope = scope_of((APPEND, COMMIT), (APPEND, COMMIT), (PAGE,), inside=True)
    with opened(log, scope, connection) as ready:
        ready.start(scope.programs)
        assert ready.advance(0).stop == "before the insert on events_log"
        assert ready.advance(0).stop == "after the number for events_log"
        while ready.advance(1).end == "stops":
            pass
        ready.advance(1)
        assert ready.advance(2).etags == (2,)
        assert sorted(etag for etag, _ in ready.finish().stored if etag) == [1, 2]


def test_rows_that_cannot_be_deleted_one_by_one_are_truncated(connection: Connection, tmp_path: Path) -> None:
    schema = (
        NUMBERED_BY_THE_FUNCTION.format(numbering=EARLY_LOCK)
        + """
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'events stay'; END $$;
        CREATE TRIGGER keep BEFORE DELETE ON events_log FOR EACH STATEMENT EXECUTE FUNCTION keep();
    """
    )
    log = eventlog.load(str(write_log(tmp_path / "kept", schema, tail="true", group='"no"')))
    result = explored(log, connection, seconds=3)
    assert result.ok
    assert sum(scope.orders for scope in result.scopes) > 3


@pytest.mark.parametrize("bystander", ["table", "prepared"])
def test_a_bystander_costs_and_breaks_nothing(connection: Connection, bystander: str) -> None:
    log = eventlog.load("xid-horizon")
    settings = Settings.model_validate({"bystander": bystander, "seconds": 8})
    result = explore_log(log, settings, connection, connection.info.dsn, "test", lambda _: None)
    assert result.ok, result.counterexamples
    assert sum(scope.held_back for scope in result.scopes)
    assert connection.execute("SELECT count(*) FROM pg_prepared_xacts").fetchone() == (0,)


@pytest.mark.parametrize("comment", ["", "eventlog-bench: dropped after the exploration"])
def test_a_schema_of_somebody_elses_is_not_touched(connection: Connection, comment: str) -> None:
    connection.execute("CREATE SCHEMA bench_explore")
    connection.execute(f"COMMENT ON SCHEMA bench_explore IS '{comment}'".encode())
    log = eventlog.load("bigserial")
    refused = nullcontext() if comment else pytest.raises(InfrastructureError, match="bench_explore")
    with install.installed(connection, log, "test"), refused, breakpoints.installed(connection, log):
        pass
    there = connection.execute("SELECT to_regnamespace('bench_explore') IS NOT NULL").fetchone()
    assert there == (not comment,)


def test_the_command_keeps_what_it_found(bench: Bench, address: str, tmp_path: Path) -> None:
    log = write_log(tmp_path / "late", NUMBERED_BY_THE_FUNCTION.format(numbering=LATE_LOCK), tail="true", group='"no"')
    ran = bench("explore", str(log), "--dsn", address, "--export-sql", "late.sql", "--export-markdown", "late.md")
    assert ran.returncode == 1, ran.stderr
    assert "skipped" in ran.stdout
    assert (bench.folder / "late.md").read_text() in ran.stdout
    with psycopg.connect(address) as looking:
        assert looking.execute("SELECT to_regnamespace('bench_explore'), to_regnamespace('bench')").fetchone() == (
            None,
            None,
        )
    (file,) = (bench.folder / "results" / "runs").glob(f"*/{FILE}")
    record = Exploration.model_validate(json.loads(file.read_text()))
    assert not record.ok
    assert record.logs[0].counterexamples[0].sql == (bench.folder / "late.sql").read_text()


def test_standard_output_takes_the_report(bench: Bench, address: str) -> None:
    ran = bench("explore", "counter", "--dsn", address, "--seconds", "1", "--export-markdown", "-", "--export-sql", "x")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("| log ")
    assert ran.stdout.count("| log ") == 1
    assert not (bench.folder / "-").exists()
    assert "no counterexample: --export-sql x not written" in ran.stderr
    assert not (bench.folder / "x").exists()


def test_an_interrupt_leaves_the_scopes_before_it(bench: Bench, address: str) -> None:
    running = bench.start("explore", "counter", "bigserial", "--dsn", address, "--seconds", "300", "--writers", "3")
    assert running.stderr
    lines = iter(running.stderr.readline, "")
    scope = next(line for line in lines if " orders in " in line)
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert "psycopg" not in stderr
    (file,) = (bench.folder / "results" / "runs").glob(f"*/{FILE}")
    (log,) = Exploration.model_validate(json.loads(file.read_text())).logs
    assert log.scopes
    assert log.unexplored
    assert scope.strip().startswith(log.scopes[0].name)
    assert f"Not explored: {', '.join(log.unexplored)}" in stdout
    with psycopg.connect(address) as looking:
        assert looking.execute("SELECT to_regnamespace('bench_explore'), to_regnamespace('bench')").fetchone() == (
            None,
            None,
        )


def test_an_exploration_that_cannot_be_stored_is_printed(bench: Bench, address: str) -> None:
    running = bench.start("explore", "counter", "--dsn", address, "--seconds", "300", "--output", "runs")
    assert running.stderr
    assert "log 1 of 1" in running.stderr.readline()
    runs = bench.folder / "runs"
    shutil.rmtree(runs)
    runs.touch()
    stdout, stderr = running.communicate(timeout=120)
    assert running.returncode == 3, stderr
    assert "cannot be written" in stderr
    assert "internal error" not in stderr
    assert "counter" in stdout
    assert "exploration:" not in stdout


def test_a_log_that_cannot_be_installed_leaves_the_others(bench: Bench, address: str, tmp_path: Path) -> None:
    broken = write_log(tmp_path / "broken", "CREATE TABLE events_log (")
    ran = bench("explore", str(broken), "counter", "--dsn", address, "--seconds", "2")
    assert ran.returncode == 1, ran.stderr
    (file,) = (bench.folder / "results" / "runs").glob(f"*/{FILE}")
    record = Exploration.model_validate(json.loads(file.read_text()))
    assert [(log.log, log.failure is None) for log in record.logs] == [("broken", False), ("counter", True)]


@pytest.mark.parametrize("words", [(), ("bigserial", "--all"), ("bigserial", "--writers", "9"), ("nosuch",)])
def test_a_bad_value_is_refused_before_anything_starts(bench: Bench, words: tuple[str, ...]) -> None:
    ran = bench("explore", *words)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1
    assert not (bench.folder / "results").exists()
