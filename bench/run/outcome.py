"""The outcomes of workers: of each by itself, of those of a track, and of those that read as one."""

import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.errors import InfrastructureError
from bench.job import ConsumerJob, Job, ProducerJob
from bench.judge.evidence import Delivered, Holder
from bench.judge.gaps import Jump
from bench.judge.ranges import events_in, normal, subtract
from bench.records import (
    Anomaly,
    CallTimes,
    Example,
    Fate,
    Interval,
    Jumps,
    LedgerPart,
    LogError,
    PageTimes,
    Progress,
    Range,
    Ready,
    Record,
    Report,
    ReturnedEtags,
    RolledBackEtags,
    StepFigures,
    Timed,
)
from bench.results.series import Sample
from bench.results.timeline import Timeline
from bench.results.tracks import Reading

MOST_REMEMBERED = 2000
"""Reports of progress of one worker that are remembered, evenly spread over its time."""
MOST_MEMORY_SAMPLES = 240
"""Reports of the memory of one worker that are remembered, likewise."""


@dataclass
class Outcome:
    """A worker's job, and what it has reported so far."""

    job: Job
    ready_record: Ready | None = None
    report_record: Report | None = None
    events: int = 0
    """Appended or delivered so far. With the report of a consumer each event counts once, however often it came."""
    checksum: int = 0
    """The sum of the values that a consumer was given, or, with its report, that a producer had acknowledged."""
    ranges: dict[Fate, list[Range]] = field(default_factory=lambda: defaultdict(list))
    """The events of each fate; a fate that no event has is an empty list."""
    rolled_back_etags: list[tuple[int, int]] = field(default_factory=list)
    acknowledged: int = 0
    """Events of a producer that it has reported as acknowledged."""
    history: list[tuple[float, int]] = field(default_factory=list)
    """Its progress: Unix time of this machine, and the events that a producer had acknowledged, or that a consumer had
    been given, each counted once."""
    cursor: list[bytes] = field(default_factory=list)
    """The cursor that a consumer has reported last; empty before."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Its resident memory in bytes, each with the Unix time of this machine at which that was reported."""
    returned: list[Example] = field(default_factory=list)
    """Some of its acknowledged events, with the etags that log_event returned."""
    jumps: list[Jump] = field(default_factory=list)
    page_times: list[PageTimes] = field(default_factory=list)
    call_times: list[CallTimes] = field(default_factory=list)
    steps: list[StepFigures] = field(default_factory=list)
    """What it measured of each step of an offered load."""
    anomalies: list[Anomaly] = field(default_factory=list)
    latencies: dict[Timed, Timeline] = field(default_factory=dict)
    """Its latencies by metric. Producers of one track have one such dict together."""
    node: str | None = None
    """Where it ran, in a place of several nodes."""
    error: LogError | None = None
    """Why it went no further, where that is the log's own doing."""
    lost_after: float | None = None
    """Seconds after the barrier was lifted that its node was noticed to be lost; None unless it was."""

    @property
    def name(self) -> str:
        """The worker's name."""
        return self.job.name

    @property
    def is_ready(self) -> bool:
        """Whether it has reached the barrier."""
        return self.ready_record is not None

    @property
    def has_reported(self) -> bool:
        """Whether its report has come, which is its last record."""
        return self.report_record is not None

    @property
    def done(self) -> bool:
        """Whether nothing more comes from it."""
        return self.has_reported or self.lost_after is not None

    @property
    def ready(self) -> Ready:
        """Its first record.

        Raises:
            InfrastructureError: the worker reported without having been ready.
        """
        if self.ready_record is None:
            raise InfrastructureError(f"{self.name} reported without having been ready")
        return self.ready_record

    @property
    def report(self) -> Report:
        """Its last record.

        Raises:
            InfrastructureError: the worker has not reported.
        """
        if self.report_record is None:
            raise InfrastructureError(f"{self.name} ended without a report")
        return self.report_record

    @property
    def seq_limit(self) -> int:
        """Every seq that a producer may have used is below this: as many as its job asks for, or as its report of an
        end by time names."""
        if isinstance(self.job, ProducerJob) and self.job.seconds is not None and self.has_reported:
            return self.report.attempted or 0
        return self.job.limit

    @property
    def unreported(self) -> list[Range]:
        """The events of a producer that it has reported no fate of; none of a consumer."""
        if not isinstance(self.job, ProducerJob):
            return []
        reported = [part for of_fate in self.ranges.values() for part in of_fate]
        numbers = {producer for producer, _, _ in reported}
        if isinstance(self.job.producer, int):
            numbers.add(self.job.producer)
        return subtract([(number, 0, self.seq_limit - 1) for number in sorted(numbers)], normal(reported))

    def note(self, record: Record) -> None:
        """Add what a record of the worker says."""
        match record:
            case Ready():
                self.ready_record = record
            case Progress(events=events, checksum=checksum, memory_bytes=memory_bytes, cursor=cursor):
                self.events, self.checksum = events, checksum
                self.cursor = cursor or self.cursor
                self._remember()
                if memory_bytes:
                    _add(self.memory, memory_bytes, MOST_MEMORY_SAMPLES)
            case LedgerPart(fate=fate, ranges=ranges):
                _extend(self.ranges[fate], ranges)
                self.acknowledged += events_in(ranges) if fate == "acknowledged" else 0
            case RolledBackEtags(etags=etags):
                self.rolled_back_etags.extend(etags)
            case Jumps(jumps=jumps):
                self.jumps.extend(Jump(*jump) for jump in jumps)
            case ReturnedEtags(events=events):
                self.returned.extend(events)
            case Interval(metric=metric, second=second, buckets=buckets):
                self.latencies.setdefault(metric, Timeline()).add(second, buckets)
            case LogError():
                self.error = record
            case PageTimes() | CallTimes() | Anomaly() | StepFigures():
                self._collect(record)
            case Report():
                self.report_record = record
                self.checksum = record.checksum
                # An event that was delivered twice is one event.
                is_consumer = isinstance(self.job, ConsumerJob)
                self.events = events_in(self.ranges["delivered"]) if is_consumer else record.events
                self._remember()

    def _collect(self, record: PageTimes | CallTimes | Anomaly | StepFigures) -> None:
        match record:
            case PageTimes():
                self.page_times.append(record)
            case CallTimes():
                self.call_times.append(record)
            case Anomaly():
                self.anomalies.append(record)
            case StepFigures():
                self.steps.append(record)

    def _remember(self) -> None:
        """Note the present progress with the time."""
        events = self.events if isinstance(self.job, ConsumerJob) else self.acknowledged
        _add(self.history, events, MOST_REMEMBERED)


