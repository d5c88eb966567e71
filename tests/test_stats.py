"""Estimates and their intervals, against enumerations and formulas of others."""

import math
from collections import Counter
from collections.abc import Iterable
from itertools import product
from statistics import NormalDist, median

import pytest

from bench import stats
from bench.stats import Estimate

SIX = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
CHANCE = 0.01
"""How far a share of 2000 resamples may be from its probability: three standard deviations of 2.5 %."""

Distribution = dict[float, float]
"""Probabilities of values."""


def medians_of_resamples(values: list[float]) -> Distribution:
    """What the median of a resample can be: all of them are as likely."""
    counts = Counter(median(sample) for sample in product(values, repeat=len(values)))
    return {value: count / counts.total() for value, count in counts.items()}


def assert_covers_95_percent(estimate: Estimate, exact: Iterable[tuple[float, float]]) -> None:
    """Check that each end is the quantile of a distribution, as far as 2000 draws can show; it is discrete."""
    weights = list(exact)
    for end, share in ((estimate.low, 0.025), (estimate.high, 0.975)):
        assert sum(weight for value, weight in weights if value < end * (1 - 1e-9)) <= share + CHANCE
        assert sum(weight for value, weight in weights if value <= end * (1 + 1e-9)) >= share - CHANCE


def test_the_interval_of_a_median_is_that_of_all_resamples() -> None:
    for seed in range(3):
        estimate = stats.median(SIX, seed)
        assert estimate.value == 6
        assert_covers_95_percent(estimate, medians_of_resamples(SIX).items())


def test_the_interval_of_a_ratio_is_that_of_all_pairs_of_resamples() -> None:
    base = [3.0, 5.0, 7.0, 9.0, 20.0, 40.0]
    estimate = stats.ratio(SIX, base)
    assert estimate.value == 6 / 8
    pairs = product(medians_of_resamples(SIX).items(), medians_of_resamples(base).items())
    assert_covers_95_percent(estimate, [(value / other, p * q) for (value, p), (other, q) in pairs])


def test_of_five_values_there_is_the_range() -> None:
    assert stats.median([3.0, 1.0, 2.0, 9.0, 5.0]) == Estimate(3, 1, 9)
    assert stats.ratio([4.0, 8.0], [2.0, 1.0]) == Estimate(4, 2, 8)
    many, five = [1.0, 2, 3, 4, 5, 6, 7, 8, 9], [1.0, 2, 2, 2, 4]
    assert stats.ratio(many, five) == Estimate(2.5, 0.25, 9)
    assert stats.ratio(five, many) == Estimate(0.4, 1 / 9, 4)
    assert (stats.interval_name(5), stats.interval_name(6)) == ("range", "95 % interval")


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([9, 9, 10, 10, 11, 11, 15.18], []),  # 0.6745 * 5.18 = 3.494
        ([9, 9, 10, 10, 11, 11, 15.20], [6]),  # 0.6745 * 5.20 = 3.507
        ([4.80, 9, 9, 10, 10, 11, 11], [0]),
        ([9, 10, 10, 11, 99, 10.5], [4]),
        ([9, 10, 10, 11, 99], []),
        ([10, 10, 10, 10, 11, 99], []),
    ],
)
def test_outliers_are_beyond_a_modified_z_score_of_three_and_a_half(values: list[float], places: list[int]) -> None:
    assert stats.outliers(values) == places


@pytest.mark.parametrize(("trials", "tests"), [(20, 1), (20, 50), (60, 1)])
def test_the_smallest_visible_slowdown_is_about_that_of_normal_theory(trials: int, tests: int) -> None:
    """Means of two samples of normal noise differ visibly from (z of alpha / 2 + z of power) sqrt(2 / n) standard
    deviations on; for the U test n counts 3 / pi times, its asymptotic relative efficiency (Lehmann, Nonparametrics,
    1975).
    """
    normal = NormalDist(1000, 20)
    noise = [normal.inv_cdf((place + 0.5) / 200) for place in range(200)]
    z = NormalDist().inv_cdf
    expected = 0.02 * (z(1 - 0.025 / tests) + z(0.9)) * math.sqrt(2 / trials / (3 / math.pi))
    slowdown = stats.smallest_visible_slowdown(noise, noise, trials, tests)
    assert slowdown == pytest.approx(expected, abs=0.006)


def test_what_no_number_of_trials_that_small_can_show_is_1() -> None:
    assert stats.smallest_visible_slowdown(SIX, SIX, trials=3, tests=1) == 1
    assert stats.smallest_visible_slowdown([1.0] * 6, [2.0] * 6, trials=6, tests=1) < 0.01
