"""The checker: ledgers in, verdict out. Pure: no database, no files, no clock.

Written events are known from the producers' acknowledgements alone, delivered events from the consumers, stored events
from an audit of the table. All three are runs of consecutive seqs per producer, so a healthy trial is judged in
constant time and memory, whatever its size.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bench.judge.ranges import Ranges, checksum, events_in, first_events, intersect, normal, subtract
from bench.pairing import MODULUS
from bench.records import EXAMPLES, Anomaly, Example, Range

Etags = Sequence[tuple[int, int]]
"""Runs of (first etag, last etag)."""


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
class Stranded:
    """The `LogError` of a worker, as a result stores it: with the worker's name and the line of schema.sql."""

    worker: str
    call: str
    """The call that failed: log_event, INSERT, COPY or get_event."""
    message: str
    sqlstate: str | None = None
    """None when the error did not come from the server."""
    detail: str = ""
    hint: str = ""
    context: str = ""
    """The server's CONTEXT: the functions that were running, innermost first."""
    line: int | None = None
    """The line of schema.sql; None when unknown."""
    events: tuple[int, int] | None = None
    """Producers: the first and the last seq of the batch that failed."""


_PLPGSQL = re.compile(r"PL/pgSQL\D*?([\w.\"$]+\([^)]*\))\D*([0-9]+)")


def line_in_function(context: str) -> tuple[str, int] | None:
    """The PL/pgSQL function that a line of CONTEXT names, in any language of the server, and the line in its body."""
    match = _PLPGSQL.search(context)
    return (match[1], int(match[2])) if match else None


class Jump(NamedTuple):
    """A tailing reader's step from one etag to a later one that is not the next."""

    before: int
    """The etag that it was given before the jump."""
    after: int
    asked_at: float
    """When it asked for the page that begins after the jump: Unix time on the database's clock."""


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
            backward_pages=sum(member.backward_pages for member in members),
            etag_checksum=_sum([member.etag_checksum for member in members]),
        )


def _sum(checksums: Sequence[int | None]) -> int | None:
    """The checksum of several deliveries together; None when one is unknown."""
    known = [each for each in checksums if each is not None]
    return sum(known) % MODULUS if len(known) == len(checksums) else None


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
    etag_checksum: int | None = None
    """The checksum of `bench.pairing` over the table's events; None when it was not computed."""
    other_etags: int = 0
    """Events that were delivered with an etag that is not theirs in the table, as far as another reading showed."""
    other_etag_examples: Sequence[Example] = ()
    """The first of them, as delivered."""
    returned_otherwise: Sequence[Example] = ()
    """Of the events of `Written.returned`, those that log_event returned with an etag that is not theirs."""


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
    replay: bool = True
    """Reading leaves events in the table; else it takes them away, and events that are left may be due later."""


@dataclass(frozen=True)
class Fault:
    """One faulty event. Of a skipped event, the etags and times show how it came to be skipped."""

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
    """Lost events that no reader was given, though a reader was given a later event of their producer."""
    kept_after_delivery: int = 0
    """Events that reading should have taken away and that are still in the table: whether they would be delivered a
    second time was not tried."""
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
    by_reader: dict[str, dict[str, int]] = field(default_factory=dict)
    """Each reader's faults: the number of events by kind; empty for a reader without faults."""
    examples: list[Fault] = field(default_factory=list)
    """The first ten of each kind."""


KINDS = (
    "skipped",
    "withheld",
    "lost",
    "duplicated",
    "reordered",
    "rewound",
    "inconsistent",
    "disagreeing",
    "torn",
    "phantom",
    "corrupt",
)


def accounted_for(written: Written) -> int:
    """Number of events that producers account for, whatever became of them."""
    return events_in(normal([*written.acknowledged, *written.indeterminate, *written.aborted, *written.unattempted]))


