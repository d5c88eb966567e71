"""The record of one order: its turns, the events that each reader received, and the table afterwards."""

from dataclasses import dataclass, field
from typing import Literal

import psycopg

End = Literal["done", "stops", "waits", "fails"]
Event = tuple[int, int]
"""Producer and seq."""


@dataclass(frozen=True)
class Part:
    """A step of one session: a statement, or a part of a statement that begins or ends at a stop or a wait."""

    session: int
    statement: int
    begins: bool
    """Whether the statement begins with this part."""
    end: End
    stop: str = ""
    """Where the session stops."""
    stops: int = 0
    """How often the statement has stopped so far."""
    waits_for: tuple[int, ...] = ()
    """The sessions that the session waits for."""
    kind: str = ""
    """The kind of the statement."""
    text: str = ""
    """The SQL that was sent."""
    failure: str = ""
    """The error of the statement."""
    events: tuple[Event, ...] = ()
    """The events that an append has, or that a page holds."""
    etags: tuple[int, ...] = ()
    """The etags of the events in a page."""
    held_back: bool = False
    """The page was not full, although it left out events that were committed before it was requested."""
    woken_by: int | None = None
    """The session whose step released this one; None when it was this session's own turn."""
    was_asleep: bool = False
    """The released session had called pg_sleep; False when it waited for a lock."""


@dataclass(frozen=True)
class Choice:
    """A turn: the sessions that could have taken it, and the session that did."""

    enabled: tuple[int, ...]
    costs: tuple[int, ...]
    """For each of `enabled`: 1 when its step takes the turn from a session that could have continued, else 0."""
    chosen: int


@dataclass
class Delivery:
    """An event that a reader received."""

    etag: int
    payload: str


@dataclass
class Carried:
    """The events, pages and errors of one order."""

    parts: list[Part] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    acknowledged: list[Event] = field(default_factory=list)
    aborted: list[Event] = field(default_factory=list)
    batches: set[int] = field(default_factory=set)
    """The numbers of events of the transactions that have ended."""
    delivered: dict[int, list[Delivery]] = field(default_factory=dict)
    """By the number of the reader's session."""
    read_on: dict[int, list[Delivery]] = field(default_factory=dict)
    """The part of `delivered` that was read after all programs were over."""
    last_pages: list[tuple[int, str]] = field(default_factory=list)
    """The statements that read it, each with the number of the reader's session."""
    stored: list[tuple[int | None, str | None]] = field(default_factory=list)
    """Etag and payload of each row of the log's table after the order."""
    failures: list[tuple[int, psycopg.Error, str]] = field(default_factory=list)
    """Errors that the log raised: session, error, and the SQL that was sent."""
    endless: list[int] = field(default_factory=list)
    """Sessions that did not end, and readers that did not reach the end of the log."""


def event_of(payload: str | None) -> Event | None:
    """The event of a payload; None when no producer wrote it."""
    from bench.postgres.stored import parse_event  # noqa: PLC0415 - numpy

    event = parse_event(payload or "")
    return (event.producer, event.seq) if event else None
