"""`bench compare-logs`: logs under the same workload in alternation, so that a slow minute affects all of them.

In each round, every log is appended to, read, and tailed while writers commit out of order. Published tables are made
from the record, `comparison.json`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, ClassVar, NamedTuple

import psycopg
from pydantic import BaseModel, ConfigDict, Field

from bench.attribution import is_of_the_log
from bench.errors import UsageError
from bench.eventlog import Log, load_side_by_side, shipped
from bench.flags import RESULTS, Flag, OneMachine, ResultsFolder
from bench.judge.verdict import Verdict
from bench.judge.words import failure
from bench.kinds import KINDS
from bench.logs import open_transactions
from bench.logs.comparison import CONTROL, Comparison, Load, Measured, Speed, Tail, Workload
from bench.logs.open_transactions import Blocked
from bench.places import rundir
from bench.places.api import Place
from bench.postgres import install
from bench.postgres.connection import Connection, connected, in_words
from bench.results.environment import Environment
from bench.results.models import Trial
from bench.results.store import new_run_id
from bench.run import environment, preflight
from bench.run.place import ChosenPlace, open_place
from bench.run.trial import carry_out_trial
from bench.run.watch import Watch
from bench.spec import Spec

FILE = "comparison.json"
_news = logging.getLogger("bench")


class Options(BaseModel):
    """The flags of `bench compare-logs` that are not the workload."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)
    groups: ClassVar = {"Logs": "logs", "Options": "place"}
    """As in `Spec`."""

    logs: Annotated[str, Field(min_length=1), Flag("NAME|DIR[,...]")] = "all"
    """Logs that ship, or folders of your own; bigserial is always among them."""
    place: OneMachine = "auto"
    output: ResultsFolder = RESULTS
    short: bool = False
    """Print one row per log."""

    @property
    def names(self) -> list[str]:
        """The logs to compare, by name or folder."""
        return shipped() if self.logs == "all" else self.logs.split(",")


class _Turn(NamedTuple):
    """The trials of one log in one round, by insert batch."""

    speeds: dict[int, Speed]
    tails: dict[int, Tail]
    loads: dict[int, list[Load]]
    blocked: list[Blocked]


def loaded(options: Options, workload: Workload) -> dict[str, Log]:
    """Load the logs to compare, by the text that each was given as. The control is always among them.

    Raises:
        UsageError: a log's folder or the workload cannot be used.
    """
    if not workload.rounds and not workload.tails:
        raise UsageError("--rounds 0 --tails 0: nothing to measure; give one of them")
    lowest = min(workload.rate, default=None)
    if lowest is not None and lowest * workload.duration < workload.scale:
        raise UsageError(
            f"--rate {lowest}: this load offers {lowest * workload.duration:.3g} events in all, fewer than "
            f"--scale/--producers {workload.scale}: give a higher rate, a longer --duration or fewer producers"
        )
    given = load_side_by_side([CONTROL, *options.names])
    for log in given.values():
        for batch in workload.insert_batch:
            preflight.refuse_misfits(workload.speed(log, batch, options.place), log)
            for rate in workload.rate:
                preflight.refuse_misfits(workload.load(log, batch, options.place, rate, 0), log)
    return given


def compare(given: Mapping[str, Log], workload: Workload, chosen: ChosenPlace, watch: Watch) -> Iterator[Comparison]:
    """Carry out round after round; yields the record so far after each, so that a failure in the last round does not
    cost the others. `given` is as `loaded` returns it. A log's own error is recorded as a failure in its place, and
    everything else goes on.

    Raises:
        InfrastructureError: something broke that is not a log's fault.
    """
    logs = list(given.values())
    known = Comparison(
        run_id=new_run_id(),
        started_at=datetime.now(UTC),
        workload=workload.model_copy(update={"rounds": 0, "tails": 0}),
        environment=_environment(workload, logs[0], chosen),
        given={log.name: path for path, log in given.items() if path != log.name},
        promises={log.name: log.promises for log in logs},
        needs={log.name: log.settings for log in logs if log.settings},
        measured=[
            Measured(log=log.name, insert_batch=batch, speeds=[], tails=[])
            for batch in workload.insert_batch
            for log in logs
        ],
        blocked=[],
    )
    rounds = max(workload.rounds, workload.tails)
    began_pc = time.perf_counter()
    for number in range(rounds):
        turns: dict[str, _Turn] = {}
        for turn, log in enumerate([*logs[number % len(logs) :], *logs[: number % len(logs)]]):
            before = number * len(logs) + turn
            left = _time_left(began_pc, before, rounds * len(logs))
            _news.info("round %d of %d: %s, log %d of %d%s", number + 1, rounds, log.name, turn + 1, len(logs), left)
            turns[log.name] = _turn(number, workload, log, chosen, watch)
        done = {"rounds": min(workload.rounds, number + 1), "tails": min(workload.tails, number + 1)}
        known = known.model_copy(
            update={
                "workload": workload.model_copy(update=done),
                "measured": [_with_turn(each, turns[each.log]) for each in known.measured],
                "blocked": [*known.blocked, *(each for log in logs for each in turns[log.name].blocked)],
            }
        )
        yield known


def _with_turn(known: Measured, turn: _Turn) -> Measured:
    """Add one round to the trials of a log."""
    batch = known.insert_batch
    return known.model_copy(
        update={
            "speeds": [*known.speeds, *(each for at, each in turn.speeds.items() if at == batch)],
            "tails": [*known.tails, *(each for at, each in turn.tails.items() if at == batch)],
            "loads": [*known.loads, *turn.loads.get(batch, [])],
        }
    )


