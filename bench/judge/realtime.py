"""The real-time order of appends: one that began after another had been acknowledged has the higher etags. Pure: arrays
of times and etags in, counts out.

That is the real-time part of strict serializability (Herlihy and Wing, 1990, for objects; Jepsen's `realtime` edges for
transactions). An application relies on it where one of its processes appends because another one was acknowledged.

Times are bounds and not estimates: an append began no earlier than `began_after` and was acknowledged no later than
`acknowledged_by`, whatever the clocks of the two workers were. Two appends of which neither is known to have come first
are no pair, so a pair that breaks the order breaks it for certain. Such a pair goes unnoticed where the two came closer
to each other than their clocks are right.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from bench.judge.verdict import EarlierAppend, Fault
from bench.records import EXAMPLES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Appends(NamedTuple):
    """Append transactions whose events are stored, as columns of equal length. Times are Unix times on the database's
    clock, in seconds."""

    producer: "NDArray[np.int64]"
    first: "NDArray[np.int64]"
    """The seq of its first event."""
    began_after: "NDArray[np.float64]"
    """It was sent no earlier."""
    acknowledged_by: "NDArray[np.float64]"
    """Its commit was confirmed no later; infinite where it was not confirmed."""
    lowest: "NDArray[np.int64]"
    """The lowest etag of its events."""
    highest: "NDArray[np.int64]"


@dataclass(frozen=True)
class RealTimeOrder:
    """Whether the etags of appends kept the real-time order."""

    pairs: int = 0
    """Pairs of appends by different producers of which one is known to have been acknowledged before the other
    began."""
    inverted: int = 0
    """Appends with an etag below one of an append that was acknowledged before they began."""
    examples: list[Fault] = field(default_factory=list)
    """The first ten of them, by the time at which they began."""


def real_time_order(appends: Appends) -> RealTimeOrder:
    """Compare the etags of appends with the times at which they began and were acknowledged, in n log n steps.

    An append breaks the order if the highest etag among all appends that were acknowledged before it began is above its
    own lowest etag; so it is enough to keep that highest etag while going through the acknowledgements by time.
    """
    import numpy as np  # noqa: PLC0415 - see bench.stats

    if not len(appends.first):
        return RealTimeOrder()
    by_time = np.argsort(appends.acknowledged_by, kind="stable")
    earlier = np.searchsorted(appends.acknowledged_by[by_time], appends.began_after, "left")
    highest = appends.highest[by_time]
    highest_until = np.maximum.accumulate(highest)
    is_inverted = (earlier > 0) & (highest_until[np.maximum(earlier - 1, 0)] > appends.lowest)
    inverted = np.flatnonzero(is_inverted)
    inverted = inverted[np.argsort(appends.began_after[inverted], kind="stable")]

    def example(one: int) -> Fault:
        other = int(by_time[np.argmax(highest[: earlier[one]])])
        before = EarlierAppend(
            int(appends.producer[other]),
            int(appends.first[other]),
            int(appends.highest[other]),
            float(appends.began_after[one] - appends.acknowledged_by[other]),
        )
        etag = int(appends.lowest[one])
        return Fault("inverted", None, int(appends.producer[one]), int(appends.first[one]), etag, earlier_append=before)

    return RealTimeOrder(
        pairs=int(earlier.sum()) - _pairs_of_one_producer(appends),
        inverted=len(inverted),
        examples=[example(int(one)) for one in inverted[:EXAMPLES]],
    )


def _pairs_of_one_producer(appends: Appends) -> int:
    """The pairs, as in `RealTimeOrder`, of appends by the same producer."""
    import numpy as np  # noqa: PLC0415

    pairs = 0
    by_producer = np.argsort(appends.producer, kind="stable")
    limits = np.flatnonzero(np.diff(appends.producer[by_producer])) + 1
    for own in np.split(by_producer, limits):
        acknowledged_by = np.sort(appends.acknowledged_by[own])
        pairs += int(np.searchsorted(acknowledged_by, appends.began_after[own], "left").sum())
    return pairs
