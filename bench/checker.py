"""Was it right? Ledgers in, verdict out. Pure: no database, no files, no clock.

What was written is known from the producers' acknowledgements alone, what was delivered from the consumer, what is
stored from an audit of the table. All three are runs of consecutive seqs a producer, so a healthy trial is judged in
constant time and memory, whatever its size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bench.records import EXAMPLES, Anomaly, Example, Range

Ranges = Sequence[Range]
"""Runs of (producer, first seq, last seq)."""


@dataclass(frozen=True)
class Written:
    """What producers know of their events."""

    acknowledged: Ranges
    indeterminate: Ranges = ()
    """The connection died while these were being committed: either fate is right."""


@dataclass(frozen=True)
class Delivered:
    """What one consumer was given."""

    read_batch: int
    events: int
    checksum: int
    ranges: Ranges
    anomalies: Sequence[Anomaly] = ()


@dataclass(frozen=True)
class Stored:
    """What the table holds after the end."""

    ranges: Ranges
    foreign: int = 0
    """Rows that are no producer's events."""


@dataclass(frozen=True)
class Fault:
    """One event that something is wrong with."""

    kind: str
    read_batch: int | None = None
    """The read that met it; None when no read was needed to see it."""
    producer: int | None = None
    seq: int | None = None
    etag: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a trial: how many events of each kind in all of its reads, with examples."""

    ok: bool
    expected_events: int
    expected_checksum: int
    skipped: int = 0
    """Acknowledged and stored, but never delivered."""
    lost: int = 0
    """Acknowledged, but not stored."""
    duplicated: int = 0
    """Delivered again."""
    reordered: int = 0
    """Delivered after a later event of the same producer."""
    phantom: int = 0
    """Stored or delivered, though no producer says that it might be."""
    indeterminate: int = 0
    """Neither acknowledged nor refused: no fault."""
    wrong_checksums: int = 0
    """Reads of the right events whose values had the wrong sum."""
    examples: list[Fault] = field(default_factory=list)
    """The first ten of each kind."""


KINDS = ("skipped", "lost", "duplicated", "reordered", "phantom")


def attempted(written: Written) -> int:
    """How many events producers account for."""
    return _count(_normal([*written.acknowledged, *written.indeterminate]))


def needs_audit(written: Written, reads: Sequence[Delivered], stored_events: int) -> bool:
    """Whether the table must be looked through, or its number of rows already proves what it holds.

    When every read was given exactly the acknowledged events, each once, all of them are in the table; and when the
    table has no more rows than that, it holds nothing else.
    """
    acknowledged = _normal(written.acknowledged)
    return (
        bool(written.indeterminate)
        or stored_events != _count(acknowledged)
        or any(read.anomalies or read.events != stored_events or _normal(read.ranges) != acknowledged for read in reads)
    )


def judge(written: Written, reads: Sequence[Delivered], stored: Stored) -> Verdict:
    """Compare what was written, delivered and stored. Each read is held to the same: all of it, once, in order."""
    acknowledged = _normal(written.acknowledged)
    possible = _normal([*written.acknowledged, *written.indeterminate])
    in_table = _normal(stored.ranges)
    expected_checksum = sum(_checksum(part) for part in acknowledged)
    counts = dict.fromkeys(KINDS, 0)
    examples: list[Fault] = []

    def found(kind: str, ranges: Ranges, read_batch: int | None) -> None:
        counts[kind] += _count(ranges)
        examples.extend(Fault(kind, read_batch, producer, seq) for producer, seq in _first(ranges, EXAMPLES))

    found("lost", _subtract(acknowledged, in_table), None)
    found("phantom", _subtract(in_table, possible), None)
    counts["phantom"] += stored.foreign
    stored_phantoms = counts["phantom"]
    wrong_checksums = 0
    for read in reads:
        delivered = _normal(read.ranges)
        found("skipped", _intersect(_subtract(acknowledged, delivered), in_table), read.read_batch)
        phantoms = _subtract(delivered, possible)
        examples.extend(
            Fault("phantom", read.read_batch, producer, seq) for producer, seq in _first(phantoms, EXAMPLES)
        )
        read_phantoms = _count(phantoms)
        for anomaly in read.anomalies:
            if anomaly.kind == "phantom":
                read_phantoms += anomaly.count
            else:
                counts[anomaly.kind] += anomaly.count
            examples.extend(_fault(anomaly.kind, read.read_batch, example) for example in anomaly.examples)
        # What is stored was counted above; a log may also make events up as it delivers them.
        counts["phantom"] += max(0, read_phantoms - stored_phantoms)
        right_events = delivered == acknowledged and not read.anomalies
        wrong_checksums += right_events and read.checksum != expected_checksum

    return Verdict(
        ok=not any(counts.values()) and not wrong_checksums,
        expected_events=_count(acknowledged),
        expected_checksum=expected_checksum,
        **counts,
        indeterminate=_count(_normal(written.indeterminate)),
        wrong_checksums=wrong_checksums,
        examples=[
            example for kind in KINDS for example in [fault for fault in examples if fault.kind == kind][:EXAMPLES]
        ],
    )


def _fault(kind: str, read_batch: int, example: Example) -> Fault:
    return Fault(kind, read_batch, example.producer, example.seq, example.etag)


def _normal(ranges: Iterable[Range]) -> list[Range]:
    """The same events as sorted ranges with a gap between any two."""
    normal: list[Range] = []
    for producer, first, last in sorted(ranges):
        if normal and normal[-1][0] == producer and first <= normal[-1][2] + 1:
            normal[-1] = (producer, normal[-1][1], max(last, normal[-1][2]))
        else:
            normal.append((producer, first, last))
    return normal


def _subtract(these: Ranges, those: Ranges) -> list[Range]:
    """The events of these that are not in those; both normal."""
    left: list[Range] = []
    index = 0
    for producer, start, last in these:
        first = start
        while index < len(those) and (those[index][0], those[index][2]) < (producer, first):
            index += 1
        at = index
        while at < len(those) and those[at][0] == producer and those[at][1] <= last:
            if first < those[at][1]:
                left.append((producer, first, those[at][1] - 1))
            first = those[at][2] + 1
            at += 1
        if first <= last:
            left.append((producer, first, last))
    return left


def _intersect(these: Ranges, those: Ranges) -> list[Range]:
    """The events of these that are in those too; both normal."""
    return _subtract(these, _subtract(these, those))


def _count(ranges: Ranges) -> int:
    return sum(last - first + 1 for _, first, last in ranges)


def _checksum(part: Range) -> int:
    """The sum of first..last: an event's value is its seq."""
    _, first, last = part
    return (first + last) * (last - first + 1) // 2


def _first(ranges: Ranges, most: int) -> list[tuple[int, int]]:
    """The first events of some ranges, one at a time."""
    events = ((producer, seq) for producer, first, last in ranges for seq in range(first, last + 1))
    return list(islice(events, most))
