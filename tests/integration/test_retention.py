"""Runs in which events are deleted behind all readers."""

import signal
from pathlib import Path

import psycopg
import pytest

from bench import eventlog
from bench.paths import SQL
from bench.postgres.connection import scalar
from bench.results.models import Trial
from bench.results.store import load
from tests.conftest import Bench, wait_until, write_log

DELETABLE = [name for name in eventlog.shipped() if eventlog.load(name).passed]
SAFE = [name for name in DELETABLE if eventlog.load(name).promises.tail]
TAIL = ("--mode", "tail", "--insert-batch", "10", "--rate", "400:2.2s", "--read-batch", "100")


def carry_out(bench: Bench, address: str, *flags: str) -> tuple[int, Trial, str]:
    """Run, and return the exit code, the trial and what was printed."""
    ran = bench("run", "--place", "local", "--dsn", address, *TAIL, *flags, "--export-json", "run.json")
    assert ran.returncode in {0, 1}, ran.stderr
    (trial,) = load(bench.folder / "run.json").trials
    return ran.returncode, trial, ran.stdout


@pytest.mark.parametrize("log", DELETABLE)
def test_events_that_all_readers_had_are_deleted_and_not_lost(bench: Bench, address: str, log: str) -> None:
    several = ("--scale", "2" if log in SAFE else "1", "--consumers", "2")  # the others skip events of several writers
    code, trial, printed = carry_out(bench, address, "--log", log, "--retention", "50", *several)
    assert code == 0, printed
    assert trial.verdict.expected_events == 880
    assert trial.retention is not None
    assert 0 < trial.retention.deleted <= 830
    assert trial.retention.too_early == 0
    assert f"retention: {trial.retention.deleted:,} events were deleted behind readers" in printed
    series = trial.telemetry.phases["append + read 100"].series
    assert series is not None
    assert max(value or 0 for value in series.figures["dead_rows"].values) > 0


def test_events_are_deleted_by_their_age_but_preloaded_ones_stay(bench: Bench, address: str) -> None:
    code, trial, printed = carry_out(bench, address, "--log", "lock-drain", "--retention", "0.5s", "--preload", "1k")
    assert code == 0, printed
    assert trial.retention is not None
    assert 0 < trial.retention.deleted < 880
    assert trial.preload is not None
    assert trial.preload.events == 1000


def test_rolled_back_events_between_deleted_ones_do_not_matter(bench: Bench, address: str) -> None:
    code, trial, printed = carry_out(bench, address, "--log", "counter", "--retention", "20", "--abort-rate", "0.3")
    assert code == 0, printed
    assert trial.retention is not None
    assert trial.retention.deleted > 0


def test_events_that_are_deleted_before_a_reader_had_them_are_lost(bench: Bench, address: str, tmp_path: Path) -> None:
    slow = """
        CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
        RETURNS SETOF events_log LANGUAGE sql VOLATILE AS $$
            SELECT pg_sleep(0.5);
            SELECT etag, ctime, payload FROM events_log
            WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT 100
        $$;"""
    schema = (SQL / "bigserial" / "schema.sql").read_text() + slow
    log = write_log(tmp_path / "hasty", schema, passed='"etag <= $1 + 1000000"')
    code, trial, printed = carry_out(bench, address, "--log", str(log), "--scale", "1", "--retention", "10")
    assert code == 1, printed
    assert trial.retention is not None
    assert trial.verdict.lost == trial.retention.too_early > 0
    assert "--retention deleted" in printed
    assert "never stored" not in printed
    right = write_log(tmp_path / "slow", schema, passed='"etag <= $1"')
    code, trial, printed = carry_out(bench, address, "--log", str(right), "--scale", "1", "--retention", "10")
    assert code == 0, printed


def test_phantoms_that_are_deleted_before_the_audit_are_counted(bench: Bench, address: str, tmp_path: Path) -> None:
    inventing = """
        CREATE FUNCTION invent() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO events_log (etag, payload)
            VALUES (-1, json_build_object('producer', 0, 'seq', 10000050, 'value', 10000050)), (-2, '{"seq": 7}');
            RETURN NULL;
        END $$;
        CREATE TRIGGER invent AFTER INSERT ON events_log
        FOR EACH ROW WHEN ((NEW.payload ->> 'seq')::bigint = 50) EXECUTE FUNCTION invent();"""
    schema = (SQL / "bigserial" / "schema.sql").read_text() + inventing
    log = write_log(tmp_path / "inventing", schema, passed='"etag <= $1"')
    code, trial, printed = carry_out(bench, address, "--log", str(log), "--scale", "1", "--retention", "20")
    assert code == 1, printed
    assert trial.retention is not None
    assert (trial.verdict.phantom, trial.verdict.lost, trial.retention.too_early) == (2, 0, 0)


def test_a_log_whose_rows_cannot_be_deleted_ends_the_run(bench: Bench, address: str, tmp_path: Path) -> None:
    keeping = """
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'append only'; END $$;
        CREATE TRIGGER keep BEFORE DELETE ON events_log FOR EACH ROW EXECUTE FUNCTION keep();"""
    schema = (SQL / "bigserial" / "schema.sql").read_text() + keeping
    log = write_log(tmp_path / "keeping", schema, passed='"etag <= $1"')
    ran = bench("run", "--place", "local", "--dsn", address, *TAIL, "--log", str(log), "--retention", "10")
    assert ran.returncode == 3
    assert "append only" in ran.stderr
    assert "--retention" in ran.stderr


def test_a_condition_that_fails_is_named_before_anything_is_appended(
    bench: Bench, address: str, tmp_path: Path
) -> None:
    schema = (SQL / "bigserial" / "schema.sql").read_text()
    log = write_log(tmp_path / "wrong", schema, passed='"position <= $1"')
    ran = bench("run", "--place", "local", "--dsn", address, *TAIL, "--log", str(log))
    assert ran.returncode == 2
    assert "passed" in ran.stderr
    assert "position" in ran.stderr


@pytest.mark.parametrize("log", ["skip-locked", "sequencer", "logical-slot"])
def test_a_log_that_does_not_say_what_readers_have_passed_is_refused(bench: Bench, log: str) -> None:
    ran = bench("run", "--place", "local", "--log", log, "--mode", "tail", "--retention", "30s")
    assert ran.returncode == 2
    assert "--retention" in ran.stderr
    assert "lock-drain" in ran.stderr


def test_an_interrupted_run_leaves_no_session_that_deletes(bench: Bench, address: str) -> None:
    asleep = """
        CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_sleep(60); RETURN OLD; END $$;
        CREATE TRIGGER linger BEFORE DELETE ON events_log FOR EACH ROW EXECUTE FUNCTION linger();"""
    schema = (SQL / "bigserial" / "schema.sql").read_text() + asleep
    log = write_log(bench.folder / "lingering", schema, passed='"etag <= $1"')
    flags = ("--mode", "tail", "--scale", "1", "--insert-batch", "10", "--rate", "100:60s", "--retention", "10")
    process = bench.start("run", "--place", "local", "--dsn", address, "--log", str(log), *flags)
    deleting = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'bench % retention'"
    with psycopg.connect(address, autocommit=True) as admin:
        wait_until(lambda: scalar(admin, f"{deleting} AND wait_event = 'PgSleep'"), process)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 130, complaint
        assert "interrupted" in complaint
        wait_until(lambda: not scalar(admin, deleting))
