"""An error of the log's own SQL is a finding about the log: a verdict with its place, and with what became of the
events; what only explains a verdict cannot cost it."""

import re
from pathlib import Path

import psycopg
import pytest

from bench.attribution import is_of_the_log
from bench.results import store
from bench.results.models import Trial
from tests.conftest import Bench, broken_log

TELL = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('x', repeat('x', (NEW.payload ->> 'seq')::int * 100));
    RETURN NEW;
END $$;
CREATE TRIGGER tell BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION tell();
"""
"""A notification takes 8000 bytes, so the event with the seq 80 is refused."""

READ = """
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE plpgsql AS $$
BEGIN
    IF last_etag >= 40 THEN
        {}
    END IF;
    RETURN QUERY SELECT * FROM events_log e WHERE e.etag > coalesce(last_etag, 0) ORDER BY e.etag LIMIT max_events;
END $$;
"""
"""What a reader is given once it has the etag 40."""


def run(bench: Bench, address: str, folder: Path, *flags: str, code: int = 1) -> tuple[Trial, str]:
    """The first trial of a failed run, and what the run printed as one line."""
    small = ("--scale", "1", "--limit", "200", "--insert-batch", "10", "--read-batch", "20", "--idle-timeout", "1")
    words = ("run", "--place", "local", "--dsn", address, "--log", str(folder), *small, *flags)
    ran = bench(*words, "--export-json", "result.json")
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    with psycopg.connect(address) as left:
        assert left.execute("SELECT to_regnamespace('bench')").fetchone() == (None,)
    return store.load(bench.folder / "result.json").trials[0], " ".join(ran.stdout.split())


def line_of(folder: Path, words: str) -> int:
    lines = (folder / "schema.sql").read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines, 1) if words in text]
    return line


@pytest.mark.parametrize(("append", "call"), [("log_event", "log_event"), ("generate", "INSERT"), ("copy", "COPY")])
def test_an_error_of_an_append_is_told_with_its_place_and_with_what_became_of_the_events(
    bench: Bench, address: str, append: str, call: str
) -> None:
    folder = broken_log(bench.folder / "tells", TELL)
    trial, printed = run(bench, address, folder, "--append", append)
    line = line_of(folder, "PERFORM pg_notify")
    assert (
        f"The log stranded: producer-0: {call}: payload string too long (schema.sql line {line}, "
        "PL/pgSQL function tell() line 3 at PERFORM). "
        "80 events were acknowledged, none of which was lost; 10 were rolled back; 110 were not attempted." in printed
    )
    (met,) = trial.verdict.stranded
    assert (met.sqlstate, met.line, met.events) == ("22023", line, (80, 89))
    assert (trial.verdict.expected_events, trial.verdict.aborted, trial.verdict.unattempted) == (80, 10, 110)
    assert trial.reads[0].events == 80
    assert trial.append.events_per_second is None


def test_producers_that_met_nothing_end_with_the_one_that_the_log_failed(bench: Bench, address: str) -> None:
    folder = broken_log(
        bench.folder / "first",
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.payload ->> 'producer' = '0' AND NEW.payload ->> 'seq' = '5' THEN RAISE 'not this one'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION refuse();""",
    )
    flags = ("--scale", "3", "--limit", "5000000", "--insert-batch", "1")
    trial, printed = run(bench, address, folder, *flags)
    assert "The log stranded: producer-0: log_event: not this one" in printed
    found = trial.verdict
    assert found.unattempted > 10_000_000
    assert found.expected_events + found.unattempted + found.aborted == 15_000_000
    assert trial.reads[0].events == found.expected_events


def test_a_log_that_says_it_has_less_than_it_was_given(bench: Bench, address: str) -> None:
    folder = broken_log(
        bench.folder / "conflicts",
        """
        CREATE UNIQUE INDEX ON events_log ((payload ->> 'seq'));
        CREATE OR REPLACE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE sql AS $$
            INSERT INTO events_log (payload) SELECT value FROM json_array_elements(event)
            ON CONFLICT DO NOTHING RETURNING *
        $$;""",
    )
    trial, printed = run(bench, address, folder, "--scale", "2")
    assert re.search(r"log_event: it took \d of the 10 events of a batch and reported no error", printed), printed
    assert not trial.verdict.indeterminate
    assert trial.verdict.lost
    assert trial.verdict.lost + trial.reads[0].events == trial.verdict.expected_events


def test_a_deadlock_is_the_logs_and_nobody_is_sent_to_a_servers_log(bench: Bench, address: str) -> None:
    folder = broken_log(
        bench.folder / "unsorted",
        """
        CREATE FUNCTION cross_over() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE odd int := (NEW.payload ->> 'producer')::int % 2;
        BEGIN
            PERFORM pg_advisory_xact_lock(71 + odd);
            PERFORM pg_sleep(0.2);
            PERFORM pg_advisory_xact_lock(72 - odd);
            RETURN NEW;
        END $$;
        CREATE TRIGGER cross_over BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION cross_over();""",
    )
    trial, printed = run(bench, address, folder, "--scale", "2", "--insert-batch", "1", "--limit", "50")
    assert "log_event: deadlock detected" in printed
    assert "server log" not in printed
    assert trial.verdict.stranded[0].sqlstate == "40P01"
    assert trial.verdict.stranded[0].line == line_of(folder, "pg_advisory_xact_lock(72")


