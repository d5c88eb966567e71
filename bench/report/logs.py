"""Tables of a comparison of logs: whole, short (a row per log), and at a glance."""

import shlex
from collections.abc import Callable, Sequence
from statistics import median

from bench.eventlog import Promises, load, shipped
from bench.judge.exposure import together
from bench.logs.comparison import CONTROL, Comparison, Measured, Speed, Tail
from bench.logs.open_transactions import Blocked
from bench.postgres.open_transactions import KINDS
from bench.report import loads
from bench.report.tabular import FAILED, Form, markdown
from bench.report.verdict import wrong_ctimes
from bench.text import plural, some

NOT_APPLICABLE = "not applicable"
"""A cell without a value; the notes below the table have the reason."""
_UNCOUNTED = "but whether a reader was ever ahead of an open transaction was not counted"
_UNTESTED = "but no reader was ever ahead of an open transaction"
_UNKNOWN = "but whether a reader was ever ahead of an open transaction is unknown"
_LUCK = "by luck: the log does not promise it"
RULE_OF_THREE = 3
"""If none of m events was faulty, the rate is below 3/m with 95 % confidence (Hanley and Lippman-Hand, 1983)."""


def listing(form: Form = markdown) -> str:
    """The logs that ship: promises, ways to append, and how a group shares events."""
    groups = {"no": "", "turns": "takes turns", "partitions": "by partition", "competing": "competes"}
    return form(
        [
            {
                "log": log.name,
                "promises": log.promises.words(),
                "append": ", ".join(log.append),
                "--group": groups[log.group],
            }
            for log in map(load, shipped())
        ]
    )


def whole(comparison: Comparison, form: Form = markdown) -> str:
    """A table per insert batch, tables of the latency at offered loads if there were any, a table of the effects of
    open transactions, then notes."""
    parts = []
    for batch in comparison.workload.insert_batch:
        rows = [each for each in comparison.measured if each.insert_batch == batch]
        events = "event" if batch == 1 else "events"
        parts += [f"**{batch:,} {events} per transaction**", form([_row(each, rows, comparison) for each in rows])]
    if at_rates := loads.at_rates(comparison, form):
        parts.append(at_rates)
    parts += ["**With a transaction left open**", form(_blocked_rows(comparison)), _notes([comparison])]
    return "\n\n".join(parts)


def short(comparisons: Sequence[Comparison], form: Form = markdown) -> str:
    """One row per log: is it safe, what does that cost, what stalls it. Each comparison adds the logs that earlier
    ones lack.
    """
    return "\n\n".join([form(_by_log(comparisons, _line)), _notes(comparisons)])


def at_rates(comparison: Comparison) -> str:
    """The latency of each log at offered loads, as markdown, with the command and the machine."""
    return "\n".join([loads.at_rates(comparison), *_failures(comparison), _note(comparison)])


def glance(comparisons: Sequence[Comparison]) -> str:
    """Five columns of markdown, without notes: is a log safe, as promised and as shown; what does that cost; who
    waits."""
    return markdown(_by_log(comparisons, _glance))


def _by_log(
    comparisons: Sequence[Comparison], row: Callable[[str, Comparison], dict[str, str]]
) -> list[dict[str, str]]:
    """A row per log, from the first comparison that has it."""
    rows: dict[str, dict[str, str]] = {}
    for comparison in comparisons:
        rows = {name: row(name, comparison) for name in comparison.promises} | rows
    return [rows[name] for name in sorted(rows, key=_control_first)]


def _glance(name: str, comparison: Comparison) -> dict[str, str]:
    line = _line(name, comparison)
    batches = [heading for heading in line if heading.startswith("append ")]
    return {
        "log": line["log"],
        "safe when tailed: promised, shown": _shown(line["tailed while commits overlap"], comparison.promises[name]),
        f"append {', '.join(heading.removeprefix('append ') for heading in batches)}": ", ".join(
            line[heading] for heading in batches
        ),
        "read": line["read"],
        "who waits for an open transaction": line["who waits for an open transaction"],
    }


def _shown(safety: str, promises: Promises) -> str:
    """Whether a log promises to be complete when tailed, and what was shown of that, in a few words."""
    if safety.startswith("**"):
        shown = safety.partition(" of ")[0]
    elif safety.startswith("safe:"):
        shown = "safe"
    else:
        shown = "nothing lost" if _LUCK in safety else "untested"
    return f"{'yes' if promises.tail else 'no'}, {shown}"


def _control_first(name: str) -> tuple[bool, str]:
    return name != CONTROL, name


def _line(name: str, comparison: Comparison) -> dict[str, str]:
    own, control = ([each for each in comparison.measured if each.log == log] for log in (name, CONTROL))
    return {
        "log": _link(name),
        "tailed while commits overlap": _safety(
            [tail for each in own for tail in each.tails],
            [tail for each in control for tail in each.tails],
            comparison.promises[name],
        ),
        **{
            f"append {mine.insert_batch:,}": _ratio(mine, its, lambda speed: speed.appended_per_second)
            for mine, its in zip(own, control, strict=True)
        },
        "read": _ratio(own[-1], control[-1], lambda speed: speed.read_per_second),
        "who waits for an open transaction": _stalls([each for each in comparison.blocked if each.log == name]),
    }


