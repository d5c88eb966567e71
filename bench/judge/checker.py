"""Was it right? Ledgers in, verdict out. Pure: no database, no files, no clock.

What was written is known from the producers' acknowledgements alone, what was delivered from the consumers, what is
stored from an audit of the table. All three are runs of consecutive seqs a producer, so a healthy trial is judged in
constant time and memory, whatever its size.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bench.judge.ranges import Ranges, checksum, events_in, first_events, intersect, normal, subtract
from bench.records import EXAMPLES, Anomaly, Example, Range

Etags = Sequence[tuple[int, int]]
"""Runs of (first etag, last etag)."""


@dataclass(frozen=True)
class Holder:
    """A transaction that was open when a reader stopped, and because of which a log may have held events back."""

    pid: int | None
    """Of its backend; None of a prepared transaction."""
    database: str | None
    application: str | None
    """The session's application_name, or the name of a prepared transaction."""
    state: str | None
    """As in pg_stat_activity, or `prepared`; None where the server hides it."""
    seconds: float | None
    """How long it had been open, or prepared."""
    wrote: bool
    """Whether it has a transaction id: it wrote to something, or asked for one."""
    wrote_here: bool
    """Whether it holds a writer's lock on a table of the log."""


@dataclass(frozen=True)
class Stranded:
    """The `LogError` of a worker, as a result stores it: with the worker's name and the line of schema.sql."""

    worker: str
    call: str
    """What it called: log_event, INSERT, COPY or get_event."""
    message: str
    sqlstate: str | None = None
    """None when it is no error of the server's."""
    detail: str = ""
    hint: str = ""
    context: str = ""
    """Where the server met it, function by function, innermost first."""
    line: int | None = None
    """The line of schema.sql; None when it is not known."""
    events: tuple[int, int] | None = None
    """A producer's: the first seq and the last of the batch that it was met with."""


_PLPGSQL = re.compile(r"PL/pgSQL\D*?([\w.\"$]+\([^)]*\))\D*([0-9]+)")


def line_in_function(context: str) -> tuple[str, int] | None:
    """The function of PL/pgSQL that a line of CONTEXT speaks of, in whatever language, and the line in its body."""
    found = _PLPGSQL.search(context)
    return (found[1], int(found[2])) if found else None


class Jump(NamedTuple):
    """A tailing reader's step from one etag to a later one that is not the next."""

    before: int
    """The etag that it was given before the jump."""
    after: int
    asked_at: float
    """When it asked for the page that begins after the jump: Unix time on the database's clock."""


@dataclass(frozen=True)
class Written:
    """What producers know of their events."""

    acknowledged: Ranges
    indeterminate: Ranges = ()
    """The connection died while these were being committed: either fate is right."""
    aborted: Ranges = ()
    """Rolled back: nobody may see them."""
    rolled_back_etags: Etags | None = ()
    """The etags that rolled back transactions had drawn; None when the log's table does not show which."""
    unattempted: Ranges = ()
    """Not appended, because the log failed before it was their turn."""


@dataclass(frozen=True)
class Delivered:
    """What one reader was given: a consumer, or a group whose members' ledgers are put together."""

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
    """Whether the log failed before the reader was at its end."""
    highest_etag: int | None = None
    """The highest etag that it was given."""
    below: Ranges = ()
    """The stored events with a lower etag than the highest one that it was given."""
    holders: Sequence[Holder] | None = ()
    """The transactions that were open when it stopped because nothing came any more; None when it stopped for another
    reason, or they are not known."""

    page_events: int = 0
    """The events that it asked for per page; 0 when nobody says."""
    largest_page: int = 0
    """The most events that one page held."""
    oversized_pages: int = 0
    """Pages that held more than it asked for."""

    @classmethod
    def together(cls, reader: str, members: Sequence["Delivered"]) -> "Delivered":
        """What the members of a group were given: an event that two of them had is doubled."""
        if len(members) == 1:
            return members[0]
        union: list[Range] = []
        anomalies = [anomaly for member in members for anomaly in member.anomalies]
        for member in members:
            ranges = normal(member.ranges)
            again = intersect(ranges, union)
            if again:
                examples = [Example(producer=producer, seq=seq) for producer, seq in first_events(again, EXAMPLES)]
                anomalies.append(Anomaly("duplicated", events_in(again), examples))
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
            page_events=members[0].page_events,
            largest_page=max(member.largest_page for member in members),
            oversized_pages=sum(member.oversized_pages for member in members),
        )


@dataclass(frozen=True)
class Stored:
    """What the table holds after the end."""

    ranges: Ranges
    foreign: int = 0
    """Rows that are no producer's events."""
    foreign_etags: Sequence[int] = ()
    """The etags of the first of those rows."""
    missing_etags: Etags = ()
    """Etags that no row has, though a row has a higher one and a row has a lower one."""
    doubled: int = 0
    """Rows beyond the first with the same etag."""
    doubled_etags: Sequence[int] = ()
    """The first etags that several rows have."""
    removed: Ranges = ()
    """Events that no row has any more, but a reader of a log that can be read only once was given them."""


