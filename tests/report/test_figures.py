"""Figures: what has no value has no figure, and what a figure counts is what its name says."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.cli import options
from bench.cli.app import app
from bench.errors import UsageError
from bench.gate import compare as gate
from bench.gate import regression
from bench.gate.regression import Rules
from bench.histograms import SecondCounts, bucket
from bench.job import ConsumerJob
from bench.judge.verdict import Verdict
from bench.meter import Clock, Meter
from bench.records import Anomaly, Fate, Interval, Range, Ready, Report, Timed
from bench.records import ImpossibleCtimes as Reported
from bench.report import export, terminal
from bench.report import gate as gate_report
from bench.report import logs as logs_report
from bench.report import runs as runs_report
from bench.report.verdict import wrong_ctimes
from bench.results import metrics
from bench.results.models import ImpossibleCtimes, Latency, Result, WarmUp
from bench.results.store import json_text, load
from bench.results.timeline import Timeline
from bench.results.tracks import APPEND, Reading, Track
from bench.run import summary
from bench.run.outcome import Outcome, Reader, TrackOutcome
from bench.spec import Spec
from bench.specfile import make
from consumer.delays import INFINITY, MINUS_INFINITY, POSTGRES_EPOCH, Delays
from tests.logs.test_compare import compared, tail
from tests.report.test_export import several
from tests.report.test_table import result

HOUR = 3600 * 10**6
BEGAN = 1_800_000_000
"""When the reader stood at the barrier, Unix time."""
ROUND_TRIP_SECONDS = 0.001
TAILING = make({"mode": "tail"}, None)


class FakeClock(Clock):
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.round_trip_seconds, self.offset_seconds, self._apart_seconds = ROUND_TRIP_SECONDS, 0.0, 0.0
        self.at = self.measured_at = float(BEGAN)

    def now(self) -> float:
        return self.at


def latency_of(seconds: SecondCounts, metric: Timed) -> Latency | None:
    """The latency of everything that was counted of a metric."""
    timeline = Timeline()
    for record in seconds.rest():
        if record.metric == metric:
            timeline.add(record.second, record.buckets)
    return Latency.from_buckets(timeline.total())


def delays_of(ctimes: Sequence[int], delivered: float) -> tuple[Latency | None, Delays]:
    """The delays of one page; ctimes in microseconds and the delivery in seconds, both after the barrier."""
    clock = FakeClock()
    seconds = SecondCounts(0)
    delays = Delays(clock, seconds)
    clock.at += delivered
    gate = (BEGAN - POSTGRES_EPOCH) * 10**6
    raw = [each if each in {INFINITY, MINUS_INFINITY} else gate + each for each in ctimes]
    delays.note(np.array(raw, np.int64), answered_at=delivered)
    delays.count_all()
    return latency_of(seconds, "end_to_end"), delays


@pytest.mark.parametrize("seconds", [0.0007, 59 * 60, 3600, 5 * 3600, 30 * 86_400])
def test_a_long_delay_that_can_be_is_right(seconds: float) -> None:
    latency, delays = delays_of([0], seconds)
    assert delays.impossible() is None
    assert latency
    assert latency.p50 == pytest.approx(seconds * 1e3, rel=0.002, abs=0.002)
    assert latency.max == pytest.approx(seconds * 1e3, rel=0.002, abs=0.002)


@pytest.mark.parametrize(
    ("ctimes", "words"),
    [
        ([9 * HOUR], "ctimes are up to 9.0 h ahead of the database's clock (1 event)"),
        ([-5 * HOUR], "ctimes lie up to 5.0 h before the append phase (1 event)"),
        ([0, -HOUR, -59 * HOUR // 60], "ctimes lie up to 1.0 h before the append phase (2 events)"),
        ([INFINITY, 0, MINUS_INFINITY], "ctimes are infinite (2 events)"),
        ([5 * 10**6], "ctimes are up to 4.0 s ahead of the database's clock (1 event)"),
        ([-(2**62)], "ctimes lie up to 53,3"),
        ([2**62], "days ahead of the database's clock (1 event)"),
        ([*[0] * 99, HOUR], "ctimes are up to 1.0 h ahead of the database's clock (1 event)"),
    ],
)
def test_ctimes_that_cannot_be_give_no_delay_and_a_sentence(ctimes: list[int], words: str) -> None:
    latency, delays = delays_of(ctimes, 1)
    impossible = delays.impossible()
    assert latency is None
    assert impossible
    kept = ImpossibleCtimes.model_validate({name: getattr(impossible, name) for name in ImpossibleCtimes.model_fields})
    assert words in wrong_ctimes(kept)


GATE = (BEGAN - POSTGRES_EPOCH) * 10**6
"""The barrier in microseconds of PostgreSQL's time."""
NEAR = st.integers(GATE - 10_000, GATE + 10**6)
"""Ctimes of which most can be, and those that differ from the ends by less than the clocks do."""


