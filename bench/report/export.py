"""A result in the formats of other tools, made from the record alone: one function from the result to a text each."""

import json
import platform
import re
from collections import Counter
from collections.abc import Callable
from itertools import zip_longest
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from bench import stats
from bench.report import exposure, phases, terminal
from bench.report import runs as runs_report
from bench.report import search as search_report
from bench.report.series import long_table
from bench.report.verdict import verdict_text
from bench.results import metrics
from bench.results.metrics import Metric
from bench.results.models import Result
from bench.results.tracks import APPEND
from bench.text import plural

BEGIN, END = "<!-- bench result: begin -->", "<!-- bench result: end -->"
"""Marks by which a comment on a pull request is found, to be replaced by the next one."""


def bigger_is_better(result: Result) -> str:
    """Rates for github-action-benchmark, tool customBiggerIsBetter."""
    return _github(result, [metric for metric in metrics.of_result(result) if metric.bigger_is_better])


def smaller_is_better(result: Result) -> str:
    """Latencies for github-action-benchmark, tool customSmallerIsBetter."""
    return _github(result, [metric for metric in metrics.of_result(result) if not metric.bigger_is_better])


def bencher(result: Result) -> str:
    """Bencher Metric Format. Rates are its measure throughput, latencies latency-ms, each with its interval."""
    metrics_by_name = {}
    for metric in metrics.of_result(result):
        middle = stats.median(metric.values)
        measure = "throughput" if metric.unit == "events/s" else "latency-ms"
        values = {"value": middle.value, "lower_value": middle.low, "upper_value": middle.high}
        metrics_by_name[f"{result.spec['log']}/{metric.name}"] = {measure: values}
    return json.dumps(metrics_by_name, indent=1) + "\n"


def junit(result: Result) -> str:
    """JUnit XML: a test case for the append and for each reading of each trial. They fail with the trial's verdict. A
    search that is over has one more case, which fails when no rate holds. A run that ended before its last trial, or
    before its search's answer, has one more case, which is an error.
    """
    cases = [
        (f"trial {number}: {name}", seconds, trial)
        for number, trial in enumerate(result.trials, 1)
        for name, seconds in [
            (APPEND.key, trial.append.seconds),
            *((f"{read.reading.track.key}, {read.reader}", read.seconds) for read in trial.reads),
        ]
    ]
    search = result.search if result.search and result.search.over else None
    failures = sum(not trial.verdict.ok for _, _, trial in cases) + bool(search and result.found_no_rate)
    suite = Element(
        "testsuite",
        name=f"bench {result.spec['log']}",
        tests=str(len(cases) + (search is not None) + bool(result.unfinished)),
        failures=str(failures),
        errors=str(int(bool(result.unfinished))),
        skipped="0",
        time=f"{sum(seconds for _, seconds, _ in cases):.3f}",
        timestamp=f"{result.started_at:%Y-%m-%dT%H:%M:%S}",
    )
    properties = SubElement(suite, "properties")
    for name, value in (("command", runs_report.command(result)), ("postgres", result.environment.postgres)):
        SubElement(properties, "property", name=name, value=value)
    for name, seconds, trial in cases:
        case = SubElement(suite, "testcase", classname=f"bench.{result.spec['log']}", name=name, time=f"{seconds:.3f}")
        if not trial.verdict.ok:
            text = verdict_text(trial)
            SubElement(case, "failure", type="verdict", message=text.split("\n", 1)[0]).text = text
        chances = [exposure.sentence(trial.exposure, ok=trial.verdict.ok)] if trial.exposure else []
        chances += exposure.real_time(trial)
        if chances:
            SubElement(case, "system-out").text = "\n".join(chances)
    if search:
        case = SubElement(suite, "testcase", classname=f"bench.{result.spec['log']}", name="search", time="0.000")
        if result.found_no_rate:
            SubElement(case, "failure", type="search", message=search_report.sentence(search))
    if result.unfinished:
        case = SubElement(suite, "testcase", classname=f"bench.{result.spec['log']}", name="all trials", time="0.000")
        SubElement(case, "error", type="unfinished", message=f"the run ended after {result.unfinished}")
    indent(suite)
    return tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def go(result: Result) -> str:
    """Go's benchmark format, one line per rate and trial, as benchstat reads it (golang/proposal, design/14313)."""
    environment = result.environment
    lines = [
        f"goos: {platform.system().lower()}",
        f"cpu: {environment.cpu}",
        f"postgres: {environment.postgres}",
        f"place: {environment.place}",
        *([f"trials: {result.unfinished}"] if result.unfinished else []),
        *([f"search: {search_report.sentence(result.search)}"] if result.search and result.search.over else []),
        "Unit events/s better=higher",
    ]
    rates = [metric for metric in metrics.of_result(result) if metric.bigger_is_better]
    log = re.sub(r"[\s/]+", "_", str(result.spec["log"]))
    for values in zip_longest(*(metric.values for metric in rates)):
        for metric, rate in zip(rates, values, strict=True):
            name = metric.name.title().replace("_", "")
            events = result.trials[0].verdict.expected_events
            lines.append(f"Benchmark{name}/log={log} {events} {1e9 / rate:.1f} ns/op {rate:.1f} events/s")
    return "\n".join(lines) + "\n"


