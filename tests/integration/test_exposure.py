"""The chances to fail that a tailed log met, and the readers that got nothing or too little, in real runs."""

from pathlib import Path

import pytest

from bench.report.verdict import trial_verdict
from bench.results import store
from bench.results.models import Trial
from tests.conftest import Bench, broken_log, write_log
from tests.integration.test_tail import BIGSERIAL, OVERLAPPING
from tests.integration.test_withheld import writes_elsewhere

FEW = ("--scale", "1", "--limit", "200", "--insert-batch", "10", "--read-batch", "20", "--idle-timeout", "0.5")
ALL = "2000"
"""More events than there are: however far a reader is behind, its next page reaches the tail."""

READER = """
CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
RETURNS SETOF events_log LANGUAGE sql STABLE AS $$
    SELECT * FROM events_log e WHERE {condition} ORDER BY e.etag LIMIT max_events
$$;
"""


def run(bench: Bench, address: str, *words: str, code: int = 0) -> Trial:
    ran = bench("run", "--place", "local", "--dsn", address, "--export-json", "result.json", *words)
    assert ran.returncode == code, ran.stdout + ran.stderr
    (trial,) = store.load(bench.folder / "result.json").trials
    return trial


def test_a_log_that_loses_events_was_exposed(bench: Bench, address: str) -> None:
    trial = run(bench, address, *OVERLAPPING, "--insert-loops", "40", "--read-batch", ALL, code=1)
    assert trial.verdict.skipped
    met = trial.exposure
    assert met
    assert met.exposed
    assert met.pages_at_risk
    assert met.out_of_order
    assert met.rolled_back_between
    assert met.transactions == 240
    assert 0 < met.overlapped <= met.transactions
    assert met.untimed == 0


@pytest.mark.parametrize("log", ["lock-drain", "snapshot-cursor"])
def test_a_safe_log_is_exposed_where_transactions_stay_open(bench: Bench, address: str, log: str) -> None:
    trial = run(bench, address, *OVERLAPPING, "--insert-loops", "40", "--read-batch", ALL, "--log", log)
    assert trial.exposure
    assert trial.exposure.pages_at_risk
    text = trial_verdict(trial)
    assert "verdict: ok. " in text
    assert f"\nExposed: {trial.exposure.pages_at_risk:,} of " in text


@pytest.mark.parametrize("log", ["advisory-lock", "sequencer"])
def test_a_log_that_keeps_commits_in_order_is_exposed_by_overlapping_writers(
    bench: Bench, address: str, log: str
) -> None:
    trial = run(bench, address, *OVERLAPPING, "--insert-loops", "40", "--read-batch", ALL, "--log", log)
    assert trial.exposure
    assert (trial.exposure.pages_at_risk, trial.exposure.out_of_order) == (0, 0)
    assert trial.exposure.exposed


def test_a_queue_is_exposed_by_overlapping_writers(bench: Bench, address: str) -> None:
    trial = run(bench, address, *OVERLAPPING, "--insert-loops", "20", "--read-batch", ALL, "--log", "skip-locked")
    assert trial.exposure
    assert (trial.exposure.unknown, trial.exposure.pages_at_risk) == ("taken away", None)
    assert trial.exposure.exposed


@pytest.mark.parametrize("log", ["bigserial", "lock-drain", "advisory-lock"])
def test_one_producer_leaves_a_log_untested(bench: Bench, address: str, log: str) -> None:
    words = ("--mode", "tail", "--scale", "1", "--limit", "300", "--insert-batch", "5", "--transaction-ms", "0..3")
    ran = bench("run", "--place", "local", "--dsn", address, "--log", log, *words, "--export-json", "result.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "verdict: ok, but untested: " in ran.stdout
    assert "--scale" in ran.stdout
    (trial,) = store.load(bench.folder / "result.json").trials
    assert trial.exposure
    assert trial.exposure.exposed is False
    assert (trial.exposure.overlapped, trial.exposure.pages_at_risk) == (0, 0)


def test_a_drained_run_is_no_test_of_tailing_and_says_nothing_of_it(bench: Bench, address: str) -> None:
    trial = run(bench, address, *FEW)
    assert trial.exposure is None
    text = trial_verdict(trial)
    assert "untested" not in text
    assert "xposed" not in text


def test_without_transaction_ids_exposure_is_unknown(bench: Bench, address: str) -> None:
    schema = f"{BIGSERIAL.schema_sql} CREATE VIEW shown AS SELECT etag, ctime, payload FROM events_log;"
    folder = write_log(bench.folder / "mine", schema, table='"shown"', append='["log_event"]')
    words = ("--log", str(folder), "--append", "log_event", "--mode", "tail", *FEW)
    trial = run(bench, address, *words)
    assert trial.exposure
    assert (trial.exposure.unknown, trial.exposure.exposed) == ("no xmin", None)
    text = trial_verdict(trial)
    assert "verdict: ok. " in text
    assert "Unknown: the log's table shows no transaction ids" in text


def test_a_group_is_exposed_as_one_reader(bench: Bench, address: str) -> None:
    words = (*OVERLAPPING, "--insert-loops", "40", "--read-batch", ALL, "--log", "lock-drain")
    trial = run(bench, address, *words, "--group", "3")
    assert trial.exposure
    assert trial.exposure.pages_at_risk


def reader(folder: Path, condition: str) -> Path:
    return broken_log(folder, READER.format(condition=condition))


@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_of_a_reader_that_never_got_an_event_its_first_call_is_reported_first(
    bench: Bench, address: str, mode: str
) -> None:
    folder = reader(bench.folder / "null", "e.etag > last_etag")
    trial = run(bench, address, "--log", str(folder), "--mode", mode, *FEW, code=1)
    assert trial.verdict.withheld == 200
    headline, first, *others = trial_verdict(trial).splitlines()
    assert "200 withheld" in headline
    assert "get_event(NULL, 20) gave no rows while 200 events are stored" in first
    assert "Does a NULL cursor read from the start?" in first
    assert not any("past" in line for line in others if not line.startswith(("Exposed", "Untested")))


@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_a_reader_that_stopped_short_of_the_tail_is_reported_first(bench: Bench, address: str, mode: str) -> None:
    folder = reader(bench.folder / "short", "e.etag > coalesce(last_etag, 0) AND e.etag <= 140")
    trial = run(bench, address, "--log", str(folder), "--mode", mode, *FEW, code=1)
    assert (trial.verdict.withheld, trial.verdict.skipped) == (60, 0)
    _, first, *_ = trial_verdict(trial).splitlines()
    assert "consumer-20 stopped short of the tail: after 140 events it was given no more rows" in first
    assert "60 more events are stored" in first


def test_a_reader_that_a_transaction_held_back_is_not_asked_about_its_cursor(
    bench: Bench, address: str, server: str
) -> None:
    with writes_elsewhere(server):
        trial = run(bench, address, "--log", "xid-horizon", *FEW, code=1)
    assert trial.verdict.holders
    _, first, *_ = trial_verdict(trial).splitlines()
    assert "get_event(NULL, NULL, 20) gave no rows while 200 events are stored" in first
    assert "cursor" not in first
