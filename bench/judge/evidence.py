"""The evidence that the checker is given: what was promised, written, delivered and stored. Events are runs of
consecutive seqs per producer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.judge.ranges import Ranges, events_in, first_events, intersect, normal
from bench.pairing import MODULUS
from bench.records import EXAMPLES, Anomaly, Example, Range

Etags = Sequence[tuple[int, int]]
"""Runs of (first etag, last etag)."""


@dataclass(frozen=True)
class Promise:
    """The log's promises about delivery, besides the one that every log makes: to deliver every event."""

    etag_order: bool = True
    producer_order: bool = True
    once: bool = True
    gap_free: bool = False
    by_etag: bool = True
    """A reader, or a group as a whole, never returns to an etag below one that it was given."""
    drained: bool = False
    """Reading began after the producers had ended."""
    redelivers: bool = False
    """The log itself remembers what was delivered, so it may deliver it again."""
    one_etag: bool = True
    """Events are delivered with the etags that are stored."""
    forward: bool = True
    """Where `by_etag` holds, no page begins with a lower etag than the one before it ended with."""
    one_order: bool = False
    """Readers that are given the same events are given them in one order."""
    real_time: bool = False
    """The etags of an append are higher than those of each append that was acknowledged before it began."""
    replay: bool = True
    """Reading leaves events in the table; else it takes them away, and events that are left may be due later."""


@dataclass(frozen=True)
class Written:
    """The fates of the producers' events, as the producers reported them."""

    acknowledged: Ranges
    indeterminate: Ranges = ()
    """The connection died while these were being committed: stored or not, either is right."""
    aborted: Ranges = ()
    """Rolled back: no reader may be given them."""
    rolled_back_etags: Etags | None = ()
    """The etags drawn by transactions that were rolled back; None when the log's table does not show them."""
    returned: Sequence[Example] = ()
    """Some of the acknowledged events, each with the etag with which log_event returned it."""
    unattempted: Ranges = ()
    """Not appended, because the log failed before their turn."""


@dataclass(frozen=True)
class Holder:
    """A transaction that was open when a reader stopped: a log may have held events back because of it."""

    pid: int | None
    """Process id of its backend; None for a prepared transaction."""
    database: str | None
    application: str | None
    """The session's application_name, or the name of a prepared transaction."""
    state: str | None
    """As in pg_stat_activity, or `prepared`; None where the server hides it."""
    seconds: float | None
    """Seconds since the transaction began, or since it was prepared."""
    wrote: bool
    """Whether it has a transaction id: it wrote something, or asked for an id."""
    wrote_here: bool
    """Whether it holds a writer's lock on a table of the log."""


@dataclass(frozen=True)
class Delivered:
    """The events that one reader was given: a consumer, or a group, whose members' ledgers are merged."""

    reader: str
    events: int
    checksum: int
    ranges: Ranges
    anomalies: Sequence[Anomaly] = ()
    falling_etags: int = 0
    """Events that came after one with a higher etag."""
    stopped: Sequence[str] = ()
    """Why the reader gave up before the end of the log."""
    stranded: bool = False
    """Whether the log failed before the reader reached its end."""
    highest_etag: int | None = None
    """The highest etag that the reader was given."""
    below: Ranges = ()
    """The stored events with a lower etag than `highest_etag`."""
    holders: Sequence[Holder] | None = ()
    """The transactions that were open when the reader stopped because no event came any more; None when it stopped for
    another reason, or when they are unknown."""

    call: str = "get_event"
    """The reader's first call."""
    page_events: int = 0
    """The events per page that the reader asked for; 0 when unknown."""
    largest_page: int = 0
    """Events in its largest page."""
    oversized_pages: int = 0
    """Pages with more events than the reader asked for."""
    overslept_events: int = 0
    """Events that a reader which only notifications wake was given at the very end, when it was made to read once more:
    no notification had come."""
    backward_pages: int = 0
    """Pages that began with a lower etag than the event before: `falling_etags` counts these too."""
    etag_checksum: int | None = None
    """The checksum of `bench.pairing` over the delivered events; None when unknown."""
    order_checksum: int | None = None
    """A checksum of the order of the delivered events; None when unknown, and of several members of a group, which have
    no order together."""

    @classmethod
    def together(cls, reader: str, members: Sequence["Delivered"]) -> "Delivered":
        """Merge the deliveries of a group's members: an event that two members were given is duplicated."""
        if len(members) == 1:
            return members[0]
        union: list[Range] = []
        anomalies = [anomaly for member in members for anomaly in member.anomalies]
        for member in members:
            ranges = normal(member.ranges)
            repeated = intersect(ranges, union)
            if repeated:
                examples = [Example(producer=producer, seq=seq) for producer, seq in first_events(repeated, EXAMPLES)]
                anomalies.append(Anomaly("duplicated", events_in(repeated), examples))
            union = normal([*union, *ranges])
        return cls(
            reader,
            sum(member.events for member in members),
            sum(member.checksum for member in members),
            union,
            anomalies,
            sum(member.falling_etags for member in members),
            [reason for member in members for reason in member.stopped],
            any(member.stranded for member in members),
            max((member.highest_etag for member in members if member.highest_etag is not None), default=None),
            holders=members[0].holders,
            call=members[0].call,
            page_events=members[0].page_events,
            largest_page=max(member.largest_page for member in members),
            oversized_pages=sum(member.oversized_pages for member in members),
            overslept_events=sum(member.overslept_events for member in members),
            backward_pages=sum(member.backward_pages for member in members),
            etag_checksum=_sum([member.etag_checksum for member in members]),
        )


def _sum(checksums: Sequence[int | None]) -> int | None:
    """The checksum of several deliveries together; None when one is unknown."""
    known = [each for each in checksums if each is not None]
    return sum(known) % MODULUS if len(known) == len(checksums) else None


@dataclass(frozen=True)
class Preloaded:
    """The events that were in the log before the run, and what became of them. Readers began after them."""

    ranges: Ranges = ()
    lost: Ranges = ()
    """No longer in the table."""
    changed: int = 0
    """Events with another payload than the one appended."""
    changed_examples: Sequence[Example] = ()
    moved: int = 0
    """The least number of events with another etag than before."""


@dataclass(frozen=True)
class Stored:
    """The contents of the log's table after the end."""

    ranges: Ranges
    foreign: int = 0
    """Rows that hold no producer's event."""
    foreign_etags: Sequence[int] = ()
    """The etags of the first foreign rows."""
    missing_etags: Etags = ()
    """Etags between the table's lowest and its highest that no row has."""
    doubled: int = 0
    """Rows beyond the first with the same etag."""
    doubled_etags: Sequence[int] = ()
    """The first etags that several rows have."""
    removed: Ranges = ()
    """Events that are no longer in the table, but were given to a reader of a log that can be read only once."""
    deleted: Ranges = ()
    """Events that were deleted behind readers: they were stored, whether or not a reader was given them."""
    etag_checksum: int | None = None
    """The checksum of `bench.pairing` over the table's events; None when it was not computed."""
    other_etags: int = 0
    """Events that were delivered with an etag that is not theirs in the table, as far as another reading showed."""
    other_etag_examples: Sequence[Example] = ()
    """The first of them, as delivered."""
    returned_otherwise: Sequence[Example] = ()
    """Of the events of `Written.returned`, those that log_event returned with an etag that is not theirs."""
    preloaded: Preloaded = Preloaded()
    """They are in none of the fields above."""
