"""How far each producer's events have come: the seq that is expected next, and the seqs below it that are missing."""

from bisect import bisect_right
from collections.abc import Generator
from typing import NamedTuple, TypeVar

import numpy as np

from bench.records import Fault, Range
from consumer.rows import Numbers

MOST_RUNS = 64
"""When producers take turns more often than this, events are sorted by producer first; when seqs of one producer break
off more often, events are sorted out as arrays."""
_SHORT = 1 << 15
"""numpy sorts numbers of 16 bits in linear time."""
_LARGEST_KEY = 1 << 62

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A computation that yields between steps and returns T."""


def at_once(steps: Steps[T]) -> T:
    """Do all steps of a computation; returns its result."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


class Deviations(NamedTuple):
    """The places, in ascending order, of events that were delivered wrongly: outside of 0..limit-1, after a later event
    of their producer, or again."""

    phantom: Numbers
    reordered: Numbers
    duplicated: Numbers


class _Places:
    """The places of wrong events, by the name of their fault."""

    def __init__(self) -> None:
        self.phantom: list[int] = []
        self.reordered: list[int] = []
        self.duplicated: list[int] = []

    def deviations(self, order: Numbers | None) -> Deviations:
        """The places in the delivery; `order` has the place in the delivery of each event, if events were sorted."""
        if not (self.phantom or self.reordered or self.duplicated):
            return _NONE
        arrays = (np.array(places, np.int64) for places in (self.phantom, self.reordered, self.duplicated))
        return Deviations(*(np.sort(places if order is None else order[places]) for places in arrays))


_NONE = Deviations(*(np.empty(0, np.int64) for _ in Deviations._fields))


