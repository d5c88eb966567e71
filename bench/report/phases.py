"""The table of the phases of an offered load: a row for each."""

from collections.abc import Sequence

from bench.report.tabular import Form, markdown
from bench.results.models import Latency, LoadPhase
from bench.text import number

_WORDS = {"phase", "meanwhile"}
"""Columns that are no figures."""
_LEGEND = (
    "Offered, achieved and delivered in events per second; append (from due time to commit) and end to end (from ctime "
    "to delivery) as p50, p99 in ms; the largest lag in s."
)


def table(measured: Sequence[LoadPhase], form: Form = markdown) -> str:
    """A row for each phase, at least one: what was asked for, and what was measured. Narrow enough for a terminal."""
    rows = [
        {
            "phase": phase.name,
            "seconds": f"{phase.begin_seconds:g}..{phase.end_seconds:g}",
            "meanwhile": ", ".join(filter(None, [phase.open_transaction, "" if phase.read else "no reading"])),
            "offered": number(phase.offered_per_second),
            "achieved": "" if phase.achieved_per_second is None else number(phase.achieved_per_second),
            "delivered": "" if phase.delivered_per_second is None else number(phase.delivered_per_second),
            "append": _latency(phase.append_ms),
            "end to end": _latency(phase.end_to_end_ms),
            "lag": "" if phase.largest_lag_seconds is None else f"{phase.largest_lag_seconds:.1f}",
        }
        for phase in measured
    ]
    return f"{form(rows, [name for name in rows[0] if name not in _WORDS])}\n\n{_LEGEND}"


def _latency(latency: Latency | None) -> str:
    return f"{_ms(latency.p50)}, {_ms(latency.p99)}" if latency else ""


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.1f}" if milliseconds < 100 else f"{milliseconds:,.0f}"