def test_an_error_at_the_commit_rolls_that_batch_back(bench: Bench, address: str) -> None:
    folder = broken_log(
        bench.folder / "deferred",
        """
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.etag = 55 THEN RAISE 'too late' USING DETAIL = 'for 55', HINT = 'Come earlier.'; END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER look AFTER INSERT ON events_log DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION look();""",
    )
    trial, printed = run(bench, address, folder, "--transaction-ms", "0..1")
    assert "too late; for 55; Come earlier (schema.sql line" in printed
    assert (trial.verdict.expected_events, trial.verdict.aborted) == (50, 10)
    assert not trial.verdict.lost
    assert not trial.verdict.phantom


@pytest.mark.parametrize("mode", ["drain", "tail"])
def test_an_error_of_a_read_leaves_the_rest_withheld(bench: Bench, address: str, mode: str) -> None:
    """As a replication slot that was invalidated does."""
    words = "RAISE 'can no longer access replication slot' USING ERRCODE = 'object_not_in_prerequisite_state';"
    folder = broken_log(bench.folder / "unread", READ.format(words))
    trial, printed = run(bench, address, folder, "--mode", mode)
    line = line_of(folder, "RAISE 'can")
    place = f"(schema.sql line {line}, PL/pgSQL function get_event(bigint,bigint) line 4 at RAISE)"
    assert f"The log stranded: consumer-20: get_event: can no longer access replication slot {place}" in printed
    assert trial.verdict.withheld == trial.verdict.expected_events - trial.reads[0].events > 0
    assert not trial.verdict.skipped


def test_a_row_without_an_etag_is_a_finding(bench: Bench, address: str) -> None:
    words = "RETURN QUERY SELECT NULL::bigint, e.ctime, e.payload FROM events_log e LIMIT 1; RETURN;"
    folder = broken_log(bench.folder / "nameless", READ.format(words))
    trial, printed = run(bench, address, folder)
    assert "The log stranded: consumer-20: get_event: it gave a row without an etag" in printed
    assert trial.verdict.expected_events == 200


def test_two_members_of_a_group_read_on_when_a_third_was_failed(bench: Bench, address: str) -> None:
    folder = broken_log(
        bench.folder / "turns",
        """
        CREATE SEQUENCE turn;
        ALTER FUNCTION get_event(text, bigint) RENAME TO get_event_in_turn;
        CREATE FUNCTION get_event(client text, max_events bigint DEFAULT 1) RETURNS SETOF events_log LANGUAGE plpgsql
        AS $$ BEGIN
            IF nextval('turn') = 3 THEN RAISE 'not your turn'; END IF;
            RETURN QUERY SELECT * FROM get_event_in_turn(client, max_events);
        END $$;""",
    )
    trial, printed = run(bench, address, folder, "--group", "3", "--depth", "1")
    assert "get_event: not your turn" in printed
    assert trial.reads[0].events == trial.verdict.expected_events == 200
    assert not trial.verdict.withheld


@pytest.mark.parametrize("state", ["53100", "57000", "58030", "XX001"])
def test_what_broke_around_a_log_is_no_verdict(bench: Bench, address: str, state: str) -> None:
    folder = broken_log(bench.folder / "around", READ.format(f"RAISE 'out of luck' USING ERRCODE = '{state}';"))
    words = ("run", "--place", "local", "--dsn", address, "--log", str(folder), "--scale", "1", "--limit", "200")
    ran = bench(*words, "--insert-batch", "10", "--read-batch", "20")
    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert "out of luck" in ran.stderr
    assert "stranded" not in ran.stdout


@pytest.mark.parametrize(
    ("name", "of_the_log"),
    [
        ("RaiseException", True),
        ("UniqueViolation", True),
        ("SerializationFailure", True),
        ("DeadlockDetected", True),
        ("ObjectNotInPrerequisiteState", True),
        ("SequenceGeneratorLimitExceeded", True),
        ("ReadOnlySqlTransaction", False),
        ("IdleInTransactionSessionTimeout", False),
        ("QueryCanceled", False),
        ("AdminShutdown", False),
        ("DiskFull", False),
        ("ConnectionFailure", False),
        ("InternalError_", False),
        ("OperationalError", False),
    ],
)
def test_whose_error_it_is(name: str, of_the_log: bool) -> None:  # noqa: FBT001
    error = getattr(psycopg.errors, name, None) or getattr(psycopg, name)
    assert is_of_the_log(error("words")) == of_the_log


def test_a_story_that_cannot_be_told_is_a_note_and_the_verdict_stands(bench: Bench, address: str) -> None:
    folder = broken_log(
        bench.folder / "loud",
        READ.format("last_etag := last_etag + 1;")
        + """
        CREATE VIEW shown AS SELECT etag, payload, xmin, ctime + make_interval(days => 1 / (etag - etag)::int) AS ctime
        FROM events_log;""",
    )
    log_toml = folder / "log.toml"
    log_toml.write_text(re.sub(r"^table = .*$", 'table = "shown"', log_toml.read_text(), flags=re.MULTILINE))
    trial, printed = run(bench, address, folder, "--append", "log_event")
    assert trial.verdict.skipped
    assert trial.notes == ["how events came to be skipped is not known: division by zero"]
    assert "Note: how events came to be skipped is not known: division by zero." in printed
