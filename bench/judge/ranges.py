"""Arithmetic of events as runs of consecutive seqs, so that ten million healthy events are one number from another.

A range is (producer, first seq, last seq), both ends included. Normal ranges are sorted, with a gap between any two.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from bench.records import Range

Ranges = Sequence[Range]


def normal(ranges: Iterable[Range]) -> list[Range]:
    """Rewrite ranges as sorted ones with a gap between any two."""
    joined: list[Range] = []
    for producer, first, last in sorted(ranges):
        if joined and joined[-1][0] == producer and first <= joined[-1][2] + 1:
            joined[-1] = (producer, joined[-1][1], max(last, joined[-1][2]))
        else:
            joined.append((producer, first, last))
    return joined


def subtract(ranges: Ranges, others: Ranges) -> list[Range]:
    """The events of `ranges` that are not in `others`; both normal."""
    rest: list[Range] = []
    index = 0
    for producer, start, last in ranges:
        first = start
        while index < len(others) and (others[index][0], others[index][2]) < (producer, first):
            index += 1
        at = index
        while at < len(others) and others[at][0] == producer and others[at][1] <= last:
            if first < others[at][1]:
                rest.append((producer, first, others[at][1] - 1))
            first = others[at][2] + 1
            at += 1
        if first <= last:
            rest.append((producer, first, last))
    return rest


def intersect(ranges: Ranges, others: Ranges) -> list[Range]:
    """The events of `ranges` that are in `others` too; both normal."""
    return subtract(ranges, subtract(ranges, others))


def events_in(ranges: Ranges) -> int:
    """Number of events in normal ranges; in others, an event that two ranges share counts twice."""
    return sum(last - first + 1 for _, first, last in ranges)


def checksum(part: Range) -> int:
    """Sum of the values of a range's events: an event's value is its seq."""
    _, first, last = part
    return (first + last) * (last - first + 1) // 2


def first_events(ranges: Ranges, most: int) -> list[tuple[int, int]]:
    """The first events of some ranges, at most `most`, as (producer, seq)."""
    events = ((producer, seq) for producer, first, last in ranges for seq in range(first, last + 1))
    return list(islice(events, most))
