"""The metrics of a result: named numbers with one value per trial. Pure; knows nothing of how they are shown."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from bench.results.models import Latency, Result
from bench.results.tracks import Reading

_NAME = re.compile(r"(append|read_[0-9]+(_[0-9]+)?(_delay)?)_p(50|99)_ms|append|read_[0-9]+(_[0-9]+)?", re.ASCII)


class Metric(NamedTuple):
    """One number of a result."""

    name: str
    """Like append, read_1000 or read_1000_p99_ms."""
    unit: Literal["events/s", "ms"]
    values: list[float]
    """One per trial."""
    reading: Reading | None = None
    """Of which it is; None of the append."""

    @property
    def bigger_is_better(self) -> bool:
        """True of rates, False of latencies."""
        return self.unit == "events/s"


def is_name(text: str) -> bool:
    """Whether a metric of some result can have this name."""
    return _NAME.fullmatch(text) is not None


def of_result(result: Result) -> list[Metric]:
    """The metrics of a result.

    There are none when a verdict failed or sessions paused, because such a result publishes no speed; none of a search
    that found no rate; none of the append when a node was lost; and none that a trial has no value of, because no value
    is not zero.
    """
    if not result.ok or result.paused or result.found_no_rate:
        return []
    appends = [trial.append for trial in result.trials]
    metrics: list[Metric] = []
    if not any(trial.losses for trial in result.trials):
        metrics += _rates("append", [append.events_per_second for append in appends])
        metrics += _latencies("append", [append.latency_ms for append in appends])
    for place, read in enumerate(result.trials[0].reads):
        reading = read.reading
        reads = [trial.reads[place] for trial in result.trials]
        metrics += _rates(reading.metric, [each.events_per_second for each in reads], reading)
        metrics += _latencies(reading.metric, [each.latency_ms for each in reads], reading)
        metrics += _latencies(f"{reading.metric}_delay", [each.end_to_end_ms for each in reads], reading)
    return metrics


def _rates(name: str, rates: Sequence[float | None], reading: Reading | None = None) -> Iterator[Metric]:
    known = [rate for rate in rates if rate is not None]
    if len(known) == len(rates):
        yield Metric(name, "events/s", known, reading)


def _latencies(name: str, latencies: Sequence[Latency | None], reading: Reading | None = None) -> Iterator[Metric]:
    known = [latency for latency in latencies if latency is not None]
    if len(known) == len(latencies):
        yield Metric(f"{name}_p50_ms", "ms", [latency.p50 for latency in known], reading)
        yield Metric(f"{name}_p99_ms", "ms", [latency.p99 for latency in known], reading)
