"""Events collected as runs of consecutive seqs.

Import this where it is used: numpy takes a tenth of a second to load, and most commands need none.
"""

import numpy as np
from numpy.typing import NDArray

from bench.judge.ranges import normal
from bench.postgres.stored import Numbers, StoredPage
from bench.records import Range

_RUNS = 100_000
"""Once there are more runs of seqs than this, adjacent ones are joined."""
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
