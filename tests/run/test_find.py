"""When the load of a window holds."""

from typing import Any

import pytest

from bench.errors import InfrastructureError
from bench.objectives import parse_objective
from bench.results.models import Offered, Trial
from bench.results.search import Window
from bench.run.find import judged_window
from bench.run.search import Attempt
from tests.report.test_table import result

OBJECTIVE = parse_objective("append p99 < 100ms")
"""The p99 of the made-up trial is 60 ms."""


def trial(achieved: float | None = 1000.0, offered: float = 1000.0, **changes: Any) -> Trial:
    """A made-up trial that had this offered load, with other values in its append."""
    of_load = Offered(
        events_per_second=offered,
        achieved_per_second=achieved,
        saturated=achieved is not None and achieved < 0.95 * offered,
        service_ms=None,
        lateness_ms=None,
        generator_bound=False,
        largest_backlog=0,
        most_behind_seconds=0,
    )
    made = result().trials[0]
    return made.model_copy(update={"append": made.append.model_copy(update={"offered": of_load, **changes})})


def window(of: Trial, rate: float = 1000, earlier: list[Window] | None = None, objective: str = "") -> Window:
    bounded = parse_objective(objective) if objective else OBJECTIVE
    return judged_window(Attempt(rate, 5, confirms=False), of, [bounded], earlier or [])


def test_a_load_holds_when_it_is_achieved_and_the_objectives_are_met() -> None:
    judged = window(trial())
    assert judged.held
    assert [(each.objective, each.value, each.met) for each in judged.figures] == [("append p99 < 100ms", 60, True)]
    assert not judged.generator_bound


def test_it_does_not_when_an_objective_is_missed() -> None:
    judged = window(trial(), objective="append p99 < 60ms")
    assert not judged.held
    assert not judged.saturated
    assert [each.met for each in judged.figures] == [False]


def test_it_does_not_when_it_is_not_achieved() -> None:
    judged = window(trial(940))
    assert not judged.held
    assert judged.saturated


def test_it_does_not_when_less_is_achieved_than_at_a_lower_load() -> None:
    best = window(trial(1000), 1000)
    assert window(trial(1010, 1050), 1050, [best]).held
    worse = window(trial(998, 1050), 1050, [best])
    assert not worse.held
    assert worse.below_best
    assert not worse.saturated
    higher = window(trial(1200, 1200), 1200)
    assert window(trial(1000), 1000, [higher, worse]).held


def test_random_arrivals_and_rollbacks_do_not_make_a_window_worse() -> None:
    best = window(trial(1040, 1040), 1000)
    assert window(trial(1000, 1000), 1030, [best]).held
    rolled_back = trial(900, 1000, events=900, rolled_back=100)
    assert window(rolled_back, 1030, [best]).achieved_share == pytest.approx(1)
    assert not window(rolled_back, 1030, [best]).below_best


def test_a_busy_producer_is_a_bound_generator() -> None:
    assert window(trial(client_bound=True)).generator_bound


def test_what_cannot_be_judged_ends_the_search() -> None:
    with pytest.raises(InfrastructureError, match="longer --duration"):
        window(trial(None))
    with pytest.raises(InfrastructureError, match="--slo 'end_to_end p99 < 5ms'"):
        window(trial(), objective="end_to_end p99 < 5ms")
