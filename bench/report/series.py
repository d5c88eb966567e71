"""All series of a result as one long table."""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import NamedTuple

from bench.results.models import Result, Trial


class Row(NamedTuple):
    """One value of a series, by the columns of the table."""

    trial: int
    """From 1."""
    phase: str
    """As in `phase_seconds`."""
    seconds: float
    """Since the barrier was lifted."""
    metric: str
    subject: str
    """The track, the reader, or the backend and what it waited for; empty where the metric has no more than one."""
    unit: str
    value: float


def long_table(result: Result) -> str:
    """A CSV table with a row per value: progress, unseen events and lag, figures of the server, and wait events."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    for number, trial in enumerate(result.trials, 1):
        writer.writerows(_rows(number, trial))
    return text.getvalue()


def _rows(number: int, trial: Trial) -> Iterator[Row]:
    for track, samples in trial.series.items():
        phase = next((phase for phase in trial.phase_seconds if track in phase.split(" + ")), track)
        for sample in samples:
            yield Row(number, phase, sample.seconds, "progress", track, "events", sample.events)
    tailed = next((phase for phase in trial.phase_seconds if " + " in phase), "")
    for reader, behind in trial.unseen.items():
        for each in behind:
            yield Row(number, tailed, each.seconds, "unseen", reader, "events", each.events)
        for each in behind:
            yield Row(number, tailed, each.seconds, "lag", reader, "s", each.lag_seconds)
    for phase, observed in trial.telemetry.phases.items():
        series = observed.series
        if series is None:
            continue
        for name, figure in series.figures.items():
            for seconds, value in zip(series.seconds, figure.values, strict=True):
                if value is not None:
                    yield Row(number, phase, seconds, name, "", figure.unit, value)
        for wait in series.waits:
            for seconds, count in zip(series.seconds, wait.counts, strict=True):
                yield Row(number, phase, seconds, "waits", f"{wait.backend}: {wait.event}", "samples", count)
