"""Texts of comparisons: a table of metrics, the outcome, and the power analysis."""

from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Literal

from bench import stats
from bench.gate import regression
from bench.gate.ab import Ab
from bench.gate.compare import Compared
from bench.gate.power import BLOCK
from bench.gate.regression import Change, Lack, Rules
from bench.report import exposure, tabular
from bench.report.tabular import Form
from bench.report.verdict import trial_verdict
from bench.results import metrics
from bench.results.models import Result
from bench.text import plural

BEGIN, END = "<!-- bench compare: begin -->", "<!-- bench compare: end -->"
"""Markers by which a comment on a pull request is found, to be replaced by the next one."""
Marks = Literal["plain", "markdown"]
PLAIN: Marks = "plain"
MARKDOWN: Marks = "markdown"
"""Whether a text is for standard output or for a markdown page."""
_LARGEST = f"{stats.LARGEST_SLOWDOWN:.0%}"


def comparison(compared: Compared, before: Result, after: Result, marks: Marks = PLAIN) -> str:
    """The text of `bench compare`."""
    bullet = "- " if marks == MARKDOWN else ""
    parts = [f"{bullet}before: {_described(before)}\n{bullet}after:  {_described(after)}"]
    if compared.word == "not comparable":
        parts.append(_differences(compared.differences, "must match", marks))
    if compared.allowed:
        parts.append(_differences(compared.allowed, "allowed to differ", marks))
    parts += filter(None, [exposure.of_results([("before", before), ("after", after)])])
    parts += _metrics(compared, ("before", "after"), marks)
    parts.append(f"{_strong(compared.word, marks)}: {_because(compared, before, after)}")
    return "\n\n".join(parts)


def _metrics(compared: Compared, names: tuple[str, str], marks: Marks) -> Iterator[str]:
    """The table of metrics, then the metrics that cannot be compared and why."""
    if compared.changes:
        yield _changes(compared, names, marks)
    reasons: dict[Lack, str] = {
        "before": f"missing in {names[0]}",
        "after": f"missing in {names[1]}",
        "ratio": "a value is 0, so there is no ratio",
    }
    lines = [
        f"not compared, {reason}: {', '.join(name for name, each in compared.lacks.items() if each == lack)}"
        for lack, reason in reasons.items()
        if lack in compared.lacks.values()
    ]
    if lines:
        yield "\n".join(lines)


def commented(text: str) -> str:
    """A text for a comment on a pull request, between markers."""
    return f"{BEGIN}\n\n{text}\n\n{END}\n"


def ab_text(record: Ab, compared: Compared, marks: Marks = PLAIN) -> str:
    """The text of `bench ab`: the first failed verdict if there is one, then what `sides` has."""
    failed = [trial_verdict(trial) for side in (record.a, record.b) for trial in side.trials if not trial.verdict.ok]
    block = "```\n{}\n```" if marks == MARKDOWN else "{}"
    met = exposure.of_results([("a", record.a), ("b", record.b)])
    return "\n\n".join(
        [*(block.format(verdict) for verdict in failed[:1]), *filter(None, [met]), sides(compared, marks)]
    )


def sides(compared: Compared, marks: Marks = PLAIN) -> str:
    """How two sides differ, their metrics, and the outcome."""
    names = ("a", "b")
    differ = (
        _differences(compared.allowed, "a and b differ in", marks, names) if compared.allowed else "a and b are alike"
    )
    outcome = "the timings are void" if compared.word == "failed verdict" else _sentence(compared)
    return "\n\n".join([differ, *_metrics(compared, names, marks), f"{_strong(compared.word, marks)}: {outcome}"])


def so_far(ab: Ab, rules: Rules, max_trials: int) -> str:
    """A line after each block: the number of trials, and the intervals of the metrics that decide."""
    both = [(a, b) for a, b in regression.pairs(metrics.of_result(ab.a), metrics.of_result(ab.b)) if rules.decides(a)]
    speeds = {a.name: regression.speed(a, b) for a, b in both}
    intervals = ", ".join(f"{name} {speed.low:.2f} to {speed.high:.2f}" for name, speed in speeds.items())
    speed = f"b over a: {intervals}" if intervals else "nothing to compare: no rate was measured on both sides"
    return f"{ab.trials} of at most {plural(max_trials, 'trial')} per side; {speed}"


def power_analysis(ab: Ab, form: Form = tabular.markdown) -> str:
    """The tables of a record's power analysis, then where and how it was made. Empty if the record has none."""
    analysis = ab.power
    if analysis is None:
        return ""
    simulated = [
        {
            "appending is slower by": f"{each.slowdown:.0%}",
            "regressed": f"{each.regressed:.1%}",
            "inconclusive": f"{each.inconclusive:.1%}",
            "no worse": f"{each.no_worse:.1%}",
            "trials per side": f"{each.trials:g}",
        }
        for each in analysis.simulated
    ]
    names = [name for name in next(iter(analysis.visible.values())) if not name.endswith("_ms")]
    visible = [
        {"trials per side": str(trials), **{f"{name} slower by": _visible(slowdowns[name]) for name in names}}
        for trials, slowdowns in analysis.visible.items()
    ]
    machine = ab.a.environment
    return "\n\n".join(
        [
            form(simulated),
            form(visible),
            f"- `{ab.command}`: {machine.cpu}, {machine.machine}, PostgreSQL {machine.postgres}, {machine.place}; "
            f"{plural(ab.trials, 'trial')} per side, run {ab.run_id}.\n"
            f"- First table: {analysis.comparisons:,} simulated comparisons per row, with trials resampled in blocks "
            f"of {len(BLOCK)}, a threshold of {analysis.threshold:.0%}, and a stop once the intervals reached no "
            f"further than {analysis.precision:.0%} to either side or after {analysis.max_trials} trials per side. "
            "The first row has the false alarms.\n"
            "- Second table: the smallest slowdown that is significant in nine comparisons of ten, corrected for all "
            "metrics.",
        ]
    )


