"""Latencies second by second, of whole runs: stored, exported, and without the warm-up."""

import json
import re
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from bench.histograms import LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS
from bench.results import latency_log, store
from bench.results.models import Latency, Result
from bench.results.timeline import Timeline
from tests.conftest import Bench

LOADED = ("--scale", "2", "--insert-batch", "5", "--rate", "500", "--mode", "tail", "--read-batch", "100")


def run(bench: Bench, address: str, *words: str) -> tuple[Result, Path]:
    ran = bench("run", "--place", "local", "--dsn", address, "--output", "runs", *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (folder,) = (bench.folder / "runs").iterdir()
    return store.load(folder), folder


def of_each_tag(file: Path) -> dict[str, list[HdrHistogram]]:
    """The histograms of each second, as HdrHistogram's own reader reads them."""
    reader = HistogramLogReader(str(file), HdrHistogram(1, LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS))
    found: dict[str, list[HdrHistogram]] = {}
    while interval := reader.get_next_interval_histogram():
        found.setdefault(interval.get_tag(), []).append(interval)
    reader.input_file.close()
    return found


def is_of(latency: Latency | None, histograms: list[HdrHistogram]) -> bool:
    """Whether a latency has the percentiles of histograms together."""
    merged = HdrHistogram(1, LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS)
    for each in histograms:
        merged.add(each)
    return latency is not None and (latency.p50, latency.p99, latency.p99_99, latency.max) == tuple(
        value / 1000 for value in (*map(merged.get_value_at_percentile, (50, 99, 99.99)), merged.get_max_value())
    )


def test_every_latency_of_a_run_is_stored_by_second_and_adds_up_to_the_results(bench: Bench, address: str) -> None:
    result, folder = run(bench, address, *LOADED, "--duration", "2.5s")
    (trial,) = result.trials
    (read,) = trial.reads
    append = trial.append
    assert append.offered
    seconds = of_each_tag(folder / "latency.hlog")
    assert {"append", "append_service", "read_100", "read_100_delay"} <= seconds.keys()
    assert sum(each.get_total_count() for each in seconds["append"]) == append.events / 5
    assert sum(each.get_total_count() for each in seconds["append_service"]) == append.events / 5
    delays = sum(each.get_total_count() for each in seconds["read_100_delay"])
    assert delays + read.negative_delays == read.events == append.events
    assert len(seconds["append"]) == 3
    assert [each.get_total_count() for each in seconds["append"][:2]] == pytest.approx([100, 100], abs=30)
    assert is_of(append.latency_ms, seconds["append"])
    assert is_of(append.offered.service_ms, seconds["append_service"])
    assert is_of(append.offered.lateness_ms, seconds["append_lateness"])
    assert is_of(read.latency_ms, seconds["read_100"])
    assert is_of(read.end_to_end_ms, seconds["read_100_delay"])
    assert read.clock_uncertainty_ms
    # All are of one phase: their seconds begin at one moment.
    assert len({of_tag[0].get_start_time_stamp() for of_tag in seconds.values()}) == 1

    whole = bench("export", "hdr", str(folder))
    assert whole.returncode == 0, whole.stderr
    assert re.search(r"Value +Percentile +TotalCount +1/\(1-Percentile\)", whole.stdout)
    assert f"TotalCount     = {append.events / 5:12.3f}" in whole.stdout
    window = bench(
        "export", "hdr", str(folder / "result.json"), "--metric", "read_100_delay", "--from", "1s", "--to", "2"
    )
    assert window.returncode == 0, window.stderr
    expected = seconds["read_100_delay"][1]
    assert f"TotalCount     = {expected.get_total_count():12.3f}" in window.stdout
    assert f"Max     = {expected.get_max_value() / 1000:12.3f}" in window.stdout
    mean, deviation = re.findall(r"= +([0-9.]+)", window.stdout)[:2]
    assert float(mean) == pytest.approx(expected.get_mean_value() / 1000, abs=0.001)
    assert float(deviation) == pytest.approx(expected.get_stddev() / 1000, abs=0.001)


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (("--metric", "reads"), ("--metric", "append", "read_10")),
        (("--from", "1.5s"), ("--from", "whole seconds")),
        (("--from", "soon"), ("--from", "soon")),
        (("--from", "5", "--to", "2"), ("--from", "--to")),
        (("--from", "1h"), ("--from", "1h", "append")),
        (("--trial", "3"), ("trial 3",)),
    ],
)
def test_latencies_that_are_not_there_are_refused(
    bench: Bench, tmp_path: Path, words: tuple[str, ...], facts: tuple[str, ...]
) -> None:
    timeline = Timeline()
    timeline.add(2, [(5, 1)])
    measured = {name: latency_log.Measured(1.8e9, timeline) for name in ("append", "read_10")}
    latency_log.store(measured, tmp_path / "latency.hlog")
    refused = bench("export", "hdr", str(tmp_path), *words)
    assert refused.returncode == 2
    for fact in facts:
        assert fact in refused.stderr


