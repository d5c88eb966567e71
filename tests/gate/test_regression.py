"""The gate's judgement: on numbers whose answer is known, and on noise."""

import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from bench import stats
from bench.errors import NoComparisonError, UsageError
from bench.flags import validated
from bench.gate import compare, power, regression, sides
from bench.gate.regression import Change, Rules, Word
from bench.results.metrics import Metric
from bench.results.models import Result
from tests.report.test_export import several
from tests.report.test_table import FAILED, paused, result

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
    (change,) = regression.judge([rate(noisy(1000, 0.005, 20))], [rate(noisy(980, 0.005, 20))], Rules(threshold=0.05))
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
    assert word(before, after, Rules(per_metric={"append_p99_ms": 0.05})) == "inconclusive"


def test_a_metric_can_have_a_threshold_of_its_own() -> None:
    before, after = [rate(noisy(1000, 0.01, 10))], [rate(noisy(900, 0.01, 10, seed=1))]
    assert word(before, after) == "regressed"
    assert word(before, after, Rules(per_metric={"append": 0.2})) == "no worse"


@pytest.mark.parametrize(
    ("p_value", "speed", "low", "expected"),
    [
        (stats.ALPHA, 0.74, 0.5, "regressed"),
        (stats.ALPHA, 0.75, 0.5, "unclear"),
        (stats.ALPHA, 0.76, 0.75, "no worse"),
        (stats.ALPHA, 1.26, 1.1, "faster"),
        (stats.ALPHA, 1.25, 1.1, "no worse"),
        (stats.ALPHA * 1.01, 0.74, 0.5, "unclear"),
        (stats.ALPHA * 1.01, 1.26, 0.75, "no worse"),
        (stats.ALPHA * 1.01, 1.26, 0.74, "unclear"),
    ],
)
def test_a_change_needs_significance_and_an_effect_beyond_the_threshold(
    p_value: float, speed: float, low: float, expected: str
) -> None:
    estimate = stats.Estimate(speed, low, 2.0)
    change = Change("append", "events/s", 1, 1, estimate, p_value, effect=0, threshold=0.25, decides=True)
    assert change.word == expected


def test_a_change_says_what_each_side_was() -> None:
    before, after = [5.0, 6, 7, 8, 9, 10], [20.0, 22, 24, 26, 28, 30]
    rules = Rules(per_metric={"append_p99_ms": 0.3})
    slower, faster = regression.judge([latency(before), rate(before)], [latency(after), rate(after)], rules)
    assert (slower.metric, slower.unit, slower.before, slower.after) == ("append_p99_ms", "ms", 7.5, 25)
    assert (slower.speed.value, slower.effect, slower.threshold, slower.decides) == (0.3, -1, 0.3, True)
    assert (faster.metric, faster.unit, faster.before, faster.after) == ("append", "events/s", 7.5, 25)
    assert faster.speed.value == pytest.approx(10 / 3)
    assert (faster.effect, faster.threshold) == (1, 0.05)
    # Holm: the smaller of two p values counts double, and here both are as small. Of 924 divisions two are as uneven.
    assert slower.p_value == faster.p_value == pytest.approx(2 * 2 / 924)


def test_metrics_that_cannot_be_compared_have_a_reason_and_may_leave_it_undecided() -> None:
    before = [rate([1, 2]), rate([1, 2], "read_10"), latency([0, 1]), latency([1, 1], "read_p99_ms")]
    after = [rate([1, 1]), latency([1, 1]), latency([1, 1], "read_p99_ms"), rate([0.5, 1], "read_100")]
    assert regression.lacks(before, after) == {"read_10": "after", "append_p99_ms": "ratio", "read_100": "before"}
    assert [old.name for old, _ in regression.pairs(before, after)] == ["append", "read_p99_ms"]
    assert regression.undecided(before, after, Rules()) == ["read_10"]
    assert regression.undecided(before, after, Rules(per_metric={"append_p99_ms": 0.1})) == ["read_10", "append_p99_ms"]


def test_without_a_metric_that_decides_nothing_is_no_worse() -> None:
    same = [1000.0] * 6
    rates, latencies = (regression.judge([metric], [metric], Rules()) for metric in (rate(same), latency(same)))
    assert regression.outcome(rates, 6) == "no worse"
    assert regression.outcome(rates, 5) == "inconclusive"
    assert regression.outcome(rates, 6, ["read_10"]) == "inconclusive"
    assert regression.outcome(latencies, 6) == "inconclusive"


def test_trials_are_precise_when_no_interval_of_what_decides_is_wider() -> None:
    a, b = rate(noisy(1000, 0.1, 8)), rate(noisy(1100, 0.1, 8, seed=1))
    value, low, high = regression.speed(a, b)
    reach = (high - low) / 2 / value
    loud = latency(noisy(5, 0.9, 8)), latency(noisy(5, 0.9, 8, seed=1))
    assert regression.is_precise([a], [b], Rules(), reach * 1.001)
    assert not regression.is_precise([a], [b], Rules(), reach * 0.999)
    assert regression.is_precise([a, loud[0]], [b, loud[1]], Rules(), reach * 1.001)
    assert not regression.is_precise([a, loud[0]], [b, loud[1]], Rules(per_metric={loud[0].name: 0.05}), reach * 1.001)
    assert regression.is_precise([rate([1.0] * 6)], [rate([1.0] * 6)], Rules(), 0)
    assert not regression.is_precise([rate([1.0] * 6)], [rate([1.0] * 5)], Rules(), 1)
    assert not regression.is_precise([], [], Rules(), 1)


