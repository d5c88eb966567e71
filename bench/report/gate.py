"""Comparisons in the words that people read: metric by metric, and what it comes to."""

from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Literal

from bench import stats
from bench.gate import regression
from bench.gate.ab import Ab
from bench.gate.compare import Compared
from bench.gate.power import Calibration
from bench.gate.regression import Change, Lack, Rules
from bench.report import tabular
from bench.report.tabular import Form
from bench.results import metrics
from bench.results.models import Result
from bench.text import plural

BEGIN, END = "<!-- bench compare: begin -->", "<!-- bench compare: end -->"
"""What a comment on a pull request is found by, to be replaced by the next one."""
Marks = Literal["plain", "markdown"]
PLAIN: Marks = "plain"
MARKDOWN: Marks = "markdown"
"""Whether a text is for standard output or for a page."""
_LARGEST = f"{stats.LARGEST_SLOWDOWN:.0%}"


def comparison(found: Compared, before: Result, after: Result, marks: Marks = PLAIN) -> str:
    """What `bench compare` says."""
    head = f"before: {_who(before)}\nafter:  {_who(after)}" if marks == PLAIN else _markdown_heads(before, after)
    parts = [head]
    if found.word == "not comparable":
        parts.append(_differences(found.differences, "not alike, and must be", marks))
    if found.allowed:
        parts.append(_differences(found.allowed, "not alike, and allowed", marks))
    parts += _metrics(found, ("before", "after"), marks)
    parts.append(f"{_strong(found.word, marks)}: {_because(found, before, after)}")
    return "\n\n".join(parts)


def _metrics(found: Compared, names: tuple[str, str], marks: Marks) -> Iterator[str]:
    """What became of each metric, and which ones cannot be compared."""
    if found.changes:
        yield _changes(found, names, marks)
    sides: dict[Lack, str] = {
        "before": f"missing in {names[0]}",
        "after": f"missing in {names[1]}",
        "ratio": "of value 0, which has no ratio",
    }
    lines = [
        f"not compared, {words}: {', '.join(name for name, lack in found.lacks.items() if lack == which)}"
        for which, words in sides.items()
        if which in found.lacks.values()
    ]
    if lines:
        yield "\n".join(lines)


def commented(text: str) -> str:
    """A text for a pull request, between markers."""
    return f"{BEGIN}\n\n{text}\n\n{END}\n"


def sides(found: Compared, marks: Marks = PLAIN) -> str:
    """What `bench ab` says; what is not alike is what was asked for."""
    return "\n\n".join(
        [
            _differences(found.allowed, "a and b differ in", marks, ("a", "b"))
            if found.allowed
            else "a and b are alike",
            *_metrics(found, ("a", "b"), marks),
            f"{_strong(found.word, marks)}: {_sentence(found)}",
        ]
    )


def so_far(ab: Ab, rules: Rules, max_trials: int) -> str:
    """A line after each block: how many trials there were, and the intervals of what decides."""
    both = [(a, b) for a, b in regression.pairs(metrics.of_result(ab.a), metrics.of_result(ab.b)) if rules.decides(a)]
    speeds = {a.name: regression.speed(a, b) for a, b in both}
    known = ", ".join(f"{name} {speed.low:.2f} to {speed.high:.2f}" for name, speed in speeds.items())
    compared = f"b over a: {known}" if known else "there is no rate that both have, so nothing to compare"
    return f"{ab.trials} of at most {plural(max_trials, 'trial')} a side; {compared}"


def calibration(ab: Ab, found: Calibration, form: Form = tabular.markdown) -> str:
    """What the gate makes of the noise of a machine: two tables in markdown, and where that was."""
    simulated = [
        {
            "appending is slower by": f"{each.slowdown:.0%}",
            "regressed": f"{each.regressed:.1%}",
            "inconclusive": f"{each.inconclusive:.1%}",
            "no worse": f"{each.no_worse:.1%}",
            "trials a side": f"{each.trials:g}",
        }
        for each in found.simulated
    ]
    names = [name for name in next(iter(found.visible.values())) if not name.endswith("_ms")]
    visible = [
        {"trials a side": str(trials), **{f"{name} slower by": _visible(seen[name]) for name in names}}
        for trials, seen in found.visible.items()
    ]
    where = ab.a.environment
    return "\n\n".join(
        [
            form(simulated),
            form(visible),
            f"- `{ab.command}`: {where.cpu}, {where.machine}, PostgreSQL {where.postgres}, {where.place}; "
            f"{plural(ab.trials, 'trial')} a side, run {ab.run_id}.\n"
            f"- First table: {found.comparisons:,} comparisons a line, their trials drawn from those in stretches of "
            f"one block, with a threshold of {found.threshold:.0%}, ended when the intervals reached "
            f"{found.precision:.0%} to either side or after {found.max_trials} trials a side. "
            "The first line are false alarms.\n"
            "- Second table: the smallest slowdown that is significant nine times in ten, corrected for all metrics.",
        ]
    )


