"""Runs on a log that has events already: its readers begin after them, and whatever becomes of them is noticed."""

from pathlib import Path

import pytest

from bench import eventlog
from bench.paths import SQL
from bench.results.models import Trial
from bench.results.store import load
from tests.conftest import Bench, broken_log, write_log

REPLAYED = [name for name in eventlog.shipped() if eventlog.load(name).promises.replay]
ONE = ("--scale", "1", "--insert-batch", "10", "--limit", "200", "--preload", "1k")


def carry_out(bench: Bench, address: str, *flags: str) -> tuple[int, Trial, str]:
    """Run, and return the exit code, the trial and what was printed."""
    ran = bench("run", "--place", "local", "--dsn", address, *flags, "--export-json", "run.json")
    assert ran.returncode in {0, 1}, ran.stderr
    (trial,) = load(bench.folder / "run.json").trials
    return ran.returncode, trial, ran.stdout


@pytest.mark.parametrize("log", REPLAYED)
def test_readers_begin_after_the_preloaded_events(bench: Bench, address: str, log: str) -> None:
    scale = 3 if eventlog.load(log).promises.tail else 1  # the others skip events of several writers
    small = ("--insert-batch", "10", "--limit", "100", "--mode", "tail", "--preload", "2.5k")
    code, trial, printed = carry_out(bench, address, "--log", log, "--scale", str(scale), *small)
    assert code == 0, printed
    assert trial.append.events == trial.verdict.expected_events == 100 * scale
    assert [read.events for read in trial.reads] == [100 * scale]
    assert trial.preload is not None
    assert (trial.preload.events, trial.preload.first_producer) == (2500, scale)
    assert trial.preload.stored_bytes
    assert trial.stored_bytes is not None
    assert trial.stored_bytes < (trial.telemetry.stored_bytes or 0)
    assert not trial.notes
    assert "2,500 events were in the log before the run" in printed
    series = trial.telemetry.phases["append + read 1000"].series
    assert series is not None
    # A log may have a row or a few of its own.
    assert series.figures["live_rows"].values[0] == pytest.approx(2500, abs=10)


@pytest.mark.parametrize(
    ("log", "flags"),
    [
        ("bigserial", ["--read-batch", "10,100", "--payload-bytes", "300"]),
        ("bigserial", ["--consumers", "2", "--append", "copy"]),
        ("lock-drain", ["--cursor", "client", "--consumers", "2"]),
        ("partitioned", ["--group", "2"]),
        ("sequencer", ["--abort-rate", "0.2"]),
    ],
)
def test_a_drained_run_reads_its_own_events_only(bench: Bench, address: str, log: str, flags: list[str]) -> None:
    code, trial, printed = carry_out(bench, address, "--log", log, *ONE, *flags)
    assert code == 0, printed
    assert {read.events for read in trial.reads} == {trial.append.events}


LATER = "EXISTS (SELECT FROM events_log WHERE etag > 1000)"


def spoiling(folder: Path, statement: str) -> Path:
    """A log whose first append of the run does something to the preloaded events, too."""
    return broken_log(
        folder,
        f"""
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            {statement} AND {LATER};
            RETURN NULL;
        END $$;
        CREATE TRIGGER spoil AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION spoil();""",
    )


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM events_log WHERE etag IN (7, 9)", "lost"),
        (
            "UPDATE events_log SET payload = json_build_object('producer', 1, 'seq', etag - 1, 'value', 99) "
            "WHERE etag IN (7, 9)",
            "corrupt",
        ),
    ],
)
def test_a_preloaded_event_that_is_lost_or_changed_is_found(
    bench: Bench, address: str, tmp_path: Path, statement: str, kind: str
) -> None:
    log = spoiling(tmp_path / "spoiling", statement)
    code, trial, printed = carry_out(bench, address, "--log", str(log), *ONE)
    assert code == 1, printed
    assert getattr(trial.verdict, kind) == 2
    assert [(fault.kind, fault.producer, fault.seq) for fault in trial.verdict.examples] == [(kind, 1, 6), (kind, 1, 8)]
    assert "Producers from number 1 on are those of the 1,000 events that were in the log before the run" in printed


def test_a_preloaded_event_whose_etag_changes_is_found(bench: Bench, address: str, tmp_path: Path) -> None:
    log = spoiling(tmp_path / "spoiling", "UPDATE events_log SET etag = -etag WHERE etag = 7")
    code, trial, printed = carry_out(bench, address, "--log", str(log), *ONE)
    assert code == 1, printed
    assert trial.verdict.inconsistent == 1
    assert trial.verdict.lost == trial.verdict.corrupt == 0


def test_a_preloaded_event_that_is_delivered_again_is_found(bench: Bench, address: str, tmp_path: Path) -> None:
    again = """
        CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
        RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
            SELECT etag, ctime, payload FROM events_log
            WHERE etag > CASE last_etag WHEN 1000 THEN 995 ELSE coalesce(last_etag, 0) END
            ORDER BY etag LIMIT max_events
        $$;"""
    log = broken_log(tmp_path / "again", again)
    code, trial, printed = carry_out(bench, address, "--log", str(log), *ONE)
    assert code == 1, printed
    assert trial.verdict.duplicated == 5
    assert trial.verdict.phantom == trial.verdict.skipped == 0
    assert (trial.verdict.examples[0].producer, trial.verdict.examples[0].seq) == (1, 995)


def test_a_log_that_does_not_take_the_events_is_named(bench: Bench, address: str, tmp_path: Path) -> None:
    log = broken_log(tmp_path / "small", "ALTER TABLE events_log ADD CHECK (etag < 500);")
    ran = bench("run", "--place", "local", "--dsn", address, "--log", str(log), *ONE)
    assert ran.returncode == 3
    assert "cannot preload the log small" in ran.stderr
    schema = (SQL / "bigserial" / "schema.sql").read_text()
    hiding = write_log(tmp_path / "hiding", schema.replace("WHERE etag >", "WHERE etag % 10 > 0 AND etag >"))
    ran = bench("run", "--place", "local", "--dsn", address, "--log", str(hiding), *ONE, "--idle-timeout", "0.5")
    assert ran.returncode == 3
    assert "a reader was given 900 of 1,000 events" in ran.stderr


@pytest.mark.parametrize("log", ["skip-locked", "logical-slot"])
def test_a_log_that_can_be_read_once_only_is_refused(bench: Bench, log: str) -> None:
    ran = bench("run", "--place", "local", "--log", log, "--preload", "10")
    assert ran.returncode == 2
    assert "--preload" in ran.stderr
    assert log in ran.stderr
