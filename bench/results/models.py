"""The record of a run: its spec, its place, its trials. Everything that people look at is made from it.

`result.json` has the schema bench.result/2; its JSON Schema is made from these models and committed. Results of the
schema bench.result/1 are read too, by way of `upgrade`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, model_validator

from bench.job import Wake
from bench.judge.exposure import Exposure
from bench.judge.verdict import Verdict
from bench.results.base import StoredModel
from bench.results.costs import Observed, Preload, Retention, Telemetry
from bench.results.environment import Environment
from bench.results.nodes import Node, NodeLoss
from bench.results.search import Search
from bench.results.series import Sample, Unseen
from bench.results.timeline import histogram
from bench.results.tracks import Reading
from bench.results.upgrade import upgraded
from bench.text import plural

M = TypeVar("M", bound=BaseModel)

SATURATED_SHARE = 0.95
MOST_LATENESS_MS = 1.0

SCHEMA_NAME: Literal["bench.result/2"] = "bench.result/2"


class Latency(StoredModel):
    """Milliseconds per call, right to 0.1 % or to a microsecond, from a histogram of every call."""

    p50: float
    p90: float
    p99: float
    p99_9: float
    p99_99: float | None = None
    """None in a result of a version that did not store it."""
    max: float

    @classmethod
    def from_buckets(cls, buckets: Mapping[int, int]) -> Self | None:
        """Take the percentiles of numbers of values by bucket of microseconds. None when there is no value."""
        if not buckets:
            return None
        of_all = histogram(buckets.items())
        shares = (50, 90, 99, 99.9, 99.99)
        at = of_all.get_percentile_to_value_dict(shares)
        p50, p90, p99, p99_9, p99_99 = (at[share] / 1000 for share in shares)
        return cls(p50=p50, p90=p90, p99=p99, p99_9=p99_9, p99_99=p99_99, max=of_all.get_max_value() / 1000)


class WarmUp(StoredModel):
    """The first seconds of a phase, which are in none of its rates and latencies, but in its verdict and its costs."""

    seconds: int
    events: int
    """Events that were acknowledged or delivered in these seconds."""
    measured_seconds: float
    """From their end to the end of the phase, which are the seconds of the rates; 0 when the phase ended before."""


class Producer(StoredModel):
    """The work of one producer."""

    name: str
    node: str | None = None
    """Where it ran, in a place of several nodes."""
    events: int
    seconds: float
    cpu_seconds: float
    memory_bytes: int = 0
    """Its largest resident memory."""
    clock_offset_ms: float
    """The database's clock minus the producer's."""
    round_trip_ms: float
    """The quickest round trip to the database."""


class Offered(StoredModel):
    """An offered load, and how far it was kept."""

    events_per_second: float
    """Offered: the events that were due, per second of the schedule."""
    achieved_per_second: float | None
    """Acknowledged events per second, from the start of the schedule to its end, or to the last answer if that came
    later. None as in `Append`, whose rate ends with the last answer and so may be higher."""
    saturated: bool
    """Whether less than `SATURATED_SHARE` of the offered load was achieved."""
    service_ms: Latency | None
    """From sending a batch to its commit. It leaves out the time that a batch waited for its turn, and so hides a
    stall."""
    lateness_ms: Latency | None
    """From the time at which a batch was due to its sending, of the batches for which a producer had waited: the
    generator's own error. None when no producer ever waited."""
    generator_bound: bool
    """Whether the generator itself was late: the 99th percentile of `lateness_ms` is above `MOST_LATENESS_MS`."""
    largest_backlog: int
    """The most events that were due and not yet sent: of each producer, added up."""
    most_behind_seconds: float
    """The largest time by which a batch was sent later than due."""


class Append(StoredModel):
    """The append phase: from the first producer's start to the last one's end, on the database's clock."""

    events: int
    """Acknowledged events."""
    rolled_back: int = 0
    """Events of batches that were rolled back. They are in no rate and no latency; their costs are in all costs."""
    seconds: float
    events_per_second: float | None
    """None when the verdict is not ok, sessions paused inside statements, or a node was lost, because such a trial
    publishes no throughput, and when no event was acknowledged, or none after the warm-up."""
    latency_ms: Latency | None
    """Of committed batches: from sending a batch, or with an offered load from the time at which it was due, to its
    commit, the time for which it was held open included. None when no batch was committed."""
    warm_up: WarmUp | None = None
    """None without one. It is left out of the rate, the latencies and `offered`."""
    offered: Offered | None = None
    """None where each batch followed the answer to the one before, and when no batch was due after the warm-up."""
    transport: str | None = None
    """`wire` when producers spoke the protocol themselves; `libpq` when libpq did, more slowly, because connections
    were encrypted. None in a result of a version that did not record it."""
    client_bound: bool
    """A producer's own CPU set the pace, and not Postgres."""
    first_event_seconds: float | None = None
    """From the start of the command until the first batch was acknowledged."""
    wal_bytes: int | None
    """WAL that the server wrote meanwhile; None where the role may not read it."""
    producers: list[Producer]


