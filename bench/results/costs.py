"""What the phases of a trial, and its log, cost, as result.json has it."""

from collections import Counter
from typing import NamedTuple

from pydantic import Field

from bench.results.base import StoredModel
from bench.results.series import Series

FEWEST_COMMITS_OF_OTHERS = 10
"""A server's own vacuuming commits a few a minute in each database."""
FEWEST_ROWS_OF_OTHERS = 1000
FEWEST_LOOKS_WITH_OTHERS = 2
"""A session that only looks at a server now and then is seldom seen twice."""
SMALLEST_SHARE_OF_OTHERS = 0.01


class Wait(StoredModel):
    """A share of the time of the backends of one kind."""

    backend: str
    """`worker` for those that serve our workers, `retention` for the one that deletes behind readers, else PostgreSQL's
    own kinds."""
    event: str
    """Type and name of the wait event, or CPU."""
    share: float
    """Of all samples of backends of this kind that were not idle."""


class CauseShare(StoredModel):
    """A cause, and its share of the time of the backends that serve workers."""

    cause: str
    """`cpu`, or what backends waited for, by the names in `bench/run/bottleneck.py`: `wal_flush`, `row_lock`."""
    event: str | None = None
    """Type and name of the wait event, where the cause stands for all of a type that have no cause of their own."""
    share: float


class Bottleneck(StoredModel):
    """The cause that set the pace of a phase, and the causes after it."""

    cause: str
    """`client` when a worker's own CPU did; else what backends spent most of their time with, as in `CauseShare`."""
    event: str | None = None
    """As in `CauseShare`."""
    share: float
    """Of the time of the backends that serve workers; with the cause `client`, of one core."""
    worker: str | None = None
    """The worker whose CPU set the pace; None unless the cause is `client`."""
    busy_cores: float | None = None
    """Cores that Postgres used; None where its processes cannot be seen."""
    others: list[CauseShare] = Field(default=[])
    """The other causes with which backends spent their time, the largest share first."""


class Others(NamedTuple):
    """The work of others on the server of a run meanwhile."""

    commits: int
    """In other databases."""
    rows: int
    """Written in other databases, by transactions that were over."""
    seen: int
    """Samples in which a session of theirs was at work, in any database."""
    looks: int
    """All samples."""


class Observed(StoredModel):
    """The costs of a phase, and what it waited for."""

    seconds: float
    samples: int
    """Times that Postgres was asked what its backends do."""
    bottleneck: Bottleneck | None
    """None when the phase was too short to see what set its pace."""
    bottleneck_sentence: str | None = None
    """The bottleneck in words, as a result of the schema bench.result/1 has it; None in results made since."""
    waits: list[Wait]
    counters: dict[str, int]
    """Counts of Postgres's statistics views for the phase; those that its version does not have are left out."""
    postgres_cpu_seconds: float | None
    """None where Postgres's processes cannot be seen."""
    postgres_memory_bytes: int | None
    """The largest amount that was seen, shared memory counted once."""
    notify_queue_share: float | None = None
    """The largest share of NOTIFY's queue that was seen in use, from 0 to 1; it is the whole server's. None where the
    server does not report it, and in a result of a version that did not store it."""
    workers_cpu_seconds: float
    worker_memory_bytes: int
    """The largest resident memory of one worker."""
    series: Series | None = None
    """Figures over time; None in a result of a version that did not store them."""
    observer_cpu_seconds: float | None = None
    """CPU time that Postgres spent on looking at itself; None where the role may not know it."""

    @property
    def others(self) -> Others | None:
        """The work of others on the server; None when each part of it was too little, compared with ours, to report."""
        count = Counter(self.counters)
        others = Others(
            *(count[name] for name in ("commits_elsewhere", "rows_elsewhere", "looks_with_others", "looks_for_others"))
        )
        is_notable = any(
            theirs >= fewest and theirs > SMALLEST_SHARE_OF_OTHERS * ours
            for theirs, fewest, ours in (
                (others.commits, FEWEST_COMMITS_OF_OTHERS, count["commits"]),
                (others.rows, FEWEST_ROWS_OF_OTHERS, count["rows_inserted"]),
                (others.seen, FEWEST_LOOKS_WITH_OTHERS, others.looks),
            )
        )
        return others if is_notable else None


class Preload(StoredModel):
    """The events that were in the log before the run."""

    events: int
    first_producer: int
    """Their producers have the numbers from here on; those of the run's events have lower ones."""
    table_bytes: int | None
    """Of the log's tables before the run, without indexes; None when it could not be found out, as in `index_bytes`."""
    index_bytes: int | None

    @property
    def stored_bytes(self) -> int | None:
        """The size of the log on disk before the run; None when it could not be found out."""
        return None if self.table_bytes is None or self.index_bytes is None else self.table_bytes + self.index_bytes


class Retention(StoredModel):
    """The events that were deleted behind readers during the run."""

    deleted: int
    too_early: int
    """Events among them that a reader was never given: those are lost."""
    statements: int
    """Statements that deleted something."""
    seconds: float
    """The time that all statements took."""


class Telemetry(StoredModel):
    """The costs of the log."""

    @property
    def stored_bytes(self) -> int | None:
        """The size of the log on disk, with its indexes; None when it could not be found out."""
        return None if self.table_bytes is None or self.index_bytes is None else self.table_bytes + self.index_bytes

    table_bytes: int | None
    """Without its indexes; None when it could not be found out, as in `index_bytes`."""
    index_bytes: int | None
    phases: dict[str, Observed] = Field(default={})
    """By the keys of `phase_seconds`."""
