"""Logs side by side: each on the same workload, in turns, so that a slow minute is everybody's.

In a round every log appends, is read, and is read again while writers commit out of order. What is published is made
from the record that this returns, `comparison.json`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from bench import blockers, control, environment, plan
from bench.blockers import Blocked
from bench.checker import KINDS
from bench.control import Connection
from bench.errors import BadInputError
from bench.logs import Log, Promises, load
from bench.phase import Watch
from bench.place import Choice, open_site
from bench.places import folder
from bench.places.site import Site
from bench.results import Environment, ImpossibleCtimes, Kept, Trial, new_run_id
from bench.spec import Spec
from bench.trial import carry_out_trial

CONTROL = "bigserial"
"""The log that all others are measured by. That a log lost nothing says something only where this one did."""

FILE = "comparison.json"

IDLE_SECONDS = 3.0
"""Events that a log skips do not come, however long one waits; what it only withholds for so long is told as such."""


class Workload(Kept):
    """What every log is given."""

    scale: Annotated[int, Field(ge=1, le=1000)] = 10
    insert_batch: Annotated[tuple[Annotated[int, Field(ge=1, le=100_000)], ...], Field(min_length=1)] = (1, 100, 10_000)
    read_batch: Annotated[int, Field(ge=1, le=100_000)] = 1000
    rounds: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often speed is measured: append, then read."""
    tails: Annotated[int, Field(ge=0, le=1000)] = 3
    """How often each log is tailed while transactions overlap and some are rolled back."""
    transaction_ms: str = "0..20"
    abort_rate: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    seed: int = 0

    def speed(self, log: Log, batch: int, place: str) -> Spec:
        """What measures speed: a thousand transactions a producer for small batches, at least two for large ones."""
        return self._spec(log, batch, place, loops=max(2, min(1000, 20_000 // batch)))

    def tail(self, log: Log, batch: int, place: str, number: int) -> Spec:
        """What measures safety: 40 transactions a producer for small batches, at least three for large ones."""
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


class Speed(Kept):
    """One trial that appended and then read."""

    appended_per_second: float | None
    """None when the verdict was not ok."""
    read_per_second: float | None
    bytes_an_event: float | None
    """None when no event was acknowledged."""
    wal_bytes_an_event: float | None
    """None when no event was acknowledged, and where WAL may not be asked for."""


class Tail(Kept):
    """One trial that read while it appended."""

    ok: bool
    acknowledged: int
    faults: dict[str, int]
    """Events by what was wrong with them."""
    end_to_end_p50_ms: float | None
    """None when no event came, and when `impossible_ctimes` says why there are no delays."""
    end_to_end_p99_ms: float | None
    impossible_ctimes: ImpossibleCtimes | None = None
    longest_wait_seconds: float


class Measured(Kept):
    """A log at one insert batch."""

    log: str
    insert_batch: int
    speeds: list[Speed]
    tails: list[Tail]


class Comparison(Kept):
    """Logs side by side."""

    schema_: Literal["bench.comparison/1"] = Field(default="bench.comparison/1", alias="schema")
    run_id: str
    started_at: datetime
    workload: Workload
    environment: Environment
    promises: dict[str, Promises]
    """What each log promises."""
    needs: dict[str, dict[str, str]]
    """The settings that a log had and the others had not, because it needs them."""
    measured: list[Measured]
    blocked: list[Blocked]


def compare(
    names: Sequence[str], workload: Workload, choice: Choice, watch: Watch, tell: Callable[[str], None]
) -> Iterator[Comparison]:
    """Carry out one round after the other; yields what is known after each, so that an hour's work is not lost by what
    breaks in its last minute. The control is always among the logs.

    Raises:
        BenchError: a log cannot be run, or something broke.
    """
    logs = [load(name) for name in dict.fromkeys([CONTROL, *names])]
    for log in logs:
        for batch in workload.insert_batch:
            plan.refuse_misfits(workload.speed(log, batch, choice.name), log)
    if not workload.rounds and not workload.tails:
        raise BadInputError("there is nothing to do: give --rounds or --tails")
    known = Comparison(
        run_id=new_run_id(),
        started_at=datetime.now(UTC),
        workload=workload.model_copy(update={"rounds": 0, "tails": 0}),
        environment=_environment(workload, logs[0], choice),
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
    began = time.perf_counter()
    for number in range(rounds):
        blocked: dict[str, list[Blocked]] = {}
        for turn, log in enumerate([*logs[number % len(logs) :], *logs[: number % len(logs)]]):
            before = number * len(logs) + turn
            tell(f"round {number + 1} of {rounds}: {log.name}{_time_left(began, before, rounds * len(logs))}")
            with _opened(workload, log, choice) as (site, connection, run_id):
                for own in (each for each in known.measured if each.log == log.name):
                    batch = own.insert_batch
                    if number < workload.rounds:
                        spec = workload.speed(log, batch, choice.name)
                        own.speeds.append(_speed(_carry_out(spec, log, site, connection, watch, run_id)))
                    if number < workload.tails:
                        spec = workload.tail(log, batch, choice.name, number)
                        own.tails.append(_tail(_carry_out(spec, log, site, connection, watch, run_id)))
                if number == 0:
                    blocked[log.name] = blockers.probe(log, connection, site.conninfo, run_id)
        done = {"rounds": min(workload.rounds, number + 1), "tails": min(workload.tails, number + 1)}
        known = known.model_copy(
            update={
                "workload": workload.model_copy(update=done),
                "blocked": known.blocked or [each for log in logs for each in blocked[log.name]],
            }
        )
        yield known


def _time_left(began: float, done: int, turns: int) -> str:
    """About how long the turns that are left take; empty before the first one is over."""
    if not done:
        return ""
    seconds = (time.perf_counter() - began) / done * (turns - done)
    return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


def _environment(workload: Workload, log: Log, choice: Choice) -> Environment:
    with _opened(workload, log, choice) as (site, connection, _):
        return environment.of(choice.name, site.about, connection)


@contextmanager
def _opened(workload: Workload, log: Log, choice: Choice) -> Iterator[tuple[Site, Connection, str]]:
    """A Postgres of its own for one log in one round."""
    spec = workload.tail(log, workload.insert_batch[0], choice.name, 0)
    with (
        folder.opened(new_run_id()) as run_folder,
        open_site(choice, spec, log, run_folder) as site,
        control.connected(site.conninfo) as connection,
    ):
        yield site, connection, run_folder.run_id


def _carry_out(spec: Spec, log: Log, site: Site, connection: Connection, watch: Watch, run_id: str) -> Trial:
    with control.installed(connection, log, run_id):
        return carry_out_trial(spec, log, site, connection, watch, began_at=time.time())


def _speed(trial: Trial) -> Speed:
    append, (read,) = trial.append, trial.reads
    return Speed(
        appended_per_second=append.events_per_second,
        read_per_second=read.events_per_second,
        bytes_an_event=_per_event(trial.telemetry.stored_bytes, append.events),
        wal_bytes_an_event=_per_event(append.wal_bytes, append.events),
    )


def _per_event(amount: int | None, events: int) -> float | None:
    return amount / events if amount is not None and events else None


def _tail(trial: Trial) -> Tail:
    verdict, (read,) = trial.verdict, trial.reads
    delay = read.end_to_end_ms
    return Tail(
        ok=verdict.ok,
        acknowledged=verdict.expected_events,
        faults={kind: getattr(verdict, kind) for kind in KINDS if getattr(verdict, kind)},
        end_to_end_p50_ms=delay.p50 if delay else None,
        end_to_end_p99_ms=delay.p99 if delay else None,
        impossible_ctimes=read.impossible_ctimes,
        longest_wait_seconds=read.longest_wait_seconds,
    )


def _range(text: str) -> tuple[float, float]:
    return Spec.model_validate({"transaction_ms": text}).transaction_ms
