"""The gate's judgement: on numbers whose answer is known, and on noise."""

import random
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from bench import stats
from bench.errors import NoComparisonError, UsageError
from bench.gate import compare, power, regression
from bench.gate.regression import Rules, Word
from bench.results.metrics import Metric
from bench.results.models import Result
from tests.report.test_export import several
from tests.report.test_table import FAILED, result

SPEEDS = st.lists(st.floats(10, 1e6), min_size=6, max_size=20)


def rate(values: Sequence[float], name: str = "append") -> Metric:
    return Metric(name, "events/s", list(values))


def latency(values: Sequence[float], name: str = "append_p99_ms") -> Metric:
    return Metric(name, "ms", list(values))


def noisy(middle: float, noise: float, trials: int, seed: int = 0) -> list[float]:
    chance = random.Random(seed)
    return [middle * (1 + chance.uniform(-noise, noise)) for _ in range(trials)]


def word(before: list[Metric], after: list[Metric], rules: Rules | None = None) -> Word:
    changes = regression.judge(before, after, rules or Rules())
    return regression.outcome(changes, min(len(metric.values) for metric in [*before, *after]))


def balance(one: Sequence[float], other: Sequence[float]) -> float:
    """Of all pairs, the share in which `one` is larger minus the share in which it is smaller."""
    return sum((a > b) - (a < b) for a in one for b in other) / (len(one) * len(other))


def test_quiet_trials_of_the_same_speed_are_no_worse() -> None:
    assert word([rate(noisy(1000, 0.02, 10))], [rate(noisy(1000, 0.02, 10, seed=1))]) == "no worse"


def test_a_large_slowdown_is_a_regression_of_rates_and_of_latencies() -> None:
    fast, slow = noisy(1000, 0.02, 10), noisy(800, 0.02, 10, seed=1)
    assert word([rate(fast)], [rate(slow)]) == "regressed"
    assert word([latency(slow)], [latency(fast)]) == "regressed"


def test_faster_never_fails() -> None:
    changes = regression.judge([rate(noisy(1000, 0.02, 10))], [rate(noisy(1500, 0.02, 10))], Rules())
    assert [change.word for change in changes] == ["faster"]
    assert regression.outcome(changes, 10) == "no worse"
    assert changes[0].effect == 1
    assert changes[0].speed.low > 1.4


def test_a_significant_slowdown_within_the_threshold_is_none() -> None:
    (change,) = regression.judge([rate(noisy(1000, 0.005, 20))], [rate(noisy(980, 0.005, 20))], Rules(0.05))
    assert change.p_value < 0.001
    assert change.word == "no worse"


def test_a_slowdown_beyond_the_threshold_that_may_be_noise_is_inconclusive() -> None:
    before, after = [rate(noisy(1000, 0.5, 8))], [rate(noisy(930, 0.5, 8, seed=5))]
    (change,) = regression.judge(before, after, Rules())
    assert change.p_value > 0.05
    assert word(before, after) == "inconclusive"


def test_too_few_trials_are_inconclusive_however_different() -> None:
    assert word([rate([1000.0] * 5)], [rate([10.0] * 5)]) == "inconclusive"
    assert word([rate([1000.0])], [rate([1000.0])]) == "inconclusive"


def test_latencies_decide_when_they_are_named() -> None:
    before = [rate(noisy(1000, 0.01, 10)), latency(noisy(5, 0.9, 10))]
    after = [rate(noisy(1000, 0.01, 10, seed=1)), latency(noisy(5, 0.9, 10, seed=2))]
    assert word(before, after) == "no worse"
    assert word(before, after, Rules(0.05, {"append_p99_ms": 0.05})) == "inconclusive"


def test_a_metric_can_have_a_threshold_of_its_own() -> None:
    before, after = [rate(noisy(1000, 0.01, 10))], [rate(noisy(900, 0.01, 10, seed=1))]
    assert word(before, after) == "regressed"
    assert word(before, after, Rules(0.05, {"append": 0.2})) == "no worse"