@given(
    st.one_of(
        st.lists(NEAR | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=70),
        st.lists(NEAR, min_size=1, max_size=70),
    ),
    st.floats(0, 86_400),
)
def test_every_ctime_is_either_possible_or_counted(ctimes: list[int], delivered: float) -> None:
    clock = FakeClock()
    seconds = SecondCounts(0)
    delays = Delays(clock, seconds)
    clock.at += delivered
    delays.note(np.array(ctimes, np.int64), answered_at=delivered)
    delays.count_all()
    counted = sum(number for record in seconds.rest() for _, number in record.buckets)
    impossible = delays.impossible()
    here = int((clock.at - POSTGRES_EPOCH) * 1e6)
    slack = clock.uncertainty_seconds(clock.at) * 1e6 + 2
    possible = sum(GATE - slack <= ctime <= here + slack for ctime in ctimes)
    surely = sum(GATE <= ctime <= here for ctime in ctimes)
    bad = impossible.infinite + impossible.ahead + impossible.old if impossible else 0
    assert len(ctimes) - possible <= bad <= len(ctimes) - surely
    assert counted + delays.negative == (0 if impossible else len(ctimes))
    if impossible:
        assert 0 <= impossible.ahead_seconds <= 2**64 / 1e6
        assert 0 <= impossible.old_seconds <= 2**64 / 1e6


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=70))
def test_ctimes_of_the_run_give_the_longest_delay_to_three_digits(ctimes: list[int]) -> None:
    latency, delays = delays_of(ctimes, 2)
    assert delays.impossible() is None
    assert latency
    assert latency.max == pytest.approx((2 * 10**6 - min(ctimes)) / 1e3, rel=0.001, abs=0.002)


def test_a_delay_below_zero_that_the_clocks_uncertainty_explains_is_counted_by_itself() -> None:
    latency, delays = delays_of([1_000_400, 1_000_100, 999_000], 1)
    assert delays.impossible() is None
    assert latency
    assert latency.max == pytest.approx(1, abs=0.003)
    assert delays.negative == 2
    assert delays.most_negative_seconds == pytest.approx(0.0004, abs=2e-6)
    assert delays_of([1_000_400], 1)[0] is None
    assert delays_of([1_000_600], 1)[1].impossible()


def test_a_histogram_without_a_value_has_no_percentiles() -> None:
    assert Latency.from_buckets({}) is None


def test_the_first_call_is_the_first_that_counts() -> None:
    meter = Meter(FakeClock(), SecondCounts(0), "append")
    meter.progress(0)
    assert meter.next_progress <= time.perf_counter()
    assert meter.finish(0, 0).first_call_seconds is None
    meter.calls.append(0.1)
    meter.progress(0)
    assert meter.finish(0, 0).first_call_seconds is not None


def work(name: str, ranges: list[Range], again: int = 0, **changes: Any) -> Outcome:
    """A consumer that was given these events, some of them twice."""
    events = sum(last - first + 1 for _, first, last in ranges)
    job = ConsumerJob(name, "bench", 1, "", [0], 1, 10, 0, 10)
    report = Report(
        **{
            "events": events + again, "checksum": 0, "started_at": 0.0, "seconds": 2.0, "cpu_seconds": 0.0,
            **changes,
        }
    )  # fmt: skip
    anomalies = [Anomaly("duplicated", again, [])] if again else []
    delivered: dict[Fate, list[Range]] = {"delivered": ranges}
    outcome = Outcome(job, Ready(0, 0, job, {}), report, ranges=delivered, anomalies=anomalies, node="node1")
    for metric in ("read", "end_to_end"):
        outcome.note(Interval(metric, 0, [(bucket(1000), events)] if events else []))
    return outcome


