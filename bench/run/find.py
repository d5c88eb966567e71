"""Finds the highest offered load that meets objectives: a search whose windows are trials, on one PostgreSQL."""

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from bench.errors import BenchError, InfrastructureError
from bench.eventlog import Log
from bench.objectives import Objective
from bench.places.rundir import RunFolder
from bench.results.costs import Observed
from bench.results.environment import Environment
from bench.results.figures import figure
from bench.results.latency_log import Measured
from bench.results.models import Result, Trial
from bench.results.search import Figure, Search, Window
from bench.results.tracks import Track
from bench.run import latencies, preflight, summary, trials
from bench.run.outcome import TrackOutcome
from bench.run.place import ChosenPlace
from bench.run.run import Audience
from bench.run.search import FIRST_SHARE, Attempt, Found, search
from bench.run.trials import Done
from bench.run.watch import Watch
from bench.spec import Spec
from bench.values import MOST_PER_SECOND

DEFAULT_SECONDS = 30.0
"""The load that is found has to hold for this long, where the spec has no duration."""
FIRST_RATE = 1000.0
"""Events per second of the first window, unless a lower load is not worth trying."""

_news = logging.getLogger("bench")


def find(spec: Spec, log: Log, chosen: ChosenPlace, folder: RunFolder, watch: Watch, audience: Audience) -> Result:
    """Search for the highest load that meets the objectives of a spec. Everything that the search starts is gone when
    this returns or raises.

    Each window is stored with those before it as soon as it is judged. A failed verdict ends the search. The result so
    far is shown before the place is closed, also when the search ends early.

    Raises:
        BenchError: the spec cannot be run, or something broke; the window in which it did has no verdict.
        KeyboardInterrupt: the search was interrupted; the message names the window.
    """
    record = _Record(spec, log, folder.run_id)
    shown = False
    over: tuple[Mapping[Track, TrackOutcome], Mapping[str, Observed]] = {}, {}

    def note(outcomes: Mapping[Track, TrackOutcome], observed: Mapping[str, Observed]) -> None:
        nonlocal over
        over = outcomes, observed

    def described(environment: Environment) -> None:
        audience.opened(trials.stored_spec(spec), environment, trials.command(spec))
        _news.info("search: windows of %.3g s and longer, then %.3g s to confirm", seconds * FIRST_SHARE, seconds)

    first, lowest, seconds = _bounds(spec)
    steps = search(first, lowest, seconds)
    step: Attempt | Found | None = next(steps)
    asked = _offering(spec, first, seconds * FIRST_SHARE)
    with trials.opened(asked, log, chosen, folder, watch, described) as its_windows:
        try:
            while isinstance(step, Attempt):
                asked = _offering(spec, step.rate, step.seconds)
                preflight.refuse_full_disk(chosen, asked, folder)
                with its_windows.run_one(note, asked) as done:
                    measured = latencies.by_metric(asked, over[0])
                    over = {}, {}
                    step = record.note(step, _Tried(asked, done, measured), steps)
                    audience.keep(record.result(), record.tried.latencies)
                    if done.trial.verdict.ok:
                        audience.tried(record.windows)
                    if not isinstance(step, Attempt):
                        shown = True
                        audience.show(record.result())
        except (KeyboardInterrupt, BenchError) as end:
            if record.windows and not shown:
                audience.show(record.result())
            if over[0]:
                audience.unjudged(trials.stored_spec(asked), summary.unjudged(asked, *over))
            if isinstance(end, KeyboardInterrupt):
                number = len(record.windows) + 1
                raise type(end)(" ".join(filter(None, (f"in window {number} of a search", str(end))))) from end
            raise
    return record.result()


def _bounds(spec: Spec) -> tuple[float, float, float]:
    """The arguments of `search`. The lowest load has one batch per producer in one of the first windows."""
    seconds = spec.duration or DEFAULT_SECONDS
    lowest = min(spec.scale * spec.insert_batch / (seconds * FIRST_SHARE), MOST_PER_SECOND)
    return max(lowest, FIRST_RATE), lowest, seconds


