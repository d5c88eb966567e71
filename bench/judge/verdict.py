"""The verdict on a trial: its faults by kind, with examples."""

from dataclasses import dataclass, field

from bench.judge.evidence import Holder
from bench.judge.stranded import Stranded


@dataclass(frozen=True)
class EarlierAppend:
    """An append that was acknowledged before another one began."""

    producer: int
    seq: int
    """Of its first event."""
    etag: int
    """The highest of its etags."""
    seconds: float
    """The other append began at least this long after the acknowledgement, whatever the clocks of the workers were."""


@dataclass(frozen=True)
class Fault:
    """One faulty event, or append. Of a skipped event, the etags and times show how it came to be skipped."""

    kind: str
    reader: str | None = None
    """The reader that met the fault; None when it shows without any reading."""
    producer: int | None = None
    seq: int | None = None
    etag: int | None = None
    logged_at: float | None = None
    """Its ctime. This and the other times are Unix times on the database's clock."""
    visible_at: float | None = None
    """When its transaction was committed; None where the server keeps no commit times."""
    jumped_at: float | None = None
    """When the reader asked for the page that held a later event instead."""
    jumped_to: int | None = None
    """The etag of that later event."""
    earlier_append: EarlierAppend | None = None
    """Of an inverted append, whose first seq and lowest etag are those of the fault: an append with a higher etag."""


@dataclass(frozen=True)
class Gaps:
    """Counts of the etags that are missing between delivered ones, by the reason why they are missing."""

    late_commit: int = 0
    """Skipped; the commit was seen to come only after a reader had asked for the page with a later event."""
    early_commit: int = 0
    """Skipped; the commit was seen to begin before a reader asked for that page. An event is visible only when its
    commit is complete."""
    visible: int = 0
    """Skipped, though visible before reading began."""
    skipped: int = 0
    """Skipped; the time of the commit is unknown. In each of these four counts, an event that several readers skipped
    counts once."""
    rolled_back: int = 0
    """Drawn by a transaction that was rolled back."""
    unexplained: int = 0
    """Neither stored nor known to be rolled back: lost, or numbers that a sequence left out."""
    unknown: int = 0
    """Not stored; it is unknown which were rolled back, because the log's table has no xmin."""
    examples: list[tuple[int, int]] = field(default_factory=list)
    """The first ten runs of unexplained or unknown etags, as (first, last)."""
    doubled: int = 0
    """Not missing: rows beyond the first with the same etag."""
    doubled_etags: list[int] = field(default_factory=list)
    """The first ten etags that several rows have."""


@dataclass(frozen=True)
class ShortReader:
    """A reader that asked on without getting all events: it was given none, or stopped before the last one."""

    reader: str
    delivered: int
    """Events, each counted once."""
    withheld: int
    """Events that are stored and were withheld from it."""
    call: str
    """Its first call, like get_event(NULL, 1000)."""


@dataclass(frozen=True)
class SleepingReader:
    """A reader that only notifications wake, and that slept while there were events to read."""

    reader: str
    events: int
    """Committed events that were readable. It was given them when it was made to read once more, at the end."""


@dataclass(frozen=True)
class Verdict:
    """The faults of a trial: how many events of each kind, over all of its readers, with examples."""

    ok: bool
    expected_events: int
    expected_checksum: int
    skipped: int = 0
    """Acknowledged and stored, but not delivered to a reader that was given a later event."""
    withheld: int = 0
    """Acknowledged and stored, but neither it nor a later event was delivered before reading was given up."""
    lost: int = 0
    """Acknowledged, but not stored."""
    duplicated: int = 0
    """Delivered again."""
    reordered: int = 0
    """Delivered after a later event of the same producer, or, where etag order is promised, after a higher etag of its
    page."""
    rewound: int = 0
    """Pages that began with a lower etag than the page before ended with, where the order is by etag: the cursor of a
    reader or of a named client went back. Not events."""
    inconsistent: int = 0
    """Delivered with another etag than the one that is stored, at least one per reader whose checksum differs, or
    returned by log_event with another etag, of some events that were looked up."""
    disagreeing: int = 0
    """Readers that were given the events of another reader in another order, where one order is promised. Not
    events."""
    torn: int = 0
    """Pieces of batches that were delivered after an event of another producer had come between, where whole batches
    are promised. Not events."""
    inverted: int = 0
    """Appends with an etag below one of an append that was acknowledged before they began, where real-time order is
    promised: of those whose times are known. Not events."""
    phantom: int = 0
    """Stored or delivered, though it was rolled back or no producer says that it might be."""
    corrupt: int = 0
    """Delivered with another payload than it was appended with."""
    indeterminate: int = 0
    """Neither acknowledged nor refused: no fault."""
    aborted: int = 0
    """Rolled back by their producers: no fault."""
    lost_after_delivery: int = 0
    """Lost events that a reader was given: they were stored, and are gone."""
    lost_and_passed: int = 0
    """Lost events that no reader was given and that were not deleted behind readers, though a reader was given a later
    event of their producer."""
    kept_after_delivery: int = 0
    """Events that reading should have taken away and that are still in the table: whether they would be delivered a
    second time was not tried."""
    real_time_pairs: int | None = None
    """Pairs of appends by different producers of which one is known to have been acknowledged before the other began:
    the log's chances to break the real-time order. None where times of appends or their etags are unknown, as when
    reading began after the producers had ended, and in a result of a version that did not count them."""
    untested: list[str] = field(default_factory=list)
    """The promises, by their names in log.toml, that the log had no chance to break in this trial."""
    holders: list[Holder] | None = None
    """The transactions that were open when readers stopped waiting for withheld events; None when unknown."""
    wrong_checksums: int = 0
    """Readers that were given the right events, but with values whose sum is wrong."""
    gaps: Gaps = field(default_factory=Gaps)
    excused: list[str] = field(default_factory=list)
    """Kinds of fault that occurred and that the log does not promise to avoid."""
    stranded: list[Stranded] = field(default_factory=list)
    """The log's own errors that stopped workers."""
    unattempted: int = 0
    """Events that were not appended, because the log failed before their turn: no fault."""
    stopped: list[str] = field(default_factory=list)
    """Readings that were given up because the log would not come to an end, each as a sentence."""
    oversized: list[str] = field(default_factory=list)
    """Readings with pages that held more events than were asked for, each as a sentence: their rate is that of larger
    pages."""
    short: list[ShortReader] = field(default_factory=list)
    """The readers from which events were withheld, though they did not end early."""
    sleeping: list[SleepingReader] = field(default_factory=list)
    """The readers that slept while there were events to read, because no notification came."""
    by_reader: dict[str, dict[str, int]] = field(default_factory=dict)
    """Each reader's faults: the number of events by kind; empty for a reader without faults."""
    examples: list[Fault] = field(default_factory=list)
    """The first ten of each kind."""
