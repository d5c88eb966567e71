"""Is it slower than before? Two sets of trials in, an outcome out. Pure.

A regression must be both significant and beyond a threshold; 'no worse' means that the interval excludes one.
Everything between is inconclusive. That is a test of non-inferiority (Piaggio et al., JAMA 308, 2012).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bench import stats
from bench.flags import Flag, Share
from bench.results.metrics import Metric, is_name
from bench.stats import ALPHA, Estimate

MIN_TRIALS = 6
"""With fewer trials per side nothing can be significant, once several metrics are corrected for."""

Word = Literal["no worse", "regressed", "inconclusive"]

Lack = Literal["before", "after", "ratio"]
"""Why a metric cannot be compared: it is missing on a side, or a value is 0, so that there is no ratio."""


def _named(name: str) -> str:
    if not is_name(name):
        raise ValueError("unknown metric; names are like append, read_1000 or read_1000_p99_ms")
    return name


MetricName = Annotated[str, AfterValidator(_named)]


class Rules(BaseModel):
    """What counts as worse."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)
    groups: ClassVar = {"What counts as a regression": "threshold"}
    """As in `Spec`."""

    threshold: Annotated[Share, Flag("SHARE", default="5%")] = 0.05
    """A metric that is significantly slower, by more than this share, has regressed."""
    per_metric: Annotated[dict[MetricName, Share], Flag("NAME=SHARE", repeated=True, example="read_1000=3%")] = Field(
        default_factory=dict
    )
    """Threshold for one metric; the metric must then be clear for 'no worse', as rates must."""

    def threshold_of(self, metric: str) -> float:
        """The threshold of a metric."""
        return self.per_metric.get(metric, self.threshold)

    def decides(self, metric: Metric) -> bool:
        """Whether a metric must be clear for 'no worse': rates, and metrics in `per_metric`. Any metric may regress."""
        return metric.bigger_is_better or metric.name in self.per_metric


@dataclass(frozen=True)
class Change:
    """The comparison of one metric."""

    metric: str
    unit: str
    before: float
    after: float
    """Medians."""
    speed: Estimate
    """How many times as fast as before: of rates after over before, of latencies the inverse. Under 1 is worse."""
    p_value: float
    """Of Mann-Whitney's U test, after Holm's correction over all metrics."""
    effect: float
    """Cliff's delta: from -1, every trial is worse than every trial before, to 1."""
    threshold: float
    decides: bool
    """Whether the outcome is inconclusive while this metric is unclear."""

    @property
    def word(self) -> Literal["no worse", "regressed", "faster", "unclear"]:
        """The outcome of this metric."""
        significant = self.p_value <= ALPHA
        if significant and self.speed.value < 1 - self.threshold:
            return "regressed"
        if significant and self.speed.value > 1 + self.threshold:
            return "faster"
        return "no worse" if self.speed.low >= 1 - self.threshold else "unclear"


def judge(before: Sequence[Metric], after: Sequence[Metric], rules: Rules) -> list[Change]:
    """Compare metrics by name."""
    both = pairs(before, after)
    tests = [_tested(old, new) for old, new in both]
    corrected = stats.holm([p_value for p_value, _ in tests])
    return [
        Change(
            metric=old.name,
            unit=old.unit,
            before=stats.middle(old.values),
            after=stats.middle(new.values),
            speed=speed(old, new),
            p_value=p_value,
            effect=effect,
            threshold=rules.threshold_of(old.name),
            decides=rules.decides(old),
        )
        for (old, new), (_, effect), p_value in zip(both, tests, corrected, strict=True)
    ]


def pairs(before: Sequence[Metric], after: Sequence[Metric]) -> list[tuple[Metric, Metric]]:
    """The metrics that can be compared: they exist on both sides, and no value is 0."""
    names = {metric.name: metric for metric in after}
    lacking = lacks(before, after)
    return [(old, names[old.name]) for old in before if old.name not in lacking]


def lacks(before: Sequence[Metric], after: Sequence[Metric]) -> dict[str, Lack]:
    """The metrics that cannot be compared, by name, each with the reason."""
    old, new = ({metric.name: metric for metric in side} for side in (before, after))
    reasons: dict[str, Lack] = {}
    for name in {**old, **new}:
        if name not in old:
            reasons[name] = "before"
        elif name not in new:
            reasons[name] = "after"
        elif min(*old[name].values, *new[name].values) <= 0:
            reasons[name] = "ratio"
    return reasons


def undecided(before: Sequence[Metric], after: Sequence[Metric], rules: Rules) -> list[str]:
    """The names of the metrics that decide and were measured before, but cannot be compared."""
    lacking = lacks(before, after)
    return [metric.name for metric in before if metric.name in lacking and rules.decides(metric)]


def speed(before: Metric, after: Metric) -> Estimate:
    """How many times as fast as before."""
    if before.bigger_is_better:
        return stats.ratio(after.values, before.values)
    return stats.ratio(before.values, after.values)


def outcome(changes: Sequence[Change], trials: int, undecided: Iterable[str] = ()) -> Word:
    """The outcome over all metrics; `trials` is the number on the smaller side, and `undecided` names the metrics that
    decide but cannot be compared. Without a metric that decides, the outcome is never 'no worse'.
    """
    if trials < MIN_TRIALS:
        return "inconclusive"
    if any(change.word == "regressed" for change in changes):
        return "regressed"
    deciding = [change.word for change in changes if change.decides]
    if not deciding or "unclear" in deciding or any(undecided):
        return "inconclusive"
    return "no worse"


def is_precise(a: Sequence[Metric], b: Sequence[Metric], rules: Rules, precision: float) -> bool:
    """Whether trials can stop: the interval of each metric that decides reaches no further than this share to either
    side. Where the interval lies plays no part, so that stopping does not bias the outcome.
    """
    both = [(old, new) for old, new in pairs(a, b) if rules.decides(old)]
    if min((len(metric.values) for pair in both for metric in pair), default=0) < MIN_TRIALS:
        return False
    speeds = [speed(old, new) for old, new in both]
    return all(each.high - each.low <= 2 * precision * each.value for each in speeds)


def visible(before: Sequence[Metric], after: Sequence[Metric], trials: int) -> dict[str, float]:
    """The smallest slowdown of each metric that this number of trials per side would detect here, as a share; 1 if
    they would detect none of the slowdowns that are tried.
    """
    both = pairs(before, after)
    return {
        old.name: stats.smallest_visible_slowdown(old.values, new.values, trials, tests=len(both)) for old, new in both
    }


def _tested(before: Metric, after: Metric) -> tuple[float, float]:
    p_value, effect = stats.mann_whitney(after.values, before.values)
    return p_value, effect if before.bigger_is_better else -effect
