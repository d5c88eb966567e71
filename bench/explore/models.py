"""What an exploration found, as it is kept in exploration.json."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.eventlog import Promises
from bench.flags import RESULTS, Flag, ResultsFolder
from bench.results.models import Environment, StoredModel

FILE = "exploration.json"


class Options(BaseModel):
    """The flags of `bench explore` that do not change what is tried."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    all: bool = False
    """Explore every log that ships."""
    export_sql: Annotated[Path | None, Flag("FILE")] = None
    """Write the first counterexample as a script for psql."""
    export_markdown: Annotated[Path | None, Flag("FILE")] = None
    """Write what is printed here too."""
    output: ResultsFolder = RESULTS


class Settings(StoredModel):
    """How logs are explored."""

    writers: Annotated[int, Field(ge=2, le=3)] = 2
    """Number of sessions that append."""
    bystander: Literal["none", "table", "prepared"] = "none"
    """A session beside them that writes to another table, and commits or prepares that."""
    preemptions: Annotated[int, Field(ge=0, le=20)] = 3
    """Inside of statements, leave out orders that interrupt sessions that could go on more often than this."""
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 100.0
    """Explore each log for no longer than this; scopes share the time."""
    seed: int = 0
    """Random seed for the order in which orders with the same number of preemptions are tried."""


class Step(StoredModel):
    """What one session does until it is another one's turn."""

    session: str
    kind: str
    """The kind of its statement: append, page, commit and so on."""
    sql: str
    begins: bool
    """False when it goes on with a statement that stopped or waited before."""
    end: Literal["done", "stops", "waits", "fails"]
    stop: str = ""
    """Where it stops, like `before nextval(events_log_etag_seq)`."""
    waits_for: list[str] = Field(default_factory=list)
    woken_by: str | None = None
    """The session whose step let this one go on; None when it was its own turn."""
    failure: str = ""
    events: list[str] = Field(default_factory=list)
    """The events that it appends, or that its page holds: producer and seq with a point between."""
    etags: list[int] = Field(default_factory=list)
    """The etags of those in a page."""


class Counterexample(StoredModel):
    """An order in which something goes wrong, in as few steps as were found."""

    scope: str
    kinds: list[str]
    """What goes wrong: kinds of a verdict, or `numbering`, `stranded`, `given up`."""
    promised: bool
    """Whether the log promises that this does not happen."""
    counts: dict[str, int]
    """Events by what is wrong with them."""
    examples: list[str]
    """The events that something is wrong with: producer and seq with a point between."""
    steps: int
    """How many turns it takes; what goes on by itself when another session lets it is no turn."""
    sessions: list[str]
    """Those that have something to do in it."""
    trace: list[Step]
    read_on: dict[str, list[str]]
    """The events that each reader was given when all of this was over and it read to the end."""
    failures: list[str]
    """Errors of the log's own that statements met, with the session."""
    etags: dict[str, int]
    """The etags of the events that are stored in the end."""
    sql: str
    """A script for psql to see it again by hand."""


class ExploredScope(StoredModel):
    """How far a scope was explored, and what its orders cost."""

    name: str
    programs: dict[str, list[str]]
    """The statements of each session."""
    inside: bool
    """Sessions stopped inside of statements too."""
    orders: int
    """Carried out."""
    orders_at_most: int | None
    """How many there are when no session waits for another one; None where sessions stop inside of statements."""
    complete: bool
    """No order was left to be carried out, but for those with more preemptions than `most_preemptions`."""
    preemptions: int | None
    """All orders with at most this many preemptions were carried out; None when not even those without any were."""
    most_preemptions: int | None
    """Orders with more preemptions were left out; None when none was."""
    impossible: int
    """Orders that could not be carried out a second time up to where they differ from another one."""
    failing: dict[str, int]
    """Orders by the kinds of what went wrong."""
    writers_waited: int
    """Orders in which a writer waited for another session."""
    readers_waited: int
    """Orders in which a reader waited for another session, or slept until something would change."""
    held_back: int
    """Orders in which a page left out events that were committed before it was asked for, and was not full."""
    seconds: float


class ExploredLog(StoredModel):
    """One log."""

    log: str
    promises: Promises
    failure: str | None = None
    """Why it could not be explored, in a sentence; None when it was."""
    out_of_reach: list[str] = Field(default_factory=list)
    """What of it cannot be stopped inside, with the reason."""
    scopes: list[ExploredScope] = Field(default_factory=list)
    counterexamples: list[Counterexample] = Field(default_factory=list)
    """The first of each kind; those that break a promise first."""

    @property
    def ok(self) -> bool:
        """Whether it was explored and nothing broke a promise."""
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
