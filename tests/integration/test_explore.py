"""All orders of a few sessions, on a real server: right logs come out clean, and bugs are found in a few steps."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from bench import eventlog
from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.explore import breakpoints, data, effects, machine
from bench.explore import explore as exploring
from bench.explore.carried import Carried
from bench.explore.explore import explore_log
from bench.explore.independence import Independence
from bench.explore.judging import TAILING, finding
from bench.explore.machine import Machine
from bench.explore.models import FILE, Exploration, ExploredLog, Settings
from bench.explore.scope import Program, Scope, Statement, scopes
from bench.explore.search import Search
from bench.explore.sessions import Explorer
from bench.explore.traces import Traces, sleeps, turns_of
from bench.places.local import postgres as embedded
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.postgres.contract import table_of
from tests.conftest import Bench, wait_until, write_log
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
HORIZON_AFTER_THE_ROWS = """
    CREATE OR REPLACE FUNCTION get_event(last_xid xid8, last_etag bigint, max_events bigint) RETURNS SETOF events_log
    LANGUAGE plpgsql VOLATILE AS $$
    DECLARE
        given events_log[] := ARRAY(
            SELECT e FROM events_log e WHERE (xid, etag) > (coalesce(last_xid, '0'), coalesce(last_etag, 0))
            ORDER BY e.xid, e.etag LIMIT max_events);
        horizon xid8;
    BEGIN
        horizon := pg_snapshot_xmin(pg_current_snapshot());
        RETURN QUERY SELECT * FROM unnest(given) AS e WHERE e.xid < horizon;
    END $$;