def _changes(found: Compared, names: tuple[str, str], marks: Marks) -> str:
    changes, visible = found.changes, found.visible
    rows = [
        {
            "metric": change.metric,
            names[0]: _value(change.before, change.unit),
            names[1]: _value(change.after, change.unit),
            "speed": f"{change.speed.value:.3f}",
            stats.interval_name(found.trials): f"{change.speed.low:.3f} to {change.speed.high:.3f}",
            "p": f"{change.p_value:.3f}" if change.p_value >= 0.001 else "< 0.001",
            "effect": f"{change.effect:+.2f}",
            "threshold": _percent(change.threshold),
            "sees from": _visible(visible[change.metric]) if change.metric in visible else "",
            "": change.word if change.decides or change.word != "unclear" else "(unclear)",
        }
        for change in changes
    ]
    notes = (
        "speed: after over before, of latencies the inverse, so less than 1 is worse; p: Mann-Whitney U, corrected "
        "for all metrics (Holm); effect: Cliff's delta, -1 when each trial is worse than each before; sees from: the "
        "smallest slowdown that so many trials see here nine times in ten. What stands in brackets does not decide."
    )
    if names[0] == "a":
        notes = notes.replace("after over before", "b over a").replace("than each before", "than each of a")
    return f"{_table(rows, marks)}\n\n{notes}"


def _differences(
    found: Mapping[str, tuple[str, str]], title: str, marks: Marks, names: tuple[str, str] = ("before", "after")
) -> str:
    rows = [{title: key, names[0]: old or "(none)", names[1]: new or "(none)"} for key, (old, new) in found.items()]
    return _table(rows, marks)


def _table(rows: tabular.Rows, marks: Marks) -> str:
    return tabular.markdown(rows) if marks == MARKDOWN else tabular.form()(rows)


def _because(found: Compared, before: Result, after: Result) -> str:
    if found.word == "failed verdict":
        failed = [result.run_id for result in (before, after) if not result.ok]
        return f"what {' and '.join(failed)} measured is worth nothing, events were not right"
    if found.word == "not comparable":
        keys = " ".join(f"--allow {quote(key)}" for key in found.differences)
        return f"measure both alike, or say that it does not matter: {keys}"
    return _sentence(found)


def _sentence(found: Compared) -> str:
    changes = found.changes
    if found.trials < regression.MIN_TRIALS:
        are = "is" if found.trials == 1 else "are"
        return (
            f"{plural(found.trials, 'trial')} a side {are} too few to tell, "
            f"give --trials {regression.MIN_TRIALS} or more"
        )
    if found.word == "regressed":
        worse = [change for change in changes if change.word == "regressed"]
        said = ", ".join(
            f"{change.metric} {_percent(1 - change.speed.value)} slower (threshold {_percent(change.threshold)})"
            for change in worse
        )
        return f"{said}{_sees(found, worse)}"
    deciding = [change for change in changes if change.decides]
    if found.word == "inconclusive":
        return f"{_why_inconclusive(found)}{_sees(found, deciding)}"
    faster = [change.metric for change in changes if change.word == "faster"]
    said = f"{', '.join(faster)} faster; " if faster else ""
    return f"{said}no rate is slower by its threshold or more, at 95 % confidence{_sees(found, deciding)}"


def _why_inconclusive(found: Compared) -> str:
    deciding = [change for change in found.changes if change.decides]
    if not deciding:
        return "there is nothing to compare: there is no rate that both sides have"
    reasons = []
    if found.undecided:
        reasons.append(f"there is nothing to compare {', '.join(found.undecided)} with")
    unclear = [change.metric for change in deciding if change.word == "unclear"]
    if unclear:
        reasons.append(f"too noisy or too few trials to tell for {', '.join(unclear)}")
    return "; ".join(reasons)


def _sees(found: Compared, told: Sequence[Change]) -> str:
    """Behind a semicolon, the slowdowns of what was told that this machine would see; nothing when none is known."""
    seen = {change.metric: found.visible[change.metric] for change in told if change.metric in found.visible}
    if not seen:
        return ""
    with_so_many = f"; with {plural(found.trials, 'trial')} this machine sees"
    blind = [metric for metric, share in seen.items() if share >= 1]
    if blind:
        return f"{with_so_many} no slowdown up to {_LARGEST} of {', '.join(blind)}"
    changes = ", ".join(f"{metric} of {_percent(share)}" for metric, share in seen.items())
    return f"{with_so_many} changes of {changes} and more"


def _who(result: Result) -> str:
    return (
        f"{result.run_id}, {plural(len(result.trials), 'trial')}, PostgreSQL {result.environment.postgres}, "
        f"bench {result.environment.git_revision or result.environment.bench}"
    )


def _markdown_heads(before: Result, after: Result) -> str:
    return f"- before: {_who(before)}\n- after: {_who(after)}"


def _strong(word: str, marks: Marks) -> str:
    return f"**{word}**" if marks == MARKDOWN else word


def _value(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit == "events/s" else f"{value:,.3f} {unit}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _visible(share: float) -> str:
    """The smallest slowdown that is seen."""
    return f"over {_LARGEST}" if share >= 1 else _percent(share)
