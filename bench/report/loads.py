"""Tables of a comparison of logs at offered loads: the latency of each log at each rate."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median

from bench.logs.comparison import Comparison, Load, Measured
from bench.report.tabular import FAILED, Form, markdown
from bench.results.models import Latency
from bench.text import plural


def at_rates(comparison: Comparison, form: Form = markdown) -> str:
    """A table per insert batch with a row per log and two columns per rate; empty when no load was offered."""
    parts = []
    for batch in comparison.workload.insert_batch:
        rows = [each for each in comparison.measured if each.insert_batch == batch and each.loads]
        if rows:
            heading = f"**Latency at an offered load, {plural(batch, 'event')} per transaction: p50, p99 in ms**"
            parts += [heading, form([_row(each, comparison.workload.rate) for each in rows])]
    return "\n\n".join([*parts, _note(comparison)] if parts else [])


def _row(own: Measured, rates: Sequence[int]) -> dict[str, str]:
    row = {"log": f"`{own.log}`"}
    for rate in rates:
        loads = [load for load in own.loads if load.rate == rate]
        row[f"append at {rate:,}/s"] = _cell(loads, lambda load: load.append_ms)
        row[f"end to end at {rate:,}/s"] = _cell(loads, lambda load: load.end_to_end_ms)
    return row


def _cell(loads: Sequence[Load], latency: Callable[[Load], Latency | None]) -> str:
    """Medians over trials of the percentiles, and what keeps them from being those of the offered load."""
    found = [each for load in loads if (each := latency(load))]
    if any(load.failure for load in loads) or not found:
        return FAILED
    text = f"{_ms(median(each.p50 for each in found))}, {_ms(median(each.p99 for each in found))}"
    marks = []
    if any(load.saturated for load in loads):
        marks.append("saturated")
    faults: Counter[str] = Counter()
    for load in loads:
        faults.update(load.faults)
    marks += [f"{count:,} {kind}" for kind, count in faults.items()]
    if any(load.generator_bound for load in loads):
        marks.append("generator-bound")
    return f"{text} (**{', '.join(marks)}**)" if marks else text


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 10 else f"{milliseconds:.1f}"


def _note(comparison: Comparison) -> str:
    load = comparison.workload
    return (
        f"- Medians of {plural(load.rounds, 'trial')} of {load.duration:g} s at each rate, which is that of all "
        f"{plural(load.scale, 'producer')} together; batches arrive at random (Poisson). Appends: from the time at "
        "which a batch was due to its commit. End to end: from an event's ctime to its delivery to a reader that tails "
        "the log. Saturated: less than 95 % of the load was achieved."
    )