@dataclass(frozen=True)
class Promise:
    """What the log promises of a delivery; it is always expected to deliver every event."""

    etag_order: bool = True
    producer_order: bool = True
    once: bool = True
    gap_free: bool = False
    by_etag: bool = True
    """A reader, or a group as a whole, never comes back to an etag below one that it was given."""
    drained: bool = False
    """Reading began when producers had ended."""
    redelivers: bool = False
    """The log itself remembers what was delivered, so it may deliver it again."""
    replay: bool = True
    """Reading leaves events where they are; else they are taken away, and what is left may be due later."""


@dataclass(frozen=True)
class Fault:
    """One event that something is wrong with. For one that was skipped, the rest tells how it came about."""

    kind: str
    reader: str | None = None
    """Who met it; None when no reading was needed to see it."""
    producer: int | None = None
    seq: int | None = None
    etag: int | None = None
    logged_at: float | None = None
    """Its ctime, Unix time on the database's clock, as the other times."""
    visible_at: float | None = None
    """When its transaction was committed; None where the server does not keep that."""
    jumped_at: float | None = None
    """When the reader asked for the page in which it was given a later event instead."""
    jumped_to: int | None = None
    """The etag of that later event."""


@dataclass(frozen=True)
class Gaps:
    """The etags that no reader was given between others, by what became of them."""

    late_commit: int = 0
    """Skipped, and seen to be committed only after a reader asked for the page in which it was given a later one."""
    early_commit: int = 0
    """Skipped, and its commit was seen to begin before that. It is visible only when it is complete."""
    visible: int = 0
    """Skipped, and visible before reading began."""
    skipped: int = 0
    """Skipped, and nobody saw when it was committed. An event that several readers skipped counts once in each of these
    four."""
    rolled_back: int = 0
    """Drawn by a transaction that was rolled back."""
    unexplained: int = 0
    """Neither stored nor known to be rolled back: lost, or numbers that a sequence left out."""
    unknown: int = 0
    """Not stored; which ones were rolled back nobody knows, because the log's table has no xmin."""
    examples: list[tuple[int, int]] = field(default_factory=list)
    """The first ten that are unexplained or unknown, as (first, last)."""
    doubled: int = 0
    """Not missing: rows beyond the first with the same etag."""
    doubled_etags: list[int] = field(default_factory=list)
    """The first ten etags that several rows have."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a trial: how many events of each kind for all of its readers, with examples."""

    ok: bool
    expected_events: int
    expected_checksum: int
    skipped: int = 0
    """Acknowledged and stored, but not delivered to a reader that was given a later event."""
    withheld: int = 0
    """Acknowledged and stored, and not delivered until reading was given up: no later event was, either."""
    lost: int = 0
    """Acknowledged, but not stored."""
    duplicated: int = 0
    """Delivered again."""
    reordered: int = 0
    """Delivered after a later event of the same producer, or, where etag order is promised, after a higher etag."""
    phantom: int = 0
    """Stored or delivered, though it was rolled back or no producer says that it might be."""
    corrupt: int = 0
    """Delivered with another payload than it was appended with."""
    indeterminate: int = 0
    """Neither acknowledged nor refused: no fault."""
    aborted: int = 0
    """Rolled back by their producers: no fault."""
    lost_after_delivery: int = 0
    """Of the lost ones, those that a reader was given: they were stored, and are gone."""
    lost_and_passed: int = 0
    """Of the lost ones, those that no reader was given, though one was given a later event of their producer."""
    kept_after_delivery: int = 0
    """Events that reading should have taken away and that are still in the table: whether they would be delivered a
    second time was not tried."""
    holders: list[Holder] | None = None
    """The transactions that were open when readers stopped waiting for withheld events; None when nobody looked."""
    wrong_checksums: int = 0
    """Readers that were given the right events whose values had the wrong sum."""
    gaps: Gaps = field(default_factory=Gaps)
    excused: list[str] = field(default_factory=list)
    """Kinds that were met and that the log does not promise to avoid."""
    stranded: list[Stranded] = field(default_factory=list)
    """Why workers went no further, where that is the log's own doing."""
    unattempted: int = 0
    """Events that were not appended, because the log failed before it was their turn: no fault."""
    stopped: list[str] = field(default_factory=list)
    """Readings that were given up because the log would not come to an end, in words."""
    oversized: list[str] = field(default_factory=list)
    """Readings with pages that held more events than were asked for, in words: their rate is one of larger pages."""
    by_reader: dict[str, dict[str, int]] = field(default_factory=dict)
    """What each reader met; an empty one met nothing."""
    examples: list[Fault] = field(default_factory=list)
    """The first ten of each kind."""


KINDS = ("skipped", "withheld", "lost", "duplicated", "reordered", "phantom", "corrupt")


def accounted_for(written: Written) -> int:
    """How many events producers account for."""
    return events_in(normal([*written.acknowledged, *written.indeterminate, *written.aborted, *written.unattempted]))