class ImpossibleCtimes(StoredModel):
    """Events whose ctime cannot be the time at which they were logged. A reading with one of them has no delay from
    ctime to delivery.
    """

    infinite: int = 0
    ahead: int = 0
    """Events whose ctime was later than the database's clock when they were delivered."""
    ahead_seconds: float = 0
    """The largest such difference."""
    old: int = 0
    """Events whose ctime was before the append phase."""
    old_seconds: float = 0
    """The largest difference between such a ctime and the moment at which the reader was ready, before that phase."""


class Read(StoredModel):
    """One reading of the whole log: by a consumer, or by the members of a group together."""

    reader: str
    """Its name, by which the verdict speaks of it."""
    read_batch: int
    group: bool = False
    """Whether the members of a group read it together."""
    number: int | None = None
    """Of several consumers with one read batch, from 0; None where nobody else reads."""
    mode: Literal["drain", "tail"] = "drain"
    """After the producers, or while they append; the seconds then end with the last event."""
    members: int = 1
    transport: str | None = None
    """As in `Append`, of the consumers."""
    wake: Wake | None = None
    """Tailing: what made it ask again after an empty page. None in a result of a version that did not store it, and
    always polled."""
    poll_ms: tuple[float, float] | None = None
    """Tailing: after an empty page it asked again after a random time between these two, in milliseconds, if not
    before; None where it waited for notifications alone, and as in `wake`."""
    largest_page: int | None = None
    """Events in the largest page; None in a result of a version that did not count them."""
    warm_up: WarmUp | None = None
    """As in `Append`; None of a reading that drained."""
    events: int
    """Delivered events, each counted once."""
    redelivered: int = 0
    """Deliveries of events that had been delivered before. They are in no rate."""
    seconds: float
    events_per_second: float | None
    """None when the verdict is not ok, when sessions paused inside statements, and when no event was delivered, or none
    after the warm-up."""
    checksum: int
    """The sum of the values that were delivered."""
    max_etag_gap: int
    repeated_ctimes: int
    """Events with the same ctime as the one before."""
    latency_ms: Latency | None
    """Of pages: from asking for a page to having it. A page is asked for before the events of the one before are
    checked. None when no page came."""
    end_to_end_ms: Latency | None = None
    """Tailing: from an event's ctime to its delivery, on the database's clock; of every event but those that
    `negative_delays` counts. None when no event came, and when `impossible_ctimes` says why there are no delays."""
    negative_delays: int = 0
    """Tailing: events that were delivered before their ctime, by no more than the clocks' uncertainty."""
    most_negative_ms: float = 0
    """The largest time by which one of them was delivered before its ctime."""
    clock_uncertainty_ms: float | None = None
    """Tailing: the largest error of `end_to_end_ms`: half the quickest round trip to the database, and the drift that
    two clocks may have until the end. None in a result of a version that did not store it."""
    impossible_ctimes: ImpossibleCtimes | None = None
    """Tailing: ctimes that cannot be the time at which an event was logged; None when every ctime can."""
    longest_wait_seconds: float = 0
    """Tailing: the longest time without a page with events in it. A stall is a cost, not a loss."""
    cpu_seconds: float
    """Without the time in which a lone reader waited awake."""
    memory_bytes: int = 0
    """The largest resident memory of one consumer."""
    client_bound: bool
    clock_offset_ms: float
    round_trip_ms: float

    @property
    def reading(self) -> Reading:
        """Whose reading it is."""
        return Reading(self.read_batch, self.group, self.number)


class LoadPhase(StoredModel):
    """A phase of an offered load, as [[phase]] in a spec file asks for it, and what was measured in it. Times are
    seconds after the start of the schedule."""

    name: str
    begin_seconds: float
    end_seconds: float
    open_transaction: str | None = None
    """The kind of transaction that was held open; None when there was none."""
    held_seconds: tuple[float, float] | None = None
    """When that transaction was open and when it was rolled back."""
    read: bool = True
    """Whether consumers read meanwhile."""
    offered_per_second: float
    achieved_per_second: float | None
    """Events acknowledged in the phase, per second; the last phase goes on until the last answer. None as in
    `Append`."""
    delivered_per_second: float | None
    """Events delivered in the phase, per second and reader; in the last phase, until the last delivery. None as in
    `Read`."""
    append_ms: Latency | None
    """From the time at which a batch was due to its commit, of the batches that were due in the phase. None when no
    such batch was committed."""
    end_to_end_ms: Latency | None
    """From ctime to delivery, of the events with a ctime in the phase, of all readers together. None as in `Read`."""
    largest_unseen: int | None
    """The most events that a reader had not been given though they were acknowledged; None where that is unknown."""
    largest_lag_seconds: float | None
    """The largest age of such an event since its acknowledgement."""


