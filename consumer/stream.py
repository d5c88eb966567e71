"""The delivered events as one stream: which etag each event has, their order, and whether batches are in one piece."""

from collections.abc import Iterator

import numpy as np

from bench.pairing import MODULUS, hashes, mixed, weights
from bench.records import EXAMPLES, Example
from consumer.rows import Numbers


class Stream:
    """An account of all delivered events in the order of their delivery, of constant size while all is well.

    `batch` is the number of events per append transaction, if a transaction's events are to come in one piece: each
    transaction holds the events whose seqs have one quotient by it. 0 leaves that unchecked. `ordered` also computes a
    checksum of the order.
    """

    def __init__(self, batch: int = 0, *, ordered: bool = False) -> None:
        self._batch = batch
        self._ordered = ordered
        self._events = 0
        self.etag_checksum = 0
        """The checksum of `bench.pairing` over all delivered events."""
        self.order_checksum = 0
        """If `ordered`, the sum, modulo 2^64, of each event's mixed weight times its number in the stream, from 1."""
        self.torn = 0
        """Pieces of batches that came after another producer's event had come between."""
        self.torn_examples: list[Example] = []
        """The first event of each of the first such pieces."""
        self._last: tuple[int, int] | None = None
        """Producer and seq of the last event."""
        self._left: dict[int, int] = {}
        """For each producer whose batch is incomplete, the last seq that came of it."""

    def note(self, producers: Numbers, seqs: Numbers, etags: Numbers) -> Iterator[None]:
        """Take the next events, of which there is at least one, in small steps."""
        of_events = weights(producers, seqs)
        yield
        # Sums of int64 wrap around, which is arithmetic modulo 2^64.
        self.etag_checksum = (self.etag_checksum + int(hashes(etags) @ of_events)) % MODULUS
        if self._ordered:
            yield
            numbers = np.arange(self._events + 1, self._events + 1 + len(seqs))
            self.order_checksum = (self.order_checksum + int(mixed(of_events) @ numbers)) % MODULUS
            self._events += len(seqs)
        if self._batch > 1:
            yield
            self._note_pieces(producers, seqs)

    def _note_pieces(self, producers: Numbers, seqs: Numbers) -> None:
        if self._last:
            producers, seqs = (
                np.concatenate(([last], new)) for last, new in zip(self._last, (producers, seqs), strict=True)
            )
        self._last = int(producers[-1]), int(seqs[-1])
        changes = np.flatnonzero(producers[1:] != producers[:-1])
        is_cut = ((seqs[changes] + 1) % self._batch != 0) | (seqs[changes + 1] % self._batch != 0)
        for change in changes[is_cut].tolist():
            producer, seq = int(producers[change]), int(seqs[change])
            if (seq + 1) % self._batch:
                self._left[producer] = seq
            producer, seq = int(producers[change + 1]), int(seqs[change + 1])
            if seq % self._batch and self._left.pop(producer, None) == seq - 1:
                self.torn += 1
                if len(self.torn_examples) < EXAMPLES:
                    self.torn_examples.append(Example(producer=producer, seq=seq))
