"""The record of a comparison of logs: the workload, what was measured of each log, and how it is stored."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from bench.eventlog import Log, Promises
from bench.flags import Flag, flag_name, sizes
from bench.judge.exposure import Exposure
from bench.logs.open_transactions import Blocked
from bench.results.base import StoredModel
from bench.results.environment import Environment
from bench.results.models import ImpossibleCtimes, Latency
from bench.spec import Spec
from bench.values import LONGEST_SECONDS, MOST_PER_SECOND, parse_range, parse_time

CONTROL = "bigserial"
"""The log that all others are compared with. A log without faults proves something only if this one lost events."""

IDLE_SECONDS = 3.0
"""A tailing reader gives up after this time without an event. Skipped events never come, however long it waits; events
that a log holds back for longer are reported as withheld."""


def _checked_range(text: str) -> str:
    parse_range(text)
    return text


def _text(value: object) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


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
    """Number of times speed is measured (append, then read), and each load of --rate is offered; 0 skips both."""
    tails: Annotated[int, Field(ge=0, le=1000)] = 3
    """Number of times each log is tailed while transactions overlap and some are rolled back; 0 skips it."""
    transaction_ms: Annotated[str, AfterValidator(_checked_range), Flag("A..B")] = "0..20"
    """When tailing: keep each append transaction open for a random time from A to B milliseconds."""
    abort_rate: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """When tailing: share of append transactions that are rolled back."""
    rate: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_PER_SECOND)], ...], Flag("N[,N...]", default="none")] = ()
    """Offered loads, in events per second of all producers together; each log is tailed at each of them."""
    duration: Annotated[float, Field(gt=0, le=LONGEST_SECONDS), BeforeValidator(parse_time), Flag("TIME")] = 10
    """Time for which each load is offered, like 10s or 2m."""
    seed: int = 0
    """Random seed for --transaction-ms, --abort-rate and the arrivals of --rate."""

    @field_validator("insert_batch", "rate", mode="before")
    @classmethod
    def _sizes_have_commas_between_them(cls, value: object) -> object:
        return sizes(value)

    def arguments(self) -> list[str]:
        """The flags that give this workload, those of defaults left out, as arguments of a command."""
        given = self.model_dump(exclude_defaults=True)
        texts = {name: value if isinstance(value, tuple | list) else [value] for name, value in given.items()}
        return [text for name, value in texts.items() for text in (flag_name(name), ",".join(map(_text, value)))]

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

    def load(self, log: Log, batch: int, place: str, rate: int, number: int) -> Spec:
        """A run that measures latency: batches arrive at random while the log is tailed."""
        return self._spec(log, batch, place, loops=None).model_copy(
            update={
                "mode": "tail",
                "rate": str(rate),
                "duration": self.duration,
                "arrival": "poisson",
                "seed": self.seed + number,
                "idle_timeout": IDLE_SECONDS,
            }
        )

    def _spec(self, log: Log, batch: int, place: str, loops: int | None) -> Spec:
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


class Load(StoredModel):
    """Latencies of one trial that read while a load was offered."""

    rate: int
    """Offered events per second."""
    failure: str | None = None
    """Why there is no latency: what is wrong with the log beyond `faults`, in a sentence; None if nothing is."""
    faults: dict[str, int] = Field(default_factory=dict)
    """Number of events by kind of fault."""
    achieved_per_second: float | None = None
    """Acknowledged events per second; None if the verdict is not ok."""
    saturated: bool = False
    """As in the result of a run."""
    generator_bound: bool = False
    """As in the result of a run."""
    append_ms: Latency | None = None
    """From the time at which a batch was due to its commit."""
    service_ms: Latency | None = None
    """From sending a batch to its commit."""
    end_to_end_ms: Latency | None = None
    """From an event's ctime to its delivery; None as in the result of a run."""


class Measured(StoredModel):
    """The trials of one log at one insert batch."""

    log: str
    insert_batch: int
    speeds: list[Speed]
    tails: list[Tail]
    loads: list[Load] = Field(default_factory=list)


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
        loads = (load.failure for each in self.measured for load in each.loads)
        return not any((*speeds, *tails, *loads, *(each.failure for each in self.blocked)))
