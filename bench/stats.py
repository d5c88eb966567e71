"""Statistics over repeated measurements. Thin over numpy and scipy; no I/O.

Both take a tenth of a second or more to load, so they are loaded only by functions that need them.
"""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Sample = Sequence[float]

RESAMPLES = 2000
CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
POWER = 0.9
_SIMULATIONS = 400
SMALLEST_SAMPLE = 6
"""Fewer values than this have a range and no 95 % interval. The widest interval that assumes no distribution, from the
smallest value to the largest, holds the median with probability 1 - 2^(1 - n): 93.75 % for five values, 96.9 % for six
(David and Nagaraja, Order Statistics, 3rd edition, 2003, section 7.1). A bootstrap cannot know more."""
OUTLIER_SCORE = 3.5
LARGEST_SLOWDOWN = 0.9
"""The largest slowdown whose detection is tried."""


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval, or of its range if from fewer values than `SMALLEST_SAMPLE`."""

    value: float
    low: float
    high: float


def middle(values: Sample) -> float:
    """The median alone."""
    return statistics.median(values)


def interval_name(values: int) -> str:
    """The name of the ends of an estimate from that number of values: `range` or `95 % interval`."""
    return "range" if values < SMALLEST_SAMPLE else f"{CONFIDENCE:.0%} interval".replace("%", " %")


def median(values: Sample, seed: int = 0) -> Estimate:
    """The median, with the percentile bootstrap's interval (Efron, 1979), or with the range of few values."""
    if len(values) < SMALLEST_SAMPLE:
        return Estimate(middle(values), min(values), max(values))
    import numpy as np  # noqa: PLC0415

    low, high = np.quantile(_medians(values, seed), _ENDS)
    return Estimate(middle(values), float(low), float(high))


def outliers(values: Sample) -> list[int]:
    """The places of values unlike the others: their modified z-score is above 3.5 (Iglewicz and Hoaglin, 1993).

    Finds none among fewer than `SMALLEST_SAMPLE` values, nor when more than half of the values are equal.
    """
    half = middle(values)
    deviation = middle([abs(value - half) for value in values])
    if len(values) < SMALLEST_SAMPLE or not deviation:
        return []
    return [place for place, value in enumerate(values) if 0.6745 * abs(value - half) / deviation > OUTLIER_SCORE]


def ratio(values: Sample, base: Sample, seed: int = 0) -> Estimate:
    """Median of `values` over median of `base`, with the percentile bootstrap's interval: both are resampled.

    With few values, the interval is the least and the greatest ratio of one of `values` to one of `base`.
    """
    if min(len(values), len(base)) < SMALLEST_SAMPLE:
        return Estimate(middle(values) / middle(base), min(values) / max(base), max(values) / min(base))
    import numpy as np  # noqa: PLC0415

    ratios = _medians(values, seed) / _medians(base, seed + 1)
    low, high = np.quantile(ratios, _ENDS)
    return Estimate(middle(values) / middle(base), float(low), float(high))


def mann_whitney(values: Sample, base: Sample) -> tuple[float, float]:
    """The U test of two independent samples (Mann and Whitney, 1947): two-sided p, and the size of the effect.

    The size is Cliff's delta, 2U/nm - 1: from -1, each of `values` is below each of `base`, to 1.
    """
    from scipy.stats import mannwhitneyu  # noqa: PLC0415

    test = mannwhitneyu(values, base)
    return float(test.pvalue), float(2 * test.statistic / (len(values) * len(base)) - 1)


def holm(p_values: Sample) -> list[float]:
    """Correct p values for multiple testing (Holm, 1979): each corrected p <= alpha is still significant."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected = [0.0] * len(p_values)
    worst = 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = worst
    return corrected


def smallest_visible_slowdown(values: Sample, base: Sample, trials: int, tests: int, seed: int = 0) -> float:
    """The least slowdown, as a share, that this number of trials per side shows as significant nine times in ten; 1
    when not even `LARGEST_SLOWDOWN` is shown.

    The samples' ratios to their own medians are resampled, and one side is made slower. `tests` is the largest number
    of tests that are corrected for.
    """
    import numpy as np  # noqa: PLC0415
    from scipy.stats import mannwhitneyu  # noqa: PLC0415

    noise = np.concatenate([np.asarray(side, float) / np.median(side) for side in (values, base)])
    chance = np.random.default_rng(seed)
    before, after = (chance.choice(noise, (_SIMULATIONS, trials)) for _ in range(2))

    def power(slowdown: float) -> float:
        p_values = mannwhitneyu(after * (1 - slowdown), before, axis=1).pvalue
        return float(np.mean(p_values <= ALPHA / tests))

    low, high = 0.0, LARGEST_SLOWDOWN
    if power(high) < POWER:
        return 1.0
    while high - low > 0.005:
        half = (low + high) / 2
        low, high = (low, half) if power(half) >= POWER else (half, high)
    return high


_ENDS = (ALPHA / 2, 1 - ALPHA / 2)


def _medians(values: Sample, seed: int) -> "NDArray[np.float64]":
    import numpy as np  # noqa: PLC0415

    sample: NDArray[Any] = np.asarray(values, dtype=float)
    medians: NDArray[np.float64] = np.median(
        np.random.default_rng(seed).choice(sample, (RESAMPLES, len(sample))), axis=1
    )
    return medians
