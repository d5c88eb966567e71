"""The record of an exploration, stored as exploration.json."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.eventlog import Promises
from bench.flags import RESULTS, Flag, ResultsFolder
from bench.results.base import StoredModel
from bench.results.environment import Environment

FILE = "exploration.json"


class Options(BaseModel):
    """The flags of `bench explore` that do not change what is tried."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    all: bool = False
    """Explore every log that ships."""
    export_sql: Annotated[Path | None, Flag("FILE")] = None
    """Write the first counterexample as a script for psql; - is standard output."""
    export_markdown: Annotated[Path | None, Flag("FILE")] = None
    """Write the report here too, in markdown; - is standard output."""
    output: ResultsFolder = RESULTS


class Settings(StoredModel):
    """How logs are explored."""

    writers: Annotated[int, Field(ge=2, le=3)] = 2
    """Number of sessions that append."""
    bystander: Literal["none", "table", "prepared"] = "none"
    """Add a session that writes to another table and then commits, or prepares, its transaction."""
    preemptions: Annotated[int, Field(ge=0, le=20)] = 3
    """Inside statements: largest number of preemptions (a turn taken from a session that could continue)."""
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 100.0
    """Longest time per log; its scopes share the time."""
    seed: int = 0
    """Random seed for the order in which orders with the same number of preemptions are tried."""


class Step(StoredModel):
    """The actions of one session until another session takes its turn."""

    session: str
    kind: str
    """The kind of its statement: append, page, commit and so on."""
    sql: str
    begins: bool
    """False when the session continues a statement that stopped or waited before."""
    end: Literal["done", "stops", "waits", "fails"]
    stop: str = ""
    """Where the session stops, like `before nextval(events_log_etag_seq)`."""
    waits_for: list[str] = Field(default_factory=list)
    woken_by: str | None = None
    """The session whose step released this one; None when it was this session's own turn."""
    failure: str = ""
    events: list[str] = Field(default_factory=list)
    """The events that the session appends, or that its page holds, as PRODUCER.SEQ."""
    etags: list[int] = Field(default_factory=list)
    """The etags of the events in a page."""


class Counterexample(StoredModel):
    """A failing order, minimised."""

    scope: str
    kinds: list[str]
    """Kinds of faults: those of a verdict, or `numbering`, `stranded`, `given up`."""
    promised: bool
    """Whether the log promises that this does not happen."""
    counts: dict[str, int]
    """Number of events by kind of fault."""
    examples: list[str]
    """The faulty events, as PRODUCER.SEQ."""
    steps: int
    """Number of turns; a session that another one releases continues without a turn of its own."""
    sessions: list[str]
    """The sessions that take part in the order."""
    trace: list[Step]
    read_on: dict[str, list[str]]
    """The events that each reader received when it read to the end of the log after the last step."""
    failures: list[str]
    """Errors that the log raised, with the session."""
    etags: dict[str, int]
    """The etags of the stored events, after the last step."""
    sql: str
    """A psql script that reproduces the order."""


class ExploredScope(StoredModel):
    """How far a scope was explored, and what its orders cost."""

    name: str
    programs: dict[str, list[str]]
    """The statements of each session."""
    inside: bool
    """Sessions also stopped inside statements."""
    orders: int
    """Number of orders carried out."""
    equivalent: int = 0
    """Orders that were not carried out, because they differ from one of `orders` only in the sequence of steps that are
    independent of each other."""
    orders_at_most: int | None
    """Number of orders if no session ever waits for another; None where sessions stop inside statements."""
    complete: bool
    """All orders were carried out or are equivalent to one that was, except those with more preemptions than
    `most_preemptions`."""
    preemptions: int | None
    """All orders with up to this many preemptions were carried out, or are equivalent to one that was; None when not
    even all orders without preemptions were, or when `complete`."""
    most_preemptions: int | None
    """Orders with more preemptions were left out; None when no order was."""
    impossible: int
    """Orders whose first turns, taken from an earlier order, could not be repeated."""
    failing: dict[str, int]
    """Number of failing orders by their kinds of faults."""
    writers_waited: int
    """Orders in which a writer waited for another session."""
    readers_waited: int
    """Orders in which a reader waited for another session, or slept until something would change."""
    held_back: int
    """Orders in which a page was not full, although it left out events that were committed before it was requested."""
    seconds: float


class ExploredLog(StoredModel):
    """One log."""

    log: str
    promises: Promises
    failure: str | None = None
    """Why the log could not be explored, in a sentence; None when it was explored."""
    out_of_reach: list[str] = Field(default_factory=list)
    """The log's functions inside which sessions cannot be stopped, with the reason."""
    scopes: list[ExploredScope] = Field(default_factory=list)
    unexplored: list[str] = Field(default_factory=list)
    """The scopes that were not finished: the exploration was interrupted, or an earlier scope broke a promise."""
    counterexamples: list[Counterexample] = Field(default_factory=list)
    """The first of each kind of fault; those that break a promise come first."""

    @property
    def ok(self) -> bool:
        """Whether the log was explored and no order broke a promise."""
        return self.failure is None and not any(each.promised for each in self.counterexamples)


class Exploration(StoredModel):
    """Logs, each explored by itself."""

    schema_: Literal["bench.exploration/1"] = Field(default="bench.exploration/1", alias="schema")
    run_id: str
    started_at: datetime
    command: str
    environment: Environment
    settings: Settings
    logs: list[ExploredLog]

    @property
    def ok(self) -> bool:
        """Whether no promise was broken."""
        return all(each.ok for each in self.logs)
