"""Compares logs: each gets the same workload, one log after the other in each round, so that a slow minute meets all.

In a round every log appends, is read, and is read again while writers commit out of order. Published tables are made
from the record of this module, `comparison.json`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple

import psycopg
from pydantic import ConfigDict, Field, field_validator

from bench.errors import UsageError
from bench.eventlog import Log, Promises, load_side_by_side
from bench.judge.checker import KINDS
from bench.judge.words import failure
from bench.log_error import is_of_the_log
from bench.logs import open_transactions
from bench.logs.open_transactions import Blocked
from bench.places import rundir
from bench.places.api import Place
from bench.postgres import install
from bench.postgres.connection import Connection, connected, in_words
from bench.results.models import Environment, ImpossibleCtimes, StoredModel, Trial
from bench.results.store import new_run_id
from bench.run import environment, preflight
from bench.run.place import ChosenPlace, open_place
from bench.run.trial import carry_out_trial
from bench.run.watch import Watch
from bench.spec import Flag, Spec

CONTROL = "bigserial"
"""The log that all others are compared with. That a log lost nothing proves little unless this one lost events."""

FILE = "comparison.json"

IDLE_SECONDS = 3.0
"""Readers of a tailed log stop after this long without an event. Skipped events never come, however long one waits;
events that come later than this count as withheld."""


class Workload(StoredModel):
    """The workload that every log is given."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    scale: Annotated[int, Field(ge=1, le=1000), Flag(alias="--producers")] = 10
    """Number of producers."""
    insert_batch: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100_000)], ...],
        Field(min_length=1),
        Flag("N[,N...]", default="1,100,10000"),
    ] = (1, 100, 10_000)
    """Events per append transaction; speed is measured with each of several sizes."""
    read_batch: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Events per page."""
    rounds: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often speed is measured: append, then read; 0 not at all."""
    tails: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often each log is tailed while transactions overlap and some are rolled back; 0 not at all."""
    transaction_ms: Annotated[str, Flag("A..B")] = "0..20"
    """Tailed: keep each append transaction open for a random time between these two."""
    abort_rate: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Tailed: share of append transactions that is rolled back."""
    seed: int = 0
    """Random seed for --transaction-ms and --abort-rate."""

    @field_validator("insert_batch", mode="before")
    @classmethod
    def _sizes_have_commas_between_them(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) else value

    def speed(self, log: Log, batch: int, place: str) -> Spec:
        """The spec that measures speed: 1000 transactions per producer for small batches, at least 2 for large ones."""
        return self._spec(log, batch, place, loops=max(2, min(1000, 20_000 // batch)))

    def tail(self, log: Log, batch: int, place: str, number: int) -> Spec:
        """The spec that measures safety: 40 transactions per producer for small batches, at least 3 for large ones."""
        return self._spec(log, batch, place, loops=max(3, min(40, 2000 // batch))).model_copy(
            update={
                "mode": "tail",
                "transaction_ms": _range(self.transaction_ms),
                "abort_rate": self.abort_rate,
                "seed": self.seed + number,
                "idle_timeout": IDLE_SECONDS,
            }
        )

    def _spec(self, log: Log, batch: int, place: str, loops: int) -> Spec:
        return Spec.model_validate(
            {
                "scale": self.scale,
                "insert_batch": batch,
                "insert_loops": loops,
                "read_batch": [self.read_batch],
                "log": log.name,
                "place": place,
                "set": {"max_prepared_transactions": "10"},
            }
        )


class Speed(StoredModel):
    """One trial that appended and then read."""

    failure: str | None = None
    """The log's fault because of which there are no numbers, in a sentence; None when there are numbers."""

    appended_per_second: float | None = None
    """None when the verdict was not ok."""
    read_per_second: float | None = None
    bytes_an_event: float | None = None
    """None when no event was acknowledged."""
    wal_bytes_an_event: float | None = None
    """None when no event was acknowledged, and where WAL may not be asked for."""


class Tail(StoredModel):
    """One trial that read while it appended."""

    ok: bool
    failure: str | None = None
    """The log's fault beyond `faults`, in a sentence; None when it has none."""
    acknowledged: int = 0
    faults: dict[str, int] = Field(default_factory=dict)
    """Events by the kind of fault that they met."""
    end_to_end_p50_ms: float | None = None
    """None when no event came, and when `impossible_ctimes` says why there are no delays."""
    end_to_end_p99_ms: float | None = None
    impossible_ctimes: ImpossibleCtimes | None = None
    longest_wait_seconds: float = 0


class Measured(StoredModel):
    """A log at one insert batch."""

    log: str
    insert_batch: int
    speeds: list[Speed]
    tails: list[Tail]


class Comparison(StoredModel):
    """Logs side by side."""

    schema_: Literal["bench.comparison/1"] = Field(default="bench.comparison/1", alias="schema")
    run_id: str
    started_at: datetime
    workload: Workload
    environment: Environment
    given: dict[str, str] = Field(default_factory=dict)
    """The path that a log was given by, where it differs from its name here."""
    promises: dict[str, Promises]
    """The promises of each log."""
    needs: dict[str, dict[str, str]]
    """The settings that each log had and the others had not, because it needs them."""
    measured: list[Measured]
    blocked: list[Blocked]

    @property
    def ok(self) -> bool:
        """Whether every log could be measured, whether or not it lost events."""
        speeds = (speed.failure for each in self.measured for speed in each.speeds)
        tails = (tail.failure for each in self.measured for tail in each.tails)
        return not any((*speeds, *tails, *(each.failure for each in self.blocked)))


class _Turn(NamedTuple):
    """The results of one log in one round, by insert batch."""

    speeds: dict[int, Speed]
    tails: dict[int, Tail]
    blocked: list[Blocked]


def compare(
    names: Sequence[str], workload: Workload, chosen: ChosenPlace, watch: Watch, report: Callable[[str], None]
) -> Iterator[Comparison]:
    """Carry out one round after the other; yields the comparison so far after each, so that an error in the last minute
    does not lose an hour's work. `report` is given a line for each log in each round. The control is always among the
    logs. Where a log's own error prevents a measurement, that error is recorded in its place, and everything else goes
    on.

    Raises:
        UsageError: a log's folder or the workload cannot be used as it is.
        InfrastructureError: something broke that is not part of a log.
    """
    given = load_side_by_side([CONTROL, *names])
    logs = list(given.values())
    for log in logs:
        for batch in workload.insert_batch:
            preflight.refuse_misfits(workload.speed(log, batch, chosen.name), log)
    if not workload.rounds and not workload.tails:
        raise UsageError("there is nothing to do: give --rounds or --tails")
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
            report(f"round {number + 1} of {rounds}: {log.name}, log {turn + 1} of {len(logs)}{left}")
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
    """A log at a batch, with the results of one more round."""
    batch = known.insert_batch
    return known.model_copy(
        update={
            "speeds": [*known.speeds, *(each for at, each in turn.speeds.items() if at == batch)],
            "tails": [*known.tails, *(each for at, each in turn.tails.items() if at == batch)],
        }
    )


def _turn(number: int, workload: Workload, log: Log, chosen: ChosenPlace, watch: Watch) -> _Turn:
    """Carry out a log's part of a round. A failure by the log's own fault is recorded in its place."""
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
    except UsageError as error:  # Postgres does not take the log's settings; those of the control it has taken
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
    turn = _Turn({}, {}, [])
    for batch in workload.insert_batch:
        if number < workload.rounds:
            turn.speeds[batch] = _speed(carry_out(workload.speed(log, batch, chosen.name)))
        if number < workload.tails:
            turn.tails[batch] = _tail(carry_out(workload.tail(log, batch, chosen.name, number)))
    return turn._replace(blocked=[] if number else probe())


def _time_left(began_pc: float, done: int, turns: int) -> str:
    """About how long the turns that are left take, as a clause; empty before the first one is over."""
    if not done:
        return ""
    seconds = (time.perf_counter() - began_pc) / done * (turns - done)
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def _environment(workload: Workload, log: Log, chosen: ChosenPlace) -> Environment:
    with _opened(workload, log, chosen) as (place, connection, _):
        return environment.describe(chosen.name, place.about, connection)


@contextmanager
def _opened(workload: Workload, log: Log, chosen: ChosenPlace) -> Iterator[tuple[Place, Connection, str]]:
    """A Postgres of its own for one log in one round."""
    spec = workload.tail(log, workload.insert_batch[0], chosen.name, 0)
    with (
        rundir.opened(new_run_id()) as run_folder,
        open_place(chosen, spec, log, run_folder) as place,
        connected(place.database.conninfo) as connection,
    ):
        yield place, connection, run_folder.run_id


def _carry_out(spec: Spec, log: Log, place: Place, connection: Connection, watch: Watch, run_id: str) -> Trial | str:
    """Carry out a trial; returns the log's fault, in a sentence, where it leaves no trial.

    Raises:
        InfrastructureError: something broke that is not part of the log.
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
        bytes_an_event=_per_event(trial.telemetry.stored_bytes, append.events),
        wal_bytes_an_event=_per_event(append.wal_bytes, append.events),
    )


def _per_event(amount: int | None, events: int) -> float | None:
    return amount / events if amount is not None and events else None


def _tail(trial: Trial | str) -> Tail:
    if isinstance(trial, str):
        return Tail(ok=False, failure=trial)
    verdict, (read,) = trial.verdict, trial.reads
    delay = read.end_to_end_ms
    faults = {kind: getattr(verdict, kind) for kind in KINDS if getattr(verdict, kind)}
    in_faults = verdict.ok or bool(faults.keys() - set(verdict.excused) and not verdict.stranded)
    return Tail(
        ok=verdict.ok,
        failure=None if in_faults else failure(verdict),
        acknowledged=verdict.expected_events,
        faults=faults,
        end_to_end_p50_ms=delay.p50 if delay else None,
        end_to_end_p99_ms=delay.p99 if delay else None,
        impossible_ctimes=read.impossible_ctimes,
        longest_wait_seconds=read.longest_wait_seconds,
    )


def _range(text: str) -> tuple[float, float]:
    return Spec.model_validate({"transaction_ms": text}).transaction_ms
