"""The percentiles of all latencies of a result: as a table, and as the distribution that HdrHistogram's tools plot."""

import re
from collections.abc import Iterator
from io import BytesIO

from hdrh.histogram import HdrHistogram

from bench.report.tabular import Form
from bench.results.models import Latency, Result, Trial
from bench.results.tracks import APPEND

_COLUMNS = {
    "p50": "p50 ms",
    "p90": "p90 ms",
    "p99": "p99 ms",
    "p99_9": "p99.9 ms",
    "p99_99": "p99.99 ms",
    "max": "max ms",
}
_MICROSECONDS = 1000
"""Per millisecond."""


def table(result: Result, form: Form) -> str:
    """A table with a row for each latency of each trial; empty when there is none."""
    number = 0
    rows = []
    for trial in result.trials:
        number += not trial.warm_up
        for name, latency in _latencies(trial):
            row = {"trial": "warm-up" if trial.warm_up else str(number)} if len(result.trials) > 1 else {}
            values = {title: getattr(latency, key) for key, title in _COLUMNS.items()}
            rows.append(
                {**row, "latency": name, **{title: "" if ms is None else f"{ms:.3f}" for title, ms in values.items()}}
            )
    return form(rows, set(_COLUMNS.values())) if rows else ""


def _latencies(trial: Trial) -> Iterator[tuple[str, Latency]]:
    """The latencies of a trial, by the names that they have in its log of histograms."""
    append = trial.append
    of_trial = [(APPEND.key, append.latency_ms)]
    if append.offered:
        of_trial.append((f"{APPEND.key}_service", append.offered.service_ms))
        of_trial.append((f"{APPEND.key}_lateness", append.offered.lateness_ms))
    for read in trial.reads:
        of_trial.append((read.reading.metric, read.latency_ms))
        of_trial.append((f"{read.reading.metric}_delay", read.end_to_end_ms))
    yield from ((name, latency) for name, latency in of_trial if latency)


def distribution(histogram: HdrHistogram) -> str:
    """The percentile distribution of a histogram of microseconds, in milliseconds, as text (.hgrm)."""
    buffer = BytesIO()
    histogram.output_percentile_distribution(buffer, _MICROSECONDS)
    # The package divides all values by the ratio but the standard deviation.
    deviation_ms = histogram.get_stddev() / _MICROSECONDS
    return re.sub(r"(StdDeviation +=) *[0-9.]+", rf"\g<1> {deviation_ms:12.3f}", buffer.getvalue().decode())
