"""The latencies of a trial second by second, by the names of metrics: append, append_service, read_1000 and so on."""

from collections.abc import Mapping

from bench.results.latency_log import Measured
from bench.results.tracks import APPEND, Track
from bench.run.outcome import TrackOutcome, latencies_of
from bench.run.summary import readers
from bench.spec import Spec


def by_metric(spec: Spec, outcomes: Mapping[Track, TrackOutcome]) -> dict[str, Measured]:
    """The latencies of the tracks that are over. A reading with impossible ctimes has no delays."""
    appended = outcomes[APPEND]
    measured = {
        APPEND.key if metric == "append" else f"{APPEND.key}_{metric}": Measured(appended.started_at, timeline)
        for metric, timeline in latencies_of(appended.workers).items()
    }
    for reader in readers(spec, outcomes):
        name = reader.reading.metric
        latencies = latencies_of(reader.members)
        if "read" in latencies:
            measured[name] = Measured(reader.started_at, latencies["read"])
        if "end_to_end" in latencies and not any(member.report.impossible_ctimes for member in reader.members):
            measured[f"{name}_delay"] = Measured(reader.started_at, latencies["end_to_end"])
    return measured
