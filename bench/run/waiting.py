"""What a phase waits for when nothing comes: the server, somebody's lock, or a worker that says nothing."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import LiteralString, NamedTuple

import psycopg

from bench.postgres.connection import Connection, our_name
from bench.postgres.locks import session_in_words
from bench.text import some

Progress = Sequence[tuple[str, int]]
"""The workers that are not done, and the events of each so far."""
Unanswered = Callable[[], float]
"""Seconds since the server last answered somebody who asks it all the time."""

SECONDS = 5.0
"""Nothing is said of a wait that is shorter."""
SILENT_SECONDS = 10.0
"""A worker that says nothing for so long, and has the server wait for it, is named while others go on."""
ANSWERED_SECONDS = 3.0
"""A server that answered within this time can be asked."""
_MOST = 3
"""So many groups of workers that wait for the same are named."""

_SESSIONS: LiteralString = """
    SELECT a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.state_change)::float8,
           a.wait_event_type, a.wait_event,
           b.pid, b.application_name, b.state, extract(epoch FROM clock_timestamp() - b.xact_start)::int
    FROM pg_stat_activity a
    LEFT JOIN LATERAL (SELECT * FROM unnest(pg_blocking_pids(a.pid)) AS p (pid) LIMIT 1) AS p ON true
    LEFT JOIN pg_stat_activity b ON b.pid = p.pid
    WHERE a.datname = current_database() AND a.application_name = ANY (%s)"""


class _Session(NamedTuple):
    """What a worker's session does on the server."""

    state: str | None
    seconds: float | None
    """For how long it has been in that state."""
    wait_event_type: str | None
    wait_event: str | None
    blocker: int | None
    """The process whose lock it waits for; what follows is of that one."""
    blocker_name: str | None
    blocker_state: str | None
    blocker_seconds: int | None

    def waits_for_the_worker(self) -> bool:
        """Whether it is the worker's turn, and has been for so long that it says nothing for that."""
        its_turn = self.state != "active" or self.wait_event_type == "Client"
        return self.blocker is None and its_turn and (self.seconds or 0) > SILENT_SECONDS

    def __str__(self) -> str:
        """What it does, for so many seconds, and which other one it waits for."""
        if self.blocker is not None:
            blocker = session_in_words(self.blocker, self.blocker_name, self.blocker_state, self.blocker_seconds)
            return f"waiting for a lock of {blocker}"
        long = f" for {self.seconds:.0f} s" if self.seconds is not None and self.seconds > SECONDS else ""
        if self.state != "active":
            return f"the server has been waiting for it{long}" if long else "it asks on, and is given nothing new"
        # In the midst of a statement, a COPY say, the server may have begun to wait just now.
        waits = "the worker" if self.wait_event_type == "Client" else self.wait_event
        return f"its statement has been at work{long}{f', waiting for {waits}' if waits else ''}"


class Silence:
    """Says once of a worker that it says nothing, as long as others go on: of all together `Stillness` speaks."""

    def __init__(self, connection: Connection, unanswered: Unanswered) -> None:
        self._connection = connection
        self._unanswered = unanswered
        self._seen: dict[str, tuple[int, float]] = {}
        """The events of each worker, and since when it has had so many."""
        self._looked_at = time.perf_counter()
        self._told: set[str] = set()

    def news(self, progress: Progress) -> str:
        """Which workers have said nothing for some seconds though the server waits for them, unless that was said."""
        now = time.perf_counter()
        for worker, events in progress:
            if self._seen.get(worker, (None,))[0] != events:
                self._seen[worker] = events, now
        if now - self._looked_at < SECONDS:
            return ""
        self._looked_at = now
        silent = [worker for worker, _ in progress if now - self._seen[worker][1] > SILENT_SECONDS]
        new = [worker for worker in silent if worker not in self._told]
        if not new or len(silent) == len(progress) or self._unanswered() > ANSWERED_SECONDS:
            return ""
        sessions = _sessions(self._connection, new)
        if sessions is None:
            return ""
        stuck = [worker for worker in new if worker not in sessions or sessions[worker].waits_for_the_worker()]
        self._told.update(stuck)
        return f"nothing from some workers while others go on: {_in_words(stuck, sessions)}" if stuck else ""


class Stillness:
    """Says now and then what is waited for, as long as nothing comes."""

    def __init__(self, connection: Connection, unanswered: Unanswered) -> None:
        self._connection = connection
        self._unanswered = unanswered
        self._progress: object = None
        self._since = self._looked_at = time.perf_counter()
        self._told = ""

    def news(self, progress: Progress) -> str:
        """What these workers wait for, when it is worth saying: nothing has come for some seconds, and it was not said
        before. They are those that are not done.
        """
        now = time.perf_counter()
        if progress != self._progress:
            self._progress, self._since, self._looked_at, self._told = progress, now, now, ""
        if now - self._looked_at < SECONDS:
            return ""
        self._looked_at = now
        told = self.words([worker for worker, _ in progress])
        without_ages = re.sub(r"[0-9]+ s\b", "", told)
        if without_ages == self._told:
            return ""
        self._told = without_ages
        return f"nothing new for {now - self._since:.0f} s: {told}"

    def words(self, workers: Sequence[str]) -> str:
        """What these workers wait for now."""
        if self._unanswered() > ANSWERED_SECONDS:
            return "PostgreSQL does not answer"
        sessions = _sessions(self._connection, workers)
        if sessions is None:
            return f"{some(workers)} are not done" if len(workers) > 1 else f"{workers[0]} is not done"
        return _in_words(workers, sessions)


def _sessions(connection: Connection, workers: Sequence[str]) -> dict[str, _Session] | None:
    """What the sessions of these workers do, of those that have one; None when this server does not tell."""
    names = {our_name(connection, worker): worker for worker in workers}
    try:
        rows = connection.execute(_SESSIONS, [list(names)]).fetchall()
    except (psycopg.ProgrammingError, psycopg.NotSupportedError):
        return None
    return {names[called]: _Session(*seen) for called, *seen in rows}


def _in_words(workers: Sequence[str], sessions: Mapping[str, _Session]) -> str:
    """What the sessions of these workers do; those that do the same are told together."""
    groups: dict[str, list[str]] = {}
    for worker in workers:
        groups.setdefault(str(sessions.get(worker, "no session on the server")), []).append(worker)
    return "; ".join(f"{some(group)}: {words}" for words, group in list(groups.items())[:_MOST])
