"""How far tailing readers were behind the producers: events acknowledged and not yet delivered, and their age.

Acknowledgements and deliveries are taken from the times that workers report of their first transactions and pages. From
the moment on at which a producer stopped to time its transactions, acknowledgements are interpolated between reports of
progress, of which each worker makes two per second; deliveries, from the moment on at which a consumer stopped.

Deliveries are counted and not told apart: a reader that was given n events is taken to have been given the n events
that were acknowledged first, of those that it was ever given. Events that it was never given are unseen from their
acknowledgement on. Sources of error:

- An event can be delivered before its acknowledgement reaches the producer; then the count is too low, by at most the
  events that were under way.
- Acknowledgements and deliveries can come in another order: then the age is off by at most the time for which the
  transactions concerned were open.
- Workers' clocks are right to some microseconds (see `bench.meter.Clock`); reports of progress are stamped as they
  arrive.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.job import ProducerJob
from bench.judge.ranges import normal, subtract
from bench.results.series import Unseen
from bench.run.outcome import Outcome, Reader, TrackOutcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.run.appends import TimedAppends

MOST_SAMPLES = 300
"""Samples per reader."""
SHORTEST_SECONDS = 0.01
"""Samples are not closer to each other than this, unless the run is shorter."""


class Counter(NamedTuple):
    """Events that workers had acknowledged, or had been given, over time. Times are seconds since producers began."""

    at: "NDArray[np.float64]"
    """Times that workers reported, in any order."""
    events: "NDArray[np.int64]"
    """Events that were added at each of them."""
    timed_until: float
    """From then on some of these workers reported no times; infinite where all reported all."""
    histories: "Sequence[NDArray[np.float64]]"
    """Each worker's progress, as rows of a time and of the events until then."""

    @property
    def timed(self) -> "NDArray[np.float64]":
        """The times up to `timed_until`."""
        return self.at[self.at <= self.timed_until]

    def until(self, times: "NDArray[np.float64]", *, inclusive: bool) -> "NDArray[np.float64]":
        """Events until each of some ascending times, by reported times up to `timed_until` and interpolated after it.
        With `inclusive`, events that were added just then count."""
        import numpy as np  # noqa: PLC0415 - see bench.stats

        total = total_until(self.at, self.events, times, inclusive=inclusive)
        later = times > self.timed_until
        total[later] = np.sum([np.interp(times[later], *history.T) for history in self.histories], axis=0)
        return np.maximum.accumulate(total)


def unseen(appended: TrackOutcome, readers: Sequence[Reader]) -> dict[str, list[Unseen]]:
    """Samples of how far each tailing reader was behind, by its name; none when all producers were lost."""
    if not appended.reported:
        return {}
    from bench.run.appends import timed_appends  # noqa: PLC0415 - numpy

    timed = [timed_appends(producer) for producer in appended.workers]
    began_at = min(producer.report.started_at for producer in appended.reported)
    return {reader.name: _samples(appended, timed, reader, began_at) for reader in readers}


def _samples(appended: TrackOutcome, timed: "Sequence[TimedAppends]", reader: Reader, began_at: float) -> list[Unseen]:
    import numpy as np  # noqa: PLC0415 - see bench.stats

    answered = [each.answered_at - began_at for each in timed]
    acknowledged = Counter(
        np.concatenate(answered),
        np.concatenate([each.acknowledged for each in timed]),
        min(_timed_until(*each) for each in zip(appended.workers, answered, strict=True)),
        [_history(producer, appended.opened_at) for producer in appended.workers],
    )
    deliveries = [_deliveries(member, began_at) for member in reader.members]
    delivered = Counter(
        np.concatenate([at for at, _ in deliveries]),
        np.concatenate([events for _, events in deliveries]),
        min(_timed_until(member, at) for member, (at, _) in zip(reader.members, deliveries, strict=True)),
        [_history(member, appended.opened_at) for member in reader.members],
    )
    never_given = np.concatenate([_never_given(*each, reader) for each in zip(appended.workers, timed, strict=True)])
    return samples(acknowledged, delivered, never_given)


