"""`bench run --rate find` on a real server."""

import signal

import pytest

from bench.results import models, store
from tests.conftest import REPOSITORY, Bench, broken_log, read_until

LOSSY = (REPOSITORY / "tests" / "logs" / "lossy.sql").read_text()
HELD = ("run", "--rate", "find", "--scale", "2", "--insert-batch", "1", "--transaction-ms", "5", "--duration", "0.9s")
"""Two producers that keep each transaction open for 5 ms append less than 400 events per second together."""
MOST_PER_SECOND = 2 / 0.005


def stored(bench: Bench) -> models.Result:
    (file,) = (bench.folder / "results" / "runs").glob("*/result.json")
    return store.load(file)


def test_a_search_finds_a_rate_that_holds_and_one_above_that_does_not(bench: Bench, address: str) -> None:
    objectives = ("--slo", "append p50 < 10s", "--slo", "end_to_end.p99 < 20s")
    ran = bench(*HELD, "--dsn", address, "--mode", "tail", "--log", "lock-drain", *objectives)
    assert ran.returncode == 0, ran.stderr
    result = stored(bench)
    search = result.search
    assert search
    assert search.over
    assert search.events_per_second
    assert search.events_per_second < MOST_PER_SECOND / 0.95
    assert search.failed
    assert not search.failed.held
    assert search.confirmation
    assert search.confirmation.seconds == 0.9
    assert [each.objective for each in search.confirmation.figures] == ["append p50 < 10s", "end_to_end p99 < 20s"]
    # The result is that of the confirmation.
    (trial,) = result.trials
    assert trial.append.offered
    assert trial.append.offered.achieved_per_second == search.confirmation.achieved_per_second
    assert result.spec["limit"] * 2 == trial.verdict.expected_events
    assert "--rate find --slo 'append p50 < 10s' --slo 'end_to_end p99 < 20s' --duration 0.9s" in result.reproduce
    lines = [line for line in ran.stderr.splitlines() if line.startswith(("window", "confirmation"))]
    assert len(lines) == len(search.windows)
    assert "window 1: 1,000/s for 0.15 s: did not hold" in lines[0]
    assert "saturated" in lines[0]
    assert ran.stdout.count("|") > len(search.windows)
    assert "highest rate that holds: " in ran.stdout
    assert bench.runs() == []
    for command in (("compare", "results/runs/*"), ("baseline", "save", "main")):
        refused = bench(*(word.replace("*", result.run_id) for word in command))
        assert refused.returncode == 2
        assert "--rate find" in refused.stderr


def test_where_no_rate_holds_the_search_says_so(bench: Bench, address: str) -> None:
    words = ("--dsn", address, "--slo", "append p50 < 1us", "--insert-batch", "200", "--quiet")
    ran = bench(*HELD[:5], *words, "--duration", "1.2s")
    assert ran.returncode == 1, ran.stderr
    assert "no rate holds: at 2,000/s" in ran.stdout
    assert "not < 1 us" in ran.stdout
    search = stored(bench).search
    assert search
    assert (search.over, search.events_per_second) == (True, None)
    assert [(each.events_per_second, each.held) for each in search.windows] == [(2000, False), (2000, False)]


def test_a_failed_verdict_ends_the_search(bench: Bench, address: str) -> None:
    log = broken_log(bench.folder / "lossy", LOSSY)
    ran = bench(
        *("run", "--rate", "find", "--slo", "append p99 < 10s", "--scale", "2", "--insert-batch", "10"),
        *("--duration", "1s", "--dsn", address, "--log", str(log), "--idle-timeout", "0.5"),
    )
    assert ran.returncode == 1, ran.stderr
    assert "verdict: FAILED" in ran.stdout
    assert "rate that holds" not in ran.stdout
    result = stored(bench)
    assert not result.ok
    assert result.search
    assert not result.search.over
    assert result.unfinished
    assert bench.runs() == []


def test_windows_survive_an_interrupt(bench: Bench, address: str) -> None:
    running = bench.start(*HELD, "--dsn", address, "--slo", "append p50 < 10s")
    read_until(running, "window 2")
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130, stderr
    assert "of a search" in stderr
    result = stored(bench)
    assert result.search
    assert len(result.search.windows) >= 2
    assert not result.search.over
    assert result.ok
    assert bench.runs() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--rate", "find"), "--slo"),
        (("--rate", "find", "--slo", "append < 50ms"), "--slo 'append < 50ms'"),
        (("--rate", "find", "--slo", "end_to_end p99 < 50ms"), "--mode tail"),
        (("--rate", "find", "--slo", "append p99 < 50ms", "--trials", "3"), "--trials"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(bench: Bench, words: tuple[str, ...], says: str) -> None:
    ran = bench("run", "--place", "local", *words)
    assert ran.returncode == 2
    assert says in ran.stderr
    assert not (bench.folder / "results").exists()


def test_a_search_is_no_side_of_a_comparison(bench: Bench) -> None:
    ran = bench("ab", "--both", "--place local --rate find --slo 'append p99 < 50ms'", "--b", "--scale 3")
    assert ran.returncode == 2
    assert "--rate find" in ran.stderr
