"""A phase: workers start, wait, go together and report. Listens to their records; judges nothing."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from msgspec.structs import asdict, replace

from bench.errors import InfrastructureError
from bench.interrupts import TimeIsUp, look
from bench.judge.checker import Holder
from bench.judge.ranges import events_in
from bench.places.api import Ended, Messages, StartWorkers
from bench.postgres.barrier import (
    ALIVE,
    CONSUMERS_MAY_STOP,
    PRODUCERS_MUST_STOP,
    START,
    cancel,
    hold_lock,
    terminate,
)
from bench.postgres.connection import Connection, has_been_spoken_to, our_name, refuse_lost
from bench.postgres.server import holders, session_settings
from bench.records import (
    Anomaly,
    ConsumerJob,
    Fate,
    Job,
    Jumps,
    LedgerPart,
    LogError,
    ProducerJob,
    Progress,
    Range,
    Ready,
    Report,
    RolledBackEtags,
)
from bench.run.waiting import Silence, Stillness, Unanswered
from bench.run.watch import Watch
from bench.text import plural
from bench.worker import PROGRESS_SECONDS

SAMPLE_SECONDS = 0.5
"""Progress is kept this often, however many workers tell of theirs."""
LAST_WORDS_SECONDS = 3
"""When our own session is gone, so are the workers', mostly: they have so long to say why, and which of them it was."""
CANCEL_SECONDS = 2
"""A reader that may stop and does not is cancelled after this: its read does not come back."""

_news = logging.getLogger("bench")


Tracks = Mapping[str, Sequence[Job]]
"""The jobs of a phase by what people call them: appending, and reading at the same time when tailing."""


@dataclass(frozen=True)
class Work:
    """What one worker said, from its ready to its report."""

    name: str
    ready: Ready
    report: Report
    ranges: dict[Fate, list[Range]]
    """The events of each fate; a fate that no event has is an empty list."""
    rolled_back_etags: list[tuple[int, int]]
    jumps: list[tuple[int, int, float]]
    anomalies: list[Anomaly]
    node: str | None
    """Where it ran, in a place of several nodes."""
    error: LogError | None = None
    """Why it went no further, where that is the log's own doing."""


@dataclass(frozen=True)
class Lost:
    """A producer whose node was lost while it appended, and what it had said until then."""

    job: ProducerJob
    node: str
    seconds: float
    """After the barrier was lifted, that it was noticed."""
    ranges: dict[Fate, list[Range]]
    rolled_back_etags: list[tuple[int, int]]


class NodeLostError(InfrastructureError):
    """A node is gone, and the run ends with it."""

    def __init__(self, words: str, acknowledged: list[Range]) -> None:
        super().__init__(words)
        self.acknowledged = acknowledged
        """What all producers of the phase had acknowledged, as far as they had said."""


@dataclass
class _Heard:
    """What one worker has said up to now."""

    job: Job
    ready: Ready | None = None
    report: Report | None = None
    events: int = 0
    checksum: int = 0
    """Of what a consumer was given; of what a producer had acknowledged, once it has reported."""
    ranges: dict[Fate, list[Range]] = field(default_factory=lambda: defaultdict(list))
    rolled_back_etags: list[tuple[int, int]] = field(default_factory=list)
    jumps: list[tuple[int, int, float]] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    node: str | None = None
    error: LogError | None = None
    lost_after: float | None = None
    """Seconds after the barrier was lifted; None unless its node was lost."""

    @property
    def done(self) -> bool:
        return self.report is not None or self.lost_after is not None


@dataclass(frozen=True)
class Phase:
    """What all workers of a track said, and their progress together as (seconds since it was lifted, events)."""

    works: list[Work]
    series: list[tuple[float, int]]
    opened_at: float
    """When the barrier was lifted: Unix time of this machine."""
    lost: list[Lost] = field(default_factory=list)
    holders: list[Holder] | None = None
    """When its readers were stopped because nothing came any more: the transactions that were open then and had been
    since the last event came. None when they were stopped for another reason, or the server did not answer that."""


@dataclass(frozen=True)
class ToRead:
    """What the readers of a phase are to be given."""

    idle_seconds: float
    """Readers that get no new event for so long, when nobody appends any more, are made to stop."""
    events: tuple[int, int] | None = None
    """For each reading of the whole log: how many events, and their checksum. None when the producers of the same phase
    decide it."""


@contextmanager
def unobserved() -> Iterator[Unanswered]:
    """Nobody observes the server: it is taken to answer."""
    yield lambda: 0.0


