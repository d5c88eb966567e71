"""What a result comes to, as named numbers with one value a trial. Pure; knows nothing of how they are shown."""

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from bench.results import Latency, Result


class Metric(NamedTuple):
    """One number of a result."""

    name: str
    """Like append, read_1000 or read_1000_p99_ms."""
    unit: Literal["events/s", "ms"]
    values: list[float]
    """One a trial."""

    @property
    def bigger_is_better(self) -> bool:
        """Of rates bigger is better, of latencies smaller."""
        return self.unit == "events/s"


def of(result: Result) -> list[Metric]:
    """The metrics of a result; none when a verdict failed, because such a result publishes no speed, and none of an
    append that lost a node.
    """
    if not result.ok:
        return []
    appends = [trial.append for trial in result.trials]
    found = []
    if not any(trial.losses for trial in result.trials):
        found += [
            Metric("append", "events/s", [append.events_per_second or 0 for append in appends]),
            *_latencies("append", [append.latency_ms for append in appends]),
        ]
    sizes = Counter(read.read_batch for read in result.trials[0].reads)
    seen: Counter[int] = Counter()
    for place, read in enumerate(result.trials[0].reads):
        seen[read.read_batch] += 1
        several = f"_{seen[read.read_batch]}" if sizes[read.read_batch] > 1 else ""
        name = f"read_{read.read_batch}{several}"
        reads = [trial.reads[place] for trial in result.trials]
        found.append(Metric(name, "events/s", [each.events_per_second or 0 for each in reads]))
        found += _latencies(name, [each.latency_ms for each in reads])
        delays = [each.end_to_end_ms for each in reads if each.end_to_end_ms]
        if len(delays) == len(reads):
            found += _latencies(f"{name}_delay", delays)
    return found


def _latencies(name: str, latencies: list[Latency]) -> Iterator[Metric]:
    yield Metric(f"{name}_p50_ms", "ms", [latency.p50 for latency in latencies])
    yield Metric(f"{name}_p99_ms", "ms", [latency.p99 for latency in latencies])
