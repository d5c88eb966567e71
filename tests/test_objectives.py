"""Objectives are read as they are meant, or refused with an example."""

import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.judge.verdict import Verdict
from bench.kinds import KINDS
from bench.objectives import PERCENTILES, RATED, TIMED, Objective, parse_objective
from bench.results.figures import figure
from bench.results.models import Trial
from tests.report.test_table import result


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("end_to_end p99 < 50ms", "end_to_end p99 < 50ms"),
        ("end_to_end.p99 < 50ms", "end_to_end p99 < 50ms"),
        ("append p99_9<=1.50s", "append p99.9 <= 1.5s"),
        (" read  max >250us ", "read max > 250us"),
        ("append >= 50000/s", "append >= 50000/s"),
        ("append>=50000 events/s", "append >= 50000/s"),
        ("skipped == 0", "skipped = 0"),
        ("duplicated<=10", "duplicated <= 10"),
    ],
)
def test_an_objective_has_one_form_in_which_it_is_stored(text: str, stored: str) -> None:
    assert parse_objective(text).text == stored


TIMES = st.builds(
    Objective,
    st.sampled_from(TIMED),
    st.sampled_from(PERCENTILES),
    st.sampled_from(["<", "<=", ">", ">="]),
    st.integers(1, 10**6).map(lambda thousandths: thousandths / 1000),
    st.sampled_from(["us", "ms", "s"]),
)
RATES = st.builds(
    Objective, st.sampled_from(RATED), st.just(""), st.sampled_from([">", ">="]), st.integers(1, 10**9), st.just("/s")
)
COUNTS = st.builds(
    Objective, st.sampled_from(KINDS), st.just(""), st.sampled_from(["<", "="]), st.integers(0, 10**9), st.just("")
)


@given(TIMES | RATES | COUNTS)
def test_its_text_is_the_objective_again(objective: Objective) -> None:
    assert parse_objective(objective.text) == objective


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "like append p99 < 50ms"),
        ("fast", "like append p99 < 50ms"),
        ("p99 < 50ms", "p99 < 50ms"),
        ("latency p99 < 50ms", "latency is not a metric"),
        ("append < 50ms", "percentiles p50"),
        ("append p98 < 50ms", "percentiles p50"),
        ("append p99 < 50", "a time with its unit"),
        ("append p99 < 50min", "a time with its unit"),
        ("append p99 < -5ms", "like append p99 < 50ms"),
        ("append p99 < 0ms", "more than 0"),
        ("append p99 = 5ms", "give <, <=, > or >="),
        ("append = 5/s", "give <, <=, > or >="),
        ("end_to_end >= 5/s", "have a rate"),
        ("append p99 >= 5/s", "have a rate"),
        ("skipped p99 = 0", "whole number"),
        ("skipped = 0.5", "whole number"),
        ("skipped = 0ms", "whole number"),
        ("append", "like append p99 < 50ms"),
        ("append p99 < 1e3ms", "like append p99"),
    ],
)
def test_what_is_no_objective_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"give|must be|only") as refused:
        parse_objective(text)
    assert says in str(refused.value)
    for example in re.findall(r"like (.*)", str(refused.value)):
        parse_objective(example).refuse_for_search(tails=False)


@pytest.mark.parametrize(
    ("text", "met", "missed"),
    [
        ("append p99 < 50ms", 49.9, 50),
        ("append p99 <= 50ms", 50, 50.1),
        ("append p99 < 250us", 0.2499, 0.25),
        ("append p99 < 2s", 1999, 2000),
        ("append >= 100/s", 100, 99.9),
        ("skipped = 0", 0, 1),
    ],
)
def test_times_are_compared_in_milliseconds(text: str, met: float, missed: float) -> None:
    objective = parse_objective(text)
    assert objective.is_met_by(met)
    assert not objective.is_met_by(missed)


def test_figures_are_shown_in_the_unit_of_the_bound() -> None:
    assert parse_objective("append p99 < 2s").shown(1234.5) == "1.23 s"
    assert parse_objective("append p99 < 250us").shown(0.2) == "200 us"
    assert parse_objective("append p99 < 250us").shown_bound == "< 250 us"
    assert parse_objective("append >= 50000/s").shown(1234567) == "1,234,567/s"


def test_every_fault_of_a_verdict_can_be_counted() -> None:
    assert set(KINDS) <= {field.name for field in fields(Verdict)}


def trial(**changes: object) -> Trial:
    return result().trials[0].model_copy(update=changes)


def test_of_several_readings_the_worst_one_counts() -> None:
    of_two = trial()
    first, second = of_two.reads
    assert first.latency_ms
    slower = second.model_copy(
        update={"latency_ms": first.latency_ms.model_copy(update={"p99": 777.0}), "events_per_second": 12.0}
    )
    slow = of_two.model_copy(update={"reads": [first, slower]})
    assert figure(parse_objective("read p99 < 50ms"), slow) == 777
    assert figure(parse_objective("read >= 5/s"), slow) == 12
    assert figure(parse_objective("append p50 < 50ms"), slow) == pytest.approx(40.1)
    assert figure(parse_objective("append >= 5/s"), slow) == 2500
    assert figure(parse_objective("skipped = 0"), slow) == 0


def test_a_figure_that_a_trial_lacks_is_none() -> None:
    assert figure(parse_objective("end_to_end p99 < 50ms"), trial()) is None
    reads = [read.model_copy(update={"events_per_second": None}) for read in trial().reads]
    assert figure(parse_objective("read >= 5/s"), trial(reads=reads)) is None