def carry_out(
    tracks: Tracks,
    start_workers: StartWorkers,
    connection: Connection,
    events: int,
    to_read: ToRead,
    watch: Watch,
    observe: Callable[[], AbstractContextManager[Unanswered]] = unobserved,
    *,
    spare_producers: bool = False,
) -> dict[str, Phase]:
    """Start workers, let them go together when all are ready, and listen until each has ended.

    `observe` is entered before they go and left when they have ended; it yields for how long the server has not
    answered.

    Readers go on after an empty page until they have everything or nothing new comes. When the node of producers is
    lost, the others go on if those can be spared; consumers never can. When the log fails a worker, the verdict is
    known, and all producers end within a second or with their next batch.

    Raises:
        InfrastructureError: a worker ended without having done its job, say because it reached another server than
            `connection`; the message ends with its last words.
        NodeLostError: the node of a worker that cannot be done without is gone.
        TimeIsUp: the time limit is over; the message says how far the phase is and what it waits for.
    """
    ours = session_settings(connection)
    tracks = {
        name: [_here(job, ours["server"], our_name(connection, job.name)) for job in jobs]
        for name, jobs in tracks.items()
    }
    heard = {job.name: _Heard(job) for jobs in tracks.values() for job in jobs}
    here = {name: [heard[job.name] for job in jobs] for name, jobs in tracks.items()}
    series: dict[str, list[tuple[float, int]]] = {name: [] for name in tracks}
    with ExitStack() as stack:
        stack.enter_context(hold_lock(connection, ALIVE))
        lift = stack.enter_context(hold_lock(connection, START))
        end_producers = stack.enter_context(hold_lock(connection, PRODUCERS_MUST_STOP))
        stop_consumers = stack.enter_context(hold_lock(connection, CONSUMERS_MAY_STOP))
        readers = _Readers(list(heard.values()), connection, stop_consumers, to_read)
        each_time = to_read.events[0] if to_read.events else events
        to_show = {name: (len(jobs), each_time * _times(jobs)) for name, jobs in tracks.items()}
        update = stack.enter_context(watch(to_show, to_read.idle_seconds))
        messages = stack.enter_context(start_workers([each.job for each in heard.values()]))
        nodes = _Nodes(heard, connection, spare_producers=spare_producers)
        still = Stillness(connection, lambda: 0.0)
        for _ in _listen(messages, heard, nodes, connection):
            if all(each.ready for each in heard.values()):
                break
            _say_what_is_waited_for([each for each in heard.values() if not each.ready], still)
        _refuse_differences(heard.values(), ours)
        unanswered = stack.enter_context(observe())
        still, silence = Stillness(connection, unanswered), Silence(connection, unanswered)
        stack.enter_context(_telling_how_far(here, still))
        opened_at = time.time()
        lift()
        began = nodes.began = time.perf_counter()
        for name in tracks:
            update(name, 0, 0)
        finished: set[str] = set()
        for _ in _listen(messages, heard, nodes, connection):
            readers.end_them_if_it_is_time()
            if any(each.error for each in heard.values()):
                end_producers()
            seconds = time.perf_counter() - began
            for name in tracks.keys() - finished:
                total = sum(each.events for each in here[name])
                done = sum(each.done for each in here[name])
                if done == len(here[name]):
                    finished.add(name)
                if name in finished or not series[name] or seconds - series[name][-1][0] >= SAMPLE_SECONDS:
                    series[name].append((seconds, total))
                update(name, total, done)
            _say_what_is_waited_for([each for each in heard.values() if not each.done], still, silence)
    return {
        name: Phase(
            [_work(each) for each in workers if each.report],
            series[name],
            opened_at,
            [
                Lost(each.job, each.node or "", each.lost_after, each.ranges, each.rolled_back_etags)
                for each in workers
                if each.lost_after is not None and isinstance(each.job, ProducerJob)
            ],
            readers.holders,
        )
        for name, workers in here.items()
    }


def _say_what_is_waited_for(left: list[_Heard], *waits: Stillness | Silence) -> None:
    progress = [(each.job.name, each.events) for each in left]
    for news in (wait.news(progress) for wait in waits if left):
        if news:
            _news.info(news)