def samples(acknowledged: Counter, delivered: Counter, never_given: "NDArray[np.int64]") -> list[Unseen]:
    """Samples of how far a reader was behind. `never_given` are those of `acknowledged.events` that it never got."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    timed = np.concatenate([acknowledged.timed, delivered.timed])
    untimed = [counter for counter in (acknowledged, delivered) if np.isfinite(counter.timed_until)]
    end = max([timed.max(initial=0.0), *(history[-1, 0] for counter in untimed for history in counter.histories)])
    moments = np.linspace(0, end, 1 + int(min(MOST_SAMPLES, max(1, end / SHORTEST_SECONDS))))[1:]
    # Events are unseen from an acknowledgement on, and the oldest of them are oldest just before a delivery.
    times = np.sort(np.concatenate([timed, moments]))
    never = total_until(acknowledged.at, never_given, times, inclusive=True)
    due = np.maximum.accumulate(acknowledged.until(times, inclusive=True) - never)
    given = delivered.until(times, inclusive=False)
    behind = np.maximum(due - given, 0)
    oldest = times[np.minimum(np.searchsorted(due, given, "right"), len(times) - 1)]
    lag = np.where(behind > 0, times - oldest, 0)
    if never[-1]:
        lag = np.where(never > 0, np.maximum(lag, times - acknowledged.at[never_given > 0].min()), lag)
    starts = np.searchsorted(times, np.append(-np.inf, moments[:-1]), "right")
    most, longest = np.maximum.reduceat(behind + never, starts), np.maximum.reduceat(lag, starts)
    return [
        Unseen(seconds=float(seconds), events=round(float(events)), lag_seconds=float(lag_seconds))
        for seconds, events, lag_seconds in zip(moments, most, longest, strict=True)
    ]


def total_until(
    at: "NDArray[np.float64]", events: "NDArray[np.int64]", times: "NDArray[np.float64]", *, inclusive: bool
) -> "NDArray[np.float64]":
    """The sum of the `events` that were added, at the times `at`, before each of some times, or just then, too."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    order = np.argsort(at, kind="stable")
    totals = np.concatenate([[0.0], np.cumsum(events[order])])
    return np.asarray(totals[np.searchsorted(at[order], times, "right" if inclusive else "left")], float)


def _deliveries(member: Outcome, began_at: float) -> "tuple[NDArray[np.float64], NDArray[np.int64]]":
    """When a member of a reader asked for the page after some events, and the number of those events."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    rows = [
        (record.since + asked / 1e6 - began_at, given) for record in member.page_times for asked, given in record.pages
    ]
    at, given = np.array(rows, float).reshape(-1, 2).T
    return at, np.diff(given, prepend=0).astype(np.int64)


def _timed_until(worker: Outcome, at: "NDArray[np.float64]") -> float:
    """Until when a worker reported all times, which are `at`."""
    if worker.has_reported and not worker.report.untimed_calls:
        return float("inf")
    return float(at.max(initial=0.0))


def _history(worker: Outcome, opened_at: float) -> "NDArray[np.float64]":
    """A worker's progress since the barrier was lifted, as rows of a time in seconds and of the events until then."""
    import numpy as np  # noqa: PLC0415 - see bench.stats

    return np.array([(0, 0), *((max(0, at - opened_at), events) for at, events in worker.history)], float)


def _never_given(producer: Outcome, timed: "TimedAppends", reader: Reader) -> "NDArray[np.int64]":
    """The number of acknowledged events of each timed append that a reader was never given."""
    from bench.run.appends import events_per_batch  # noqa: PLC0415 - numpy

    delivered = normal([part for member in reader.members for part in member.ranges["delivered"]])
    missing = subtract(normal(producer.ranges["acknowledged"]), delivered)
    batch = producer.job.insert_batch if isinstance(producer.job, ProducerJob) else 1
    return events_per_batch(missing, batch, len(timed.events))
