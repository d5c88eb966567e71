"""The figures of a trial that objectives bound. Pure."""

from collections.abc import Sequence

from bench.kinds import KINDS
from bench.objectives import Objective
from bench.results.models import Append, Read, Trial


def figure(objective: Objective, trial: Trial) -> float | None:
    """The figure that an objective bounds: milliseconds, events per second, or a number of events.

    Of several readings it is that of the worst one: the highest time, the lowest rate. None when the append or one of
    the readings has no such figure.
    """
    if objective.metric in KINDS:
        return float(getattr(trial.verdict, objective.metric))
    parts: Sequence[Append | Read] = [trial.append] if objective.metric == "append" else trial.reads
    if not objective.percentile:
        rates = [part.events_per_second for part in parts]
        return None if None in rates else min((rate for rate in rates if rate is not None), default=None)
    if objective.metric == "end_to_end":
        latencies = [read.end_to_end_ms for read in trial.reads]
    else:
        latencies = [part.latency_ms for part in parts]
    name = objective.percentile.replace(".", "_")
    times: list[float | None] = [None if latency is None else getattr(latency, name) for latency in latencies]
    return None if None in times else max((time for time in times if time is not None), default=None)
