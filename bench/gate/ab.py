"""`bench ab`: trials of two specs in the order A B B A, until the intervals are narrow or --max-trials is reached.

Drift of the machine slows both sides alike. Published tables are made from the record, `ab.json`.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from bench.gate import compare, power, regression
from bench.gate.compare import Compared
from bench.gate.power import BLOCK, PowerAnalysis
from bench.gate.regression import Rules
from bench.gate.sides import Arm, Options
from bench.places import rundir
from bench.results import metrics, store
from bench.results.base import StoredModel
from bench.results.models import Result
from bench.run import trials
from bench.run.place import ChosenPlace
from bench.run.trials import Done, Trials
from bench.run.watch import Watch

FILE = "ab.json"
_news = logging.getLogger("bench")


class Ab(StoredModel):
    """The trials of two sides, which alternated in the order of `BLOCK`."""

    schema_: Literal["bench.ab/1"] = Field(default="bench.ab/1", alias="schema")
    run_id: str
    started_at: datetime
    command: str
    """The command as it was typed."""
    precision: float
    """Trials were to stop once every rate's 95 % interval reached no further than this share to either side."""
    a: Result
    b: Result
    power: PowerAnalysis | None = Field(default=None, alias="calibration")
    """Power analysis with the noise that was measured, when both sides are the same."""

    @property
    def trials(self) -> int:
        """Number of trials on the smaller side."""
        return min(len(self.a.trials), len(self.b.trials))

    @property
    def ok(self) -> bool:
        """Whether the verdict of every trial is ok."""
        return self.a.ok and self.b.ok


def alternate(
    arms: tuple[Arm, Arm],
    chosen: ChosenPlace,
    rules: Rules,
    precision: float,
    max_trials: int,
    command: str,
    watch: Watch,
) -> Iterator[Ab]:
    """Carry out block after block; yields the record so far after each. Ends early after a failed verdict.

    Raises:
        BenchError: the trials cannot be carried out, or something broke.
    """
    run_id, started_at = store.new_run_id(), datetime.now(UTC)
    done: tuple[list[Done], list[Done]] = ([], [])

    def known() -> Ab:
        a, b = (
            trials.result_of(arm.spec, arm.log, run_id, started_at, measured or [warmed_up])
            for arm, measured, warmed_up in zip(arms, done, warm, strict=True)
        )
        return Ab(run_id=run_id, started_at=started_at, command=command, precision=precision, a=a, b=b)

    with (
        rundir.opened(f"{run_id}-a") as folder_a,
        rundir.opened(f"{run_id}-b") as folder_b,
        trials.opened(arms[0].spec, arms[0].log, chosen, folder_a, watch) as of_a,
        trials.opened(arms[1].spec, arms[1].log, chosen, folder_b, watch) as of_b,
    ):
        sides = (of_a, of_b)
        _news.info("one warm-up trial of each side")
        warm = [_run_one(side) for side in sides]
        if not all(each.trial.verdict.ok for each in warm):
            yield known()
            return
        compare.refuse_unknown_metrics(rules, known().a)
        while len(done[0]) < max_trials:
            for name in BLOCK:
                side = "ab".index(name)
                done[side].append(_run_one(sides[side]))
                if not done[side][-1].trial.verdict.ok:
                    yield known()
                    return
            so_far = known()
            yield so_far
            if regression.is_precise(metrics.of_result(so_far.a), metrics.of_result(so_far.b), rules, precision):
                return


def judged(record: Ab, rules: Rules) -> Compared:
    """Judge side b against side a; all their differences are allowed, because they were asked for."""
    return compare.judged(record.a, record.b, rules, allowed=compare.differences(record.a, record.b))


def with_power(record: Ab, rules: Rules, options: Options) -> Ab:
    """Add the power analysis to a record of two sides that ran the same spec."""
    a, b = metrics.of_result(record.a), metrics.of_result(record.b)
    analysis = power.analyse(a, b, rules, options.precision, options.max_trials, options.comparisons)
    return record.model_copy(update={"power": analysis})


def _run_one(side: Trials) -> Done:
    with side.run_one() as done:
        return done
