"""A result in the formats of other tools, read by those tools' own parsers or schemas where they can be had."""

import io
import json
import re
from typing import cast

import jsonschema
import junitparser
import pandas as pd
import pytest

from bench.report import export
from bench.results import metrics
from bench.results.models import Result
from bench.results.store import json_text
from bench.results.tracks import Reading
from tests.conftest import Bench
from tests.report.test_table import FAILED, result

BENCHER_SCHEMA = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
            "required": ["value"],
        },
    },
}
"""Says what the published JSON Schema of Bencher Metric Format says."""

GITHUB_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "value": {"type": "number"},
            **{name: {"type": "string"} for name in ("unit", "range", "extra")},
        },
        "required": ["name", "value", "unit"],
        "additionalProperties": False,
    },
}


def several(trials: int) -> Result:
    one = result()
    return one.model_copy(update={"trials": one.trials * trials})


def test_metrics_have_a_value_a_trial() -> None:
    found = {metric.name: metric for metric in metrics.of_result(several(3))}
    assert found["append"].values == [2500.0] * 3
    assert found["read_10"].values == [5000.0] * 3
    assert found["read_1000_p99_ms"] == metrics.Metric("read_1000_p99_ms", "ms", [60.0] * 3, Reading(1000))
    assert not found["append_p50_ms"].bigger_is_better


def test_a_failed_verdict_publishes_no_speed() -> None:
    failed = result(verdict=FAILED)
    assert metrics.of_result(failed) == []
    for name in ("github-bigger", "github-smaller", "bencher"):
        assert not json.loads(export.FORMATS[name](failed))
    assert "Benchmark" not in export.go(failed)
    assert "FAILED" in export.markdown(failed)


def test_github_action_benchmark() -> None:
    for name, units in (("github-bigger", {"events/s"}), ("github-smaller", {"ms"})):
        found = json.loads(export.FORMATS[name](several(2)))
        jsonschema.validate(found, GITHUB_SCHEMA)
        assert {each["unit"] for each in found} == units
    rates = {each["name"]: each["value"] for each in json.loads(export.bigger_is_better(several(2)))}
    assert rates == {"bigserial append": 2500.0, "bigserial read_1000": 5000.0, "bigserial read_10": 5000.0}


def test_bencher_metric_format() -> None:
    found = json.loads(export.bencher(several(2)))
    jsonschema.validate(found, BENCHER_SCHEMA)
    assert found["bigserial/read_10"] == {"throughput": {"value": 5000, "lower_value": 5000, "upper_value": 5000}}
    assert found["bigserial/append_p99_ms"]["latency-ms"]["value"] == 60.0


@pytest.mark.parametrize(("which", "failures"), [(several(2), 0), (result(verdict=FAILED), 3)])
def test_junit(which: Result, failures: int) -> None:
    read = junitparser.JUnitXml.fromstring(export.junit(which).encode())
    suite = read if isinstance(read, junitparser.TestSuite) else next(iter(read))
    assert (suite.tests, suite.failures) == (3 * len(which.trials), failures)
    cases = cast(list[junitparser.TestCase], list(suite))
    assert [case.name for case in cases[:3]] == [
        "trial 1: append",
        "trial 1: read 1000, consumer",
        "trial 1: read 10, consumer",
    ]
    assert sum(bool(case.result) for case in cases) == failures
    if failures:
        assert cases[0].result[0].message.startswith("verdict: FAILED. ")


def test_go_benchmarks() -> None:
    lines = export.go(several(2)).splitlines()
    found = [line for line in lines if line.startswith("Benchmark")]
    assert len(found) == 2 * 3
    assert all(re.fullmatch(r"Benchmark[A-Z]\S* \d+( [0-9.]+ \S+)+", line) for line in found)
    assert found[0] == "BenchmarkAppend/log=bigserial 2500 400000.0 ns/op 2500.0 events/s"
    assert all(re.fullmatch(r"[a-z]\S*: .+|Unit \S+ better=higher", line) for line in lines[: -len(found)])


def test_csv_has_plain_numbers() -> None:
    rows = pd.read_csv(io.StringIO(export.csv(several(2))))
    assert rows["Throughput"].tolist() == [5000] * 4
    assert rows["verdict"].tolist() == ["ok"] * 4
    assert rows["ended after"].isna().all()
    cut_short = several(2).model_copy(update={"spec": {**several(2).spec, "trials": 12}})
    assert set(pd.read_csv(io.StringIO(export.csv(cut_short)))["ended after"]) == {"2 of 12 trials"}
    failed = pd.read_csv(io.StringIO(export.csv(result(verdict=FAILED))))
    assert failed["Throughput"].isna().all()
    assert failed["verdict"].tolist() == ["FAILED"] * 2


def test_the_command(bench: Bench) -> None:
    (bench.folder / "result.json").write_text(json_text(several(2)))
    summary = bench.folder / "summary.md"
    ran = bench("export", "markdown", ".", GITHUB_STEP_SUMMARY=str(summary))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == summary.read_text()
    assert ran.stdout.startswith(export.BEGIN)
    assert bench("export", "go", "result.json", "--output", "go.txt").returncode == 0
    assert (bench.folder / "go.txt").read_text().count("Benchmark") == 6
    refused = bench("export", "excel", "result.json")
    assert refused.returncode == 2
    assert {"'excel':", "github-bigger,", "markdown,", "hdr"} <= {*refused.stderr.split()}
    assert bench("export", "csv", "nowhere.json").returncode == 2
