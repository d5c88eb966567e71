"""The table of limits in the words that people read."""

from bench import stats
from bench.overhead.measure import Limits, Pairing
from bench.report.tabular import Form, markdown
from bench.text import plural

ENOUGH_ROUNDS = 2
"""One round says nothing of how much the next one would differ, so no target is judged by it."""


def whole(limits: Limits, form: Form = markdown) -> str:
    """A line a pairing, then where and how it was measured."""
    rows = [_row(pairing, limits) for pairing in limits.contests]
    first = stats.median(limits.first_event_seconds)
    rows.append(
        {
            "what": "start",
            "ours": "from the command to the first event, 10 producers",
            "beside": "",
            "ours, median": f"{first.value:.2f} s",
            "theirs, median": "",
            "ratio": "",
            stats.interval_name(limits.rounds): f"{first.low:.2f} to {first.high:.2f} s",
            "at least": f"under {limits.first_event_target:g} s",
            "": _judged(first.value < limits.first_event_target, limits),
        }
    )
    return f"{form(rows)}\n\n{_note(limits)}"


def met(limits: Limits) -> bool:
    """Whether all targets are met, as far as there were enough rounds to judge."""
    return limits.rounds < ENOUGH_ROUNDS or (
        all(_met(pairing) for pairing in limits.contests)
        and (stats.median(limits.first_event_seconds).value < limits.first_event_target)
    )


def _judged(met: bool, limits: Limits) -> str:  # noqa: FBT001
    if limits.rounds < ENOUGH_ROUNDS:
        return f"{plural(limits.rounds, 'round')}: no judgement"
    return "ok" if met else "MISSED"


def _met(pairing: Pairing) -> bool:
    return stats.median(pairing.ratios()).value >= pairing.target


def _row(pairing: Pairing, limits: Limits) -> dict[str, str]:
    ratio = stats.median(pairing.ratios())
    ours, theirs = (stats.median(side).value for side in zip(*pairing.pairs, strict=True))
    return {
        "what": pairing.name,
        "ours": pairing.ours,
        "beside": pairing.theirs,
        "ours, median": _value(ours, pairing),
        "theirs, median": _value(theirs, pairing),
        "ratio": f"{ratio.value:.2f}",
        stats.interval_name(limits.rounds): f"{ratio.low:.2f} to {ratio.high:.2f}",
        "at least": f"{pairing.target:.2f}",
        "": _judged(_met(pairing), limits),
    }


def _value(value: float, pairing: Pairing) -> str:
    return f"{value / 2**20:,.1f} MiB" if pairing.unit == "bytes" else f"{value:,.0f}/s"


def _note(limits: Limits) -> str:
    where = limits.environment
    settings = ", ".join(f"`{name}={value}`" for name, value in where.settings.items())
    grown = f" --grown {limits.grown}" if limits.grown else ""
    return (
        f"- `python -m bench limits --events {limits.events}{grown} --rounds {limits.rounds} --place {where.place}`: "
        f"PostgreSQL {where.postgres}, {where.cpu}, {where.machine}, "
        f"{where.kernel}; {settings}. Run {limits.run_id}.\n"
        "- Ours and theirs take turns on one server, and change who goes first each round. A ratio is the median of "
        f"the rounds' ratios, 1 being as good as theirs and more being better; {_ends(limits.rounds)}. What ours "
        "appended and read was checked like in a run."
    )


def _ends(rounds: int) -> str:
    if rounds < stats.SMALLEST_SAMPLE:
        return f"of fewer than {stats.SMALLEST_SAMPLE} rounds its range is shown"
    return "its interval is a bootstrap's"
