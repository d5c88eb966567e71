"""The schedule of an offered load: when each batch of a producer is due.

Producers share one schedule without talking to each other: each computes the due times of its own batches, counted
from one moment on the database's clock.
"""

import random
from collections.abc import Iterator
from itertools import accumulate

from bench.job import Load


def due_seconds(load: Load, producer: int, limit: int, batch: int, chance: random.Random) -> Iterator[float]:
    """Yield when each batch of a producer is due, in seconds after the start of the schedule.

    `producer` counts from 0; it has `limit` events in batches of `batch`, of which the last one may be short. Fixed
    arrivals of all producers together are evenly spread. Random arrivals of each producer are a Poisson process, and so
    are those of all together (Kingman, "Poisson Processes", 1993, superposition theorem); a rate that changes stretches
    the gaps (mapping theorem).
    """
    sizes = ((first, min(batch, limit - first)) for first in range(0, limit, batch))
    if load.arrival == "fixed":
        return _when(load.steps, (load.producers * first + producer * size for first, size in sizes))
    gaps = (chance.expovariate(1 / (load.producers * size)) for _, size in sizes)
    return _when(load.steps, accumulate(gaps))


def ends_of(steps: list[tuple[float, float | None]]) -> list[float]:
    """When each step but the last one ends, in seconds after the start of the schedule."""
    return list(accumulate(seconds or 0.0 for _, seconds in steps[:-1]))


def span_seconds(steps: list[tuple[float, float | None]], events: int) -> float:
    """The time in which so many events are offered by all producers together."""
    return next(_when(steps, iter([float(events)])))


def _when(steps: list[tuple[float, float | None]], positions: Iterator[float]) -> Iterator[float]:
    """Yield the seconds after which this many events are offered, for ascending numbers of events; the last rate
    goes on without end.
    """
    going = iter(steps)
    rate, lasts = next(going)
    began_seconds, began_events = 0.0, 0.0
    for position in positions:
        while lasts is not None and position >= began_events + rate * lasts:
            following = next(going, None)
            if following is None:
                break
            began_seconds, began_events = began_seconds + lasts, began_events + rate * lasts
            rate, lasts = following
        yield began_seconds + (position - began_events) / rate