"""
HORIZON_AFTER_A_NOTICE = HORIZON_AFTER_THE_ROWS.replace(
    "    BEGIN\n", "    BEGIN\n        PERFORM pg_notify('readers', 'a page');\n"
)


@pytest.fixture
def connection(logs: str) -> Iterator[Connection]:
    """A connection to the database for logs: each exploration removes what it installed."""
    with connected(logs) as session:
        yield session


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
        ("etag-cursor", "torn"),
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
    wrong = eventlog.load(str(planted(tmp_path / bug, bug)))
    if kind in TAILING:  # as its author believes; an exploration ends with the first promise that is broken
        wrong = wrong.model_copy(update={"promises": wrong.promises.model_copy(update={"tail": True})})
    log = explored(wrong, connection, seconds=300)
    steps = [each.steps for each in log.counterexamples if kind in each.kinds]
    assert steps, log
    assert max(steps) <= 8


def test_a_transaction_id_that_is_sorted_as_text_is_found_where_ids_become_longer(bench: Bench) -> None:
    """On a server of its own: only a new one has ids that soon get another digit."""
    folder = planted(bench.folder / "text-order", "text-order")
    ran = bench("explore", str(folder), "--seconds", "300", "--export-sql", "text.sql")
    assert ran.returncode == 1, ran.stderr
    (file,) = (bench.folder / "results" / "runs").glob(f"*/{FILE}")
    (log,) = Exploration.model_validate(json.loads(file.read_text())).logs
    (found,) = log.counterexamples
    assert found.scope == "longer transaction ids"
    assert set(found.kinds) <= {"skipped", "duplicated", "reordered"}
    assert found.steps <= 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bigserial", Independence("blind", pages_of_rows=True)),
        ("advisory-lock", Independence("quiet", pages_of_rows=True)),
        ("commit-timestamp", Independence("blind", pages_of_rows=False)),
        ("counter", Independence("quiet", pages_of_rows=True)),
        ("gap-wait", Independence("blind", pages_of_rows=False)),
        ("partitioned", Independence("quiet", pages_of_rows=True)),
        ("sequencer", Independence("quiet", pages_of_rows=False)),
        ("skip-locked", Independence("blind", pages_of_rows=False)),
        ("table-lock", Independence("quiet", pages_of_rows=True)),
        ("xid-horizon", Independence("blind", pages_of_rows=False)),
    ],
)
def test_which_steps_are_independent_is_read_from_the_sql(
    connection: Connection, name: str, expected: Independence
) -> None:
    log = eventlog.load(name)
    with install.installed(connection, log, "test"):
        assert effects.independence_of(connection, log) == expected


@pytest.mark.parametrize(
    ("change", "appends"),
    [
        ("ALTER TABLE events_log ADD UNIQUE (ctime);", "quiet"),
        ("ALTER TABLE events_log ADD CHECK (current_setting('a.b', true) IS NULL);", "quiet"),
        ("ALTER TABLE events_log ALTER ctime SET DEFAULT now() + random() * interval '1 s';", "quiet"),
        (
            "CREATE FUNCTION one() RETURNS int LANGUAGE internal AS 'pg_backend_pid';"
            "ALTER TABLE events_log ADD CHECK (one() > 0);",
            "loud",
        ),
        ("CREATE RULE nothing AS ON UPDATE TO events_log DO INSTEAD NOTHING;", "loud"),
        ("ALTER TABLE events_log ENABLE ROW LEVEL SECURITY;", "loud"),
    ],
)
def test_a_change_that_is_not_understood_makes_steps_depend(connection: Connection, change: str, appends: str) -> None:
    right = eventlog.load("bigserial")
    log = right.model_copy(update={"schema_sql": right.schema_sql + change})
    with install.installed(connection, log, "test"):
        assert effects.independence_of(connection, log).appends == appends


def shortened(scope: Scope) -> Scope:
    """A scope with fewer statements where its orders would take long."""
    *writers, reader = scope.programs
    if scope.name == "two appends per transaction":
        return replace(scope, programs=(writers[0], writers[1].without(1), reader.without(2)))
    if scope.client or scope.inside or scope.longer_ids:
        return scope
    return replace(scope, programs=(*writers, reader.without(1)))


def kinds_of(log: Log, scope: Scope, carried: Carried) -> tuple[str, ...]:
    wrong = finding(log, scope, carried)
    return wrong.kinds if wrong else ()


BUGS = {
    "backwards": "two sessions of one client",
    "cache": "a rollback",
    "category-lock": "two transactions",
    "etag-cursor": "two appends per transaction",
    "gap-timeout": "a rollback",
    "horizon-second": "two transactions",
    "notify-only": "a rollback",
    "row-trigger": "inside statements",
    "system-xmin": "two appends per transaction",
    "text-order": "a rollback",
}
"""Each planted bug, with a small scope in which it is looked for."""


@pytest.mark.parametrize(("bug", "name"), BUGS.items())
def test_equivalent_orders_have_one_verdict(connection: Connection, tmp_path: Path, bug: str, name: str) -> None:
    """What is found with the reduction and without it is the same, and so is every order of a class."""
    log = eventlog.load(str(planted(tmp_path / bug, bug)))
    (scope,) = [shortened(each) for each in scopes(log, 2, "none") if each.name == name]
    with install.installed(connection, log, "test"):
        independence = effects.independence_of(connection, log)
    independence = independence.of_client() if scope.client else independence
    most = 1 if scope.inside else 3 if scope.client else None
    classes = Traces()
    verdicts: dict[frozenset[int], set[tuple[str, ...]]] = {}
    found: set[tuple[str, ...]] = set()
    with opened(log, scope, connection) as ready:
        everything = Search(ready, scope.programs, most, 0)
        for carried in everything.orders(lambda: False):
            kinds = kinds_of(log, scope, carried)
            found.add(kinds)
            if not sleeps(carried):
                verdicts.setdefault(classes.class_of(turns_of(carried, independence)), set()).add(kinds)
        reduced = Search(ready, scope.programs, most, 0, independence)
        found_reduced = {kinds_of(log, scope, carried) for carried in reduced.orders(lambda: False)}
    assert all(len(kinds) == 1 for kinds in verdicts.values())
    assert found_reduced == found
    assert reduced.carried_out + reduced.equivalent == everything.carried_out


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
    result = explored(log, connection, seconds=120, preemptions=1)
    assert [kind for each in result.counterexamples for kind in each.kinds] == kinds
    assert result.ok is not bool(kinds)


@pytest.mark.parametrize("horizon", [HORIZON_AFTER_THE_ROWS, HORIZON_AFTER_A_NOTICE])
def test_a_bug_between_two_statements_of_a_function_needs_a_stop_and_is_seen_again_by_psql(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, horizon: str
) -> None:
    monkeypatch.setattr(exploring, "scopes", lambda *given: map(shortened, scopes(*given)))
    right = eventlog.load("xid-horizon")
    log = right.model_copy(update={"schema_sql": right.schema_sql + horizon})
    result = explored(log, connection, seconds=300)
    (found,) = [each for each in result.counterexamples if each.promised]
    assert found.scope == "inside statements"
    assert set(found.kinds) <= {"skipped", "withheld"}
    assert found.steps <= 8
    assert any((step.kind, step.end) == ("page", "stops") for step in found.trace)
    assert not any(scope.failing for scope in result.scopes if not scope.inside)

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


def test_a_session_stops_around_statements_that_write(connection: Connection) -> None:
    """Both writers are about to update the counter: the second one waits for the first, and then counts on."""
    scope = scope_of((APPEND, COMMIT), (APPEND, COMMIT), (PAGE,), inside=True)
    with opened(eventlog.load("counter"), scope, connection) as ready:
        ready.start(scope.programs)
        while (part := ready.advance(0)).stop != "before the update on events_counter":
            assert part.end == "stops"
        while (part := ready.advance(1)).stop != "before the update on events_counter":
            assert part.end == "stops"
        stops = []
        while (part := ready.advance(0)).end == "stops":
            stops.append(part.stop)
        assert "after the update on events_counter" in stops
        waiting = ready.advance(1)
        assert (waiting.end, waiting.waits_for) == ("waits", (0,))
        assert sorted(etag for etag, _ in ready.finish().stored if etag) == [1, 2]


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
def test_a_bystander_costs_and_breaks_nothing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, bystander: Literal["table", "prepared"]
) -> None:
    log = eventlog.load("xid-horizon")
    (scope,) = [each for each in scopes(log, 2, bystander) if each.name == "a rollback"]
    _, writer, reader, other = scope.programs
    few = replace(scope, programs=(writer, reader.without(2), other))
    monkeypatch.setattr(exploring, "scopes", lambda *_: [few])
    settings = Settings.model_validate({"bystander": bystander, "seconds": 300})
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
    connection.execute("DROP SCHEMA IF EXISTS bench_explore")
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
    running = bench.start("explore", "counter", "bigserial", "--dsn", address, "--seconds", "300")
    assert running.stderr
    lines = iter(running.stderr.readline, "")
    scope = next(line for line in lines if re.search(" orders? in ", line))
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


def test_logs_that_cannot_be_explored_are_bad_input(bench: Bench, tmp_path: Path) -> None:
    """Whether PostgreSQL does not start with a log's settings, or its SQL fails."""
    settings = write_log(tmp_path / "a", "", settings='{ shared_buffers = "1" }')
    broken = write_log(tmp_path / "b", "CREATE TABLE events_log (")
    ran = bench("explore", str(settings), str(broken))
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.count("shared_buffers") == 1
    assert ran.stderr.count("schema.sql") == 1
    assert "Not explored" in ran.stdout