class Trial(StoredModel):
    """One execution."""

    warm_up: bool = False
    """True of a warm-up trial, which is stored only when it failed. It is in no statistic."""
    pause_ms: tuple[float, float] | None = None
    """The range of the random pauses inside statements, in milliseconds; None when there were none. A trial with pauses
    publishes no speed."""
    phase_seconds: dict[str, float]
    """Each phase as a person would time it, its workers' start included: start, append, settle, each read, check. A
    tailing trial has one phase for both, like `append + read 1000`."""
    preload: Preload | None = None
    """The events that were in the log before; None where it was empty."""
    retention: Retention | None = None
    """None where no events were to be deleted."""
    append: Append
    reads: list[Read]
    nodes: list[Node] = Field(default=[])
    """By name, in a place of several nodes."""
    losses: list[NodeLoss] = Field(default=[])
    verdict: Verdict
    exposure: Exposure | None = None
    """The chances to fail that a tailed log met; None of a trial that drained, which is no test of tailing, where they
    could not be counted, and in a result of a version that did not count them."""
    telemetry: Telemetry
    notes: list[str] = Field(default=[])
    """Facts that could not be found out, each with the reason. None of them is needed for the verdict."""
    series: dict[str, list[Sample]]
    """Progress of the tracks `append` and `read N`."""
    load_phases: list[LoadPhase] = Field(default=[])
    """The phases of the offered load, in their order; empty where the spec has none."""
    unseen: dict[str, list[Unseen]] = Field(default={})
    """How far each tailing reader was behind, by its name, at up to 300 moments; empty of a trial that drained, and in
    a result of a version that did not count it."""

    @property
    def stored_bytes(self) -> int | None:
        """The bytes on disk that the run's events added to the log; None when they could not be found out."""
        stored = self.telemetry.stored_bytes
        before = self.preload.stored_bytes if self.preload else 0
        return None if stored is None or before is None else stored - before

    @property
    def instead_of_append_rate(self) -> str:
        """The word that is printed where the append has no rate."""
        return "node lost" if self.losses and self.verdict.ok else self.instead_of_read_rate

    @property
    def instead_of_read_rate(self) -> str:
        """The word that is printed where a read has no rate."""
        if not self.verdict.ok:
            return "FAILED"
        return "paused" if self.pause_ms else "none"

    @property
    def measured_nothing(self) -> bool:
        """Whether the verdict is ok only because no event was acknowledged."""
        return self.verdict.ok and not self.append.events


class Unjudged(StoredModel):
    """The measurements of the phases that were over when their trial ended without a verdict. They are shown and never
    stored.
    """

    append: Append
    reads: list[Read]
    phases: dict[str, Observed]
    """As in `Telemetry`."""


class Result(StoredModel):
    """A run."""

    schema_: Literal["bench.result/2"] = Field(default=SCHEMA_NAME, alias="schema")
    run_id: str
    started_at: datetime
    spec: dict[str, Any]
    """Every value that was in force, defaults included; a password is left out of the dsn."""
    reproduce: str = ""
    """The command, without a password, with every value that was given by a flag, the file of --spec or
    BENCH_DSN. Empty in a result of a version that did not store it."""
    sql: dict[str, str]
    """The statements that workers ran, by the tracks' keys: `append` and `read N`."""
    log_sha256: str = ""
    """Of the log's schema.sql."""
    environment: Environment
    trials: Annotated[list[Trial], Field(min_length=1)]
    search: Search | None = None
    """The search for an offered load; the only trial is then its confirmation, or else its last window."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_schemas(cls, record: object) -> object:
        return upgraded(record)

    @property
    def ok(self) -> bool:
        """Whether the verdict of every trial is ok."""
        return all(trial.verdict.ok for trial in self.trials)

    @property
    def paused(self) -> bool:
        """Whether sessions paused inside statements, so that the run measured no speed."""
        return bool(self.spec.get("pause"))

    @property
    def found_no_rate(self) -> bool:
        """Whether this is a search in which no rate holds, or that ended before it had an answer: the only trial is
        then a window like others, whose figures answer nothing.
        """
        return self.search is not None and self.search.events_per_second is None

    @property
    def unfinished(self) -> str:
        """The trials that were carried out, as in `3 of 12 trials`, where the run ended before it had carried out all
        of them, or its windows where it ended before its search was over; else empty. A window whose verdict failed
        counts.
        """
        if self.search:
            windows = plural(len(self.search.windows) + (not self.ok), "window")
            return "" if self.search.over else f"{windows} of an unfinished search"
        carried_out, planned = sum(not trial.warm_up for trial in self.trials), int(self.spec.get("trials", 1))
        return f"{carried_out} of {planned} trials" if carried_out < planned else ""

    @property
    def through_libpq(self) -> bool:
        """Whether clients spoke through libpq, as they do where connections are encrypted."""
        appended = [trial.append.transport for trial in self.trials]
        return "libpq" in [*appended, *(read.transport for trial in self.trials for read in trial.reads)]


def json_schema_text() -> str:
    """The JSON Schema of result.json, as it is committed."""
    return json.dumps(Result.model_json_schema(by_alias=True), indent=2, sort_keys=True) + "\n"