@contextmanager
def _telling_how_far(here: Mapping[str, list[_Heard]], still: Stillness) -> Iterator[None]:
    """Add to the end by a time limit how far the tracks are, and what they wait for."""
    try:
        yield
    except TimeIsUp as end:
        far = [
            f"{name}: {sum(each.events for each in workers):,} events, "
            f"{sum(each.done for each in workers)} of {plural(len(workers), 'worker')} done"
            for name, workers in here.items()
        ]
        with suppress(psycopg.Error):
            far.append(still.words([each.job.name for workers in here.values() for each in workers if not each.done]))
        raise TimeIsUp(f"({'; '.join(far)})") from end


def _here(job: Job, server: str, session: str) -> Job:
    """A job with what this server and this orchestrator add to it."""
    here = replace(job, server=server, session=session, alive=ALIVE)
    return replace(here, stop=PRODUCERS_MUST_STOP) if isinstance(here, ProducerJob) else here


class _Nodes:
    """What happens when a node is lost with the workers on it."""

    def __init__(self, heard: Mapping[str, _Heard], connection: Connection, *, spare_producers: bool) -> None:
        self._heard = heard
        self._connection = connection
        self._spare_producers = spare_producers
        self._told: set[str] = set()
        self.began: float | None = None
        """When the barrier was lifted (perf_counter)."""

    def lose(self, worker: str, node: str, lost_with: Sequence[str]) -> None:
        """Go on without a worker that is not done, if that can be.

        What its session still has the server do is ended: a server can take hours to see that a client is gone, and
        keeps its locks meanwhile.

        Raises:
            NodeLostError: that cannot be.
        """
        missing = [name for name in self._heard if name in lost_with and not self._heard[name].report]
        terminate(self._connection, missing)
        when = "before the start" if self.began is None else f"{time.perf_counter() - self.began:.0f} s after the start"
        words = f"the node {node} was lost {when}, and with it {', '.join(missing)}"
        producers_only = all(isinstance(self._heard[name].job, ProducerJob) for name in missing)
        if not self._spare_producers or self.began is None or not producers_only:
            acknowledged = [part for each in self._heard.values() for part in each.ranges["acknowledged"]]
            raise NodeLostError(words, acknowledged)
        self._heard[worker].lost_after = time.perf_counter() - self.began
        if node not in self._told:
            self._told.add(node)
            _news.warning("%s; the others go on", words)


def _refuse_differences(workers: Iterable[_Heard], settings: dict[str, str]) -> None:
    """Refuse to measure when a worker does not do what it was asked to, or not under the settings that all have."""
    for each in workers:
        if each.ready is None:
            continue
        asked, echoed = asdict(each.job), asdict(each.ready.job)
        differences = [
            f"{key} is {echoed.get(key)!r}, not {asked[key]!r}" for key in asked if asked[key] != echoed.get(key)
        ]
        expected = {**settings, "schema": each.job.schema}
        differences += [
            f"its session has {name} = {each.ready.session.get(name)!r}, not {value!r}"
            for name, value in expected.items()
            if each.ready.session.get(name) != value
        ]
        if differences:
            raise InfrastructureError(f"{each.job.name} did not take its job as it was given: {'; '.join(differences)}")


class _Readers:
    """Tells the consumers of a phase when to stop: when they have all, or when nothing comes any more."""

    def __init__(
        self, workers: list[_Heard], connection: Connection, let_go: Callable[[], None], to_read: ToRead
    ) -> None:
        self._producers = [each for each in workers if not isinstance(each.job, ConsumerJob)]
        self._consumers = [each for each in workers if isinstance(each.job, ConsumerJob)]
        self._connection = connection
        self._let_go = let_go
        self._to_read = to_read
        self.holders: list[Holder] | None = None
        self._last = (-1, time.perf_counter())
        """The last progress that was seen, and when."""
        self._told_at: float | None = None

    def end_them_if_it_is_time(self) -> None:
        """Called whenever something was said, and now and then when nothing is."""
        left = [each for each in self._consumers if not each.done]
        if not left:
            return
        now = time.perf_counter()
        progress = sum(each.events for each in [*self._producers, *self._consumers])
        if progress != self._last[0]:
            self._last = progress, now
            # Nobody was seen to hold anything back, and yet more comes.
            self.holders = self.holders or None
        if not all(each.done for each in self._producers):
            self._last = progress, now
            return
        idle = now - self._last[1] > self._to_read.idle_seconds
        if self._told_at is None:
            has_all = self._have_all()
            if idle and not has_all:
                # Before they stop: what they ask for afterwards they are given, if nobody holds it back any more.
                # An event may have come after the last progress that was reported.
                seconds = now - self._last[1] - PROGRESS_SECONDS
                self.holders = holders(self._connection, seconds)
            if idle or has_all:
                self._let_go()
                self._told_at = now
        if idle and self._told_at is not None and now - self._told_at > CANCEL_SECONDS:
            cancel(self._connection, [each.job.name for each in left])

    def _have_all(self) -> bool:
        expected, checksum = self._to_read.events or _totals(self._producers)
        if _times([each.job for each in self._consumers]) == len(self._consumers):
            return min(each.events for each in self._consumers if not each.done) >= expected
        # Two members may have been given one event, and nobody another one: then the sum of the values differs.
        return _totals(self._consumers) == (expected, checksum)