def test_an_event_that_is_delivered_again_is_in_no_rate() -> None:
    read = summary.read(Reader(Reading(10), [work("a", [(0, 0, 99)], again=40)]), TAILING, ok=True)
    assert (read.events, read.redelivered, read.events_per_second) == (100, 40, 50)


def test_an_event_that_two_members_of_a_group_had_counts_once() -> None:
    members = [work("a", [(0, 0, 59)], again=5), work("b", [(0, 50, 99)])]
    group = Reader(Reading(10, group=True), members)
    read = summary.read(group, TAILING, ok=True)
    assert (read.events, read.redelivered, read.events_per_second) == (100, 15, 50)
    outcomes = {track: TrackOutcome(members, [], 0) for track in (APPEND, Track(10))}
    (node,) = summary.nodes(outcomes, [group], ok=True)
    assert (node.read, node.read_per_second) == (100, 50)


def test_a_warm_up_is_left_out_of_the_rates_of_readers_and_nodes() -> None:
    member = work("a", [(0, 0, 99)], warm_up_events=40)
    member.job = replace(member.job, warm_up_seconds=1)
    member.note(Interval("read", 1, [(bucket(7000), 3)]))
    reader = Reader(Reading(10), [member], started_at=0.0)
    read = summary.read(reader, TAILING, ok=True)
    assert read.warm_up == WarmUp(seconds=1, events=40, measured_seconds=1.0)
    assert (read.events, read.seconds, read.events_per_second) == (100, 2, 60)
    assert read.latency_ms
    assert read.latency_ms.p50 == pytest.approx(7, rel=0.001)
    assert read.end_to_end_ms is None
    outcomes = {track: TrackOutcome([member], [], 0, 0.0) for track in (APPEND, Track(10))}
    (node,) = summary.nodes(outcomes, [reader], ok=True)
    assert (node.appended_per_second, node.read_per_second) == (60, 60)


def test_one_member_whose_ctimes_cannot_be_leaves_the_group_without_delays() -> None:
    bad = Reported(ahead=3, ahead_seconds=7.0), Reported(ahead=2, ahead_seconds=9.0, infinite=1)
    works = [work("a", [(0, 0, 9)]), *(work("b", [(1, 0, 9)], impossible_ctimes=each) for each in bad)]
    read = summary.read(Reader(Reading(10, group=True), works), TAILING, ok=True)
    assert read.end_to_end_ms is None
    assert read.impossible_ctimes == ImpossibleCtimes(infinite=1, ahead=5, ahead_seconds=9)


def test_what_was_given_nothing_has_no_rate_and_no_percentiles() -> None:
    read = summary.read(Reader(Reading(10), [work("a", [], seconds=0.0)]), TAILING, ok=True)
    assert (read.events_per_second, read.latency_ms, read.end_to_end_ms, read.impossible_ctimes) == (None,) * 4


def changed(of: Result, append: Mapping[str, object] | None = None, read: Mapping[str, object] | None = None) -> Result:
    """A result whose trials' append and reads have other values."""
    trials = [
        trial.model_copy(
            update={
                "append": trial.append.model_copy(update=append or {}),
                "reads": [each.model_copy(update=read or {}) for each in trial.reads],
            }
        )
        for trial in of.trials
    ]
    return of.model_copy(update={"trials": trials})


def empty(trials: int = 1) -> Result:
    """A run in which all was rolled back."""
    nothing: dict[str, object] = {"events": 0, "events_per_second": None, "latency_ms": None}
    found = changed(several(trials), {**nothing, "rolled_back": 2500}, nothing)
    verdict = Verdict(ok=True, expected_events=0, expected_checksum=0, aborted=2500)
    return found.model_copy(update={"trials": [each.model_copy(update={"verdict": verdict}) for each in found.trials]})