def needs_audit(written: Written, reads: Sequence[Delivered], stored_events: int) -> bool:
    """Whether the table must be looked through, because its number of rows does not prove what it holds.

    When every reader was given exactly the acknowledged events, each once, all of them are in the table; and when the
    table has no more rows than there are such events, it holds nothing else.
    """
    acknowledged = normal(written.acknowledged)
    return (
        bool(written.indeterminate)
        or stored_events != events_in(acknowledged)
        or any(read.anomalies or read.events != stored_events or normal(read.ranges) != acknowledged for read in reads)
    )


def was_given(read: Delivered, stored: Stored) -> bool:
    """Whether a reader was given exactly the stored events, each once, so that checksums of their etags compare."""
    ranges = normal(stored.ranges)
    return (
        read.events == events_in(ranges)
        and normal(read.ranges) == ranges
        and not any(anomaly.kind in {"duplicated", "phantom"} for anomaly in read.anomalies)
    )


def undelivered(written: Written, reads: Sequence[Delivered]) -> bool:
    """Whether some reader was not given every acknowledged event."""
    acknowledged = normal(written.acknowledged)
    return any(subtract(acknowledged, normal(read.ranges)) for read in reads)


def judge(
    written: Written,
    reads: Sequence[Delivered],
    stored: Stored,
    promise: Promise | None = None,
    stranded: Sequence[Stranded] = (),
) -> Verdict:
    """Compare the events that were written, delivered and stored. Each reader is held to the same promise; a log that
    strands a worker fails.
    """
    promise = promise or Promise()
    acknowledged = normal(written.acknowledged)
    possible = normal([*written.acknowledged, *written.indeterminate])
    in_table = normal([*stored.ranges, *stored.removed])
    expected_checksum = sum(checksum(part) for part in acknowledged)
    examples: list[Fault] = []
    counts = dict.fromkeys(KINDS, 0)

    def count_faults(kind: str, ranges: Ranges) -> None:
        counts[kind] += events_in(ranges)
        examples.extend(Fault(kind, None, producer, seq) for producer, seq in first_events(ranges, EXAMPLES))

    lost = subtract(acknowledged, in_table)
    count_faults("lost", lost)
    count_faults("phantom", subtract(in_table, possible))
    counts["phantom"] += stored.foreign
    examples.extend(Fault("phantom", etag=etag) for etag in stored.foreign_etags)
    counts["inconsistent"] += len(stored.returned_otherwise)
    examples.extend(
        Fault("inconsistent", None, example.producer, example.seq, example.etag)
        for example in stored.returned_otherwise
    )
    by_reader: dict[str, dict[str, int]] = {}
    for read in reads:
        own, faults = _judge_reader(read, acknowledged, possible, in_table, promise)
        checksums = {read.etag_checksum, stored.etag_checksum}
        if None not in checksums and len(checksums) > 1 and was_given(read, stored):
            own["inconsistent"] = max(1, stored.other_etags)
            faults += [
                Fault("inconsistent", read.reader, example.producer, example.seq, example.etag)
                for example in stored.other_etag_examples
            ]
        examples.extend(faults)
        # Stored phantoms were counted above; a log may also make events up as it delivers them.
        phantoms = max(0, own["phantom"] - events_in(subtract(in_table, possible)) - stored.foreign)
        for kind in KINDS:
            counts[kind] += phantoms if kind == "phantom" else own[kind]
        by_reader[read.reader] = {kind: count for kind, count in own.items() if count}
        if read.oversized_pages:
            by_reader[read.reader]["oversized pages"] = read.oversized_pages
        if read.stopped:
            by_reader[read.reader]["given up"] = len(read.stopped)
        if read.stranded:
            by_reader[read.reader]["stranded"] = 1
    for read in _disagreeing(reads) if promise.one_order else ():
        counts["disagreeing"] += 1
        by_reader[read.reader]["disagreeing"] = 1
        examples.append(Fault("disagreeing", read.reader))
    wrong_checksums = sum(
        normal(read.ranges) == acknowledged and not read.anomalies and read.checksum != expected_checksum
        for read in reads
    )
    excused = [
        kind
        for kind, promised in (
            ("duplicated", promise.once),
            ("reordered", promise.producer_order),
            ("rewound", promise.forward),
            ("inconsistent", promise.one_etag),
        )
        if counts[kind] and not promised
    ]
    oversized = [_oversized(read) for read in reads if read.oversized_pages]
    stopped = list(dict.fromkeys(f"{read.reader}: {reason}" for read in reads for reason in read.stopped))
    delivered = normal([part for read in reads for part in read.ranges])
    passed_over = normal([part for read in reads for part in _skipped(read, acknowledged, in_table, promise)])
    untested = promise.redelivers and not counts["duplicated"]
    gaps = replace(
        explain(stored.missing_etags, written.rolled_back_etags, events_in(passed_over), drained=promise.drained),
        doubled=stored.doubled,
        doubled_etags=list(stored.doubled_etags),
    )
    broken_numbering = promise.gap_free and (stored.missing_etags or stored.doubled)
    return Verdict(
        ok=not any(counts[kind] for kind in KINDS if kind not in excused)
        and not wrong_checksums
        and not stranded
        and not stopped
        and not oversized
        and not broken_numbering,
        expected_events=events_in(acknowledged),
        expected_checksum=expected_checksum,
        **counts,
        indeterminate=events_in(normal(written.indeterminate)),
        aborted=events_in(normal(written.aborted)),
        lost_after_delivery=events_in(intersect(lost, delivered)),
        lost_and_passed=events_in(intersect(subtract(lost, delivered), _up_to_the_last(delivered))),
        kept_after_delivery=events_in(intersect(normal(stored.ranges), delivered)) if untested else 0,
        holders=_holders([read for read in reads if by_reader[read.reader].get("withheld")]),
        wrong_checksums=wrong_checksums,
        gaps=gaps,
        excused=excused,
        stranded=list(stranded),
        unattempted=events_in(normal(written.unattempted)),
        stopped=stopped,
        oversized=oversized,
        short=[
            ShortReader(read.reader, events_in(normal(read.ranges)), by_reader[read.reader]["withheld"], read.call)
            for read in reads
            if by_reader[read.reader].get("withheld") and not read.stopped and not read.stranded
        ],
        by_reader=by_reader,
        examples=[
            example for kind in KINDS for example in [fault for fault in examples if fault.kind == kind][:EXAMPLES]
        ],
    )