def _turn(number: int, workload: Workload, log: Log, chosen: ChosenPlace, watch: Watch) -> _Turn:
    """Carry out one round of one log. A failure that is the log's own fault is recorded in its place."""
    try:
        with _opened(workload, log, chosen) as (place, connection, run_id):
            return _tried(
                number,
                workload,
                log,
                chosen,
                lambda spec: _carry_out(spec, log, place, connection, watch, run_id),
                lambda: open_transactions.probe(log, connection, place.database.conninfo, run_id),
            )
    except UsageError as error:  # Postgres refused the log's settings, because it took the control's
        reason = str(error)
        return _tried(number, workload, log, chosen, lambda _: reason, lambda: open_transactions.failed(log, reason))


def _tried(
    number: int,
    workload: Workload,
    log: Log,
    chosen: ChosenPlace,
    carry_out: Callable[[Spec], Trial | str],
    probe: Callable[[], list[Blocked]],
) -> _Turn:
    turn = _Turn({}, {}, {}, [])
    for batch in workload.insert_batch:
        if number < workload.rounds:
            turn.speeds[batch] = _speed(carry_out(workload.speed(log, batch, chosen.name)))
            turn.loads[batch] = [
                _load(rate, carry_out(workload.load(log, batch, chosen.name, rate, number))) for rate in workload.rate
            ]
        if number < workload.tails:
            turn.tails[batch] = _tail(carry_out(workload.tail(log, batch, chosen.name, number)))
    return turn._replace(blocked=[] if number else probe())


def _time_left(began_pc: float, done: int, turns: int) -> str:
    """Estimated time for the remaining turns; empty before the first one is over."""
    if not done:
        return ""
    seconds = (time.perf_counter() - began_pc) / done * (turns - done)
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def _environment(workload: Workload, log: Log, chosen: ChosenPlace) -> Environment:
    with _opened(workload, log, chosen) as (place, connection, _):
        return environment.describe(chosen.name, place.about, connection)


@contextmanager
def _opened(workload: Workload, log: Log, chosen: ChosenPlace) -> Iterator[tuple[Place, Connection, str]]:
    """Start a Postgres for one log in one round."""
    spec = workload.tail(log, workload.insert_batch[0], chosen.name, 0)
    with (
        rundir.opened(new_run_id()) as run_folder,
        open_place(chosen, spec, log, run_folder) as place,
        connected(place.database.conninfo) as connection,
    ):
        yield place, connection, run_folder.run_id


def _carry_out(spec: Spec, log: Log, place: Place, connection: Connection, watch: Watch, run_id: str) -> Trial | str:
    """Carry out a trial; returns, if the log's own error leaves no trial, that error in a sentence.

    Raises:
        InfrastructureError: something broke that is not the log's fault.
    """
    try:
        with install.installed(connection, log, run_id):
            return carry_out_trial(spec, log, place, connection, watch, began_at=time.time())
    except UsageError as error:
        return str(error)
    except psycopg.Error as error:
        if not is_of_the_log(error):
            raise
        return in_words(error)


def _speed(trial: Trial | str) -> Speed:
    if isinstance(trial, str):
        return Speed(failure=trial)
    append, (read,) = trial.append, trial.reads
    return Speed(
        failure=None if trial.verdict.ok else failure(trial.verdict),
        appended_per_second=append.events_per_second,
        read_per_second=read.events_per_second,
        bytes_an_event=_per_event(trial.stored_bytes, append.events),
        wal_bytes_an_event=_per_event(append.wal_bytes, append.events),
    )


def _per_event(amount: int | None, events: int) -> float | None:
    return amount / events if amount is not None and events else None


def _tail(trial: Trial | str) -> Tail:
    if isinstance(trial, str):
        return Tail(ok=False, failure=trial)
    verdict, (read,) = trial.verdict, trial.reads
    delay = read.end_to_end_ms
    return Tail(
        ok=verdict.ok,
        failure=_beyond_faults(verdict),
        acknowledged=verdict.expected_events,
        faults=_faults(verdict),
        exposure=trial.exposure,
        real_time_pairs=verdict.real_time_pairs,
        end_to_end_p50_ms=delay.p50 if delay else None,
        end_to_end_p99_ms=delay.p99 if delay else None,
        impossible_ctimes=read.impossible_ctimes,
        longest_wait_seconds=read.longest_wait_seconds,
    )


def _faults(verdict: Verdict) -> dict[str, int]:
    return {kind: getattr(verdict, kind) for kind in KINDS if getattr(verdict, kind)}


def _beyond_faults(verdict: Verdict) -> str | None:
    """What is wrong with a log other than events with faults, in a sentence; None if nothing is."""
    explained = verdict.ok or bool(_faults(verdict).keys() - set(verdict.excused) and not verdict.stranded)
    return None if explained else failure(verdict)


def _load(rate: int, trial: Trial | str) -> Load:
    if isinstance(trial, str):
        return Load(rate=rate, failure=trial)
    offered, (read,) = trial.append.offered, trial.reads
    return Load(
        rate=rate,
        failure=_beyond_faults(trial.verdict),
        faults=_faults(trial.verdict),
        achieved_per_second=offered.achieved_per_second if offered else None,
        saturated=bool(offered and offered.saturated),
        generator_bound=bool(offered and offered.generator_bound),
        append_ms=trial.append.latency_ms,
        service_ms=offered.service_ms if offered else None,
        end_to_end_ms=read.end_to_end_ms,
    )