@pytest.mark.parametrize("trials", [1, 6])
def test_a_run_without_an_acknowledged_event_says_so_everywhere(trials: int) -> None:
    nothing = empty(trials)
    for text in (
        f"{runs_report.terminal(nothing)}\n{terminal.summary(nothing)}",
        runs_report.published([nothing]),
        export.markdown(nothing),
    ):
        assert text.count("no event was acknowledged: nothing was measured") == 1
    assert metrics.of_result(nothing) == []
    for name, form in export.FORMATS.items():
        text = form(nothing)
        assert "nan" not in text.lower(), name
        assert "FAILED" not in text
    assert "Benchmark" not in export.go(nothing)
    assert json.loads(export.bencher(nothing)) == {}
    assert runs_report.saturation([nothing]) == ""


def test_what_batches_hold_besides_their_commit_is_printed() -> None:
    held = changed(result(), {"rolled_back": 1234})
    held = held.model_copy(update={"spec": {**held.spec, "transaction_ms": [0.0, 20.0]}})
    text = " ".join(terminal.summary(held).split())
    assert "batches were held open for 0..20 ms, included in the latency" in text
    assert "1,234 events were rolled back; they are excluded from latencies but included in CPU, WAL" in text
    assert "rolled back" not in terminal.summary(result())


def test_one_event_is_spoken_of_as_one() -> None:
    one = Verdict(ok=True, expected_events=1, expected_checksum=0, kept_after_delivery=1)
    text = " ".join(terminal.summary(changed(result(verdict=one), {"rolled_back": 1})).split())
    assert " 1 event was rolled back" in text
    assert "1 event was acknowledged and each of 2 readings delivered it once" in text
    assert "Untested: 1 event that was delivered is still in the table" in text


def test_why_there_is_no_delay_is_printed() -> None:
    late = ImpossibleCtimes(ahead=7, ahead_seconds=32_400)
    text = " ".join(terminal.summary(changed(result(), read={"mode": "tail", "impossible_ctimes": late})).split())
    assert "delay not available: ctimes are up to 9.0 h ahead of the database's clock (7" in text
    assert "delay not available: no event came" in terminal.summary(changed(result(), read={"mode": "tail"}))


DELAYS = {"end_to_end_ms": Latency(p50=1, p90=2, p99=3, p99_9=4, max=5)}


def test_a_metric_that_one_side_lacks_is_named() -> None:
    a, b = changed(several(6), read=DELAYS), several(6)
    names = "read_1000_delay_p50_ms, read_1000_delay_p99_ms, read_10_delay_p50_ms, read_10_delay_p99_ms"
    for one, other, words in ((a, b, "missing in b:"), (b, a, "missing in a:")):
        found = gate.judged(one, other, Rules(), {})
        assert found.word == "no worse"
        assert f"not compared, {words} {names}" in gate_report.sides(found)
    assert f"not compared, missing in after: {names}" in gate_report.comparison(gate.compare(a, b, Rules()), a, b)
    assert "not compared" not in gate_report.sides(gate.judged(a, a, Rules(), {}))


def test_a_metric_that_decides_must_be_there_after() -> None:
    a, b = changed(several(6), read=DELAYS), several(6)
    found = gate.judged(a, b, Rules(per_metric={"read_10_delay_p50_ms": 0.1}), {})
    assert found.word == "inconclusive"
    assert "read_10_delay_p50_ms" in gate_report.sides(found).rpartition("inconclusive: ")[2]
    slow = changed(several(6), {"events_per_second": None})
    assert gate.judged(a, slow, Rules(), {}).word == "inconclusive"


def test_a_value_of_zero_has_no_ratio() -> None:
    zero = {"end_to_end_ms": Latency(p50=0, p90=2, p99=3, p99_9=4, max=5)}
    found = gate.judged(changed(several(6), read=zero), changed(several(6), read=DELAYS), Rules(), {})
    assert found.lacks == {"read_1000_delay_p50_ms": "ratio", "read_10_delay_p50_ms": "ratio"}
    (line,) = [line for line in gate_report.sides(found).splitlines() if line.startswith("not compared")]
    assert line.endswith(": read_1000_delay_p50_ms, read_10_delay_p50_ms")


def test_nothing_to_compare_is_not_no_worse() -> None:
    latencies_alone = changed(several(6), {"events_per_second": None}, {"events_per_second": None})
    for nothing in (empty(6), latencies_alone):
        found = gate.compare(nothing, nothing, Rules())
        assert (found.word, gate.EXIT_CODES[found.word]) == ("inconclusive", 5)
        text = gate_report.comparison(found, nothing, nothing)
        assert "inconclusive: nothing to compare" in text
    assert regression.outcome([], 6) == "inconclusive"


