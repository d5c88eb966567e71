"""Ours beside PostgreSQL's own programs, for real."""

from bench.overhead import measure as overhead
from bench.report import overhead as overhead_report
from bench.results import store
from tests.conftest import Bench


def test_each_contest_is_carried_out_and_kept(bench: Bench) -> None:
    ran = bench("limits", "--events", "1000", "--grown", "2000", "--rounds", "2", "--place", "local")
    assert "Traceback" not in ran.stderr, ran.stderr
    (found,) = store.load_records(overhead.Limits, bench.folder / "results" / "runs", overhead.FILE)
    # Which targets so few events meet is chance; the exit code and the table must agree with what was measured.
    missed = not overhead_report.met(found)
    assert ran.returncode == int(missed), ran.stderr
    assert ("MISSED" in ran.stdout) == missed
    assert found.rounds == 2
    assert [len(contest.pairs) for contest in found.contests] == [2] * 15
    assert all(ours > 0 and theirs > 0 for contest in found.contests for ours, theirs in contest.pairs)
    assert len(found.first_event_seconds) == len(found.lateness_p99_ms) == 2
    assert all(seconds > 0 for seconds in found.first_event_seconds)
    for words in (
        "pgbench, rows thrown away",
        "binary COPY",
        r"one \copy",
        "memory",
        "pgbench --rate",
        "lateness",
        "--place local",
    ):
        assert words in ran.stdout
    assert bench.runs() == []
    assert bench.processes() == []


def test_too_few_events_are_refused(bench: Bench) -> None:
    ran = bench("limits", "--events", "500", "--place", "local")
    assert ran.returncode == 2
    assert "--events" in ran.stderr
