"""The checker: ledgers in, verdict out. Pure: no database, no files, no clock.

Written events are known from the producers' acknowledgements alone, delivered events from the consumers, stored events
from an audit of the table. All three are runs of consecutive seqs per producer, so a healthy trial is judged in
constant time and memory, whatever its size.
"""

from collections.abc import Sequence
from dataclasses import replace

from bench.judge.evidence import Delivered, Holder, Promise, Stored, Written
from bench.judge.gaps import explain
from bench.judge.ranges import Ranges, checksum, events_in, first_events, intersect, normal, subtract
from bench.judge.realtime import RealTimeOrder
from bench.judge.stranded import Stranded
from bench.judge.verdict import Fault, ShortReader, SleepingReader, Verdict
from bench.kinds import KINDS
from bench.records import EXAMPLES, Range


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


def beyond_the_last(written: Written, read: Delivered) -> list[int]:
    """The producers of which a reader was given an event with a higher seq than each event that they account for. A
    reader that does not know the last seq takes all later events of such a producer for reordered ones.
    """
    parts = normal([*written.acknowledged, *written.indeterminate, *written.aborted, *written.unattempted])
    last_seqs = {producer: last for producer, _, last in parts}
    return sorted({producer for producer, _, last in read.ranges if last > last_seqs.get(producer, last)})


def without_doubtful_order(written: Written, read: Delivered) -> Delivered:
    """Leave out the reordered events that a reader counted, if it was given an event beyond the last one of a producer:
    how many of them were reordered is not known.
    """
    if not beyond_the_last(written, read):
        return read
    return replace(read, anomalies=[anomaly for anomaly in read.anomalies if anomaly.kind != "reordered"])


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
    order: RealTimeOrder | None = None,
) -> Verdict:
    """Compare the events that were written, delivered and stored. Each reader is held to the same promise; a log that
    strands a worker fails. `order` is None where the times of appends, or their etags, are unknown.
    """
    promise = promise or Promise()
    acknowledged = normal(written.acknowledged)
    possible = normal([*written.acknowledged, *written.indeterminate])
    in_table = normal([*stored.ranges, *stored.removed])
    # A further row of a preloaded event is a copy, like a further row of an event of the run.
    deleted = normal(stored.deleted)
    invented = subtract(subtract(normal([*in_table, *deleted]), possible), normal(stored.preloaded.ranges))
    expected_checksum = sum(checksum(part) for part in acknowledged)
    examples: list[Fault] = []
    counts = dict.fromkeys(KINDS, 0)

    def count_faults(kind: str, ranges: Ranges) -> None:
        counts[kind] += events_in(ranges)
        examples.extend(Fault(kind, None, producer, seq) for producer, seq in first_events(ranges, EXAMPLES))

    lost = subtract(acknowledged, in_table)
    count_faults("lost", normal([*lost, *stored.preloaded.lost]))
    counts["corrupt"] += stored.preloaded.changed
    count_faults("phantom", invented)
    counts["phantom"] += stored.foreign
    examples.extend(Fault("phantom", etag=etag) for etag in stored.foreign_etags)
    counts["inconsistent"] += len(stored.returned_otherwise) + stored.preloaded.moved
    examples.extend(
        Fault(kind, None, example.producer, example.seq, example.etag)
        for kind, faulty in (
            ("corrupt", stored.preloaded.changed_examples),
            ("inconsistent", stored.returned_otherwise),
        )
        for example in faulty
    )
    by_reader: dict[str, dict[str, int]] = {}
    for read in reads:
        own, faults = _judge_reader(read, acknowledged, possible, in_table, promise, normal(stored.preloaded.ranges))
        checksums = {read.etag_checksum, stored.etag_checksum}
        if None not in checksums and len(checksums) > 1 and was_given(read, stored):
            own["inconsistent"] = max(1, stored.other_etags)
            faults += [
                Fault("inconsistent", read.reader, example.producer, example.seq, example.etag)
                for example in stored.other_etag_examples
            ]
        examples.extend(faults)
        # Stored phantoms were counted above; a log may also make events up as it delivers them.
        phantoms = max(0, own["phantom"] - events_in(invented) - stored.foreign)
        for kind in KINDS:
            counts[kind] += phantoms if kind == "phantom" else own[kind]
        by_reader[read.reader] = {kind: count for kind, count in (own | _faults_of_reading(read)).items() if count}
    for read in _disagreeing(reads) if promise.one_order else ():
        counts["disagreeing"] += 1
        by_reader[read.reader]["disagreeing"] = 1
        examples.append(Fault("disagreeing", read.reader))
    if order:
        counts["inverted"] = order.inverted
        examples.extend(order.examples)
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
            ("inverted", promise.real_time),
            ("inconsistent", promise.one_etag),
        )
        if counts[kind] and not promised
    ]
    oversized = [_oversized(read) for read in reads if read.oversized_pages]
    stopped = list(dict.fromkeys(f"{read.reader}: {reason}" for read in reads for reason in read.stopped))
    delivered = normal([part for read in reads for part in read.ranges])
    passed_over = normal([part for read in reads for part in _skipped(read, acknowledged, in_table, promise)])
    once_is_untested = promise.redelivers and not counts["duplicated"]
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
        and not any(read.overslept_events for read in reads)
        and not broken_numbering,
        expected_events=events_in(acknowledged),
        expected_checksum=expected_checksum,
        **counts,
        indeterminate=events_in(normal(written.indeterminate)),
        aborted=events_in(normal(written.aborted)),
        lost_after_delivery=events_in(intersect(lost, delivered)),
        lost_and_passed=events_in(intersect(subtract(subtract(lost, delivered), deleted), _up_to_the_last(delivered))),
        kept_after_delivery=events_in(intersect(normal(stored.ranges), delivered)) if once_is_untested else 0,
        real_time_pairs=order.pairs if order else None,
        untested=["real_time"] if promise.real_time and not (order and (order.pairs or order.inverted)) else [],
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
        sleeping=[SleepingReader(read.reader, read.overslept_events) for read in reads if read.overslept_events],
        by_reader=by_reader,
        examples=[
            example for kind in KINDS for example in [fault for fault in examples if fault.kind == kind][:EXAMPLES]
        ],
    )