def skipped(written: Written, read: Delivered, stored: Stored, promise: Promise) -> list[Range]:
    """The events that a reader skipped."""
    return _skipped(read, normal(written.acknowledged), normal([*stored.ranges, *stored.removed]), promise)


def _judge_reader(
    read: Delivered, acknowledged: Ranges, possible: Ranges, in_table: Ranges, promise: Promise
) -> tuple[dict[str, int], list[Fault]]:
    """One reader's faults, as counts by kind and as examples."""
    counts = dict.fromkeys(KINDS, 0)
    delivered = normal(read.ranges)
    examples: list[Fault] = []
    undelivered = intersect(subtract(acknowledged, delivered), in_table)
    skipped_ranges = _skipped(read, acknowledged, in_table, promise)
    for kind, ranges in (
        ("skipped", skipped_ranges),
        ("withheld", subtract(undelivered, skipped_ranges)),
        ("phantom", subtract(delivered, possible)),
    ):
        counts[kind] += events_in(ranges)
        examples.extend(Fault(kind, read.reader, producer, seq) for producer, seq in first_events(ranges, EXAMPLES))
    for anomaly in read.anomalies:
        counts[anomaly.kind] += anomaly.count
        examples.extend(
            Fault(anomaly.kind, read.reader, example.producer, example.seq, example.etag)
            for example in anomaly.examples
        )
    if promise.etag_order:
        counts["reordered"] = max(counts["reordered"], read.falling_etags - read.backward_pages)
    if promise.by_etag:
        counts["rewound"] = read.backward_pages
    return counts, examples


