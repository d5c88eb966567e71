"""Arithmetic of events as runs of consecutive seqs, so that ten million healthy events are one number from another.

A range is (producer, first seq, last seq), both ends included. Normal ranges are sorted, with a gap between any two.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from bench.records import Range

Ranges = Sequence[Range]


def normal(ranges: Iterable[Range]) -> list[Range]:
    """The same events as sorted ranges with a gap between any two."""
    joined: list[Range] = []
    for producer, first, last in sorted(ranges):
        if joined and joined[-1][0] == producer and first <= joined[-1][2] + 1:
            joined[-1] = (producer, joined[-1][1], max(last, joined[-1][2]))
        else:
            joined.append((producer, first, last))
    return joined


def subtract(these: Ranges, those: Ranges) -> list[Range]:
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


def intersect(these: Ranges, those: Ranges) -> list[Range]:
    """The events of these that are in those too; both normal."""
    return subtract(these, subtract(these, those))


def events_in(ranges: Ranges) -> int:
    """How many events ranges have; normal ones, or some are counted twice."""
    return sum(last - first + 1 for _, first, last in ranges)


def checksum(part: Range) -> int:
    """The sum of the values first..last: an event's value is its seq."""
    _, first, last = part
    return (first + last) * (last - first + 1) // 2


def first_events(ranges: Ranges, most: int) -> list[tuple[int, int]]:
    """The first events of some ranges, one at a time."""
    events = ((producer, seq) for producer, first, last in ranges for seq in range(first, last + 1))
    return list(islice(events, most))