def skipped(written: Written, read: Delivered, stored: Stored, promise: Promise) -> list[Range]:
    """The events that a reader skipped."""
    return _skipped(read, normal(written.acknowledged), normal([*stored.ranges, *stored.removed]), promise)


def _judge_reader(
    read: Delivered,
    acknowledged: Ranges,
    possible: Ranges,
    in_table: Ranges,
    promise: Promise,
    preloaded: Ranges,
) -> tuple[dict[str, int], list[Fault]]:
    """One reader's faults, as counts by kind and as examples. It began after the preloaded events, so one that it was
    given is duplicated.
    """
    counts = dict.fromkeys(KINDS, 0)
    delivered = normal(read.ranges)
    examples: list[Fault] = []
    undelivered = intersect(subtract(acknowledged, delivered), in_table)
    skipped_ranges = _skipped(read, acknowledged, in_table, promise)
    for kind, ranges in (
        ("skipped", skipped_ranges),
        ("withheld", subtract(undelivered, skipped_ranges)),
        ("phantom", subtract(subtract(delivered, possible), preloaded)),
        ("duplicated", intersect(delivered, preloaded)),
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


def _faults_of_reading(read: Delivered) -> dict[str, int]:
    """The faults of a reading that are of no event, by name; 0 of those that it does not have."""
    return {
        "oversized pages": read.oversized_pages,
        "overslept": read.overslept_events,
        "given up": len(read.stopped),
        "stranded": int(read.stranded),
    }


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