def _changes(compared: Compared, names: tuple[str, str], marks: Marks) -> str:
    changes, visible = compared.changes, compared.visible
    rows = [
        {
            "metric": change.metric,
            names[0]: _value(change.before, change.unit),
            names[1]: _value(change.after, change.unit),
            "speed": f"{change.speed.value:.3f}",
            stats.interval_name(compared.trials): f"{change.speed.low:.3f} to {change.speed.high:.3f}",
            "p": f"{change.p_value:.3f}" if change.p_value >= 0.001 else "< 0.001",
            "effect": f"{change.effect:+.2f}",
            "threshold": _percent(change.threshold),
            "detects from": _visible(visible[change.metric]) if change.metric in visible else "",
            "": change.word if change.decides or change.word != "unclear" else "(unclear)",
        }
        for change in changes
    ]
    notes = (
        "speed: after over before, for latencies the inverse, so less than 1 is worse; p: Mann-Whitney U, corrected "
        "for all metrics (Holm); effect: Cliff's delta, -1 if every trial is worse than every trial before; detects "
        "from: the smallest slowdown that this number of trials detects here, nine times in ten. Outcomes in "
        "parentheses do not decide."
    )
    if names[0] == "a":
        notes = notes.replace("after over before", "b over a").replace(
            "than every trial before", "than every trial of a"
        )
    return f"{_table(rows, marks)}\n\n{notes}"


def _differences(
    differing: Mapping[str, tuple[str, str]], title: str, marks: Marks, names: tuple[str, str] = ("before", "after")
) -> str:
    rows = [{title: key, names[0]: old or "(none)", names[1]: new or "(none)"} for key, (old, new) in differing.items()]
    return _table(rows, marks)


def _table(rows: tabular.Rows, marks: Marks) -> str:
    return tabular.markdown(rows) if marks == MARKDOWN else tabular.form()(rows)


def _because(compared: Compared, before: Result, after: Result) -> str:
    if compared.word == "failed verdict":
        failed = [result.run_id for result in (before, after) if not result.ok]
        return f"the timings of {' and '.join(failed)} are void"
    if compared.word == "not comparable":
        keys = " ".join(f"--allow {quote(key)}" for key in compared.differences)
        return f"measure both under the same conditions, or accept the differences: {keys}"
    return _sentence(compared)


def _sentence(compared: Compared) -> str:
    changes = compared.changes
    if compared.trials < regression.MIN_TRIALS:
        return f"too few trials, {compared.trials} per side: give --trials {regression.MIN_TRIALS} or more"
    if compared.word == "regressed":
        worse = [change for change in changes if change.word == "regressed"]
        slower = ", ".join(
            f"{change.metric} {_percent(1 - change.speed.value)} slower (threshold {_percent(change.threshold)})"
            for change in worse
        )
        return f"{slower}{_detects(compared, worse)}"
    deciding = [change for change in changes if change.decides]
    if compared.word == "inconclusive":
        return f"{_why_inconclusive(compared)}{_detects(compared, deciding)}"
    faster = [change.metric for change in changes if change.word == "faster"]
    also = f"{', '.join(faster)} faster; " if faster else ""
    return f"{also}no rate is slower by its threshold or more, at 95 % confidence{_detects(compared, deciding)}"


def _why_inconclusive(compared: Compared) -> str:
    deciding = [change for change in compared.changes if change.decides]
    if not deciding:
        return "nothing to compare: no rate was measured on both sides"
    reasons = []
    if compared.undecided:
        reasons.append(f"nothing to compare with for {', '.join(compared.undecided)}")
    unclear = [change.metric for change in deciding if change.word == "unclear"]
    if unclear:
        reasons.append(f"too much noise or too few trials for {', '.join(unclear)}")
    return "; ".join(reasons)


def _detects(compared: Compared, changes: Sequence[Change]) -> str:
    """After a semicolon, the slowdowns of these metrics that would be detected here; empty if none is known."""
    visible = {
        change.metric: compared.visible[change.metric] for change in changes if change.metric in compared.visible
    }
    if not visible:
        return ""
    here = f"; with {plural(compared.trials, 'trial')} per side this machine detects"
    blind = [metric for metric, share in visible.items() if share >= 1]
    if blind:
        return f"{here} no slowdown up to {_LARGEST} of {', '.join(blind)}"
    slowdowns = ", ".join(f"{metric} of {_percent(share)}" for metric, share in visible.items())
    return f"{here} slowdowns of {slowdowns} or more"


def _described(result: Result) -> str:
    return (
        f"{result.run_id}, {plural(len(result.trials), 'trial')}, PostgreSQL {result.environment.postgres}, "
        f"bench {result.environment.git_revision or result.environment.bench}"
    )


def _strong(word: str, marks: Marks) -> str:
    return f"**{word}**" if marks == MARKDOWN else word


def _value(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if unit == "events/s" else f"{value:,.3f} {unit}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _visible(share: float) -> str:
    """The smallest slowdown that is detected."""
    return f"over {_LARGEST}" if share >= 1 else _percent(share)
