"""The words of a search."""

import io
import json
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.gate import compare
from bench.gate.regression import Rules
from bench.report import export
from bench.report import runs as runs_report
from bench.report import search as search_report
from bench.report.tabular import markdown
from bench.results.models import Result
from bench.results.search import Figure, Search, Window
from bench.results.store import json_text
from tests.report.test_export import several
from tests.report.test_table import FAILED, result

OBJECTIVE = "end_to_end p99 < 50ms"


def window(rate: float, milliseconds: float, **changes: Any) -> Window:
    """A made-up window."""
    met = milliseconds < 50
    values = {
        "events_per_second": rate,
        "seconds": 5,
        "achieved_per_second": rate * 0.999,
        "achieved_share": 0.999,
        "saturated": False,
        "below_best": False,
        "figures": [Figure(objective=OBJECTIVE, value=milliseconds, met=met)],
        "generator_bound": False,
        "held": met,
    }
    return Window.model_validate({**values, **changes})


def found(**changes: Any) -> Search:
    """A made-up search that found 12,300 events/s."""
    windows = [
        window(8000, 12.34),
        window(16_000, 900, achieved_per_second=12_900, saturated=True),
        window(13_100, 88.1),
        window(13_100, 90, generator_bound=changes.pop("generator_bound", False)),
        window(12_300, 31.2, confirms=True, seconds=30),
    ]
    values = {"objectives": [OBJECTIVE], "windows": windows, "events_per_second": 12_300, "over": True}
    return Search.model_validate({**values, **changes})


def with_search(search: Search) -> Result:
    made = result()
    spec = {**made.spec, "rate": "find", "slo": [OBJECTIVE]}
    return made.model_copy(update={"search": search, "spec": spec})


def test_the_answer_has_the_figures_of_the_rate_and_of_the_next_one() -> None:
    assert search_report.sentence(found()) == (
        "highest rate that holds: 12,300 events/s for 30 s (end_to_end p99 31.2 ms < 50 ms), "
        "at 13,100/s: end_to_end p99 90 ms (not < 50 ms)"
    )


def test_a_rate_that_the_generator_may_have_bound_is_called_so() -> None:
    assert "generator-bound" not in search_report.sentence(found())
    assert "generator-bound" in search_report.sentence(found(generator_bound=True))


def test_the_answer_may_be_that_no_rate_holds() -> None:
    windows = [window(20, 88), window(20, 91, saturated=True, achieved_per_second=15)]
    nothing = search_report.sentence(found(windows=windows, events_per_second=None))
    assert nothing.startswith("no rate holds")
    for fact in ("20/s", "91 ms", "not < 50 ms", "saturated (15/s achieved)"):
        assert fact in nothing


def test_the_highest_rate_may_have_no_failed_one_above() -> None:
    windows = [window(10**9, 31.2, confirms=True)]
    assert "at " not in search_report.sentence(found(windows=windows, events_per_second=10**9)).partition("(")[2]


def test_each_window_is_a_line_and_a_row() -> None:
    lines = [search_report.line(number, each) for number, each in enumerate(found().windows, 1)]
    assert lines[0] == "window 1: 8,000/s for 5 s: held; achieved 7,992/s, end_to_end p99 12.3 ms < 50 ms"
    assert "did not hold" in lines[1]
    assert "saturated" in lines[1]
    assert lines[4].startswith("confirmation, window 5: 12,300/s for 30 s: held")
    table = search_report.table(found(), markdown).splitlines()
    assert len(table) == 2 + 5
    assert "no: end_to_end p99, saturated" in table[3]
    assert "12.3 ms" in table[2]


def test_a_search_is_stored_and_read_again() -> None:
    stored = with_search(found())
    assert Result.model_validate(json.loads(json_text(stored))) == stored


def test_a_published_note_has_the_answer() -> None:
    assert search_report.sentence(found()) in runs_report.published([with_search(found())])


def test_a_search_that_was_not_over_is_unfinished() -> None:
    cut_short = with_search(found(events_per_second=None, over=False))
    assert "5 windows" in cut_short.unfinished
    assert with_search(found()).unfinished == ""
    first_failed = Search(objectives=[OBJECTIVE])
    failed = result(verdict=FAILED).model_copy(update={"search": first_failed})
    assert failed.unfinished.startswith("1 window ")
    assert "highest rate" not in runs_report.published([cut_short])


def test_a_search_that_finds_nothing_exports_no_rate_and_fails_in_junit() -> None:
    windows = [window(20, 88), window(20, 91, saturated=True, achieved_per_second=15)]
    no_rate = found(windows=windows, events_per_second=None)
    nothing = with_search(no_rate)
    for name in ("github-bigger", "github-smaller", "bencher"):
        assert not json.loads(export.FORMATS[name](nothing))
    go = export.go(nothing)
    assert "no rate holds" in go
    assert "Benchmark" not in go
    rows = pd.read_csv(io.StringIO(export.csv(nothing)))
    assert rows[["Throughput", "appended/s"]].isna().all(axis=None)
    assert set(rows["verdict"]) == {"no rate holds"}
    for of_search, failures in ((nothing, 1), (with_search(found()), 0)):
        suite = ElementTree.fromstring(export.junit(of_search))
        assert int(suite.attrib["failures"]) == failures
        cases = suite.findall("testcase")
        assert len(cases) == int(suite.attrib["tests"])
        messages = [failure.attrib["message"] for failure in cases[-1].findall("failure")]
        assert messages == [search_report.sentence(no_rate)] * failures
    assert "Benchmark" in export.go(with_search(found()))
    cut_short = with_search(found(events_per_second=None, over=False))
    assert not json.loads(export.bencher(cut_short))


def test_searches_are_not_compared() -> None:
    for before, after in ((several(6), with_search(found())), (with_search(found()), several(6))):
        with pytest.raises(UsageError, match="--rate find"):
            compare.compare(before, after, Rules())
