"""The table of `bench table-size`: a row per size, each rate with its ratio to that of the empty log."""

from collections.abc import Sequence

from bench.report.tabular import Form
from bench.report.verdict import trial_verdict
from bench.results.models import Latency, Result
from bench.stats import median
from bench.table_size import TableSizes
from bench.text import plural


def table(record: TableSizes, form: Form) -> str:
    """The table, what its figures are, and the first failed verdict if there is one."""
    empty, *_ = record.sizes
    rows = [_row(result, empty) for result in record.sizes]
    right = [name for name in rows[0] if name != "verdict"]
    rounds = max(len(result.trials) for result in record.sizes)
    notes = [
        f"Medians of {plural(rounds, 'trial')} at each size, in alternation. In brackets the ratio to the empty log: "
        "the median of the ratios of each round, and their range."
        if rounds > 1
        else "One trial at each size; in brackets the ratio to the empty log.",
        f"`{record.command}`: PostgreSQL {empty.environment.postgres}, place {empty.environment.place}, "
        f"{empty.environment.cpu}, {empty.environment.machine}. Run {record.run_id}.",
    ]
    failed = [trial_verdict(trial) for result in record.sizes for trial in result.trials if not trial.verdict.ok]
    return "\n\n".join([form(rows, right), *failed[:1], "\n".join(notes)])


def _row(result: Result, empty: Result) -> dict[str, str]:
    first = result.trials[0]
    both = (result, empty)
    before = first.preload.stored_bytes if first.preload else 0
    row = {
        "events before": f"{first.preload.events if first.preload else 0:,}",
        "MB before": "" if before is None else f"{before / 1e6:,.0f}",
        "appended/s": _with_ratio(*([trial.append.events_per_second for trial in each.trials] for each in both)),
        "append p99 ms": _p99([trial.append.latency_ms for trial in result.trials]),
    }
    for place, read in enumerate(first.reads):
        name = read.reading.track.key if read.reading.number is None else read.reader
        rates = ([trial.reads[place].events_per_second for trial in each.trials] for each in both)
        row[f"{name}/s"] = _with_ratio(*rates)
        row[f"{name} p99 ms"] = _p99([trial.reads[place].latency_ms for trial in result.trials])
    row["verdict"] = "ok" if result.ok else "FAILED"
    return row


def _with_ratio(values: Sequence[float | None], of_empty: Sequence[float | None]) -> str:
    """The median of rates, and the ratio to those of the empty log, trial by trial of a round."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    ratios = [value / other for value, other in zip(values, of_empty, strict=False) if value and other]
    if not ratios:
        return f"{median(known).value:,.0f}"
    spread = f", {min(ratios):.2f}..{max(ratios):.2f}" if len(ratios) > 1 else ""
    return f"{median(known).value:,.0f} ({median(ratios).value:.2f}{spread})"


def _p99(latencies: Sequence[Latency | None]) -> str:
    values = [latency.p99 for latency in latencies if latency]
    return f"{median(values).value:.2f}" if values else ""