def test_clean_removes_what_a_killed_exploration_left(bench: Bench, address: str) -> None:
    running = bench.start("explore", "xid-horizon", "--dsn", address, "--seconds", "300", "--bystander", "prepared")
    with psycopg.connect(address, autocommit=True) as looking:
        there = "SELECT to_regclass('bench_explore.elsewhere') IS NOT NULL"
        wait_until(lambda: looking.execute(there).fetchone() == (True,), running)
    running.kill()
    running.communicate()
    cleaned = bench("clean", "--dsn", address, DOCKER_HOST="unix:///nowhere")
    assert cleaned.returncode == 0, cleaned.stderr
    assert "bench_explore" in cleaned.stdout
    with psycopg.connect(address) as looking:
        assert looking.execute(
            "SELECT to_regnamespace('bench_explore'), to_regnamespace('bench'), "
            "(SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())"
        ).fetchone() == (None, None, 0)
    again = bench("clean", "--dsn", address, DOCKER_HOST="unix:///nowhere")
    assert "bench_explore" not in again.stdout


@pytest.mark.parametrize("words", [(), ("bigserial", "--all"), ("bigserial", "--writers", "9"), ("nosuch",)])
def test_a_bad_value_is_refused_before_anything_starts(bench: Bench, words: tuple[str, ...]) -> None:
    ran = bench("explore", *words)
    assert ran.returncode == 2
    assert len(ran.stderr.splitlines()) == 1
    assert not (bench.folder / "results").exists()