class Positions:
    """The delivered events, in a size that does not depend on the number of healthy ones. A seq outside of 0..limit-1
    is nobody's event and leaves no trace. Producers from number `preloaded[0]` on have the limit `preloaded[1]`."""

    def __init__(self, limit: int, preloaded: tuple[int, int] | None = None) -> None:
        self._limit = limit
        self._preloaded = preloaded
        self._span = max(limit, preloaded[1] if preloaded else 0) + 2
        """The distance between the keys of one seq of two producers; see `sort_out`."""
        self.most_at_once = _LARGEST_KEY // self._span
        """The most events that `follow` and `sort_out` may be given."""
        self._expected: dict[int, int] = {}
        self._missing: dict[int, list[tuple[int, int]]] = {}

    def delivered(self) -> list[Range]:
        """The events that were delivered at least once, in order of producer and seq."""
        ranges: list[Range] = []
        for producer in sorted(self._expected):
            start = 0
            for first, last in self._missing.get(producer, []):
                if first > start:
                    ranges.append((producer, start, first - 1))
                start = last + 1
            ranges.append((producer, start, self._expected[producer] - 1))
        return ranges

    def _limit_of(self, producer: int) -> int:
        return self._preloaded[1] if self._preloaded and producer >= self._preloaded[0] else self._limit

    def take(self, producer: int, seq: int) -> Fault | None:
        """Take one event; returns its fault, None when no later event of its producer was delivered before."""
        if not 0 <= seq < self._limit_of(producer):
            return "phantom"
        expected = self._expected.get(producer, 0)
        if seq < expected:
            return "reordered" if self._fill(producer, seq) else "duplicated"
        if seq > expected:
            self._missing.setdefault(producer, []).append((expected, seq - 1))
        self._expected[producer] = seq + 1
        return None

    def follow(self, producers: Numbers, seqs: Numbers) -> Steps[Deviations | None]:
        """Take events, given in the order of their delivery, as `take` would one by one, if the seqs of each producer
        come in a few runs; None, with nothing taken, when they come in more.
        """
        if not len(seqs):
            return _NONE
        changes = np.flatnonzero(producers[1:] != producers[:-1])
        yield
        order = None
        if len(changes) > MOST_RUNS:
            order = _by_producer(producers)
            yield
            producers, seqs = producers[order], seqs[order]
            changes = np.flatnonzero(producers[1:] != producers[:-1])
            yield
        breaks = seqs[1:] - seqs[:-1] != 1
        breaks[changes] = True
        begins = np.flatnonzero(breaks) + 1
        if len(begins) - len(changes) > MOST_RUNS:
            return None
        yield
        wrong = _Places()
        starts = [0, *begins.tolist()]
        for start, end in zip(starts, [*starts[1:], len(seqs)], strict=True):
            producer, first = int(producers[start]), int(seqs[start])
            after = first + end - start
            if first == self._expected.get(producer, 0) and after <= self._limit_of(producer):
                self._expected[producer] = after
            else:
                self._take_run(producer, first, after, start, wrong)
        return wrong.deviations(order)

    def _take_run(self, producer: int, first: int, after: int, start: int, wrong: "_Places") -> None:
        """Take the seqs from `first` to before `after`; the first one is at the place `start`."""
        inside, end = max(first, 0), min(after, self._limit_of(producer))
        if inside >= end:
            wrong.phantom += range(start, start + after - first)
            return
        place = start - first
        wrong.phantom += [*range(start, place + inside), *range(place + end, place + after)]
        expected = self._expected.get(producer, 0)
        for seq in range(inside, min(end, expected)):
            (wrong.reordered if self._fill(producer, seq) else wrong.duplicated).append(place + seq)
        if end > expected:
            if inside > expected:
                self._missing.setdefault(producer, []).append((expected, inside - 1))
            self._expected[producer] = end

    def sort_out(self, producers: Numbers, seqs: Numbers) -> Steps[Deviations]:
        """Take any events, given in the order of their delivery, as `take` would one by one.

        Events are compared by keys: an event's key is its producer's rank times a span, plus its seq plus 1. So keys
        are sorted by producer and seq, and each producer has a key for the seq -1.
        """
        limits: int | Numbers = self._limit
        if self._preloaded:
            first, limit = self._preloaded
            limits = np.where(producers < first, self._limit, limit)
        inside = (seqs >= 0) & (seqs < limits)
        order = _by_producer(producers)
        phantom = np.flatnonzero(~inside)
        if len(phantom):
            order = order[inside[order]]
        if not len(order):
            return Deviations(phantom, order, order)
        yield
        producers, seqs = producers[order], seqs[order]
        starts = _starts(producers)
        names: list[int] = producers[starts].tolist()
        expected = np.array([self._expected.get(name, 0) for name in names], np.int64)
        ranks = np.repeat(np.arange(len(names)), np.diff(starts, append=len(producers)))
        late = seqs < expected[ranks]
        yield
        keys = ranks * self._span + seqs + 1
        places = order
        is_late = late.any()
        if is_late:
            keys, places, ranks = keys[~late], order[~late], ranks[~late]
        ahead = np.ones(len(keys), np.bool_)
        ahead[1:] = keys[1:] > np.maximum.accumulate(keys)[:-1]
        yield
        if ahead.all():
            reordered = duplicated = places[:0]
            distinct = keys
        else:
            distinct = np.sort(keys)  # which has the ranks of `keys`
            yield
            reordered, duplicated = places[~ahead], places[:0]
            if (distinct[1:] == distinct[:-1]).any():
                distinct, firsts = np.unique(keys, return_index=True)
                ranks = ranks[firsts]
                again = ~ahead
                again[firsts] = False
                ahead[again] = True
                reordered, duplicated = places[~ahead], places[again]
                yield
        if len(distinct):
            self._advance(names, expected, distinct, ranks)
        if is_late:
            yield
            late_places = order[late]
            filled = [
                self._fill(producer, seq)
                for producer, seq in zip(producers[late].tolist(), seqs[late].tolist(), strict=True)
            ]
            reordered = np.concatenate((reordered, late_places[filled]))
            duplicated = np.concatenate((duplicated, late_places[~np.array(filled)]))
        return Deviations(phantom, np.sort(reordered), np.sort(duplicated))

    def _advance(self, names: list[int], expected: Numbers, keys: Numbers, ranks: Numbers) -> None:
        """Take new events, given by ascending keys and the ranks in them, and note what is missing below them."""
        starts = _starts(ranks)
        bases = ranks * self._span
        befores = np.empty_like(keys)
        befores[1:] = keys[:-1]
        befores[starts] = bases[starts] + expected[ranks[starts]]
        gaps = np.flatnonzero(keys - befores > 1)
        firsts, lasts = (befores - bases)[gaps], (keys - bases)[gaps] - 2
        for rank, first, last in zip(ranks[gaps].tolist(), firsts.tolist(), lasts.tolist(), strict=True):
            self._missing.setdefault(names[rank], []).append((first, last))
        ends = np.append(starts[1:], len(keys)) - 1
        for rank, after in zip(ranks[ends].tolist(), (keys - bases)[ends].tolist(), strict=True):
            self._expected[names[rank]] = after

    def _fill(self, producer: int, seq: int) -> bool:
        """Take a seq out of the missing ranges; False when no range holds it."""
        missing = self._missing.get(producer)
        if not missing:
            return False
        index = bisect_right(missing, seq, key=lambda hole: hole[0]) - 1
        if index < 0 or missing[index][1] < seq:
            return False
        first, last = missing[index]
        missing[index : index + 1] = [hole for hole in ((first, seq - 1), (seq + 1, last)) if hole[0] <= hole[1]]
        return True


def _by_producer(producers: Numbers) -> Numbers:
    """The places of events sorted by producer, those of one producer in the order of their delivery."""
    short = producers.max() < _SHORT and producers.min() >= -_SHORT
    order: Numbers = (producers.astype(np.int16) if short else producers).argsort(kind="stable")
    return order


def _starts(numbers: Numbers) -> Numbers:
    """Where runs of equal numbers begin; there is at least one number."""
    return np.concatenate(([0], np.flatnonzero(numbers[1:] != numbers[:-1]) + 1))