def _totals(workers: Sequence[_Heard]) -> tuple[int, int]:
    """How many events these workers have together, and the sum of their values."""
    return sum(each.events for each in workers), sum(each.checksum for each in workers)


def _times(jobs: Sequence[Job]) -> int:
    """How often these workers together write or read each event: readers with one cursor kept share what there is."""
    readers = [job for job in jobs if isinstance(job, ConsumerJob)]
    return sum(bool(job.cursor) for job in readers) + len({job.sql for job in readers if not job.cursor}) or 1


def _work(each: _Heard) -> Work:
    if each.ready is None or each.report is None:
        raise InfrastructureError(f"{each.job.name} reported without having been ready")
    return Work(
        each.job.name,
        each.ready,
        each.report,
        each.ranges,
        each.rolled_back_etags,
        each.jumps,
        each.anomalies,
        each.node,
        each.error,
    )


class _OwnSession:
    """The orchestrator's session, which is idle and may be lost while workers work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._spoken_to_at: float | None = None
        """When the server was found to have said something on it."""

    def refuse_lost(self) -> None:
        """Refuse to go on without it, unless a worker comes first with why.

        Raises:
            psycopg.OperationalError: it is gone.
        """
        if not has_been_spoken_to(self._connection):
            self._spoken_to_at = None
        elif self._spoken_to_at is None:
            self._spoken_to_at = time.perf_counter()
        elif time.perf_counter() - self._spoken_to_at > LAST_WORDS_SECONDS:
            refuse_lost(self._connection)


def _listen(messages: Messages, heard: dict[str, _Heard], nodes: _Nodes, connection: Connection) -> Iterator[None]:
    """Note what workers say; yields whenever one is ready or further, and when nobody says anything."""
    own = _OwnSession(connection)
    for message in messages:
        look()
        own.refuse_lost()
        if message is None:
            yield
            continue
        worker = heard[message.worker]
        if isinstance(message, Ended):
            end = message.end
            worker.node = end.node
            if end.lost_with and end.node and worker.report is None:
                nodes.lose(message.worker, end.node, end.lost_with)
                yield
            elif worker.report is None or (end.exit_code and not end.lost_with):
                raise InfrastructureError(
                    f"{message.worker} ended before its job was done"
                    f"{'' if end.exit_code is None else f', with exit code {end.exit_code}'}: "
                    f"{message.last_words or '(it said nothing)'}"
                )
            continue
        match message.record:
            case Ready() as ready:
                worker.ready = ready
                yield
            case Progress(events=events, checksum=checksum):
                worker.events, worker.checksum = events, checksum
                yield
            case LedgerPart(fate=fate, ranges=ranges):
                _put_together(worker.ranges[fate], ranges)
            case RolledBackEtags() | Jumps() | Anomaly() | LogError() as record:
                _note(worker, record)
            case Report() as report:
                worker.report = report
                worker.checksum = report.checksum
                # An event that was delivered twice is one event.
                delivered = worker.ranges["delivered"]
                worker.events = events_in(delivered) if isinstance(worker.job, ConsumerJob) else report.events
                yield


def _note(worker: _Heard, record: RolledBackEtags | Jumps | Anomaly | LogError) -> None:
    match record:
        case RolledBackEtags(etags=etags):
            worker.rolled_back_etags.extend(etags)
        case Jumps(jumps=jumps):
            worker.jumps.extend(jumps)
        case Anomaly() as anomaly:
            worker.anomalies.append(anomaly)
        case LogError() as error:
            worker.error = error


def _put_together(kept: list[Range], more: list[Range]) -> None:
    """Append ranges to ranges; one that goes on where the last one ends makes that longer."""
    for producer, first, last in more:
        if kept and kept[-1][0] == producer and kept[-1][2] + 1 == first:
            kept[-1] = producer, kept[-1][1], last
        else:
            kept.append((producer, first, last))
