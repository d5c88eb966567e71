"""Objectives: bounds on the figures of a trial, read from texts like `end_to_end p99 < 50ms`."""

import operator
import re
from dataclasses import dataclass
from typing import Literal

from bench.kinds import KINDS
from bench.text import number

TIMED = ("append", "end_to_end", "read")
"""The metrics that have percentiles of times: a batch from its due time (without an offered load from its sending) to
its commit, an event from its ctime to its delivery, a page from asking for it to having it."""
RATED = ("append", "read")
"""The metrics that have a rate."""
PERCENTILES = ("p50", "p90", "p99", "p99.9", "p99.99", "max")

_EXAMPLE = "append p99 < 50ms"
"""An objective that every search accepts."""
_HOLDS = {"<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt}
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_OBJECTIVE = re.compile(
    r"\s*(?P<metric>[a-z_]+)(?:[ .]\s*(?P<percentile>[a-z][a-z0-9._]*))?\s*(?P<comparison><=|>=|==|=|<|>)\s*"
    r"(?P<value>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[a-z]*(?:/s)?)\s*",
    re.ASCII,
)


@dataclass(frozen=True)
class Objective:
    """A bound on a figure."""

    metric: str
    """One of `TIMED`, `RATED` or `KINDS`."""
    percentile: str
    """One of `PERCENTILES`; empty for rates and counts."""
    comparison: Literal["<", "<=", "=", ">=", ">"]
    value: float
    """The bound in its own unit."""
    unit: Literal["us", "ms", "s", "/s", ""]
    """Empty for counts."""

    @property
    def name(self) -> str:
        """The figure that is bounded, like end_to_end p99."""
        return f"{self.metric} {self.percentile}".rstrip()

    @property
    def text(self) -> str:
        """The objective in the one form in which it is stored, like end_to_end p99 < 50ms."""
        return f"{self.name} {self.comparison} {self.value:.15g}{self.unit}"

    @property
    def is_upper(self) -> bool:
        """Whether the bound is an upper one."""
        return self.comparison in {"<", "<="}

    def is_met_by(self, figure: float) -> bool:
        """Whether a figure keeps the bound; times are in milliseconds."""
        return bool(_HOLDS[self.comparison](figure, self.value * _MILLISECONDS.get(self.unit, 1)))

    def shown(self, figure: float) -> str:
        """A figure in the unit of the bound, for people, like 31.2 ms; times are in milliseconds."""
        return self._with_unit(figure / _MILLISECONDS.get(self.unit, 1))

    def refuse_for_search(self, *, tails: bool) -> None:
        """Refuse an objective that no load breaks, in a run that reads while it appends or in one that does not.

        Raises:
            ValueError: the message names --slo and gives an example.
        """
        if not self.percentile or not self.is_upper:
            raise ValueError(
                f"--slo {self.text!r}: --rate find needs objectives that a higher load breaks: give an upper bound of "
                "a time, like 'append p99 < 50ms'"
            )
        if self.metric != "append" and not tails:
            raise ValueError(
                f"--slo {self.text!r}: events are read under load with --mode tail only: give that too, or an "
                "objective on append"
            )

    @property
    def shown_bound(self) -> str:
        """The comparison and the bound for people, like < 50 ms."""
        return f"{self.comparison} {self._with_unit(self.value)}"

    def _with_unit(self, value: float) -> str:
        return f"{number(value)}{' ' * (self.unit in _MILLISECONDS)}{self.unit}"


def parse_objective(text: str) -> Objective:
    """Read an objective: a metric, for times a percentile, a comparison, a value and its unit.

    Blanks are free, and a point may stand between metric and percentile; p99_9 is p99.9, == is =.

    Raises:
        ValueError: the text is not an objective; the message has an example.
    """
    matched = _OBJECTIVE.fullmatch(text)
    if not matched:
        raise ValueError(f"give a metric, a percentile, a comparison and a time, like {_EXAMPLE}")
    metric, comparison = matched["metric"], matched["comparison"].replace("==", "=")
    percentile = (matched["percentile"] or "").replace("_", ".")
    value, unit = float(matched["value"]), matched["unit"].replace("events/s", "/s")
    if metric in KINDS:
        if percentile or unit or not value.is_integer():
            raise ValueError(
                f"{metric} is a whole number of events, without percentile and unit: give a bound of a time, like "
                f"{_EXAMPLE}"
            )
    elif metric not in TIMED:
        raise ValueError(f"{metric} is not a metric: give one of {', '.join(TIMED)}, like {_EXAMPLE}")
    elif comparison == "=":
        raise ValueError(f"no time and no rate is met exactly: give <, <=, > or >=, like {_EXAMPLE}")
    elif unit == "/s":
        if percentile or metric not in RATED:
            raise ValueError(
                f"only {' and '.join(RATED)} have a rate, and a rate has no percentiles: give a bound of a time, like "
                f"{_EXAMPLE}"
            )
    elif percentile not in PERCENTILES:
        raise ValueError(f"give one of the percentiles {', '.join(PERCENTILES)}, like {metric} p99 < 50ms")
    elif unit not in _MILLISECONDS:
        raise ValueError(f"give a time with its unit, us, ms or s, like {metric} {percentile} < 50ms")
    if metric not in KINDS and not value:
        raise ValueError(f"the bound must be more than 0, like {_EXAMPLE}")
    return Objective(metric, percentile, comparison, value, unit)  # type: ignore[arg-type]