def _offering(spec: Spec, rate: float, seconds: float) -> Spec:
    """The spec of one window."""
    return spec.model_copy(update={"rate": f"{rate:.15g}", "duration": seconds, "slo": ()})


class _Tried(NamedTuple):
    """The spec of a window, its trial, and the latencies of that."""

    asked: Spec
    done: Done
    latencies: Mapping[str, Measured]


@dataclass
class _Record:
    """The windows so far, and the trial that the result has."""

    spec: Spec
    log: Log
    run_id: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    windows: list[Window] = field(default_factory=list)
    trials: dict[float | None, _Tried] = field(default_factory=dict)
    """The last window by None, and each confirmation by its load in events per second."""
    found: Found | None = None

    def note(
        self, attempt: Attempt, tried: _Tried, steps: Generator[Attempt | Found, bool, None]
    ) -> Attempt | Found | None:
        """Note a window that was judged; returns what comes next, None after a failed verdict."""
        self.trials[None] = tried
        if not tried.done.trial.verdict.ok:
            return None
        window = judged_window(attempt, tried.done.trial, self.spec.objectives, self.windows)
        self.windows.append(window)
        if window.confirms and window.held:
            self.trials[attempt.rate] = tried
        step = steps.send(window.held)
        if isinstance(step, Found):
            self.found = step
        return step

    @property
    def tried(self) -> _Tried:
        """The window whose trial the result has so far; there is at least one window."""
        return self.trials[self.found.rate if self.found else None]

    def result(self) -> Result:
        """The result so far; there is at least one window."""
        rate = self.found.rate if self.found else None
        asked, done, _ = self.tried
        found = Search(
            objectives=list(self.spec.slo), windows=self.windows, events_per_second=rate, over=self.found is not None
        )
        limit = {"limit": asked.events_per_producer}
        return trials.result_of(asked, self.log, self.run_id, self.started_at, [done]).model_copy(
            update={
                "spec": {**trials.stored_spec(self.spec), **limit},
                "reproduce": trials.command(self.spec),
                "search": found,
            }
        )


def judged_window(attempt: Attempt, trial: Trial, objectives: Sequence[Objective], earlier: Sequence[Window]) -> Window:
    """Judge a window whose verdict is ok, by the conditions of NoSQLBench's findmax: the load was achieved, no window
    with a lower load achieved more, the objectives are met. A load is achieved from `SATURATED_SHARE` on, where findmax
    takes 80 %.

    Raises:
        InfrastructureError: the trial lacks a figure that an objective bounds.
    """
    append, offered = trial.append, trial.append.offered
    if offered is None or offered.achieved_per_second is None:
        raise InfrastructureError(
            f"the load of {attempt.rate:,.15g} events/s cannot be judged: no event was acknowledged in "
            f"{attempt.seconds:.3g} s; offer more, with a longer --duration"
        )
    # With random arrivals more or fewer events than that rate are due in a window, and rollbacks are random too: the
    # share that was answered depends on neither.
    share = offered.achieved_per_second * (1 + append.rolled_back / append.events) / offered.events_per_second
    lower = [each for each in earlier if each.held and each.events_per_second < attempt.rate]
    best = max((each.events_per_second * each.achieved_share for each in lower), default=0.0)
    figures = [_bounded(objective, trial) for objective in objectives]
    below_best = attempt.rate * share < best
    return Window(
        events_per_second=attempt.rate,
        seconds=attempt.seconds,
        confirms=attempt.confirms,
        achieved_per_second=offered.achieved_per_second,
        achieved_share=share,
        saturated=offered.saturated,
        below_best=below_best,
        figures=figures,
        generator_bound=offered.generator_bound or append.client_bound,
        held=not offered.saturated and not below_best and all(each.met for each in figures),
    )


def _bounded(objective: Objective, trial: Trial) -> Figure:
    value = figure(objective, trial)
    if value is None:
        raise InfrastructureError(
            f"--slo {objective.text!r} cannot be judged: there is no {objective.name} of a trial; `bench run` with a "
            "--rate shows why"
        )
    return Figure(objective=objective.text, value=value, met=objective.is_met_by(value))