def test_a_machine_that_sees_nothing_is_said_to_see_nothing() -> None:
    found = gate.judged(several(6), several(6), Rules(), {})._replace(visible={"append": 1.0, "read_10": 0.05})
    text = gate_report.sides(found)
    assert "no slowdown up to 90% of append" in text
    assert "over 90%" in text


def test_a_sentence_says_what_can_be_seen_of_what_it_is_about() -> None:
    slow = changed(several(6), {"events_per_second": 100.0})
    seen = {"append": 0.05, "read_1000": 0.2, "read_10": 0.9}
    regressed = gate.judged(several(6), slow, Rules(), {})._replace(visible=seen)
    outcome, _, detected = gate_report.sides(regressed).rpartition("regressed: ")[2].partition(";")
    assert outcome.startswith("append ")
    assert "append of 5 %" in detected
    assert "read" not in detected
    same = gate.judged(several(6), several(6), Rules(), {})._replace(visible=seen)
    detected = gate_report.sides(same).rpartition(";")[2]
    assert "append of 5 %, read_1000 of 20 %, read_10 of 90 %" in detected


def test_a_log_without_delays_has_none_in_a_comparison() -> None:
    ahead = ImpossibleCtimes(ahead=1000, ahead_seconds=32_400)
    none = tail({}, ok=True).model_copy(
        update={"end_to_end_p50_ms": None, "end_to_end_p99_ms": None, "impossible_ctimes": ahead}
    )
    assert "none: ctimes are up to 9.0 h ahead" in logs_report.whole(compared(1, [none]))
    control = compared(1, [tail({}, ok=True, delay=24)])
    bare = control.measured[0].model_copy(update={"tails": [none]})
    text = logs_report.whole(control.model_copy(update={"measured": [bare, control.measured[1]]}))
    assert "| 24, 72 " in text  # and no ratio
    unknown = [each.model_copy(update={"wal_bytes_an_event": None}) for each in control.measured[1].speeds]
    other = control.measured[1].model_copy(update={"speeds": unknown})
    text = logs_report.whole(control.model_copy(update={"measured": [control.measured[0], other]}))
    assert "unknown" in text
    assert "FAILED" not in text


@pytest.mark.parametrize("text", ['"trials": []', '"seconds": NaN', '"seconds": Infinity'])
def test_a_result_without_trials_or_with_no_numbers_is_refused(tmp_path: Path, text: str) -> None:
    stored = json_text(result())
    if text.startswith('"trials"'):
        stored = json.dumps({**json.loads(stored), "trials": []})
    else:
        stored = stored.replace('"seconds": 1.0', text)
    (tmp_path / "result.json").write_text(stored)
    with pytest.raises(UsageError, match=r"is not a valid bench.result/2 file: trials"):
        load(tmp_path)


GIVEN: dict[str, object] = {
    "scale": 3,
    "insert_batch": 7,
    "insert_loops": 5,
    "limit": 33,
    "read_batch": (1000, 7),
    "append": "copy",
    "rate": "1000:60s,5000",
    "slo": ("append p99 < 50ms", "read max <= 1.5s"),
    "arrival": "poisson",
    "duration": 90.5,
    "phase": [{"name": 'a "b" \\', "rate": 0.5, "duration": "2s", "read": False}, {"rate": 7, "duration": 3}],
    "warm_up_seconds": 10,
    "payload_bytes": "200:80%,4000:20%",
    "payload_entropy": 3,
    "payload_file": Path("my objects.jsonl"),
    "mode": "tail",
    "wake": "both",
    "poll_interval": (0.5, 7),
    "consumer_think": (2, 2),
    "consumers": 2,
    "group": 2,
    "rejoin": 3,
    "cursor": "client",
    "depth": 4,
    "transaction_ms": (0.5, 12_345.675),
    "abort_rate": 0.25,
    "pause": (0.5, 2),
    "seed": -3,
    "idle_timeout": 2.5,
    "preload": 1_500_000,
    "retention": "90s",
    "trials": 6,
    "warm_up": 0,
    "fresh": True,
    "log": "/logs/my own 'log'",
    "dsn": "host=db.example password=hush dbname='a b'",
    "set": {"shared_buffers": "1GB", "work_mem": "4 MB"},
    "postgres_image": "postgres:17",
    "worker_image": "my/worker:1",
    "pg_bin": Path("/usr/lib/postgresql 15/bin"),
    "postgres_memory": "300m",
    "postgres_cpus": 0.5,
    "worker_memory": "200m",
    "worker_cpus": 1.5,
    "constraint": ("node.role!=manager", "node.labels.disk==ssd"),
    "max_per_node": 2,
    "postgres_node": "node1",
    "on_node_loss": "continue",
}
"""Another value than the default for each field of a spec but the place, which stands in the environment."""
NEEDS: dict[str, dict[str, object]] = {
    "rejoin": {"group": 2},
    "depth": {"cursor": "client"},
    "retention": {"mode": "tail"},
    "slo": {"rate": "find", "mode": "tail"},
    "wake": {"mode": "tail"},
    "poll_interval": {"mode": "tail"},
    "arrival": {"rate": "5000"},
    "payload_entropy": {"payload_bytes": 200},
    "phase": {"mode": "tail"},
    **{name: {"place": "swarm"} for name in ("constraint", "max_per_node", "postgres_node", "on_node_loss")},
}