def csv(result: Result) -> str:
    """A row per read, the seed's columns and ours, with plain numbers; a cell is empty where there is no rate. The
    verdict on a search that found no rate is `no rate holds`. The last column is empty but for a run that ended before
    its last trial, or a search before its answer.
    """
    no_rates = {trial.instead_of_read_rate for trial in result.trials}
    no_rates |= {trial.instead_of_append_rate for trial in result.trials}
    rows = runs_report.rows([result]).map(lambda value: "" if value in no_rates else value.rstrip("*"))
    passed = "ok"
    if result.found_no_rate:
        rows[["Throughput", "appended/s"]] = ""
        passed = passed if result.unfinished else "no rate holds"
    rows["verdict"] = [passed if trial.verdict.ok else "FAILED" for trial in result.trials for _ in trial.reads]
    rows["ended after"] = result.unfinished
    return str(rows.to_csv(index=False))


def markdown(result: Result) -> str:
    """The tables and the verdict for a pull request, between markers."""
    counts = Counter(verdict_text(trial) for trial in result.trials)
    blocks = {text: f"```\n{text}\n```" for text in counts}
    if len(blocks) > 1:
        blocks = {text: f"Of {plural(counts[text], 'trial')}:\n\n{block}" for text, block in blocks.items()}
    verdicts = "\n\n".join(blocks.values())
    return f"{BEGIN}\n\n{tables(result)}\n\n{verdicts}\n\n{END}\n"


def tables(result: Result) -> str:
    """The table of a run in markdown with its notes, and the phases of the offered load in each trial that had some."""
    names = terminal.trial_names(result)
    with_phases = [
        f"{f'{name}:'.capitalize()}\n\n{table}" if len(names) > 1 else table
        for name, trial in zip(names, result.trials, strict=True)
        if trial.load_phases and (table := phases.table(trial.load_phases))
    ]
    return "\n\n".join([runs_report.published([result]), *with_phases])


def _github(result: Result, chosen: list[Metric]) -> str:
    entries = []
    for metric in chosen:
        middle = stats.median(metric.values)
        entries.append(
            {
                "name": f"{result.spec['log']} {metric.name}",
                "unit": metric.unit,
                "value": middle.value,
                "range": f"{middle.low:.6g} to {middle.high:.6g}",
                "extra": f"{result.unfinished or plural(len(metric.values), 'trial')}, {runs_report.command(result)}",
            }
        )
    return json.dumps(entries, indent=1) + "\n"


FORMATS: dict[str, Callable[[Result], str]] = {
    "github-bigger": bigger_is_better,
    "github-smaller": smaller_is_better,
    "bencher": bencher,
    "junit": junit,
    "go": go,
    "csv": csv,
    "series": long_table,
    "markdown": markdown,
}
