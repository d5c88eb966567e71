"""Events and etags collected as runs of consecutive numbers.

Import this where it is used: numpy takes a tenth of a second to load, and most commands need none.
"""

import numpy as np
from numpy.typing import NDArray

from bench.judge.ranges import normal
from bench.postgres.stored import StoredPage
from bench.records import Range

Numbers = NDArray[np.int64]

_RUNS = 100_000
"""Once there are more runs than this, adjacent ones are joined."""
_MANY_RUNS = 16
"""With more runs than this in a page, its rows are sorted, which makes fewer runs of them."""


class Runs:
    """Events collected as runs of consecutive seqs, which is how they lie in a table."""

    def __init__(self) -> None:
        self._open: dict[int, list[int]] = {}
        """First and last seq of each producer's latest run."""
        self._closed: list[Range] = []
        self._most = _RUNS

    def add(self, producer: int, seq: int) -> None:
        """Add one event."""
        run = self._open.get(producer)
        if run is not None and run[1] == seq - 1:
            run[1] = seq
            return
        if run is not None:
            self._closed.append((producer, run[0], run[1]))
        self._open[producer] = [seq, seq]
        self._join()

    def add_page(self, page: StoredPage, rows: NDArray[np.bool_] | None = None) -> None:
        """Add the events in a page, or in the given rows of it."""
        chosen = page.fits if rows is None else page.fits & rows
        self._closed += runs_of(page.producers[chosen], page.seqs[chosen])
        for row, event in page.others:
            if event and (rows is None or rows[row]):
                self.add(event.producer, event.seq)
        self._join()

    def _join(self) -> None:
        if len(self._closed) > self._most:
            self._closed = normal(self._closed)
            self._most = 2 * len(self._closed) + _RUNS

    def ranges(self) -> list[Range]:
        """All events that were added, each once."""
        return normal([*self._closed, *((producer, first, last) for producer, (first, last) in self._open.items())])


def runs_of(producers: Numbers, seqs: Numbers) -> list[Range]:
    """Events, which may repeat, as runs of consecutive seqs. Runs may overlap."""
    if not len(seqs):
        return []
    breaks = _breaks(producers, seqs)
    if len(breaks) > _MANY_RUNS:
        order = np.lexsort((seqs, producers))
        producers, seqs = producers[order], seqs[order]
        breaks = _breaks(producers, seqs)
    firsts, lasts = np.append(0, breaks + 1), np.append(breaks, len(seqs) - 1)
    return list(zip(producers[firsts].tolist(), seqs[firsts].tolist(), seqs[lasts].tolist(), strict=True))


def _breaks(producers: Numbers, seqs: Numbers) -> Numbers:
    """The rows after which a run ends, except for the last row."""
    steps = seqs[1:] - seqs[:-1]
    return np.flatnonzero((producers[1:] != producers[:-1]) | (steps < 0) | (steps > 1))


class Islands:
    """Numbers collected as runs of consecutive ones, whatever order they come in."""

    def __init__(self) -> None:
        self._firsts = self._lasts = np.empty(0, np.int64)
        """Of runs that neither touch nor overlap, in ascending order."""
        self._new: list[tuple[Numbers, Numbers]] = []
        """Firsts and lasts of runs that came after these."""
        self._new_runs = 0
        self._most = _RUNS

    def add(self, numbers: Numbers) -> None:
        """Add numbers, which may repeat."""
        if not len(numbers):
            return
        ordered = np.sort(numbers)
        steps = ordered[1:] - ordered[:-1]
        ends = np.flatnonzero((steps != 0) & (steps != 1))
        self._new.append((ordered[np.append(0, ends + 1)], ordered[np.append(ends, len(ordered) - 1)]))
        self._new_runs += len(ends) + 1
        if self._new_runs > self._most:
            self._join()
            self._most = len(self._firsts) + _RUNS

    def _join(self) -> None:
        firsts, lasts = (np.concatenate(part) for part in zip((self._firsts, self._lasts), *self._new, strict=True))
        order = firsts.argsort(kind="stable")
        firsts, lasts = firsts[order], np.maximum.accumulate(lasts[order])
        # A difference of two int64 is exact modulo 2^64.
        begins = np.flatnonzero((firsts[1:] > lasts[:-1]) & (firsts[1:] - lasts[:-1] != 1)) + 1
        self._firsts, self._lasts = firsts[np.append(0, begins)], lasts[np.append(begins, len(lasts)) - 1]
        self._new, self._new_runs = [], 0

    def gaps(self) -> list[tuple[int, int]]:
        """The runs of numbers between the lowest and the highest that were not added, as (first, last)."""
        if self._new:
            self._join()
        return list(zip((self._lasts[:-1] + 1).tolist(), (self._firsts[1:] - 1).tolist(), strict=True))

    def distinct(self) -> int:
        """How many different numbers were added."""
        if self._new:
            self._join()
        return sum(self._lasts.tolist()) - sum(self._firsts.tolist()) + len(self._firsts)
