"""The table of limits in the words that people read."""

from tabulate import tabulate

from bench import stats
from bench.limits import Contest, Limits


def whole(limits: Limits) -> str:
    """A line a contest, then where and how it was measured."""
    rows = [_row(contest) for contest in limits.contests]
    first = stats.median(limits.first_event_seconds)
    rows.append(
        {
            "what": "start",
            "ours": "from the command to the first event, 10 producers",
            "beside": "",
            "ours, median": f"{first.value:.2f} s",
            "theirs, median": "",
            "ratio": "",
            "95 % interval": f"{first.low:.2f} to {first.high:.2f} s",
            "at least": f"under {limits.first_event_target:g} s",
            "": "ok" if first.value < limits.first_event_target else "MISSED",
        }
    )
    return f"{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n\n{_note(limits)}"


def met(limits: Limits) -> bool:
    """Whether all targets are."""
    return all(_met(contest) for contest in limits.contests) and (
        stats.median(limits.first_event_seconds).value < limits.first_event_target
    )


def _met(contest: Contest) -> bool:
    return stats.median(contest.ratios()).value >= contest.target


def _row(contest: Contest) -> dict[str, str]:
    ratio = stats.median(contest.ratios())
    ours, theirs = (stats.median(side).value for side in zip(*contest.pairs, strict=True))
    return {
        "what": contest.name,
        "ours": contest.ours,
        "beside": contest.theirs,
        "ours, median": _value(ours, contest),
        "theirs, median": _value(theirs, contest),
        "ratio": f"{ratio.value:.2f}",
        "95 % interval": f"{ratio.low:.2f} to {ratio.high:.2f}",
        "at least": f"{contest.target:.2f}",
        "": "ok" if _met(contest) else "MISSED",
    }


def _value(value: float, contest: Contest) -> str:
    return f"{value / 2**20:,.1f} MiB" if contest.unit == "bytes" else f"{value:,.0f}/s"


def _note(limits: Limits) -> str:
    where = limits.environment
    settings = ", ".join(f"`{name}={value}`" for name, value in where.settings.items())
    grown = f" --grown {limits.grown}" if limits.grown else ""
    return (
        f"- `python -m bench limits --events {limits.events}{grown} --rounds {limits.rounds} --place {where.place}`: "
        f"PostgreSQL {where.postgres}, {where.cpu}, {where.machine}, "
        f"{where.kernel}; {settings}. Run {limits.run_id}.\n"
        "- Ours and theirs take turns on one server, and change who goes first each round. A ratio is the median of "
        "the rounds' ratios, 1 being as good as theirs and more being better; its interval is a bootstrap's. What ours "
        "appended and read was checked like in a run."
    )
