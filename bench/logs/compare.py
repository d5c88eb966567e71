"""`bench compare-logs`: logs under the same workload in alternation, so that a slow minute affects all of them.

In each round, every log is appended to, read, and tailed while writers commit out of order. Published tables are made
from the record, `comparison.json`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, NamedTuple

import psycopg
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from bench.attribution import is_of_the_log
from bench.errors import UsageError
from bench.eventlog import Log, Promises, load_side_by_side, shipped
from bench.flags import RESULTS, Flag, OneMachine, ResultsFolder, sizes
from bench.judge.exposure import Exposure
from bench.judge.verdict import KINDS
from bench.judge.words import failure
from bench.logs import open_transactions
from bench.logs.open_transactions import Blocked
from bench.places import rundir
from bench.places.api import Place
from bench.postgres import install
from bench.postgres.connection import Connection, connected, in_words
from bench.results.base import StoredModel
from bench.results.models import Environment, ImpossibleCtimes, Trial
from bench.results.store import new_run_id
from bench.run import environment, preflight
from bench.run.place import ChosenPlace, open_place
from bench.run.trial import carry_out_trial
from bench.run.watch import Watch
from bench.spec import Spec
from bench.values import parse_range

CONTROL = "bigserial"
"""The log that all others are compared with. A log without faults proves something only if this one lost events."""

FILE = "comparison.json"
_news = logging.getLogger("bench")

IDLE_SECONDS = 3.0
"""A tailing reader gives up after this time without an event. Skipped events never come, however long it waits; events
that a log holds back for longer are reported as withheld."""


def _checked_range(text: str) -> str:
    parse_range(text)
    return text


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


class Workload(StoredModel):
    """The work that every log is given."""

    groups: ClassVar = {"Workload": "scale"}
    """As in `Spec`."""

    scale: Annotated[int, Field(ge=1, le=1000), Flag(alias="--producers")] = 10
    """Number of producers."""
    insert_batch: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100_000)], ...],
        Field(min_length=1),
        Flag("N[,N...]", default="1,100,10000"),
    ] = (1, 100, 10_000)
    """Events per append transaction; given several, everything is measured with each."""
    read_batch: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Events per page."""
    rounds: Annotated[int, Field(ge=0, le=1000)] = 3
    """Number of times speed is measured (append, then read); 0 skips it."""
    tails: Annotated[int, Field(ge=0, le=1000)] = 3
    """Number of times each log is tailed while transactions overlap and some are rolled back; 0 skips it."""
    transaction_ms: Annotated[str, AfterValidator(_checked_range), Flag("A..B")] = "0..20"
    """When tailing: keep each append transaction open for a random time from A to B milliseconds."""
    abort_rate: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """When tailing: share of append transactions that are rolled back."""
    seed: int = 0
    """Random seed for --transaction-ms and --abort-rate."""

    @field_validator("insert_batch", mode="before")
    @classmethod
    def _sizes_have_commas_between_them(cls, value: object) -> object:
        return sizes(value)

    def speed(self, log: Log, batch: int, place: str) -> Spec:
        """A run that measures speed: 1000 transactions per producer for small batches, at least 2 for large ones."""
        return self._spec(log, batch, place, loops=max(2, min(1000, 20_000 // batch)))

    def tail(self, log: Log, batch: int, place: str, number: int) -> Spec:
        """A run that measures safety: 40 transactions per producer for small batches, at least 3 for large ones."""
        return self._spec(log, batch, place, loops=max(3, min(40, 2000 // batch))).model_copy(
            update={
                "mode": "tail",
                "transaction_ms": parse_range(self.transaction_ms),
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
    """Rates and sizes of one trial that appended and then read."""

    failure: str | None = None
    """Why there are no numbers: what is wrong with the log, in a sentence; None if there are numbers."""

    appended_per_second: float | None = None
    """None if the verdict is not ok."""
    read_per_second: float | None = None
    bytes_an_event: float | None = None
    """None if no event was acknowledged."""
    wal_bytes_an_event: float | None = None
    """None if no event was acknowledged, or if this role may not read the WAL position."""


class Tail(StoredModel):
    """Faults and delays of one trial that read while it appended."""

    ok: bool
    failure: str | None = None
    """What is wrong with the log beyond `faults`, in a sentence; None if nothing is."""
    acknowledged: int = 0
    faults: dict[str, int] = Field(default_factory=dict)
    """Number of events by kind of fault."""
    exposure: Exposure | None = None
    """The chances to fail that the log met; None where they could not be counted, and in a record of a version that did
    not count them."""
    real_time_pairs: int | None = None
    """As in the verdict: the log's chances to break the real-time order of appends."""
    end_to_end_p50_ms: float | None = None
    """None if no event was delivered, or if `impossible_ctimes` says why there are no delays."""
    end_to_end_p99_ms: float | None = None
    impossible_ctimes: ImpossibleCtimes | None = None
    longest_wait_seconds: float = 0


class Measured(StoredModel):
    """The trials of one log at one insert batch."""

    log: str
    insert_batch: int
    speeds: list[Speed]
    tails: list[Tail]


class Comparison(StoredModel):
    """The record of `bench compare-logs`."""

    schema_: Literal["bench.comparison/1"] = Field(default="bench.comparison/1", alias="schema")
    run_id: str
    started_at: datetime
    workload: Workload
    environment: Environment
    given: dict[str, str] = Field(default_factory=dict)
    """The path by which a log was given, by its name in this record, where the two differ."""
    promises: dict[str, Promises]
    """The promises of each log."""
    needs: dict[str, dict[str, str]]
    """The PostgreSQL settings that each log needs, and had; the others did not."""
    measured: list[Measured]
    blocked: list[Blocked]

    @property
    def ok(self) -> bool:
        """Whether everything could be carried out with every log, whatever the verdicts."""
        speeds = (speed.failure for each in self.measured for speed in each.speeds)
        tails = (tail.failure for each in self.measured for tail in each.tails)
        return not any((*speeds, *tails, *(each.failure for each in self.blocked)))


class _Turn(NamedTuple):
    """The trials of one log in one round, by insert batch."""

    speeds: dict[int, Speed]
    tails: dict[int, Tail]
    blocked: list[Blocked]


def loaded(options: Options, workload: Workload) -> dict[str, Log]:
    """Load the logs to compare, by the text that each was given as. The control is always among them.

    Raises:
        UsageError: a log's folder or the workload cannot be used.
    """
    if not workload.rounds and not workload.tails:
        raise UsageError("--rounds 0 --tails 0: nothing to measure; give one of them")
    given = load_side_by_side([CONTROL, *options.names])
    for log in given.values():
        for batch in workload.insert_batch:
            preflight.refuse_misfits(workload.speed(log, batch, options.place), log)
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
    turn = _Turn({}, {}, [])
    for batch in workload.insert_batch:
        if number < workload.rounds:
            turn.speeds[batch] = _speed(carry_out(workload.speed(log, batch, chosen.name)))
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
    explained = verdict.ok or bool(faults.keys() - set(verdict.excused) and not verdict.stranded)
    return Tail(
        ok=verdict.ok,
        failure=None if explained else failure(verdict),
        acknowledged=verdict.expected_events,
        faults=faults,
        exposure=trial.exposure,
        real_time_pairs=verdict.real_time_pairs,
        end_to_end_p50_ms=delay.p50 if delay else None,
        end_to_end_p99_ms=delay.p99 if delay else None,
        impossible_ctimes=read.impossible_ctimes,
        longest_wait_seconds=read.longest_wait_seconds,
    )