@given(SPEEDS, SPEEDS)
def test_what_is_better_for_one_side_is_worse_for_the_other(one: list[float], other: list[float]) -> None:
    (there,), (back,) = (regression.judge([rate(a)], [rate(b)], Rules()) for a, b in ((one, other), (other, one)))
    assert there.effect == pytest.approx(-back.effect)
    assert there.p_value == pytest.approx(back.p_value)
    assert there.speed.value == pytest.approx(1 / back.speed.value)
    assert there.speed.low <= there.speed.value * (1 + 1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_p_values_are_no_smaller_and_keep_their_order(p_values: list[float]) -> None:
    corrected = stats.holm(p_values)
    assert all(1 >= after >= before for before, after in zip(p_values, corrected, strict=True))
    assert sorted(p_values) == [p for _, p in sorted(zip(corrected, p_values, strict=True))]
    # Holm's is never kinder than Benjamini and Hochberg's.
    kinder = false_discovery_control(p_values)
    assert all(ours >= theirs - 1e-12 for ours, theirs in zip(corrected, kinder, strict=True))


def test_holm_as_in_the_textbook() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(SPEEDS, SPEEDS)
def test_the_effect_is_the_balance_of_wins_over_all_pairs(one: list[float], other: list[float]) -> None:
    _, effect = stats.mann_whitney(one, other)
    assert effect == pytest.approx(balance(one, other))


@given(st.integers(2, 11).flatmap(lambda size: st.permutations(range(size))), st.integers(1, 10))
def test_the_p_value_is_the_share_of_all_divisions_that_are_as_uneven(ranks: list[int], values: int) -> None:
    """Without ties, and of few values, the U test is exact: each division of the values into two sides is as likely."""
    values = min(values, len(ranks) - 1)
    p_value, _ = stats.mann_whitney(ranks[:values], ranks[values:])
    divisions = [balance(side, [rank for rank in ranks if rank not in side]) for side in combinations(ranks, values)]
    seen = abs(balance(ranks[:values], ranks[values:]))
    assert p_value == pytest.approx(sum(abs(each) >= seen - 1e-9 for each in divisions) / len(divisions))


def test_more_trials_and_less_noise_see_smaller_slowdowns() -> None:
    def seen(noise: float, trials: int) -> float:
        values = noisy(1000, noise, 40), noisy(1000, noise, 40, seed=1)
        return stats.smallest_visible_slowdown(*values, trials, tests=4)

    assert seen(0.02, 20) < seen(0.1, 20) < seen(0.1, 8)


@settings(deadline=None, max_examples=3)
@given(st.integers(0, 100))
def test_simulated_comparisons_see_what_is_there(seed: int) -> None:
    a, b = (
        [rate(noisy(1000, 0.03, 20, seed + side)), rate(noisy(9, 0.03, 20, seed + side + 2), "read_10")]
        for side in (0, 1)
    )
    found = power.calibrate(a, b, Rules(), precision=0.04, max_trials=10, comparisons=40)
    none, _, tenth, fifth = found.simulated
    assert none.regressed <= 0.1
    assert tenth.regressed >= 0.8
    assert fifth.regressed == 1
    assert all(each.regressed + each.no_worse + each.inconclusive == pytest.approx(1) for each in found.simulated)


def ten() -> Result:
    return several(10)


def test_results_that_are_alike_are_compared() -> None:
    found = compare.compare(ten(), ten(), Rules())
    assert found.word == "no worse"
    assert not found.differences


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("postgres", {"postgres": "16.4"}),
        ("cpu", {"cpu": "abacus"}),
        ("cores", {"cores": 1}),
        ("memory", {"memory_bytes": 1}),
        ("set.work_mem", {"settings": {"work_mem": "1GB"}}),
        ("disk", {"about": {"disk": "tape"}}),
    ],
)
def test_another_environment_is_not_comparable_unless_allowed(key: str, change: dict[str, object]) -> None:
    before = ten()
    after = before.model_copy(update={"environment": before.environment.model_copy(update=change)})
    found = compare.compare(before, after, Rules())
    assert found.word == "not comparable"
    assert key in found.differences
    allowed = compare.compare(before, after, Rules(), allow=list(found.differences))
    assert allowed.word == "no worse"
    assert key in allowed.allowed


def test_a_minor_release_is_the_same_postgres_and_another_revision_the_same_bench() -> None:
    before = ten()
    changes = {"postgres": before.environment.postgres + ".99", "git_revision": "abc", "kernel": "other"}
    after = before.model_copy(update={"environment": before.environment.model_copy(update=changes)})
    assert compare.compare(before, after, Rules()).word == "no worse"


def test_another_log_or_spec_is_not_comparable() -> None:
    before = ten()
    sql = before.model_copy(update={"log_sha256": "1"})
    spec = before.model_copy(update={"spec": {**before.spec, "scale": 99}})
    assert [*compare.compare(before, sql, Rules()).differences] == ["log"]
    there, here = (
        each.model_copy(update={"spec": {**each.spec, "log": path}})
        for each, path in ((before, "/tmp/x/main/events"), (sql, "/tmp/x/HEAD/events"))
    )
    old, new = compare.differences(there, here)["log"]
    assert (old.split()[0], new) == ("main/events", "HEAD/events 1")
    assert [*compare.compare(before, spec, Rules()).differences] == ["spec.scale"]


def test_a_failed_verdict_always_fails() -> None:
    assert compare.compare(ten(), result(verdict=FAILED), Rules()).word == "failed verdict"


def test_keys_metrics_and_shares_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match="--allow moon: there is no such key"):
        compare.compare(ten(), ten(), Rules(), allow=["moon"])
    with pytest.raises(UsageError, match="--per-metric reed: there is no such metric; give one of append"):
        compare.compare(ten(), ten(), Rules(0.05, {"reed": 0.1}))
    for text in ("5", "0%", "100%", "-3%", "much", ""):
        with pytest.raises(UsageError, match="--threshold"):
            compare.thresholds(text, {})
    assert compare.thresholds("5%", {"append": "0.03"}) == Rules(0.05, {"append": 0.03})


def test_baselines_are_kept_by_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("baselines")
    with pytest.raises(NoComparisonError, match="bench baseline save main"):
        compare.baseline("main", folder)
    compare.save("main", ten(), folder)
    assert compare.baseline("main", folder) == ten()
    with pytest.raises(UsageError, match="is not a valid name"):
        compare.save("../up", ten(), folder)
    with pytest.raises(UsageError, match="its verdict failed"):
        compare.save("main", result(verdict=FAILED), folder)