def needs_audit(written: Written, reads: Sequence[Delivered], stored_events: int) -> bool:
    """Whether the table must be looked through, or its number of rows already proves what it holds.

    When every reader was given exactly the acknowledged events, each once, all of them are in the table; and when the
    table has no more rows than that, it holds nothing else.
    """
    acknowledged = normal(written.acknowledged)
    return (
        bool(written.indeterminate)
        or stored_events != events_in(acknowledged)
        or any(read.anomalies or read.events != stored_events or normal(read.ranges) != acknowledged for read in reads)
    )


def undelivered(written: Written, reads: Sequence[Delivered]) -> bool:
    """Whether some reader was not given all that was acknowledged."""
    acknowledged = normal(written.acknowledged)
    return any(subtract(acknowledged, normal(read.ranges)) for read in reads)


def judge(
    written: Written,
    reads: Sequence[Delivered],
    stored: Stored,
    promise: Promise | None = None,
    stranded: Sequence[Stranded] = (),
) -> Verdict:
    """Compare what was written, delivered and stored. Each reader is held to the same promise; a log that strands a
    worker fails.
    """
    promise = promise or Promise()
    acknowledged = normal(written.acknowledged)
    possible = normal([*written.acknowledged, *written.indeterminate])
    in_table = normal([*stored.ranges, *stored.removed])
    expected_checksum = sum(checksum(part) for part in acknowledged)
    examples: list[Fault] = []
    counts = dict.fromkeys(KINDS, 0)

    def found(kind: str, ranges: Ranges) -> None:
        counts[kind] += events_in(ranges)
        examples.extend(Fault(kind, None, producer, seq) for producer, seq in first_events(ranges, EXAMPLES))

    lost = subtract(acknowledged, in_table)
    found("lost", lost)
    found("phantom", subtract(in_table, possible))
    counts["phantom"] += stored.foreign
    examples.extend(Fault("phantom", etag=etag) for etag in stored.foreign_etags)
    by_reader: dict[str, dict[str, int]] = {}
    for read in reads:
        own, faults = _judge_reader(read, acknowledged, possible, in_table, promise)
        examples.extend(faults)
        # What is stored was counted above; a log may also make events up as it delivers them.
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
    wrong_checksums = sum(
        normal(read.ranges) == acknowledged and not read.anomalies and read.checksum != expected_checksum
        for read in reads
    )
    excused = [
        kind
        for kind, promised in (("duplicated", promise.once), ("reordered", promise.producer_order))
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
    """What one reader met, as counts by kind and as examples."""
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
        counts["reordered"] = max(counts["reordered"], read.falling_etags)
    return counts, examples


def _oversized(read: Delivered) -> str:
    return (
        f"{read.reader}: pages of {read.page_events} held up to {read.largest_page} events: get_event ignores its limit"
    )


def _skipped(read: Delivered, acknowledged: Ranges, in_table: Ranges, promise: Promise) -> list[Range]:
    """The events that a reader was past: it was given a later one.

    Which one is later is what the log promises to go by: etags, or the order of each producer. Where it goes by
    neither, no event is later than another: it may be due later. A reader of a log with an order that went on in vain,
    although no transaction was open that could hold events back, is past every event of a lower etag, too; but not
    where reading takes events away, because those that are left may be given when they are due.
    """
    delivered = normal(read.ranges)
    in_vain = not read.stopped and not read.stranded and read.holders is not None and not read.holders
    later: list[Range] = []
    if promise.by_etag or (promise.producer_order and promise.replay and in_vain):
        later += read.below
    if promise.producer_order:
        later += _up_to_the_last(delivered)
    return intersect(subtract(intersect(acknowledged, in_table), delivered), normal(later))


def _up_to_the_last(delivered: Ranges) -> list[Range]:
    """All that producers appended before the last event that was delivered of each; `delivered` is normal."""
    highest = {producer: last for producer, _, last in delivered}
    return [(producer, 0, last) for producer, last in highest.items()]


def _holders(reads: Sequence[Delivered]) -> list[Holder] | None:
    """Who was there when these readers stopped; a session that several of them met counts once."""
    known = [read.holders for read in reads if read.holders is not None]
    found = {(holder.pid, holder.application): holder for holders in known for holder in holders}
    return list(found.values())[:EXAMPLES] if known else None


def explain(missing: Etags, rolled_back_etags: Etags | None, skipped: int, *, drained: bool) -> Gaps:
    """Explain why etags are missing from what was delivered: `missing` are those that no row has, `rolled_back_etags`
    those that rolled back transactions had drawn (None when unknown), `skipped` the number of stored events that a
    reader was past. `drained` says that reading began when producers had ended.
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
    """Add to a verdict of how many skipped events the commit was seen: to be after a reader asked for the page in which
    it was given a later one, and to begin before that.
    """
    gaps = verdict.gaps
    return replace(
        verdict, gaps=replace(gaps, late_commit=late, early_commit=early, skipped=gaps.skipped - late - early)
    )


def jump_over(etag: int, jumps: Iterable[Jump]) -> Jump | None:
    """The first of a reader's jumps over an etag."""
    return next((jump for jump in jumps if jump.before < etag < jump.after), None)
