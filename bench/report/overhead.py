"""The table of `bench limits`."""

from bench import stats
from bench.overhead.measure import Limits, Pairing
from bench.report.tabular import Form, markdown
from bench.text import plural

ENOUGH_ROUNDS = 2
"""Fewer rounds do not show how much rounds differ, so no target is judged by them."""


def whole(limits: Limits, form: Form = markdown) -> str:
    """A row per pairing, then the machine and the method."""
    rows = [_row(pairing, limits) for pairing in limits.contests]
    rows += [_own_row(task, ours, values, unit, target, limits) for task, ours, values, unit, target in _own(limits)]
    return f"{form(rows)}\n\n{_note(limits)}"


def _own(limits: Limits) -> list[tuple[str, str, list[float], str, float]]:
    """What is measured of our programs alone: task, how, a value per round, its unit, and the target it must be
    under."""
    start, late = limits.first_event_seconds, limits.lateness_p99_ms
    measured = [
        ("start", "time to first event, 10 producers", start, "s", limits.first_event_target),
        ("lateness", "p99, due to sent, 10 idle producers, 1,000/s", late, "ms", limits.lateness_target),
    ]
    return [each for each in measured if each[2]]


def met(limits: Limits) -> bool:
    """Whether all targets are met; True if there were too few rounds to judge."""
    return limits.rounds < ENOUGH_ROUNDS or (
        all(_met(pairing) for pairing in limits.contests)
        and all(stats.median(values).value < target for _, _, values, _, target in _own(limits))
    )


def _judged(met: bool, limits: Limits) -> str:  # noqa: FBT001
    if limits.rounds < ENOUGH_ROUNDS:
        return f"{plural(limits.rounds, 'round')}: not judged"
    return "ok" if met else "MISSED"


def _met(pairing: Pairing) -> bool:
    return stats.median(pairing.ratios()).value >= pairing.target


def _row(pairing: Pairing, limits: Limits) -> dict[str, str]:
    ratio = stats.median(pairing.ratios())
    ours, theirs = (stats.median(side).value for side in zip(*pairing.pairs, strict=True))
    return {
        "task": pairing.name,
        "ours": pairing.ours,
        "theirs": pairing.theirs,
        "ours, median": _value(ours, pairing),
        "theirs, median": _value(theirs, pairing),
        "ratio": f"{ratio.value:.2f}",
        stats.interval_name(limits.rounds): f"{ratio.low:.2f} to {ratio.high:.2f}",
        "target": f"{pairing.target:.2f}",
        "": _judged(_met(pairing), limits),
    }


def _own_row(task: str, ours: str, values: list[float], unit: str, target: float, limits: Limits) -> dict[str, str]:
    middle = stats.median(values)
    return {
        "task": task,
        "ours": ours,
        "theirs": "",
        "ours, median": f"{middle.value:.2f} {unit}",
        "theirs, median": "",
        "ratio": "",
        stats.interval_name(limits.rounds): f"{middle.low:.2f} to {middle.high:.2f} {unit}",
        "target": f"under {target:g} {unit}",
        "": _judged(middle.value < target, limits),
    }


def _value(value: float, pairing: Pairing) -> str:
    match pairing.unit:
        case "bytes":
            return f"{value / 2**20:,.1f} MiB"
        case "ms":
            return f"{value:.2f} ms"
        case _:
            return f"{value:,.0f}/s"


def _note(limits: Limits) -> str:
    machine = limits.environment
    settings = ", ".join(f"`{name}={value}`" for name, value in machine.settings.items())
    grown = f" --grown {limits.grown}" if limits.grown else ""
    return (
        f"- `python -m bench limits --events {limits.events}{grown} --rounds {limits.rounds} --place {machine.place}`: "
        f"PostgreSQL {machine.postgres}, {machine.cpu}, {machine.machine}, "
        f"{machine.kernel}; {settings}. Run {limits.run_id}.\n"
        "- Ours and theirs alternate on one server, and the one that goes first changes each round. The ratio is the "
        f"median of the rounds' ratios: 1 is equal, more is better; {_ends(limits.rounds)}. What our workers appended "
        "and read was verified as in a run."
    )


def _ends(rounds: int) -> str:
    if rounds < stats.SMALLEST_SAMPLE:
        return f"with fewer than {stats.SMALLEST_SAMPLE} rounds, its range is shown"
    return "its interval is a bootstrap interval"
