"""Finds out what a phase waits for when no events come: the server, another session's lock, or a silent worker."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import LiteralString, NamedTuple

import psycopg

from bench.job import ConsumerJob, Job, ProducerJob
from bench.postgres.connection import Connection, our_name
from bench.postgres.locks import session_in_words
from bench.text import some

Progress = Sequence[tuple[str, int]]
"""The workers that are not done, and the events of each so far."""
Unanswered = Callable[[], float]
"""Returns the seconds since the server last answered the telemetry, which asks it all the time."""

SECONDS = 5.0
"""Shorter waits are not reported."""
SILENT_SECONDS = 10.0
"""A worker that has reported nothing for this long, and has the server wait for it, is named while others go on."""
ANSWERED_SECONDS = 3.0
"""A server that answered within this time can be asked."""
_MOST = 3
"""At most this many groups of workers are named; a group waits for one thing."""

_SESSIONS: LiteralString = """
    SELECT a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.state_change)::float8,
           a.wait_event_type, a.wait_event,
           b.pid, b.application_name, b.state, extract(epoch FROM clock_timestamp() - b.xact_start)::int
    FROM pg_stat_activity a
    LEFT JOIN LATERAL (SELECT * FROM unnest(pg_blocking_pids(a.pid)) AS p (pid) LIMIT 1) AS p ON true
    LEFT JOIN pg_stat_activity b ON b.pid = p.pid
    WHERE a.datname = current_database() AND a.application_name = ANY (%s)"""


class _Session(NamedTuple):
    """The state of a worker's session on the server."""

    state: str | None
    seconds: float | None
    """How long it has been in that state."""
    wait_event_type: str | None
    wait_event: str | None
    blocker: int | None
    """The process whose lock it waits for; the fields that follow are of that process."""
    blocker_name: str | None
    blocker_state: str | None
    blocker_seconds: int | None

    def waits_for_the_worker(self) -> bool:
        """Whether it is the worker's turn, and has been for longer than `SILENT_SECONDS`."""
        its_turn = self.state != "active" or self.wait_event_type == "Client"
        return self.blocker is None and its_turn and (self.seconds or 0) > SILENT_SECONDS

    def __str__(self) -> str:
        """A clause: what the session does and for how many seconds, or which other session it waits for."""
        if self.blocker is not None:
            blocker = session_in_words(self.blocker, self.blocker_name, self.blocker_state, self.blocker_seconds)
            return f"waiting for a lock of {blocker}"
        long = f" for {self.seconds:.0f} s" if self.seconds is not None and self.seconds > SECONDS else ""
        if self.state != "active":
            return (
                f"the server has been waiting for it{long}" if long else "it keeps polling and receives no new events"
            )
        # In the midst of a statement, a COPY say, the server may have begun to wait just now.
        waits = "the worker" if self.wait_event_type == "Client" else self.wait_event
        return f"its statement has been at work{long}{f', waiting for {waits}' if waits else ''}"