def test_a_window_is_of_latencies_only(bench: Bench, tmp_path: Path) -> None:
    refused = bench("export", "csv", str(tmp_path), "--from", "5s")
    assert refused.returncode == 2
    assert "--from" in refused.stderr
    assert "hdr" in refused.stderr
    missing = bench("export", "hdr", str(tmp_path))
    assert missing.returncode == 2
    assert str(tmp_path) in missing.stderr


def test_trials_are_stored_each_by_itself_and_exported_together_or_alone(bench: Bench, address: str) -> None:
    result, folder = run(bench, address, "--scale", "2", "--limit", "200", "--insert-batch", "10", "--trials", "2")
    assert [file.name for file in latency_log.files(folder)] == ["latency.hlog", "latency-2.hlog"]
    assert of_each_tag(folder / "latency-2.hlog").keys() == {"append", "read_1000"}
    for words, calls in (((), 80), (("--trial", "2"), 40)):
        assert f"TotalCount     = {calls:12.3f}" in bench("export", "hdr", str(folder), *words).stdout
    assert len(result.trials) == 2


def test_all_percentiles_are_printed_where_they_are_asked_for(bench: Bench, address: str) -> None:
    words = ("--scale", "1", "--limit", "100", "--insert-batch", "10", "--percentiles", "--quiet")
    ran = bench("run", "--place", "local", "--dsn", address, "--export-json", "result.json", *words)
    assert ran.returncode == 0, ran.stderr
    latency = json.loads((bench.folder / "result.json").read_text())["trials"][0]["append"]["latency_ms"]
    cells = [cell.strip() for line in ran.stdout.splitlines() if "| append " in line for cell in line.split("|")[1:-1]]
    names = ("p50", "p90", "p99", "p99_9", "p99_99", "max")
    assert cells == ["append", *(f"{latency[name]:.3f}" for name in names)]


def test_a_warm_up_is_in_no_figure_and_in_the_verdict(bench: Bench, address: str) -> None:
    result, folder = run(bench, address, *LOADED, "--duration", "3s", "--warm-up-seconds", "1s")
    (trial,) = result.trials
    (read,) = trial.reads
    append = trial.append
    assert append.offered
    assert append.warm_up
    assert read.warm_up
    seconds = of_each_tag(folder / "latency.hlog")
    assert trial.verdict.expected_events == append.events == read.events == 1500
    assert append.warm_up.events == 5 * seconds["append"][0].get_total_count()
    delivered = seconds["read_100_delay"][0].get_total_count()
    assert delivered <= read.warm_up.events <= delivered + read.negative_delays
    assert is_of(append.latency_ms, seconds["append"][1:])
    assert is_of(append.offered.service_ms, seconds["append_service"][1:])
    assert is_of(read.latency_ms, seconds["read_100"][1:])
    assert is_of(read.end_to_end_ms, seconds["read_100_delay"][1:])
    measured = append.events - append.warm_up.events
    assert append.events_per_second == pytest.approx(measured / append.warm_up.measured_seconds)
    assert append.offered.events_per_second == pytest.approx(500, rel=0.02)
    assert append.warm_up.measured_seconds < append.seconds


def test_a_closed_loop_has_a_warm_up_too_and_draining_has_none(bench: Bench, address: str) -> None:
    held = ("--scale", "1", "--insert-batch", "1", "--insert-loops", "12", "--transaction-ms", "100..100")
    result, _ = run(bench, address, *held, "--warm-up-seconds", "1")
    (trial,) = result.trials
    append = trial.append
    assert append.warm_up
    assert 0 < append.warm_up.events < append.events == 12
    assert append.events_per_second
    assert append.offered is None
    assert trial.reads[0].warm_up is None
    assert trial.reads[0].events_per_second


def test_a_phase_that_ends_in_its_warm_up_has_no_figures_and_a_sentence(bench: Bench, address: str) -> None:
    words = ("--scale", "1", "--limit", "10", "--insert-batch", "10", "--warm-up-seconds", "1h", "--output", "runs")
    ran = bench("run", "--place", "local", "--dsn", address, *words)
    assert ran.returncode == 0, ran.stderr
    assert "no rate and no latencies" in ran.stdout
    assert "--warm-up-seconds 3600" in ran.stdout
    assert "verdict: ok" in ran.stdout
    assert "FAILED" not in ran.stdout
    (result,) = store.load_all(bench.folder / "runs")
    append = result.trials[0].append
    assert append.warm_up
    assert (append.events, append.warm_up.events, append.warm_up.measured_seconds) == (10, 10, 0)
    assert (append.events_per_second, append.latency_ms) == (None, None)
    assert result.trials[0].reads[0].events_per_second
