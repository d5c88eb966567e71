"""What a phase waits for when nothing comes: the server, somebody's lock, or a worker that says nothing."""

import re
import time
from collections.abc import Callable, Sequence
from typing import LiteralString

import psycopg

from bench.postgres.connection import Connection, our_name
from bench.postgres.locks import session_in_words

Unanswered = Callable[[], float]
"""Seconds since the server last answered somebody who asks it all the time."""

SECONDS = 5.0
"""Nothing is said of a wait that is shorter."""
ANSWERED_SECONDS = 3.0
"""A server that answered within this time can be asked."""
_MOST = 3
"""So many workers, or groups of workers that wait for the same, are named."""

_SESSIONS: LiteralString = """
    SELECT a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.state_change)::float8,
           a.wait_event_type, a.wait_event,
           b.pid, b.application_name, b.state, extract(epoch FROM clock_timestamp() - b.xact_start)::int
    FROM pg_stat_activity a
    LEFT JOIN LATERAL (SELECT * FROM unnest(pg_blocking_pids(a.pid)) AS p (pid) LIMIT 1) AS p ON true
    LEFT JOIN pg_stat_activity b ON b.pid = p.pid
    WHERE a.datname = current_database() AND a.application_name = ANY (%s)"""


class Stillness:
    """Says now and then what is waited for, as long as nothing comes."""

    def __init__(self, connection: Connection, unanswered: Unanswered) -> None:
        self._connection = connection
        self._unanswered = unanswered
        self._progress: object = None
        self._since = self._looked_at = time.perf_counter()
        self._told = ""

    def news(self, progress: object, workers: Sequence[str]) -> str:
        """What these workers wait for, when it is worth saying: nothing has come for some seconds, and it was not said
        before. They are those that are not done.
        """
        now = time.perf_counter()
        if progress != self._progress:
            self._progress, self._since, self._looked_at, self._told = progress, now, now, ""
        if now - self._looked_at < SECONDS:
            return ""
        self._looked_at = now
        told = self.words(workers)
        without_ages = re.sub(r"[0-9]+ s\b", "", told)
        if without_ages == self._told:
            return ""
        self._told = without_ages
        return f"nothing new for {now - self._since:.0f} s: {told}"

    def words(self, workers: Sequence[str]) -> str:
        """What these workers wait for now."""
        if self._unanswered() > ANSWERED_SECONDS:
            return "PostgreSQL does not answer"
        names = {our_name(self._connection, worker): worker for worker in workers}
        try:
            rows = self._connection.execute(_SESSIONS, [list(names)]).fetchall()
        except (psycopg.ProgrammingError, psycopg.NotSupportedError):
            return f"{_together(list(workers))} are not done" if len(workers) > 1 else f"{workers[0]} is not done"
        sessions = {names[called]: _in_words(*seen) for called, *seen in rows}
        groups: dict[str, list[str]] = {}
        for worker in workers:
            groups.setdefault(sessions.get(worker, "no session on the server"), []).append(worker)
        return "; ".join(f"{_together(group)}: {words}" for words, group in list(groups.items())[:_MOST])


def _in_words(
    state: str | None,
    seconds: float | None,
    kind: str | None,
    event: str | None,
    pid: int | None,
    name: str | None,
    holds: str | None,
    age: int | None,
) -> str:
    """What a session does, for so many seconds, and which other one it waits for."""
    if pid is not None:
        return f"waiting for a lock of {session_in_words(pid, name, holds, age)}"
    long = f" for {seconds:.0f} s" if seconds is not None and seconds > SECONDS else ""
    if kind == "Client" or state != "active":
        return f"the server has been waiting for it{long}" if long else "it asks on, and is given nothing new"
    return f"its statement has been at work{long}{f', waiting for {event}' if event else ''}"


def _together(names: list[str]) -> str:
    more = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {more} more" if more > 0 else "")