class Silence:
    """Reports a worker once that reports nothing while others go on. When none goes on, `Stillness` reports that."""

    def __init__(
        self, connection: Connection, unanswered: Unanswered, idle: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`idle` has the workers that may have nothing to do for long, each with the reason."""
        self._connection = connection
        self._unanswered = unanswered
        self._idle = idle
        self._seen: dict[str, _Seen] = {}
        """By worker."""
        self._looked_pc = time.perf_counter()
        self._reported: set[str] = set()

    def news(self, progress: Progress) -> str:
        """Which workers have reported nothing for some seconds though the server waits for them; empty when each of
        them was named before.
        """
        now_pc = time.perf_counter()
        for worker, events in progress:
            if worker not in self._seen or self._seen[worker].events != events:
                self._seen[worker] = _Seen(events, now_pc)
        if now_pc - self._looked_pc < SECONDS:
            return ""
        self._looked_pc = now_pc
        silent = [worker for worker, _ in progress if now_pc - self._seen[worker].since_pc > SILENT_SECONDS]
        new = [worker for worker in silent if worker not in self._reported and worker not in self._idle]
        if not new or len(silent) == len(progress) or self._unanswered() > ANSWERED_SECONDS:
            return ""
        sessions = _sessions(self._connection, new)
        if sessions is None:
            return ""
        stuck = [worker for worker in new if worker not in sessions or sessions[worker].waits_for_the_worker()]
        self._reported.update(stuck)
        return (
            f"nothing from some workers while others go on: {_in_words(stuck, sessions, self._idle)}" if stuck else ""
        )


class _Seen(NamedTuple):
    """The events of a worker, and when it was first seen to have that number of them (perf_counter)."""

    events: int
    since_pc: float


class Stillness:
    """Reports now and then what is waited for, while no events come."""

    def __init__(
        self, connection: Connection, unanswered: Unanswered, idle: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """`idle` is as in `Silence`."""
        self._connection = connection
        self._unanswered = unanswered
        self._idle = idle
        self._progress: object = None
        self._since_pc = self._looked_pc = time.perf_counter()
        self._reported = ""
        """The last report, without its seconds."""

    def news(self, progress: Progress) -> str:
        """Report what the workers that are not done wait for; empty when events came within some seconds, and when the
        report would be the last one again.
        """
        now_pc = time.perf_counter()
        if progress != self._progress:
            self._progress, self._since_pc, self._looked_pc, self._reported = progress, now_pc, now_pc, ""
        if now_pc - self._looked_pc < SECONDS:
            return ""
        self._looked_pc = now_pc
        waits = self.clause([worker for worker, _ in progress])
        without_seconds = re.sub(r"[0-9]+ s\b", "", waits)
        if without_seconds == self._reported:
            return ""
        self._reported = without_seconds
        return f"nothing new for {now_pc - self._since_pc:.0f} s: {waits}"

    def clause(self, workers: Sequence[str]) -> str:
        """A clause: what these workers wait for now."""
        if self._unanswered() > ANSWERED_SECONDS:
            return "PostgreSQL does not answer"
        sessions = _sessions(self._connection, workers)
        if sessions is None:
            return f"{some(workers)} are not done" if len(workers) > 1 else f"{workers[0]} is not done"
        return _in_words(workers, sessions, self._idle)


def keeps_a_schedule(job: Job) -> bool:
    """Whether a worker appends by a schedule, or takes breaks by one."""
    return bool(job.load if isinstance(job, ProducerJob) else job.phases)


def reason_to_be_idle(job: Job) -> str:
    """Why a worker may have nothing to do for long; empty for one that always has."""
    if isinstance(job, ConsumerJob) and job.poll_ms is None:
        return "no notification has come"
    if not keeps_a_schedule(job):
        return ""
    return "no batch is due yet" if isinstance(job, ProducerJob) else "the schedule has a break for readers"


def _sessions(connection: Connection, workers: Sequence[str]) -> dict[str, _Session] | None:
    """The sessions of those of these workers that have one; None when this server does not show them."""
    names = {our_name(connection, worker): worker for worker in workers}
    try:
        rows = connection.execute(_SESSIONS, [list(names)]).fetchall()
    except (psycopg.ProgrammingError, psycopg.NotSupportedError):
        return None
    return {names[called]: _Session(*seen) for called, *seen in rows}


def _in_words(workers: Sequence[str], sessions: Mapping[str, _Session], idle: Mapping[str, str]) -> str:
    """Put into words what the sessions of these workers do; workers whose sessions do one thing are named together."""
    groups: dict[str, list[str]] = {}
    for worker in workers:
        session = sessions.get(worker)
        state = "no session on the server" if session is None else str(session)
        if session and worker in idle and session.state == "idle":
            state = idle[worker]
        groups.setdefault(state, []).append(worker)
    return "; ".join(f"{some(group)}: {state}" for state, group in list(groups.items())[:_MOST])
