"""A phase: workers start, wait, go together and report. Listens to their records; judges nothing."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from msgspec.structs import asdict, replace

from bench.errors import InfrastructureError
from bench.interrupts import TimeIsUp, look
from bench.job import ConsumerJob, Job, ProducerJob, echo
from bench.judge.evidence import Holder
from bench.meter import PROGRESS_SECONDS
from bench.places.api import Ended, Messages, StartWorkers
from bench.postgres.barrier import (
    ALIVE,
    CONSUMERS_MAY_STOP,
    PRODUCERS_MUST_STOP,
    START,
    announced_start,
    cancel,
    hold_lock,
)
from bench.postgres.connection import Connection, has_been_spoken_to, our_name, refuse_lost
from bench.postgres.server import holders, session_settings
from bench.records import Progress, Ready, Report
from bench.results.tracks import Track
from bench.run.holding import Holding
from bench.run.jobs import most_events
from bench.run.nodes import Nodes
from bench.run.outcome import Outcome, TrackOutcome, outcomes_of
from bench.run.progress import TrackProgress
from bench.run.waiting import Silence, Stillness, Unanswered, keeps_a_schedule, reason_to_be_idle
from bench.run.watch import Extent, Watch
from bench.text import plural

LAST_WORDS_SECONDS = 3
"""When our own session is gone, so are most of the workers': they have this long to report why, and which of them it
was."""
LEAD_SECONDS, LEAD_SECONDS_PER_WORKER = 0.1, 0.002
"""The schedule of an offered load starts this long after the barrier is lifted, when all workers have passed it."""
CANCEL_SECONDS = 2
"""A reader that may stop and does not is cancelled after this: its read does not come back."""

_news = logging.getLogger("bench")


class Total(NamedTuple):
    """Some events together."""

    events: int
    checksum: int
    """The sum of their values."""


def all_events(producers: Sequence[ProducerJob]) -> Total:
    """The events of producers that append as many as their jobs ask for."""
    limits = [job.limit for job in producers]
    return Total(sum(limits), sum(limit * (limit - 1) // 2 for limit in limits))


@dataclass(frozen=True)
class Plan:
    """The work of a phase, and the end of its readers."""

    tracks: Mapping[Track, Sequence[Job]]
    """The jobs of each track; all tracks go at the same time."""
    events: int | None
    """Events that all producers of the trial append together, when none is rolled back; None when they append for a
    time."""
    idle_seconds: float
    """Readers that get no new event for this long, when nobody appends any more, are made to stop."""
    to_read: Total | None = None
    """The events of each reading of the whole log; None when the producers of the same phase decide that."""
    spare_producers: bool = False
    """Whether the others go on when a node with producers on it is lost."""
    must_end: Callable[[], bool] = lambda: False
    """Returns whether producers must end before they have done their jobs."""


@contextmanager
def unobserved() -> Iterator[Unanswered]:
    """Nobody observes the server: it is taken to answer."""
    yield lambda: 0.0


def carry_out(
    plan: Plan,
    start_workers: StartWorkers,
    connection: Connection,
    watch: Watch,
    observe: Callable[[], AbstractContextManager[Unanswered]] = unobserved,
    meanwhile: Callable[[Sequence[Outcome]], AbstractContextManager[None]] = lambda _: nullcontext(),
    holding: Holding | None = None,
) -> dict[Track, TrackOutcome]:
    """Start workers, let them go together when all are ready, and listen until each has ended.

    `observe` is entered before they go and left when they have ended; it yields a function that returns for how many
    seconds the server has not answered. `meanwhile` is entered and left at the same moments, with all workers.
    `holding` holds transactions open in the phases of the offered load.

    Readers go on after an empty page until they have everything or nothing new comes. When the node of producers is
    lost, the others go on if the plan spares those; consumers are never spared. When the log fails a worker, the
    verdict is known, and all producers end within a second or with their next batch.

    Raises:
        InfrastructureError: a worker ended without having done its job, say because it reached another server than
            `connection`; the message ends with its last words.
        NodeLostError: the node of a worker that cannot be done without is gone.
        TimeIsUp: the time limit is over; the message says how far the phase is and what it waits for.
    """
    settings = session_settings(connection)
    tracks = {
        track: outcomes_of([_completed(job, connection, settings["server"]) for job in jobs])
        for track, jobs in plan.tracks.items()
    }
    workers = {worker.name: worker for of_track in tracks.values() for worker in of_track}
    with ExitStack() as stack:
        stack.enter_context(hold_lock(connection, ALIVE))
        lift = stack.enter_context(hold_lock(connection, START))
        end_producers = stack.enter_context(hold_lock(connection, PRODUCERS_MUST_STOP))
        stop_consumers = stack.enter_context(hold_lock(connection, CONSUMERS_MAY_STOP))
        holding = holding or Holding((), {})
        readers = _Readers(workers.values(), connection, stop_consumers, plan, holding)
        update = stack.enter_context(watch(_extents(plan), plan.idle_seconds))
        messages = stack.enter_context(start_workers([worker.job for worker in workers.values()]))
        nodes = Nodes(workers, connection, spare_producers=plan.spare_producers)
        heard = _listen(messages, workers, nodes, connection)
        _await_ready(heard, workers.values(), connection)
        _refuse_differences(workers.values(), settings)
        unanswered = stack.enter_context(observe())
        stack.enter_context(meanwhile(list(workers.values())))
        idle = {name: reason for name, worker in workers.items() if (reason := reason_to_be_idle(worker.job))}
        still, silence = Stillness(connection, unanswered, idle), Silence(connection, unanswered, idle)
        stack.enter_context(_time_limit_says_how_far(tracks, still))
        jobs = [worker.job for worker in workers.values()]
        has_schedule = any(map(keeps_a_schedule, jobs)) or bool(_seconds(jobs))
        lead_seconds = (LEAD_SECONDS + LEAD_SECONDS_PER_WORKER * len(workers)) * has_schedule
        start = stack.enter_context(announced_start(connection, lead_seconds))
        if has_schedule:
            holding.start(start.pc)
        opened_at = time.time()
        lift()
        nodes.opened_pc = time.perf_counter()
        progress = TrackProgress(tracks, update)
        for _ in heard:
            holding.keep_up()
            readers.end_them_if_it_is_time()
            if any(worker.error for worker in workers.values()) or plan.must_end():
                end_producers()
            progress.note(time.perf_counter() - nodes.opened_pc)
            _report_waits([worker for worker in workers.values() if not worker.done], still, silence)
        holding.let_go()
    return {
        track: TrackOutcome(of_track, progress.series[track], opened_at, start.at, readers.holders, holding.held)
        for track, of_track in tracks.items()
    }


def _completed(job: Job, connection: Connection, server: str) -> Job:
    """A job with what this server and this orchestrator add to it."""
    completed = replace(job, server=server, session=our_name(connection, job.name), alive=ALIVE)
    return replace(completed, stop=PRODUCERS_MUST_STOP) if isinstance(completed, ProducerJob) else completed


def _extents(plan: Plan) -> dict[str, Extent]:
    """The workers and the events of each track, by its key."""
    of_one = plan.to_read.events if plan.to_read else plan.events
    return {
        track.key: Extent(len(jobs), None if of_one is None else of_one * _times(jobs), _times(jobs), _seconds(jobs))
        for track, jobs in plan.tracks.items()
    }


def _seconds(jobs: Iterable[Job]) -> float | None:
    """The time for which producers append; None when their events are counted, and of consumers."""
    return next((job.seconds for job in jobs if isinstance(job, ProducerJob)), None)


def _await_ready(heard: Iterator[None], workers: Iterable[Outcome], connection: Connection) -> None:
    """Listen until every worker is ready."""
    still = Stillness(connection, lambda: 0.0)
    for _ in heard:
        missing = [worker for worker in workers if not worker.is_ready]
        if not missing:
            return
        _report_waits(missing, still)


def _report_waits(left: Sequence[Outcome], *waits: Stillness | Silence) -> None:
    progress = [(worker.name, worker.events) for worker in left]
    for news in (wait.news(progress) for wait in waits if left):
        if news:
            _news.info(news)


@contextmanager
def _time_limit_says_how_far(tracks: Mapping[Track, Sequence[Outcome]], still: Stillness) -> Iterator[None]:
    """Add to the end by a time limit how far the tracks are, and what they wait for."""
    try:
        yield
    except TimeIsUp as end:
        clauses = [
            f"{track.key}: {sum(worker.events for worker in workers):,} events, "
            f"{sum(worker.done for worker in workers)} of {plural(len(workers), 'worker')} done"
            for track, workers in tracks.items()
        ]
        left = [worker.name for workers in tracks.values() for worker in workers if not worker.done]
        with suppress(psycopg.Error):
            clauses.append(still.clause(left))
        raise TimeIsUp(f"({'; '.join(clauses)})") from end


def _refuse_differences(workers: Iterable[Outcome], settings: Mapping[str, str]) -> None:
    """Refuse to measure when a worker does not do what it was asked to, or not under the settings that all have.

    Raises:
        InfrastructureError: one does not.
    """
    for worker in workers:
        asked, echoed = asdict(echo(worker.job)), asdict(worker.ready.job)
        differences = [
            f"{key} is {echoed.get(key)!r}, not {asked[key]!r}" for key in asked if asked[key] != echoed.get(key)
        ]
        session = worker.ready.session
        differences += [
            f"its session has {name} = {session.get(name)!r}, not {value!r}"
            for name, value in {**settings, "schema": worker.job.schema}.items()
            if session.get(name) != value
        ]
        if differences:
            raise InfrastructureError(f"{worker.name} did not take its job as it was given: {'; '.join(differences)}")


class _Readers:
    """Ends the consumers of a phase: when they have everything, or when nothing comes any more."""

    def __init__(
        self,
        workers: Iterable[Outcome],
        connection: Connection,
        let_go: Callable[[], None],
        plan: Plan,
        holding: Holding,
    ) -> None:
        workers = list(workers)
        self._producers = [worker for worker in workers if not isinstance(worker.job, ConsumerJob)]
        self._consumers = [worker for worker in workers if isinstance(worker.job, ConsumerJob)]
        self._connection = connection
        self._let_go = let_go
        self._plan = plan
        self._holding = holding
        self.holders: list[Holder] | None = None
        """As in `TrackOutcome`."""
        self._events = -1
        """The last progress that was seen: what producers and consumers had appended and read together."""
        self._changed_pc = time.perf_counter()
        """When that was seen."""
        self._let_go_pc: float | None = None
        """When readers were permitted to stop."""

    def end_them_if_it_is_time(self) -> None:
        """Look whether readers are to stop. Called whenever a record came, and now and then when none does."""
        left = [worker for worker in self._consumers if not worker.done]
        if not left:
            return
        now_pc = time.perf_counter()
        events = sum(worker.events for worker in [*self._producers, *self._consumers])
        if events != self._events:
            self._events, self._changed_pc = events, now_pc
            # Nobody was seen to hold anything back, and yet more comes.
            self.holders = self.holders or None
        if not all(worker.done for worker in self._producers):
            self._changed_pc = now_pc
            return
        if self._holding.goes_on and not any(worker.error for worker in self._producers):
            self._changed_pc = now_pc
        idle_seconds = now_pc - self._changed_pc
        is_idle = idle_seconds > self._plan.idle_seconds
        if self._let_go_pc is None:
            has_all = self._have_all()
            if is_idle and not has_all:
                # Before they stop: what they ask for afterwards they are given, if nobody holds it back any more.
                # An event may have come after the last progress that was reported.
                self.holders = holders(self._connection, idle_seconds - PROGRESS_SECONDS)
            if is_idle or has_all:
                self._let_go()
                self._let_go_pc = now_pc
        is_over = is_idle or self._is_endless(left)
        if is_over and self._let_go_pc is not None and now_pc - self._let_go_pc > CANCEL_SECONDS:
            cancel(self._connection, [worker.name for worker in left])

    def _is_endless(self, left: Sequence[Outcome]) -> bool:
        """Whether a reader was given so many events that the log might never end: while producers append for a time,
        its job cannot bound them."""
        most = most_events(_total(self._producers).events)
        return bool(self._producers) and any(worker.events > most for worker in left)

    def _have_all(self) -> bool:
        expected = self._plan.to_read or _total(self._producers)
        if _times([worker.job for worker in self._consumers]) == len(self._consumers):
            return min(worker.events for worker in self._consumers if not worker.done) >= expected.events
        # Two members may have been given one event, and nobody another one: then the sum of the values differs.
        return _total(self._consumers) == expected


def _total(workers: Sequence[Outcome]) -> Total:
    """The events that these workers have together."""
    return Total(sum(worker.events for worker in workers), sum(worker.checksum for worker in workers))


def _times(jobs: Sequence[Job]) -> int:
    """How many times each event is appended or read: once per reader with a cursor of its own; readers that share a
    cursor on the server count as one.
    """
    readers = [job for job in jobs if isinstance(job, ConsumerJob)]
    return sum(bool(job.cursor) for job in readers) + len({job.sql for job in readers if not job.cursor}) or 1


class _OwnSession:
    """The orchestrator's session, which is idle and may be lost while workers work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._spoken_to_pc: float | None = None
        """When the server was found to have sent something on it."""

    def refuse_lost(self) -> None:
        """Refuse to go on without it, unless a worker reports first why.

        Raises:
            psycopg.OperationalError: it is gone.
        """
        if not has_been_spoken_to(self._connection):
            self._spoken_to_pc = None
        elif self._spoken_to_pc is None:
            self._spoken_to_pc = time.perf_counter()
        elif time.perf_counter() - self._spoken_to_pc > LAST_WORDS_SECONDS:
            refuse_lost(self._connection)


def _listen(messages: Messages, workers: Mapping[str, Outcome], nodes: Nodes, connection: Connection) -> Iterator[None]:
    """Note what workers report; yields whenever one is ready, further or lost, and now and then when none reports."""
    own = _OwnSession(connection)
    for message in messages:
        look()
        own.refuse_lost()
        if message is None:
            yield
            continue
        worker = workers[message.worker]
        if not isinstance(message, Ended):
            worker.note(message.record)
            if isinstance(message.record, Ready | Progress | Report):
                yield
            continue
        end = message.end
        worker.node = end.node
        if end.lost_with and end.node and not worker.has_reported:
            nodes.lose(worker.name, end.node, end.lost_with)
            yield
        elif not worker.has_reported or (end.exit_code and not end.lost_with):
            raise InfrastructureError(
                f"{worker.name} ended before its job was done"
                f"{'' if end.exit_code is None else f', with exit code {end.exit_code}'}: "
                f"{message.last_words or '(it said nothing)'}"
            )
