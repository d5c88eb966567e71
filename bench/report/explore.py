"""An exploration in the words that people read: a line for each log, what orders cost, and each counterexample."""

from collections.abc import Sequence

from bench.explore.models import Counterexample, Exploration, ExploredLog, ExploredScope, Step
from bench.report.tabular import Form, markdown
from bench.text import plural


def whole(exploration: Exploration, form: Form = markdown) -> str:
    """A line for each log, the scopes with what their orders cost, then the counterexamples."""
    parts = [form([_line(each) for each in exploration.logs])]
    parts += [_detailed(each, form) for each in exploration.logs]
    machine = exploration.environment
    parts.append(
        f"`{exploration.command}`: PostgreSQL {machine.postgres}, {machine.cpu}, {machine.machine}, {machine.kernel}. "
        f"Run {exploration.run_id}."
    )
    return "\n\n".join(parts)


def _line(log: ExploredLog) -> dict[str, str]:
    """A log in one row."""
    orders = sum(scope.orders for scope in log.scopes)
    waits = {
        "writers": sum(scope.writers_waited for scope in log.scopes),
        "readers": sum(scope.readers_waited for scope in log.scopes),
        "held back": sum(scope.held_back for scope in log.scopes),
    }
    return {
        "log": f"`{log.log}`",
        "found": verdict(log),
        "orders": f"{orders:,}" + ("" if log.scopes and all(map(_is_whole, log.scopes)) else " (not all)"),
        "writers waited": _share(waits["writers"], orders),
        "readers waited": _share(waits["readers"], orders),
        "pages held back": _share(waits["held back"], orders),
        "seconds": f"{sum(scope.seconds for scope in log.scopes):.0f}",
    }


def verdict(log: ExploredLog) -> str:
    """What was found of a log, in a few words."""
    if log.failure:
        return "not explored"
    if not log.counterexamples:
        return "nothing"
    return "; ".join(
        f"**{', '.join(each.kinds)}** in {plural(each.steps, 'step')}"
        + ("" if each.promised else " (no promise broken)")
        for each in log.counterexamples
    )


def _share(count: int, orders: int) -> str:
    return "-" if not count else f"{count / orders:.0%}" if count >= orders / 100 else "under 1%"


def _is_whole(scope: ExploredScope) -> bool:
    return scope.complete and scope.most_preemptions is None and not scope.impossible


def _detailed(log: ExploredLog, form: Form) -> str:
    """What was done with a log, and what went wrong."""
    parts = [f"**{log.log}**, which promises: {log.promises.words()}."]
    if log.failure:
        return f"{parts[0]} It could not be explored: {log.failure}"
    parts.append("\n".join(f"- {scope_line(each)}" for each in log.scopes))
    if log.out_of_reach:
        parts.append(
            "Sessions cannot be stopped inside of these:\n" + "\n".join(f"- {each}" for each in log.out_of_reach)
        )
    parts += [counterexample(each, form) for each in log.counterexamples]
    return "\n\n".join(parts)


def scope_line(scope: ExploredScope) -> str:
    """How far a scope was explored, and what went wrong in how many orders."""
    sessions = "; ".join(f"{name}: {', '.join(statements)}" for name, statements in scope.programs.items())
    failing = "".join(f", {count:,} with {kinds}" for kinds, count in scope.failing.items()) or ", nothing wrong"
    unrepeated = f"; {scope.impossible:,} could not be repeated" if scope.impossible else ""
    return f"{scope.name} ({sessions}): {_extent(scope)}{failing}{unrepeated}."


def _extent(scope: ExploredScope) -> str:
    orders = plural(scope.orders, "order")
    if scope.complete:
        bound = (
            "" if scope.most_preemptions is None else f" with at most {plural(scope.most_preemptions, 'preemption')}"
        )
        return f"all {orders}{bound}"
    known = f" of at most {scope.orders_at_most:,}" if scope.orders_at_most else ""
    reached = {
        None: "",
        0: ", among them all without a preemption",
    }.get(scope.preemptions, f", among them all with at most {plural(scope.preemptions or 0, 'preemption')}")
    return f"{orders}{known}{reached}"


def counterexample(found: Counterexample, form: Form = markdown) -> str:
    """An order as a table of sessions over time, and what came of it."""
    names = found.sessions
    rows = []
    number = 0
    for step in found.trace:
        own_turn = step.woken_by is None
        number += own_turn
        rows.append(
            {"step": str(number) if own_turn else "", **dict.fromkeys(names, ""), step.session: _does(step, found)}
        )
    rows.append(
        {
            "step": "then",
            **dict.fromkeys(names, ""),
            **{name: f"reads on: {_named(events, found) or 'nothing'}" for name, events in found.read_on.items()},
        }
    )
    counts = ", ".join(f"{count:,} {kind}" for kind, count in found.counts.items()) or ", ".join(found.kinds)
    events = f": {', '.join(dict.fromkeys(found.examples))}" if found.examples else ""
    promise = "" if found.promised else " The log does not promise to be complete when it is tailed."
    failures = "".join(f" {failure}." for failure in dict.fromkeys(found.failures))
    heading = f"In {plural(found.steps, 'step')} ({found.scope}), {counts}{events}.{promise}{failures}"
    return f"{heading}\n\n{form(rows)}"


def _does(step: Step, found: Counterexample) -> str:
    """What a session does in one step."""
    what = {
        "append": f"appends {_named(step.events, found)}".rstrip(),
        "page": "reads",
        "commit": "commits",
        "rollback": "rolls back",
        "write elsewhere": "writes to another table",
        "prepare": "prepares",
        "commit prepared": "commits what is prepared",
    }[step.kind]
    started = what if step.begins else f"goes on: {what}" if step.end != "done" else f"goes on, {what}"
    match step.end:
        case "stops":
            return f"{started}, stops {step.stop}"
        case "waits":
            return f"{started}, waits for {' and '.join(step.waits_for) or 'another session'}"
        case "fails":
            return f"{started}, fails: {step.failure}"
        case "done":
            return f"{started}: {_named(step.events, found) or 'nothing'}" if step.kind == "page" else started


def _named(events: Sequence[str], found: Counterexample) -> str:
    """Events with their etags, as far as they are known."""
    return ", ".join(f"{event} (etag {found.etags[event]})" if event in found.etags else event for event in events)
