"""Can the gate be trusted? Comparisons simulated from the noise that was seen: false alarms, and slowdowns seen. Pure.

The noise is taken in stretches as long as a block, so that what comes and goes slowly meets both sides as it did.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.gate import regression
from bench.gate.regression import Rules
from bench.results.metrics import Metric
from bench.results.models import StoredModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = "abba"
"""The order of trials of two sides, again and again: whatever gets steadily slower does so to both sides alike."""
COMPARISONS = 1000
SLOWDOWNS = (0.0, 0.05, 0.1, 0.2)
TRIALS = (6, 10, 20, 40)
"""Numbers of trials a side of which it is told what they see."""


class Simulated(StoredModel):
    """What came of comparisons in which appending was slower by the same share each time."""

    slowdown: float
    regressed: float
    """The share of comparisons that ended with this word."""
    no_worse: float
    inconclusive: float
    trials: float
    """Median of how many trials a side it took."""


class Calibration(StoredModel):
    """What the gate makes of the noise of one machine."""

    comparisons: int
    threshold: float
    precision: float
    max_trials: int
    simulated: list[Simulated]
    visible: dict[int, dict[str, float]]
    """The smallest slowdown of each metric that so many trials a side see, as a share."""


def calibrate(
    a: Sequence[Metric], b: Sequence[Metric], rules: Rules, precision: float, max_trials: int, comparisons: int
) -> Calibration:
    """Simulate comparisons with the stopping rule in force, from two sides that did the same in turns."""
    both = regression.pairs(a, b)
    visible = {trials: regression.visible(a, b, trials) for trials in TRIALS}
    simulate = partial(_simulated, both, rules, precision, max_trials, comparisons)
    with ProcessPoolExecutor() as pool:
        simulated = list(pool.map(simulate, SLOWDOWNS))
    return Calibration(
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
    words, trials = [], []
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
        words.append(regression.outcome(changes, taken))
        trials.append(min(taken, max_trials))
    return Simulated(
        slowdown=slowdown,
        regressed=words.count("regressed") / comparisons,
        no_worse=words.count("no worse") / comparisons,
        inconclusive=words.count("inconclusive") / comparisons,
        trials=median(trials),
    )


def _noise(both: list[tuple[Metric, Metric]]) -> "NDArray[Any]":
    """Of each trial in the order in which they were carried out, how far each metric was from its side's median."""
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