def _add(history: list[tuple[float, int]], number: int, most: int) -> None:
    """Add a number with the time; there are at most `most` entries. Once there are many, of those that come soon after
    one another the last one is kept; so the last one before a long silence always is.
    """
    now = time.time()
    if len(history) >= most:
        del history[1:-1:2]
    spacing_seconds = (now - history[0][0]) / (most // 2) if history else 0.0
    if len(history) > most // 2 and now - history[-2][0] < spacing_seconds:
        history[-1] = now, number
    else:
        history.append((now, number))


def outcomes_of(jobs: Sequence[Job]) -> list[Outcome]:
    """The outcomes of the jobs of a track, before anything was reported."""
    together: dict[Timed, Timeline] = {}
    return [Outcome(job, latencies=together) if isinstance(job, ProducerJob) else Outcome(job) for job in jobs]


def latencies_of(workers: Sequence[Outcome]) -> dict[Timed, Timeline]:
    """The latencies of workers together, by metric."""
    parts = list({id(worker.latencies): worker.latencies for worker in workers}.values())
    if len(parts) == 1:
        return parts[0]
    merged: dict[Timed, Timeline] = {}
    for part in parts:
        for metric, timeline in part.items():
            merged.setdefault(metric, Timeline()).add_all(timeline)
    return merged


def _extend(ranges: list[Range], more: Sequence[Range]) -> None:
    """Append ranges to ranges; one that goes on where the last one ends makes that one longer."""
    for producer, first, last in more:
        if ranges and ranges[-1][0] == producer and ranges[-1][2] + 1 == first:
            ranges[-1] = producer, ranges[-1][1], last
        else:
            ranges.append((producer, first, last))


class Held(NamedTuple):
    """A transaction that was held open in a phase of an offered load. Times are seconds after the start of the
    schedule."""

    opened_seconds: float
    ended_seconds: float
    etags: Sequence[int]
    """Etags that it had drawn. It was rolled back, so no event has them."""


@dataclass(frozen=True)
class TrackOutcome:
    """The outcomes of the workers of a track."""

    workers: Sequence[Outcome]
    series: list[Sample]
    """Their progress together."""
    opened_at: float
    """When the barrier was lifted: Unix time of this machine."""
    started_at: float = 0
    """When the first second of its latencies began, on the database's clock (Unix time): when the phase was opened, or
    with an offered load when the schedule started."""
    holders: list[Holder] | None = None
    """When its readers were stopped because nothing came any more: the transactions that were open then and had been
    since the last event came. None when they were stopped for another reason, or the server did not answer that."""
    held: Mapping[int, Held] = field(default_factory=dict)
    """The transactions that were held open meanwhile, by the number of the phase of the offered load, from 0."""

    def of_fate(self, fate: Fate) -> list[Range]:
        """The events of one fate, as far as the workers have reported them."""
        return [part for worker in self.workers for part in worker.ranges[fate]]

    @property
    def reported(self) -> list[Outcome]:
        """The workers that did their job, as far as the log let them."""
        return [worker for worker in self.workers if worker.has_reported]

    @property
    def lost(self) -> list[Outcome]:
        """The producers whose nodes were lost while they appended."""
        return [worker for worker in self.workers if not worker.has_reported and worker.lost_after is not None]


@dataclass(frozen=True)
class Reader:
    """A reader that is judged by itself: a consumer, or a group by the outcomes of its members."""

    reading: Reading
    members: Sequence[Outcome]
    holders: Sequence[Holder] | None = None
    """As in `TrackOutcome`."""
    started_at: float = 0
    """As in `TrackOutcome`."""

    @property
    def name(self) -> str:
        """Its name in verdicts."""
        return self.reading.reader

    @property
    def jumps(self) -> list[Jump]:
        """The jumps over etags of all of its members."""
        return [jump for member in self.members for jump in member.jumps]

    def events(self, node: str | None = None) -> int:
        """Events that it was given, each counted once; of its members on a node, if that is named."""
        members = [member for member in self.members if node in {None, member.node}]
        return events_in(normal([part for member in members for part in member.ranges["delivered"]]))

    def delivered(self) -> Delivered:
        """The events that it was given, for the judge."""
        return Delivered.together(self.name, [self._delivered_to(member) for member in self.members])

    def _delivered_to(self, member: Outcome) -> Delivered:
        report = member.report
        return Delivered(
            reader=self.name,
            events=report.events,
            checksum=report.checksum,
            ranges=member.ranges["delivered"],
            anomalies=member.anomalies,
            falling_etags=report.falling_etags or 0,
            backward_pages=report.backward_pages or 0,
            etag_checksum=report.etag_checksum,
            order_checksum=report.order_checksum,
            stopped=[report.stopped] if report.stopped else [],
            stranded=member.error is not None,
            highest_etag=report.highest_etag,
            holders=self.holders,
            call=_first_call(member.job.sql),
            page_events=self.reading.read_batch,
            largest_page=report.largest_page,
            oversized_pages=report.oversized_pages,
            overslept_events=report.overslept_events,
        )


def _first_call(sql: str) -> str:
    """The call in a reader's statement, with the parameters of its first page, which are NULL."""
    return re.sub(r"\$\d+::\w+(\[\])?", "NULL", sql.partition(" FROM ")[2])
