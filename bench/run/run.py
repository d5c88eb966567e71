"""A run, from start to finish: refuse a spec that cannot run, carry out each trial, store it, show the results."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from bench.errors import BenchError
from bench.eventlog import Log
from bench.places.rundir import RunFolder
from bench.results.costs import Observed
from bench.results.environment import Environment
from bench.results.latency_log import Measured
from bench.results.models import Result, Trial, Unjudged
from bench.results.search import Window
from bench.results.tracks import Track
from bench.run import latencies, summary, trials
from bench.run.outcome import TrackOutcome
from bench.run.place import ChosenPlace
from bench.run.trials import Done
from bench.run.watch import Watch
from bench.spec import Spec


class Audience(Protocol):
    """Shows a run to a person, and stores its results."""

    def opened(self, spec: Mapping[str, Any], environment: Environment, command: str) -> None:
        """The place is known, and nothing was done there yet; `command` is as `Result.reproduce`."""
        ...

    def judged(self, name: str, trial: Trial) -> None:
        """One of several trials is judged."""
        ...

    def tried(self, windows: Sequence[Window]) -> None:
        """The last of the windows of a search is judged, and its verdict is ok."""
        ...

    def unjudged(self, spec: Mapping[str, Any], measured: Unjudged) -> None:
        """Show the measurements of a trial that ended without a verdict."""
        ...

    def keep(self, result: Result, latencies: Mapping[str, Measured]) -> None:
        """Store the result of a run so far, replacing an earlier state of it, and the latencies of its last trial."""
        ...

    def show(self, result: Result) -> None:
        """Show the result of a run so far."""
        ...


def execute(spec: Spec, log: Log, chosen: ChosenPlace, folder: RunFolder, watch: Watch, audience: Audience) -> Result:
    """Run a spec in a place. Everything that the run starts is gone when this returns or raises.

    Each trial is stored with those before it as soon as it is judged. The result so far is shown before the place is
    closed, also when the run ends early because it was interrupted or something broke.

    Raises:
        BenchError: the spec cannot be run, or something broke; the trial in which it did has no verdict.
        KeyboardInterrupt: the run was interrupted; with several trials the message names the one.
    """
    started_at = datetime.now(UTC)
    finished: list[Done] = []
    shown = False
    over: tuple[Mapping[Track, TrackOutcome], Mapping[str, Observed]] = {}, {}

    def known() -> Result:
        return trials.result_of(spec, log, folder.run_id, started_at, finished)

    def note(outcomes: Mapping[Track, TrackOutcome], observed: Mapping[str, Observed]) -> None:
        nonlocal over
        over = outcomes, observed

    def described(environment: Environment) -> None:
        audience.opened(trials.stored_spec(spec), environment, trials.command(spec))

    with trials.opened(spec, log, chosen, folder, watch, described) as its_trials:
        number = 1 - spec.warm_ups
        try:
            for number in range(1 - spec.warm_ups, spec.trials + 1):
                with its_trials.run_one(note) as (environment, judged):
                    measured = latencies.by_metric(spec, over[0])
                    over = {}, {}
                    trial = judged if number > 0 else judged.model_copy(update={"warm_up": True})
                    if number > 0 or not trial.verdict.ok:
                        finished.append(Done(environment, trial))
                        audience.keep(known(), measured)
                    if spec.trials > 1:
                        audience.judged(_name(number, spec), trial)
                    if number == spec.trials:
                        shown = True
                        audience.show(known())
        except (KeyboardInterrupt, BenchError) as end:
            if finished and not shown:
                audience.show(known())
            if over[0]:
                audience.unjudged(trials.stored_spec(spec), summary.unjudged(spec, *over))
            if isinstance(end, KeyboardInterrupt) and spec.trials > 1:
                raise type(end)(" ".join(filter(None, (f"in {_name(number, spec)}", str(end))))) from end
            raise
    return known()


def _name(number: int, spec: Spec) -> str:
    return f"trial {number} of {spec.trials}" if number > 0 else "warm-up trial"
