"""Results of the schema bench.result/1 are read as those of bench.result/2."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UsageError
from bench.gate import compare as gate
from bench.gate.ab import FILE as AB_FILE
from bench.gate.ab import Ab
from bench.gate.regression import Rules
from bench.report import export, terminal
from bench.report import runs as runs_report
from bench.results import metrics, store
from bench.results.models import SCHEMA_NAME
from bench.results.tracks import APPEND, Reading, phase_key
from bench.results.upgrade import upgraded
from tests.conftest import REPOSITORY
from tests.report.test_table import result

STORED = sorted(
    file for folder in ("published", "scaling") for file in (REPOSITORY / "results" / folder).glob("*/result.json")
)


def stored_as_1(**changes: Any) -> dict[str, Any]:
    """A result of bench.result/1, with one read and one phase that have these values."""
    record = json.loads(store.json_text(result()))
    trial = record["trials"][0]
    read = trial["reads"][0]
    del read["group"], read["number"]
    trial["reads"] = [{**read, **changes}]
    return {**record, "schema": "bench.result/1"}


def loaded(record: dict[str, Any], folder: Path) -> Any:
    (folder / "result.json").write_text(json.dumps(record))
    return store.load(folder)


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.parent.name)
def test_a_published_result_loses_nothing(file: Path, tmp_path: Path) -> None:
    record = json.loads(file.read_text())
    before = copy.deepcopy(record)
    found = store.load(file)
    assert record == before
    assert found.schema_ == SCHEMA_NAME
    again = loaded(json.loads(store.json_text(found)), tmp_path)
    assert again == found
    assert {metric.name for metric in metrics.of_result(found)} >= {
        APPEND.key,
        *(f"read_{size}" for size in found.spec["read_batch"]),
    }
    for stored, trial in zip(record["trials"], found.trials, strict=True):
        shown = " ".join(terminal.summary(found.model_copy(update={"trials": [trial]})).split())
        sentences = [phase["bottleneck"] for phase in stored["telemetry"]["phases"].values()]
        assert all(sentence in shown for sentence in sentences if sentence)
    assert len(json.loads(export.bencher(found))) == len(metrics.of_result(found))
    assert gate.differences(found, again) == {}
    assert runs_report.published([found]) == runs_report.published([again])


def test_there_are_published_results() -> None:
    assert len(STORED) > 20


def test_the_published_ab_is_read(tmp_path: Path) -> None:
    (record,) = store.load_records(Ab, REPOSITORY / "results" / "published", AB_FILE)
    assert record.a.schema_ == SCHEMA_NAME
    assert gate.judged(record.a, record.b, Rules(), {}).changes
    store.store_record(record, tmp_path / "run" / AB_FILE)
    assert store.load_records(Ab, tmp_path, AB_FILE) == [record]


@pytest.mark.parametrize(
    ("reader", "reading"),
    [
        ("consumer-1000", Reading(1000)),
        ("consumer-1000-0", Reading(1000, number=0)),
        ("consumer-1000-12", Reading(1000, number=12)),
        ("group-1000", Reading(1000, group=True)),
        ("consumer", Reading(1000)),
    ],
)
def test_who_read_was_in_the_readers_name(reader: str, reading: Reading, tmp_path: Path) -> None:
    (read,) = loaded(stored_as_1(reader=reader), tmp_path).trials[0].reads
    assert read.reading == reading
    assert read.reader == reader
    assert reader == "consumer" or reading.reader == reader


def test_faults_and_bottlenecks_had_other_shapes(tmp_path: Path) -> None:
    record = stored_as_1()
    trial = record["trials"][0]
    trial["verdict"]["examples"] = [{"kind": "skipped", "producer": 1, "seq": 2, "passed_at": 1.5, "passed_to": 7}]
    phase = {
        "seconds": 1, "samples": 4, "bottleneck": "WAL flush: 61% of the backends' time", "waits": [], "counters": {},
        "postgres_cpu_seconds": None, "postgres_memory_bytes": None, "workers_cpu_seconds": 0, "worker_memory_bytes": 0,
    }  # fmt: skip
    trial["telemetry"]["phases"] = {"append": phase, "read 1000": {**phase, "bottleneck": None}}
    found = loaded(record, tmp_path).trials[0]
    assert (found.verdict.examples[0].jumped_at, found.verdict.examples[0].jumped_to) == (1.5, 7)
    assert found.telemetry.phases[APPEND.key].bottleneck is None
    assert found.telemetry.phases[APPEND.key].bottleneck_sentence == phase["bottleneck"]
    assert found.telemetry.phases["read 1000"].bottleneck_sentence is None


@pytest.mark.parametrize(
    "broken",
    [
        {"schema": "bench.result/1"},
        {"schema": "bench.result/1", "trials": 3},
        {"schema": "bench.result/1", "trials": [3]},
        {"schema": "bench.result/1", "trials": [{"reads": 3, "verdict": None, "telemetry": {"phases": [1]}}]},
        {"schema": "bench.result/1", "trials": [{"reads": [{"reader": 3}], "telemetry": {"phases": {"append": 1}}}]},
    ],
)
def test_a_broken_file_of_the_earlier_schema_is_refused_by_its_schema(broken: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a valid bench[.]result/1 file: "):
        loaded(broken, tmp_path)


def test_all_else_is_left_as_it_is() -> None:
    for record in ({"schema": SCHEMA_NAME, "trials": [{"reads": [{"reader": "consumer-1-1"}]}]}, {}, 3, None):
        assert upgraded(record) is record


def test_each_identity_has_its_own_names() -> None:
    readings = [Reading(1000), *(Reading(1000, number=number) for number in range(3)), Reading(1000, group=True)]
    assert [reading.reader for reading in readings] == [
        "consumer-1000", "consumer-1000-0", "consumer-1000-1", "consumer-1000-2", "group-1000",
    ]  # fmt: skip
    assert [reading.metric for reading in readings[:-1]] == ["read_1000", "read_1000_1", "read_1000_2", "read_1000_3"]
    assert {reading.track.key for reading in readings} == {"read 1000"}
    assert phase_key(APPEND, readings[0].track) == "append + read 1000"
