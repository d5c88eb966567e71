"""A run told from top to bottom: refuse what cannot be run, carry out each trial, keep what came out."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from bench import trials
from bench.logs import Log
from bench.phase import Watch
from bench.place import Choice
from bench.places.folder import RunFolder
from bench.results import Result
from bench.spec import Spec
from bench.trials import Done

Tell = Callable[[str], None]
"""Tells a person what is done next."""


def execute(spec: Spec, log: Log, choice: Choice, folder: RunFolder, watch: Watch, tell: Tell) -> Result:
    """Run a spec at a place. Everything that it starts is gone when it returns or raises.

    Raises:
        BenchError: it cannot be run, or something broke; there is no verdict then.
    """
    trials.refuse(spec, log, choice, folder)
    started_at = datetime.now(UTC)
    kept: list[Done] = []
    with closing(trials.carry_out(spec, log, choice, folder, watch)) as each_trial:
        for number in range(1 - spec.warm_ups, spec.trials + 1):
            if spec.trials > 1:
                tell(f"trial {number} of {spec.trials}" if number > 0 else "trial to warm up")
            done = next(each_trial)
            if number > 0 or not done.trial.verdict.ok:
                kept.append(done)
    return trials.result_of(spec, log, folder.run_id, started_at, kept)