def test_a_slowdown_is_harder_to_see_the_more_metrics_are_tested() -> None:
    one = rate(noisy(1000, 0.05, 10)), rate(noisy(1000, 0.05, 10, seed=1))
    others = [rate([1.0], f"read_{size}") for size in range(50)]
    alone, among = (regression.visible([one[0], *more], [one[1], *more], trials=10)["append"] for more in ([], others))
    assert alone < among < 1


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
    found = power.analyse(a, b, Rules(), precision=0.04, max_trials=10, comparisons=40)
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
        ("place", {"place": "swarm"}),
        ("governor", {"governor": "powersave"}),
        ("limits.cpus", {"limits": {"cpus": "0.5"}}),
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


@pytest.mark.parametrize(("share", "is_same"), [(0.95, True), (0.85, False)])
def test_machines_of_one_kind_differ_little_in_memory(share: float, *, is_same: bool) -> None:
    before = ten()
    memory = round(before.environment.memory_bytes * share)
    after = before.model_copy(update={"environment": before.environment.model_copy(update={"memory_bytes": memory})})
    assert [*compare.differences(before, after)] == ([] if is_same else ["memory"])
    assert [*compare.differences(after, before)] == ([] if is_same else ["memory"])


def test_other_statements_or_another_transport_are_not_comparable() -> None:
    before = ten()
    sql = before.model_copy(update={"sql": {**before.sql, "append": "SELECT 1"}})
    assert [*compare.differences(before, sql)] == ["sql.append"]
    trials = [
        trial.model_copy(update={"append": trial.append.model_copy(update={"transport": "libpq"})})
        for trial in before.trials
    ]
    libpq = before.model_copy(update={"trials": trials})
    assert compare.differences(before, libpq) == {"transport": ("", "libpq")}


def test_what_does_not_change_the_work_may_differ() -> None:
    before = ten()
    free = ("trials", "warm_up", "fresh", "seed", "idle_timeout", "dsn", "pg_bin", "worker_image", "postgres_image")
    for key in (*free, "set", "place", "insert_loops"):
        after = before.model_copy(update={"spec": {**before.spec, key: "another"}})
        assert not compare.differences(before, after), key


def test_one_allowed_difference_does_not_allow_another() -> None:
    before = ten()
    environment = before.environment.model_copy(update={"cpu": "abacus", "cores": 1})
    after = before.model_copy(update={"environment": environment})
    found = compare.compare(before, after, Rules(), allow=["cpu"])
    assert (found.word, [*found.allowed], [*found.differences]) == ("not comparable", ["cpu"], ["cores"])


def test_one_metric_that_regressed_is_enough() -> None:
    words = ("no worse", "regressed")
    changes: Any = [SimpleNamespace(word=word, decides=True) for word in words]
    assert regression.outcome(changes, 10) == "regressed"
    assert regression.outcome(changes[:1], 10) == "no worse"


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


def test_phases_that_differ_are_shown_in_words() -> None:
    clean = {"name": "clean", "rate": 4000.0, "duration": 30.0, "open_transaction": None, "read": True}
    held = {"name": None, "rate": 0.5, "duration": 90.0, "open_transaction": "read-only", "read": False}
    before = ten()
    after = before.model_copy(update={"spec": {**before.spec, "phase": [clean, held]}})
    assert compare.differences(before, after) == {
        "spec.phase": (
            "",
            '"clean", 4000/s for 30 s; phase 2, 0.5/s for 90 s, open transaction read-only, no reading',
        )
    }
    for change in ({"rate": 4001.0}, {"duration": 31.0}, {"open_transaction": "prepared"}, {"read": False}):
        other = before.model_copy(update={"spec": {**before.spec, "phase": [{**clean, **change}, held]}})
        assert [*compare.differences(after, other)] == ["spec.phase"], change


def test_a_failed_verdict_always_fails() -> None:
    assert compare.compare(ten(), result(verdict=FAILED), Rules()).word == "failed verdict"


def test_results_with_pauses_have_no_speed_to_compare(tmp_path: Path) -> None:
    for before, after in ((ten(), paused()), (paused(), ten())):
        with pytest.raises(UsageError, match="--pause"):
            compare.compare(before, after, Rules())
    with pytest.raises(UsageError, match="--pause"):
        compare.save("main", paused(), tmp_path)
    with pytest.raises(UsageError, match="--pause"):
        sides.arms([({}, None), ({"pause": "0..5ms"}, None)], (None, None), tmp_path)


def test_keys_metrics_and_shares_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--allow moon: .*spec\.scale"):
        compare.compare(ten(), ten(), Rules(), allow=["moon"])
    with pytest.raises(UsageError, match=r"--per-metric read_7: .*append"):
        compare.compare(ten(), ten(), Rules(per_metric={"read_7": 0.1}))
    with pytest.raises(UsageError, match=r"--per-metric .*reed.*append"):
        validated(Rules, {"per_metric": {"reed": "10%"}})
    for text in ("5", "0%", "100%", "-3%", "much", ""):
        with pytest.raises(UsageError, match=f"^--threshold '{text}'"):
            validated(Rules, {"threshold": text})
        with pytest.raises(UsageError, match=f"^--per-metric append '{text}'"):
            validated(Rules, {"per_metric": {"append": text}})
    assert validated(Rules, {"threshold": "7%", "per_metric": {"append": "0.03"}}) == Rules(
        threshold=0.07, per_metric={"append": 0.03}
    )


def test_baselines_are_kept_by_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("baselines")
    with pytest.raises(NoComparisonError, match=r"main.*bench baseline save main"):
        compare.baseline("main", folder)
    compare.save("main", ten(), folder)
    assert compare.baseline("main", folder) == ten()
    with pytest.raises(UsageError, match=r"\.\./up"):
        compare.save("../up", ten(), folder)
    with pytest.raises(UsageError, match="verdict failed"):
        compare.save("main", result(verdict=FAILED), folder)