def _disagreeing(reads: Sequence[Delivered]) -> list[Delivered]:
    """The readers that were given the events of an earlier reader in another order."""
    orders: dict[tuple[object, ...], int] = {}
    disagreeing = []
    for read in reads:
        if read.order_checksum is not None:
            alike = read.events, tuple(normal(read.ranges))
            if orders.setdefault(alike, read.order_checksum) != read.order_checksum:
                disagreeing.append(read)
    return disagreeing


def _oversized(read: Delivered) -> str:
    return (
        f"{read.reader}: pages of {read.page_events} held up to {read.largest_page} events: get_event ignores its limit"
    )


def _skipped(read: Delivered, acknowledged: Ranges, in_table: Ranges, promise: Promise) -> list[Range]:
    """The undelivered events that a reader has passed: it was given a later one.

    Which event is later follows from the order that the log promises: by etag, or each producer's own. Where it
    promises neither, no event is later than another: any may still be due. A reader that stopped because no event came,
    although no transaction was open that could hold events back, has also passed every event with a lower etag, if the
    log promises an order; but not where reading takes events away, because events that are left may still be due.
    """
    delivered = normal(read.ranges)
    nothing_open = not read.stopped and not read.stranded and read.holders is not None and not read.holders
    later: list[Range] = []
    if promise.by_etag or (promise.producer_order and promise.replay and nothing_open):
        later += read.below
    if promise.producer_order:
        later += _up_to_the_last(delivered)
    return intersect(subtract(intersect(acknowledged, in_table), delivered), normal(later))


def _up_to_the_last(delivered: Ranges) -> list[Range]:
    """All events of each producer up to its last delivered one; `delivered` is normal."""
    highest = {producer: last for producer, _, last in delivered}
    return [(producer, 0, last) for producer, last in highest.items()]


def _holders(reads: Sequence[Delivered]) -> list[Holder] | None:
    """The transactions that were open when these readers stopped, each once; None when unknown for all readers."""
    known = [read.holders for read in reads if read.holders is not None]
    distinct = {(holder.pid, holder.application): holder for holders in known for holder in holders}
    return list(distinct.values())[:EXAMPLES] if known else None


def explain(missing: Etags, rolled_back_etags: Etags | None, skipped: int, *, drained: bool) -> Gaps:
    """Explain why etags are missing between delivered ones: `missing` are the etags that no row has,
    `rolled_back_etags` the etags drawn by transactions that were rolled back (None when unknown), `skipped` the number
    of stored events that a reader has passed. `drained` means that reading began after the producers had ended.
    """
    absent = normal([(0, first, last) for first, last in missing])
    rolled_back = intersect(absent, normal([(0, first, last) for first, last in rolled_back_etags or ()]))
    others = subtract(absent, rolled_back)
    return Gaps(
        visible=skipped if drained else 0,
        skipped=0 if drained else skipped,
        rolled_back=events_in(rolled_back),
        unexplained=0 if rolled_back_etags is None else events_in(others),
        unknown=events_in(others) if rolled_back_etags is None else 0,
        examples=[(first, last) for _, first, last in others[:EXAMPLES]],
    )


def with_commits(verdict: Verdict, late: int, early: int) -> Verdict:
    """Add to a verdict how many skipped events were seen to be committed after a reader had asked for the page with a
    later event (`late`), and how many were seen to begin their commit before that (`early`).
    """
    gaps = verdict.gaps
    return replace(
        verdict, gaps=replace(gaps, late_commit=late, early_commit=early, skipped=gaps.skipped - late - early)
    )


def jump_over(etag: int, jumps: Iterable[Jump]) -> Jump | None:
    """The first of a reader's jumps over an etag."""
    return next((jump for jump in jumps if jump.before < etag < jump.after), None)
