"""The append transactions of a producer whose times it reported, with the fates of their events.

Import this where it is used: numpy takes a tenth of a second to load, and most commands need none.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.job import ProducerJob
from bench.judge.ranges import normal
from bench.records import Range
from bench.run.outcome import Outcome


class TimedAppends(NamedTuple):
    """The first append transactions of one producer, in their order, as columns of equal length."""

    first_seqs: NDArray[np.int64]
    """The seq of the first event of each."""
    events: NDArray[np.int64]
    """Number of events of each, whatever became of them."""
    acknowledged: NDArray[np.int64]
    """Number of its events that were acknowledged: all, or none."""
    sent_at: NDArray[np.float64]
    """Unix times on the database's clock, in seconds."""
    answered_at: NDArray[np.float64]
    uncertainty_seconds: float
    """The largest error of these times."""


def timed_appends(producer: Outcome) -> TimedAppends:
    """The append transactions of which a producer reported the times; none when it was lost before it did.

    A producer goes through its seqs batch by batch, and does not repeat a batch that was rolled back: so the number of
    a transaction gives its seqs.
    """
    job = producer.job
    if not isinstance(job, ProducerJob):
        raise TypeError(f"{producer.name} is no producer")
    rows = [
        (record.since + sent / 1e6, record.since + end / 1e6)
        for record in producer.call_times
        for sent, end in record.calls
    ]
    sent_at, answered_at = np.array(rows, float).reshape(-1, 2).T
    first_seqs = np.arange(len(rows), dtype=np.int64) * job.insert_batch
    return TimedAppends(
        first_seqs,
        np.minimum(job.insert_batch, job.limit - first_seqs),
        events_per_batch(producer.ranges["acknowledged"], job.insert_batch, len(rows)),
        sent_at,
        answered_at,
        max((record.uncertainty_seconds for record in producer.call_times), default=0.0),
    )


def events_per_batch(ranges: Iterable[Range], batch: int, batches: int) -> NDArray[np.int64]:
    """The number of events in one producer's ranges that are in each of its first batches of `batch` seqs."""
    counts = np.zeros(batches, np.int64)
    for _, first, last in normal(ranges):
        begin, end = first // batch, last // batch
        counts[begin : end + 1] += batch
        if begin < batches:
            counts[begin] -= first - begin * batch
        if end < batches:
            counts[end] -= (end + 1) * batch - 1 - last
    return counts
