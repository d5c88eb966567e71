"""Two specs in turns, A B B A, until it is clear which is faster or there were trials enough. What drifts meets both.

What is published is made from the record that this returns, `ab.json`.
"""

import subprocess
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from bench.errors import UsageError
from bench.eventlog import Log
from bench.gate import compare, regression
from bench.gate.power import BLOCK, Calibration
from bench.gate.regression import Rules
from bench.places import rundir
from bench.results import metrics, store
from bench.results.models import Result, StoredModel
from bench.run import trials
from bench.run.place import ChosenPlace
from bench.run.trials import Done, Trials
from bench.run.watch import Watch
from bench.spec import Spec

FILE = "ab.json"


class Arm(NamedTuple):
    """One side: what it runs."""

    spec: Spec
    log: Log


class Ab(StoredModel):
    """Two sides, trial by trial in the order of `BLOCK`."""

    schema_: Literal["bench.ab/1"] = Field(default="bench.ab/1", alias="schema")
    run_id: str
    started_at: datetime
    command: str
    """What was asked for."""
    precision: float
    """It was to end when the intervals of all rates were no wider than this to either side."""
    a: Result
    b: Result
    calibration: Calibration | None = None
    """What the gate makes of the noise that was seen, when both sides are the same."""

    @property
    def trials(self) -> int:
        """On the smaller side."""
        return min(len(self.a.trials), len(self.b.trials))


def alternate(
    arms: tuple[Arm, Arm],
    chosen: ChosenPlace,
    rules: Rules,
    precision: float,
    max_trials: int,
    command: str,
    watch: Watch,
    tell: Callable[[str], None],
) -> Iterator[Ab]:
    """Carry out block after block; yields what is known after each. Ends early with a trial whose verdict failed.

    Raises:
        BenchError: it cannot be run, or something broke.
    """
    run_id, started_at = store.new_run_id(), datetime.now(UTC)
    done: tuple[list[Done], list[Done]] = ([], [])

    def known() -> Ab:
        a, b = (
            trials.result_of(arm.spec, arm.log, run_id, started_at, kept or [warmed_up])
            for arm, kept, warmed_up in zip(arms, done, warm, strict=True)
        )
        return Ab(run_id=run_id, started_at=started_at, command=command, precision=precision, a=a, b=b)

    with (
        rundir.opened(f"{run_id}-a") as folder_a,
        rundir.opened(f"{run_id}-b") as folder_b,
        trials.opened(arms[0].spec, arms[0].log, chosen, folder_a, watch) as of_a,
        trials.opened(arms[1].spec, arms[1].log, chosen, folder_b, watch) as of_b,
    ):
        sides = (of_a, of_b)
        tell("a trial of each to warm up")
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


def at_revision(log_folder: str, revision: str, into: Path) -> str:
    """Put a log's folder as it was at a revision of the repository that it is in below `into`; returns where it is.

    Raises:
        UsageError: there is no such revision, or no such folder in it.
    """
    where = Path(log_folder).resolve()
    if not where.is_dir():
        raise UsageError(f"--log {log_folder}: give the folder of a log in a git repository, to take revisions of it")
    archived = subprocess.run(
        ["git", "-C", str(where), "archive", "--format=tar", revision, "."],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if archived.returncode:
        why = archived.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"revision {revision} of {log_folder}: {why[-1] if why else 'git has no such thing'}")
    target = into / revision.replace("/", "_") / where.name
    with tarfile.open(fileobj=BytesIO(archived.stdout)) as archive:
        archive.extractall(target, filter="data")
    return str(target)


def _run_one(side: Trials) -> Done:
    with side.run_one() as done:
        return done
