"""Power analysis: how often the gate raises false alarms and detects slowdowns, simulated from measured noise. Pure.

Noise is resampled in runs of one block (a moving-block bootstrap), so that slow drift hits both sides as it did when it
was measured.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.gate import regression
from bench.gate.regression import Rules
from bench.results.base import StoredModel
from bench.results.metrics import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = "abba"
"""The order of trials of two sides, repeated: a steady drift slows both sides alike."""
COMPARISONS = 1000
SLOWDOWNS = (0.0, 0.05, 0.1, 0.2)
TRIALS = (6, 10, 20, 40)
"""Trials per side for which the smallest detectable slowdown is reported."""


class Simulated(StoredModel):
    """Outcomes of simulated comparisons in which appending was slower on side b by one share."""

    slowdown: float
    regressed: float
    """Share of comparisons with this outcome, as the next two."""
    no_worse: float
    inconclusive: float
    trials: float
    """Median number of trials per side."""


class PowerAnalysis(StoredModel):
    """False alarms and detected slowdowns of the gate with the noise of one machine."""

    comparisons: int
    threshold: float
    precision: float
    max_trials: int
    simulated: list[Simulated]
    visible: dict[int, dict[str, float]]
    """By trials per side, the smallest slowdown of each metric that is detected, as a share."""


def analyse(
    a: Sequence[Metric], b: Sequence[Metric], rules: Rules, precision: float, max_trials: int, comparisons: int
) -> PowerAnalysis:
    """Simulate comparisons under the stopping rule, with the noise of two sides that ran the same spec."""
    both = regression.pairs(a, b)
    visible = {trials: regression.visible(a, b, trials) for trials in TRIALS}
    simulate = partial(_simulated, both, rules, precision, max_trials, comparisons)
    with ProcessPoolExecutor() as pool:
        simulated = list(pool.map(simulate, SLOWDOWNS))
    return PowerAnalysis(
        comparisons=comparisons,
        threshold=rules.threshold,
        precision=precision,
        max_trials=max_trials,
        simulated=simulated,
        visible=visible,
    )


def _simulated(
    both: list[tuple[Metric, Metric]],
    rules: Rules,
    precision: float,
    max_trials: int,
    comparisons: int,
    slowdown: float,
) -> Simulated:
    import numpy as np  # noqa: PLC0415 - see bench.stats

    chance = np.random.default_rng(0)
    noise = _noise(both)
    outcomes, trials = [], []
    for _ in range(comparisons):
        starts = chance.integers(len(noise), size=-(-max_trials // 2))
        drawn = noise[(starts[:, None] + np.arange(len(BLOCK))) % len(noise)]
        sides = [drawn[:, [place for place, name in enumerate(BLOCK) if name == side]] for side in "ab"]
        before, after = (side.reshape(-1, len(both))[:max_trials] for side in sides)
        taken = regression.MIN_TRIALS
        while taken < max_trials and not regression.is_precise(
            *_metrics(both, before[:taken], after[:taken], slowdown), rules, precision
        ):
            taken += 2
        changes = regression.judge(*_metrics(both, before[:taken], after[:taken], slowdown), rules)
        outcomes.append(regression.outcome(changes, taken))
        trials.append(min(taken, max_trials))
    return Simulated(
        slowdown=slowdown,
        regressed=outcomes.count("regressed") / comparisons,
        no_worse=outcomes.count("no worse") / comparisons,
        inconclusive=outcomes.count("inconclusive") / comparisons,
        trials=median(trials),
    )


def _noise(both: list[tuple[Metric, Metric]]) -> "NDArray[Any]":
    """Every metric over its side's median: a row per trial, in the order of the trials, and a column per metric."""
    import numpy as np  # noqa: PLC0415

    columns = []
    for a, b in both:
        sides = {"a": iter(np.asarray(a.values) / median(a.values)), "b": iter(np.asarray(b.values) / median(b.values))}
        columns.append([next(sides[name]) for _ in range(len(a.values) // 2) for name in BLOCK])
    return np.array(columns).T


def _metrics(
    both: list[tuple[Metric, Metric]], before: "NDArray[Any]", after: "NDArray[Any]", slowdown: float
) -> tuple[list[Metric], list[Metric]]:
    def slower(metric: Metric) -> float:
        if metric.reading is not None:
            return 1
        return 1 - slowdown if metric.bigger_is_better else 1 / (1 - slowdown)

    return (
        [metric._replace(values=before[:, place].tolist()) for place, (metric, _) in enumerate(both)],
        [metric._replace(values=(after[:, place] * slower(metric)).tolist()) for place, (metric, _) in enumerate(both)],
    )
