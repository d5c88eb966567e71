"""The tables that people look at: golden files, rewritten by `BENCH_GOLDEN=1 pytest tests/report/test_table.py`."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import InfrastructureError, UsageError
from bench.judge.verdict import Fault, Gaps, SleepingReader, Verdict
from bench.report import plot, published, terminal
from bench.report import runs as runs_report
from bench.report.verdict import verdict_text
from bench.results import metrics
from bench.results.costs import Observed, Retention
from bench.results.models import Latency, Producer, Result, json_schema_text
from bench.results.store import json_text, load, load_all, store
from tests.conftest import REPOSITORY, golden

OK = Verdict(ok=True, expected_events=2500, expected_checksum=1561250)


def result(**changes: object) -> Result:
    """A made-up result."""
    latency = {"p50": 40.1, "p90": 50.0, "p99": 60.0, "p99_9": 70.0, "max": 80.5}
    ok = changes.get("verdict") is None
    read = {
        "reader": "consumer",
        "events": 2500,
        "seconds": 0.5,
        "events_per_second": 5000.0 if ok else None,
        "checksum": 1561250,
        "max_etag_gap": 1,
        "repeated_ctimes": 3,
        "latency_ms": latency,
        "cpu_seconds": 0.1,
        "client_bound": False,
        "clock_offset_ms": 0.01,
        "round_trip_ms": 0.1,
    }
    return Result.model_validate(
        {
            "schema": "bench.result/2",
            "run_id": "20260102-030405-abcd",
            "started_at": "2026-01-02T03:04:05Z",
            "spec": {
                "scale": 2, "insert_batch": 100, "insert_loops": None, "limit": 1250, "read_batch": [1000, 10],
                "append": "copy", "payload_bytes": 0, "log": "bigserial", "postgres_image": None, "dsn": None,
                "set": {"fsync": "off"}, "worker_image": None,
            },
            "sql": {"append": "COPY", "read 1000": "SELECT", "read 10": "SELECT"},
            "environment": {
                "place": "local", "cpu": "A CPU", "cores": 2, "memory_bytes": 2**33, "kernel": "Linux 6",
                "python": "3.13.0", "bench": "0.1.0", "git_revision": None, "postgres": "18.6",
                "settings": {"fsync": "off"}, "about": {},
            },
            "trials": [
                {
                    "phase_seconds": {"start": 0.8, "append": 1.2, "settle": 0.1, "read 1000": 0.7, "read 10": 0.9,
                                      "check": 0.01},
                    "append": {
                        "events": 2500, "seconds": 1.0,
                        "events_per_second": 2500.0 if ok and not changes.get("losses") else None,
                        "latency_ms": latency, "client_bound": False, "wal_bytes": 500_000, "producers": [],
                    },
                    "reads": [
                        {**read, "read_batch": 1000, "client_bound": True},
                        {**read, "read_batch": 10, "max_etag_gap": changes.get("gap", 1)},
                    ],
                    "verdict": changes.get("verdict") or OK,
                    "telemetry": {
                        "table_bytes": 200_000, "index_bytes": 50_000, "phases": changes.get("phases") or {},
                    },
                    "series": {},
                    "nodes": changes.get("nodes", []),
                    "losses": changes.get("losses", []),
                }
            ],
        }
    )  # fmt: skip


def paused() -> Result:
    """A made-up result of a run that paused inside statements."""
    of_speed = result()
    (trial,) = of_speed.trials
    trial = trial.model_copy(
        update={
            "pause_ms": (0, 2.5),
            "append": trial.append.model_copy(update={"events_per_second": None}),
            "reads": [read.model_copy(update={"events_per_second": None}) for read in trial.reads],
        }
    )
    return of_speed.model_copy(update={"spec": {**of_speed.spec, "pause": [0, 2.5]}, "trials": [trial]})


FAILED = Verdict(
    ok=False,
    expected_events=2500,
    expected_checksum=1561250,
    skipped=1234,
    phantom=1,
    wrong_checksums=1,
    examples=[
        Fault("skipped", "consumer-10", producer=1, seq=7),
        Fault("phantom", "consumer-10", etag=12),
        Fault("phantom"),
    ],
)


def skipped(reader: str, seq: int, etag: int) -> Fault:
    at = 1_767_323_045.25
    return Fault("skipped", reader, 2, seq, etag, at, at + 0.012, at + 0.0105, 61)


TAILED = Verdict(
    ok=False,
    expected_events=2450,
    expected_checksum=1500000,
    skipped=13,
    withheld=2,
    reordered=1,
    aborted=50,
    gaps=Gaps(late_commit=10, early_commit=3, rolled_back=50, unexplained=32, examples=[(101, 132)]),
    excused=["reordered"],
    stopped=["consumer-10-1: a read did not come back and was cancelled"],
    by_reader={"consumer-10-0": {}, "consumer-10-1": {"skipped": 13, "withheld": 2, "reordered": 1}},
    examples=[
        *(skipped("consumer-10-1", seq, 50 + seq) for seq in range(5, 15)),
        Fault("withheld", "consumer-10-1", 3, 8),
        Fault("withheld", "consumer-10-1", 3, 9),
        Fault("reordered", "consumer-10-1", 1, 4, 77),
    ],
)
OBSERVED = {
    "seconds": 1.0,
    "samples": 4,
    "bottleneck": {
        "cause": "wal_flush", "share": 0.61, "busy_cores": 0.01,
        "others": [
            {"cause": "cpu", "share": 0.22}, {"cause": "page_contention", "share": 0.12},
            {"cause": "client_statement", "share": 0.04}, {"cause": "lwlock", "event": "LWLock:Odd", "share": 0.01},
        ],
    },
    "waits": [{"backend": "worker", "event": "IO:WalSync", "share": 0.61}],
    "counters": {
        "wal_bytes": 480_000, "rows_inserted": 2500, "checkpoints_timed": 0, "checkpoints_requested": 2,
        "blocks_hit": 990, "blocks_read": 10,
    },
    "postgres_cpu_seconds": 0.01,
    "postgres_memory_bytes": 2**27,
    "workers_cpu_seconds": 0.002,
    "worker_memory_bytes": 2**25,
}  # fmt: skip
FULL_QUEUE = {**OBSERVED, "notify_queue_share": 0.124}
SHORT = {**OBSERVED, "bottleneck": None, "counters": {}, "postgres_cpu_seconds": None}
NODES = [
    {
        "node": "node1", "producers": 2, "consumers": 0, "appended": 1300, "appended_per_second": 1300.0, "read": 0,
        "read_per_second": None, "cpu_seconds": 0.25, "clock_offset_ms": -0.002, "round_trip_ms": 0.125,
    },
    {
        "node": "node2", "producers": 1, "consumers": 2, "appended": 1200, "appended_per_second": 1200.0, "read": 5000,
        "read_per_second": 5000.0, "cpu_seconds": 0.75, "clock_offset_ms": 12.5, "round_trip_ms": 0.25,
    },
]  # fmt: skip
LOSSES = [
    {"node": "node3", "producers": ["producer-0", "producer-3"], "seconds": 12.4, "acknowledged": 1234},
]


def tailed(of: Result, **wait: object) -> Result:
    """A result as one whose reader tailed and waited like this."""
    delay = Latency(p50=0.75, p90=1.5, p99=4.25, p99_9=8, max=12.5)
    (trial,) = of.trials
    changes = {"mode": "tail", "read_batch": 1000, "end_to_end_ms": delay, "longest_wait_seconds": 0.1, **wait}
    read = trial.reads[0].model_copy(update=changes)
    spec = {**of.spec, "mode": "tail", "read_batch": [1000], "consumer_think": [0, 2.5]}
    return of.model_copy(update={"spec": spec, "trials": [trial.model_copy(update={"reads": [read]})]})


ASLEEP = Verdict(
    ok=False,
    expected_events=2500,
    expected_checksum=1561250,
    sleeping=[SleepingReader("consumer-1000", 40)],
    by_reader={"consumer-1000": {"overslept": 40}},
)
LOSSY = Verdict(ok=True, expected_events=2500, expected_checksum=1561250, reordered=7, excused=["reordered"])


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("ok", result()),
        ("gap", result(gap=33)),
        ("bounded", result(phases={"append": OBSERVED, "read 1000": SHORT})),
        ("failed", result(verdict=FAILED)),
        ("tailed", result(verdict=TAILED)),
        ("excused", result(verdict=LOSSY)),
        ("woken", tailed(result(phases={"append + read 1000": FULL_QUEUE}), wake="both", poll_ms=(0, 20))),
        ("asleep", tailed(result(verdict=ASLEEP), wake="notify")),
        ("nodes", result(nodes=NODES)),
        ("lost", result(nodes=NODES, losses=LOSSES)),
    ],
)
def test_what_a_person_reads_after_a_run(name: str, which: Result) -> None:
    golden(f"run-{name}.txt", f"{runs_report.terminal(which)}\n{terminal.summary(which)}\n")
    golden(f"published-{name}.md", f"{runs_report.published([which])}\n")


def test_a_narrow_terminal_shows_the_delay_next_to_the_append_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("bench.report.screen.width", lambda _=None: 80)
    table = runs_report.terminal(tailed(result(), wake="both", poll_ms=(0, 20))).splitlines()
    assert [name for name in ("appended/s", "wake", "delay p50 ms", "delay p99 ms") if name in table[0]] == [
        "appended/s", "wake", "delay p50 ms", "delay p99 ms",
    ]  # fmt: skip
    assert max(map(len, table)) <= 80


@pytest.mark.parametrize(
    ("here", "elsewhere", "are_told"),
    [(2500, 1234, True), (0, 10, True), (0, 9, False), (123_400, 1234, False), (123_300, 1234, True)],
)
def test_others_are_told_of_when_they_did_much(here: int, elsewhere: int, are_told: bool) -> None:  # noqa: FBT001
    phase = {**SHORT, "counters": {"commits": here, "commits_elsewhere": elsewhere}}
    one = result(phases={"append": phase})
    words = f"others were at work on this server: {elsewhere:,} commits in other databases; WAL is the whole server's"
    assert (f"{words}\n" in terminal.summary(one)) == are_told
    assert (f"; {words}. Run " in runs_report.published([one])) == are_told


@pytest.mark.parametrize(
    ("counters", "says"),
    [
        ({"commits_elsewhere": 1, "rows_elsewhere": 8_000_000}, "1 commit in other databases, 8,000,000 rows written "),
        ({"looks_with_others": 2, "looks_for_others": 9}, "server: their sessions were at work in 2 of 9 samples; WAL"),
        ({"commits_elsewhere": 9, "rows_elsewhere": 999, "looks_with_others": 1, "looks_for_others": 9}, ""),
        ({"rows_elsewhere": 1000, "rows_inserted": 100_000}, ""),
    ],
)
def test_few_big_transactions_of_others_are_told_of_too(counters: dict[str, int], says: str) -> None:
    others = Observed.model_validate({**SHORT, "counters": counters}).others
    assert (others is None) == (not says)
    assert others is None or says in runs_report.others_at_work([others])


@pytest.mark.parametrize(
    ("gaps", "says"),
    [
        (Gaps(unexplained=2, examples=[(3, 4)]), ["etags have gaps.", "2 unexplained (3-4)."]),
        (Gaps(unknown=2, examples=[(3, 4)]), ["etags have gaps.", "2 rolled back or lost, ", " without xmin (3-4)."]),
        (Gaps(doubled=2, doubled_etags=[4, 9]), ["etags occur more than once.", "2 rows ", "of another row (4, 9)."]),
        (Gaps(unexplained=1, doubled=1), ["etags have gaps and occur more than once."]),
    ],
)
def test_what_is_wrong_with_etags_is_said(gaps: Gaps, says: list[str]) -> None:
    verdict = Verdict(ok=False, expected_events=9, expected_checksum=36, gaps=gaps)
    shown = " ".join(verdict_text(result(verdict=verdict).trials[0]).split())
    assert all(words in shown for words in says)


def test_gaps_are_said_beside_what_the_log_may_do() -> None:
    verdict = Verdict(
        ok=False, expected_events=9, expected_checksum=36, reordered=2, excused=["reordered"], gaps=Gaps(unexplained=1)
    )
    shown = " ".join(verdict_text(result(verdict=verdict).trials[0]).split())
    assert "events: etags have gaps, besides 2 reordered, which the log permits." in shown


def test_rows_that_are_no_events_are_shown_with_their_etags() -> None:
    def shown(*etags: int) -> str:
        faults = [Fault("phantom", etag=etag) for etag in etags]
        verdict = Verdict(ok=False, expected_events=9, expected_checksum=36, phantom=len(etags), examples=faults)
        return verdict_text(result(verdict=verdict).trials[0])

    assert "phantom: etag 17, a row that no producer wrote" in shown(17)
    assert "phantom: etag 17 and 20, rows that no producer wrote" in shown(17, 20)
    assert "phantom: etag 17 to 20, rows" in shown(17, 18, 19, 20)
    assert "phantom: etag 17, 19, 20, 22 and 30, rows" in shown(17, 19, 20, 22, 30)
    assert "phantom: etag 17, 19, 20, 22 and 3 more, rows" in shown(17, 19, 20, 22, 30, 31, 32)


@pytest.mark.parametrize(("lost", "verb"), [(1, "was"), (2, "were")])
def test_lost_events_that_were_delivered_or_passed_over_have_a_verb_for_their_number(lost: int, verb: str) -> None:
    verdict = Verdict(ok=False, expected_events=9, expected_checksum=36, lost=2 * lost)
    verdict = replace(verdict, lost_after_delivery=lost, lost_and_passed=lost)
    shown = " ".join(verdict_text(result(verdict=verdict).trials[0]).split())
    assert f"Of the lost events, {lost} {verb} delivered: " in shown
    assert f"Of the lost events, {lost} {verb} not delivered " in shown


@pytest.mark.parametrize(("deleted", "fact"), [(0, "no event was due"), (7, "7 events were deleted")])
def test_retention_that_had_nothing_to_delete_has_no_figures(deleted: int, fact: str) -> None:
    of = result()
    retention = Retention(deleted=deleted, too_early=0, statements=deleted, seconds=0.1)
    trial = of.trials[0].model_copy(update={"retention": retention})
    lines = terminal.summary(of.model_copy(update={"trials": [trial]})).splitlines()
    (line,) = (line for line in lines if "retention:" in line)
    assert fact in line
    assert ("statement" in line) == (deleted > 0)


def test_a_story_lacks_what_is_not_known() -> None:
    def story(logged_at: float | None = None, visible_at: float | None = None) -> str:
        fault = Fault("skipped", "r", 0, 1, 2, logged_at, visible_at)
        verdict = Verdict(ok=False, expected_events=9, expected_checksum=36, skipped=1, examples=[fault])
        return verdict_text(result(verdict=verdict).trials[0])

    logged, visible = "\n    logged at 00:00:01.500", "committed at 00:00:02.000"
    assert "logged" not in story() + story(visible_at=2)
    assert "committed" not in story() + story(logged_at=1.5)
    assert logged in story(logged_at=1.5)
    assert f"\n    {visible}" in story(visible_at=2)
    assert f"{logged}; {visible}" in story(1.5, 2)


def test_a_run_with_pauses_shows_a_verdict_and_no_rate() -> None:
    shown = f"{runs_report.published([paused()])}\n{terminal.summary(paused())}"
    assert "verdict: ok, with pauses of 0..2.5 ms" in shown
    assert shown.count("  paused |") == 4
    assert "2500/s" not in shown.replace(",", "")
    assert metrics.of_result(paused()) == []


def test_a_run_with_pauses_is_not_published(tmp_path: Path) -> None:
    store(paused(), tmp_path)
    with pytest.raises(UsageError, match="--pause"):
        published.load(tmp_path)


def test_a_result_survives_the_file(tmp_path: Path) -> None:
    file = store(result(), tmp_path)
    assert load(file) == result()
    assert load_all(tmp_path) == [result()]
    assert file.read_text() == json_text(result())


def scaled(scale: int, batch: int, rate: float, **environment: object) -> Result:
    made = result(phases={"append": OBSERVED})
    trial = made.trials[0]
    producer = Producer(name="p", events=1, seconds=1, cpu_seconds=1, clock_offset_ms=0, round_trip_ms=0.125 * scale)
    append = trial.append.model_copy(update={"events_per_second": rate, "producers": [producer]})
    return made.model_copy(
        update={
            "spec": {**made.spec, "scale": scale, "insert_batch": batch, "set": {}},
            "environment": made.environment.model_copy(update=environment),
            "trials": [trial.model_copy(update={"append": append})],
        }
    )


CURVE = [
    *(scaled(scale, batch, rate) for scale, batch, rate in ((1, 1, 1000), (2, 1, 1800), (4, 1, 2500), (1, 100, 9000))),
    scaled(2, 1, 2000),
    scaled(1, 1, 900, place="docker"),
    scaled(1, 1, 800, place="swarm"),
]
CURVE[-1].spec["constraint"] = ["node.role==worker"]


def test_saturation_is_told_by_place_batch_and_producers() -> None:
    golden("saturation.md", runs_report.saturation(CURVE) + "\n")
    told = {(point.place, point.insert_batch, point.scale): point for point in runs_report.saturation_points(CURVE)}
    assert told["local", 1, 2].appended_per_second == 1900
    assert runs_report.saturation_points([result(verdict=FAILED), result(losses=LOSSES, verdict=FAILED)]) == []


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_saturation_is_drawn(tmp_path: Path, ending: str) -> None:
    files = [tmp_path / f"{name}.{ending}" for name in ("one", "two")]
    for file in files:
        plot.saturation(CURVE, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    if ending == "svg":
        text = files[0].read_text()
        for words in ("How many producers saturate this Postgres", "local, 1 event per transaction"):
            assert words in text
        assert "docker" not in text


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="same number of producers"):
        plot.saturation(CURVE[-1:], tmp_path / "one.svg")
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="cannot be written"):
        plot.saturation(CURVE, tmp_path / "file" / "one.svg")
    with pytest.raises(UsageError, match=r"one[.]docx"):
        plot.refuse_other_formats(tmp_path / "one.docx")


@pytest.mark.parametrize("text", ["", "{}", "\udcff"])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match=r"is not a valid bench[.]result/2 file"):
        load(file)
    file.write_text('{"schema": "bench.result/10"}')
    with pytest.raises(UsageError, match="was made by a later bench"):
        load(file)


def test_the_json_schema_is_the_models() -> None:
    committed = (REPOSITORY / "results" / "bench.result-2.schema.json").read_text()
    assert committed == json_schema_text(), "run: make schema"


def test_the_published_pages_are_what_their_results_say() -> None:
    stored = load_all(REPOSITORY / "results" / "published")
    assert stored
    assert all(each.ok for each in stored)
    for name in ("README.md", "results/README.md"):
        text = (REPOSITORY / name).read_text()
        assert runs_report.published(stored) in text, "run: python -m bench table README.md results/README.md"
    assert runs_report.by_node(stored) in (REPOSITORY / "results" / "README.md").read_text()
    scaling = load_all(REPOSITORY / "results" / "scaling")
    assert all(each.ok for each in scaling)
    text = (REPOSITORY / "docs" / "scaling.md").read_text()
    assert runs_report.saturation(scaling) in text, "run: python -m bench table --from results/scaling docs/scaling.md"