def _row(own: Measured, rows: Sequence[Measured], comparison: Comparison) -> dict[str, str]:
    control = next(each for each in rows if each.log == CONTROL)
    return {
        "log": _link(own.log),
        "promise": comparison.promises[own.log].words(),
        "tailed while commits overlap": _safety(own.tails, control.tails, comparison.promises[own.log]),
        "real-time order": _real_time(own.tails, comparison.promises[own.log]),
        "append events/s": _number(own, control, lambda speed: speed.appended_per_second),
        "read events/s": _number(own, control, lambda speed: speed.read_per_second),
        "delay p50, p99 ms": _delay(own, control),
        "bytes per event": _number(own, control, lambda speed: speed.bytes_an_event),
        "WAL per event": _number(own, control, lambda speed: speed.wal_bytes_an_event),
    }


def _safety(tails: Sequence[Tail], control: Sequence[Tail], promises: Promises) -> str:
    """The outcome of tailing. A log is called safe only if the control lost events under the same load, and if its own
    readers met a chance to fail.
    """
    if not tails:
        return "not tried"
    acknowledged = sum(tail.acknowledged for tail in tails)
    faults: dict[str, int] = {}
    for tail in tails:
        for kind, count in tail.faults.items():
            faults[kind] = faults.get(kind, 0) + count
    bad = sum(not tail.ok for tail in tails)
    if bad:
        failed = [FAILED] if any(tail.failure for tail in tails) else []
        counts = ", ".join([*(f"{count:,} {kind}" for kind, count in faults.items()), *failed])
        return f"**{counts}** of {acknowledged:,}, in {bad} of {plural(len(tails), 'run')}"
    if not acknowledged:
        return "no event was acknowledged"
    provoked = any(tail.faults.get("skipped") for tail in control)
    if not provoked:
        return f"0 of {acknowledged:,}, which proves nothing: {CONTROL} skipped none either"
    excused = f", {' and '.join(faults)} as it may be" if faults else ""
    outcome = (
        f"0 of {acknowledged:,} in {plural(len(tails), 'run')} (< {100 * RULE_OF_THREE / acknowledged:.2g} %){excused}"
    )
    met = [tail.exposure for tail in tails if tail.exposure]
    exposed = together(met).exposed if met else None
    if not exposed:
        return f"untested: {outcome}, {_UNCOUNTED if not met else _UNTESTED if exposed is False else _UNKNOWN}"
    return f"safe: {outcome}" if promises.tail else f"{outcome}, {_LUCK}"


def _real_time(tails: Sequence[Tail], promises: Promises) -> str:
    """Whether etags kept the real-time order of appends, as promised."""
    counted = [tail.real_time_pairs for tail in tails if tail.real_time_pairs is not None]
    if not counted:  # also a record of a version that did not count, and whose logs promised nothing of it
        return "untested"
    inverted = sum(tail.faults.get("inverted", 0) for tail in tails)
    shown = f"kept in {plural(sum(counted), 'pair')}" if sum(counted) else "untested"
    shown = f"**{inverted:,} inverted**" if inverted else shown
    return shown if promises.real_time else f"not promised; {shown}"


def _number(own: Measured, control: Measured, value: Callable[[Speed], float | None]) -> str:
    values = [found for speed in own.speeds if (found := value(speed)) is not None]
    if not own.speeds:
        return ""
    if len(values) < len(own.speeds):
        return _instead(own)
    shown = f"{median(values):,.0f}"
    return shown if own.log == CONTROL else f"{shown} ({_ratio(own, control, value)})"


def _ratio(own: Measured, control: Measured, value: Callable[[Speed], float | None]) -> str:
    """The median over rounds of the ratio of a log's value to the control's in the same round."""
    pairs = [(value(mine), value(its)) for mine, its in zip(own.speeds, control.speeds, strict=True)]
    ratios = [mine / its for mine, its in pairs if mine and its]
    if not pairs:
        return ""
    return _two_digits(median(ratios)) if len(ratios) == len(pairs) else _instead(own)


def _instead(own: Measured) -> str:
    """The cell of a log that lacks a value in some trial."""
    failed = any(speed.appended_per_second is None or speed.read_per_second is None for speed in own.speeds)
    return FAILED if failed else "unknown"