def ran(spec: Spec, place: str) -> Result:
    """A result of a spec, as it is stored."""
    made = result()
    shown = {**spec.model_dump(mode="json"), "limit": spec.events_per_producer}
    update = {"spec": shown, "environment": made.environment.model_copy(update={"place": place, "settings": {}})}
    return Result.model_validate_json(json_text(made.model_copy(update=update)))


def test_there_is_a_value_for_every_field() -> None:
    assert GIVEN.keys() == Spec.model_fields.keys() - {"place"}


@pytest.mark.parametrize("name", GIVEN)
def test_a_published_command_has_every_field_that_was_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = Spec.model_validate({**NEEDS.get(name, {}), name: GIVEN[name]})
    place = "local" if spec.place == "auto" else spec.place
    command = runs_report.command(ran(spec, place))
    assert f"`{command}`" in runs_report.published([ran(spec, place)])
    assert "hush" not in command
    words = shlex.split(command)
    if name == "phase":
        monkeypatch.chdir(tmp_path)
        assert (words[:2], words[3]) == (["printf", "%s\\n"], ">")
        Path(words[4]).write_text(words[2])
        words = words[6:]
    assert words[:4] == ["python", "-m", "bench", "run"]
    context = app.commands["run"].make_context("run", words[4:])
    flags, file = options.run_flags(context.params)
    again = make(flags | ({"place": spec.place} if spec.place == "auto" else {}), file)
    expected = spec.model_copy(update={"dsn": "dbname='a b' host=db.example"} if name == "dsn" else {})
    assert again.events_per_producer == expected.events_per_producer
    loops = {"limit", "insert_loops"}
    assert again.model_dump(exclude=loops) == expected.model_dump(exclude=loops)


def test_a_published_note_claims_no_machine_for_a_postgres_that_was_given() -> None:
    note = runs_report.published([ran(make({"dsn": "host=db.example"}, None), "local")])
    assert "PostgreSQL 18.6 from --dsn, on a machine not inspected; workers in place local, A CPU" in note


def test_a_published_note_has_the_limits_of_the_control_group_and_does_not_call_them_default() -> None:
    limited = ran(make({}, None), "local")
    where = limited.environment.model_copy(update={"cores": 2, "limits": {"cpus": "0.5", "memory": str(2**30)}})
    note = runs_report.published([limited.model_copy(update={"environment": where})])
    assert "0.5 of 2 cores (quota), 1.0 of " in note
    assert "all settings at their default" not in note
    assert "all settings at their default" not in runs_report.published(
        [ran(make({"postgres_cpus": 0.5}, None), "docker")]
    )
    assert "all settings at their default" in runs_report.published([ran(make({}, None), "docker")])


def test_a_time_out_without_end_is_stored_and_published_as_a_number_is() -> None:
    stored = ran(make({"idle_timeout": float("inf")}, None), "local")
    assert "Infinity" in json_text(stored)
    assert "--idle-timeout inf" in runs_report.command(stored).lower()
