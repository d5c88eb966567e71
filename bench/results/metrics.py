"""What a result comes to, as named numbers with one value per trial. Pure; knows nothing of how they are shown."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from bench.results.models import Latency, Result


class Metric(NamedTuple):
    """One number of a result."""

    name: str
    """Like append, read_1000 or read_1000_p99_ms."""
    unit: Literal["events/s", "ms"]
    values: list[float]
    """One per trial."""

    @property
    def bigger_is_better(self) -> bool:
        """Of rates bigger is better, of latencies smaller."""
        return self.unit == "events/s"


def of(result: Result) -> list[Metric]:
    """The metrics of a result. There are none when a verdict failed, because such a result publishes no speed, none of
    an append that lost a node, and none that a trial has no value of: no value is not zero.
    """
    if not result.ok:
        return []
    appends = [trial.append for trial in result.trials]
    found: list[Metric] = []
    if not any(trial.losses for trial in result.trials):
        found += _rates("append", [append.events_per_second for append in appends])
        found += _latencies("append", [append.latency_ms for append in appends])
    sizes = Counter(read.read_batch for read in result.trials[0].reads)
    seen: Counter[int] = Counter()
    for place, read in enumerate(result.trials[0].reads):
        seen[read.read_batch] += 1
        several = f"_{seen[read.read_batch]}" if sizes[read.read_batch] > 1 else ""
        name = f"read_{read.read_batch}{several}"
        reads = [trial.reads[place] for trial in result.trials]
        found += _rates(name, [each.events_per_second for each in reads])
        found += _latencies(name, [each.latency_ms for each in reads])
        found += _latencies(f"{name}_delay", [each.end_to_end_ms for each in reads])
    return found


def _rates(name: str, rates: Sequence[float | None]) -> Iterator[Metric]:
    known = [rate for rate in rates if rate is not None]
    if len(known) == len(rates):
        yield Metric(name, "events/s", known)


def _latencies(name: str, latencies: Sequence[Latency | None]) -> Iterator[Metric]:
    known = [latency for latency in latencies if latency is not None]
    if len(known) == len(latencies):
        yield Metric(f"{name}_p50_ms", "ms", [latency.p50 for latency in known])
        yield Metric(f"{name}_p99_ms", "ms", [latency.p99 for latency in known])