def _delay(own: Measured, control: Measured) -> str:
    """Medians of the delays, and the ratio to the control's if the control has delays too."""
    if not own.tails:
        return ""
    if any(tail.failure for tail in own.tails):
        return FAILED
    p50s = [tail.end_to_end_p50_ms for tail in own.tails if tail.end_to_end_p50_ms is not None]
    p99s = [tail.end_to_end_p99_ms for tail in own.tails if tail.end_to_end_p99_ms is not None]
    if min(len(p50s), len(p99s)) < len(own.tails):
        impossible = [tail.impossible_ctimes for tail in own.tails if tail.impossible_ctimes]
        return f"none: {wrong_ctimes(impossible[0])}" if impossible else "none"
    shown = f"{median(p50s):,.0f}, {median(p99s):,.0f}"
    pairs = zip(p50s, (tail.end_to_end_p50_ms for tail in control.tails), strict=True)
    ratios = [mine / its for mine, its in pairs if mine and its]
    if own.log == CONTROL or len(ratios) < len(p50s):
        return shown
    return f"{shown} ({_two_digits(median(ratios))})"


def _two_digits(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _blocked_rows(comparison: Comparison) -> list[dict[str, str]]:
    answers = {(each.log, each.blocker): each for each in comparison.blocked}
    return [
        {"log": _link(name), **{blocker: _blocked(answers[name, blocker]) for blocker in KINDS}}
        for name in comparison.promises
    ]


def _blocked(each: Blocked) -> str:
    if each.failure:
        return FAILED
    if each.not_applicable:
        return NOT_APPLICABLE
    if each.writers_waited:
        return "writers wait"
    if each.delivered_meanwhile >= each.appended:
        return "all delivered"
    late = "" if each.delivered_afterwards >= each.appended else f", {each.delivered_afterwards} afterwards"
    return f"readers wait: {each.delivered_meanwhile} of {each.appended} meanwhile{late}"


def _stalls(blocked: Sequence[Blocked]) -> str:
    writers = [each.blocker for each in blocked if each.writers_waited]
    readers = [each.blocker for each in blocked if not each.writers_waited and each.delivered_meanwhile < each.appended]
    failed = [each.blocker for each in blocked if each.failure]
    inapplicable = [each.blocker for each in blocked if each.not_applicable]
    parts = [
        f"{effect} ({', '.join(names)})"
        for effect, names in (
            ("writers", writers),
            ("readers", readers),
            (FAILED, failed),
            (NOT_APPLICABLE, inapplicable),
        )
        if names
    ]
    return "; ".join(parts if writers or readers or failed else ["no one", *parts])


def _failures(comparison: Comparison) -> list[str]:
    """A line per log and reason, with everything that the log could not do for that reason."""
    first: dict[tuple[str, str], str] = {}
    for own in comparison.measured:
        batch = f"with {plural(own.insert_batch, 'event')} per transaction"
        for task, failures in (
            (f"append and read {batch}", [speed.failure for speed in own.speeds]),
            (f"tailed {batch}", [tail.failure for tail in own.tails]),
            (f"offered a load {batch}", [offered.failure for offered in own.loads]),
        ):
            for reason in filter(None, failures):
                first.setdefault((own.log, task), reason)
    for each in comparison.blocked:
        untried = each.failure or each.not_applicable
        if untried:
            first.setdefault((each.log, f"open transaction ({each.blocker})"), untried)
    tasks: dict[tuple[str, str], list[str]] = {}
    for (log, task), reason in first.items():
        tasks.setdefault((log, reason), []).append(task)
    return [f"- {_link(log)}: {some(names)}: {' '.join(reason.split())}" for (log, reason), names in tasks.items()]


def _notes(comparisons: Sequence[Comparison]) -> str:
    """Failures with their reasons, the commands and machines, and what the numbers mean."""
    load = comparisons[0].workload
    speed = (
        f"Numbers are medians of {plural(load.rounds, 'round')}. In parentheses, and alone in the short form: the "
        f"median of the ratios to {CONTROL} in the same round. Speed is measured without open transactions."
    )
    explained = (
        f"- {speed if load.rounds else 'Speed was not measured.'} While logs are tailed, transactions stay open for "
        f"{load.transaction_ms} ms and {load.abort_rate:.0%} are rolled back; the delay, from an event's ctime to its "
        "delivery, includes that time. (< x %): the upper limit of the rate of faults, with 95 % confidence, if none "
        "was seen."
    )
    failures = [line for each in comparisons for line in _failures(each)]
    return "\n".join([*failures, *(_note(each) for each in comparisons), explained])


def _note(comparison: Comparison) -> str:
    machine = comparison.environment
    paths = ",".join(comparison.given.get(name, name) for name in comparison.promises)
    names = [] if set(comparison.promises) == set(shipped()) else ["--logs", paths]
    command = shlex.join(
        ["python", "-m", "bench", "compare-logs", *names, *comparison.workload.arguments(), "--place", machine.place]
    )
    settings = ", ".join(f"`{name}={value}`" for name, value in machine.settings.items())
    needs = "; ".join(
        f"{name} also `{setting}={value}`"
        for name, values in comparison.needs.items()
        for setting, value in values.items()
    )
    return (
        f"- `{command}`: PostgreSQL {machine.postgres}, place {machine.place}, {machine.cpu}, {machine.machine}, "
        f"{machine.kernel}; {settings}{f'; {needs}' if needs else ''}. "
        f"Run {comparison.run_id}."
    )


def _link(name: str) -> str:
    return f"`{name}`"
