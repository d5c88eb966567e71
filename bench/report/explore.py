"""The report of an exploration: a row per log, the cost of orders, and each counterexample."""

from collections.abc import Sequence

from bench.explore.models import Counterexample, Exploration, ExploredLog, ExploredScope, Step
from bench.report.tabular import Form, markdown
from bench.text import plural


def whole(exploration: Exploration, form: Form = markdown) -> str:
    """A table with a row per log, then each log's scopes and counterexamples."""
    parts = [form([_line(each) for each in exploration.logs])]
    parts += [_detailed(each, form) for each in exploration.logs]
    machine = exploration.environment
    parts.append(
        f"`{exploration.command}`: PostgreSQL {machine.postgres}, {machine.cpu}, {machine.machine}, {machine.kernel}. "
        f"Run {exploration.run_id}."
    )
    return "\n\n".join(parts)


def _line(log: ExploredLog) -> dict[str, str]:
    """The row of a log: verdict, number of orders, and shares of the orders that cost something."""
    orders = sum(scope.orders for scope in log.scopes)
    waits = {
        "writers": sum(scope.writers_waited for scope in log.scopes),
        "readers": sum(scope.readers_waited for scope in log.scopes),
        "held back": sum(scope.held_back for scope in log.scopes),
    }
    return {
        "log": f"`{log.log}`",
        "verdict": verdict(log),
        "orders": f"{orders:,}{_limits(log)}",
        "equivalent": f"{sum(scope.equivalent for scope in log.scopes):,}",
        "writers waited": _share(waits["writers"], orders),
        "readers waited": _share(waits["readers"], orders),
        "pages held back": _share(waits["held back"], orders),
        "seconds": f"{sum(scope.seconds for scope in log.scopes):.0f}",
    }


def verdict(log: ExploredLog) -> str:
    """The faults of a log, in a few words."""
    if log.failure:
        return "not explored"
    if not log.counterexamples:
        return "no fault"
    return "; ".join(
        f"**{', '.join(each.kinds)}** in {plural(each.steps, 'step')}"
        + ("" if each.promised else " (allowed by its promises)")
        for each in log.counterexamples
    )


def _share(count: int, orders: int) -> str:
    return "-" if not count else f"{count / orders:.0%}" if count >= orders / 100 else "under 1%"


def _limits(log: ExploredLog) -> str:
    """Why orders of a log were left out, in parentheses; empty when all were carried out."""
    is_broken = any(each.promised for each in log.counterexamples)
    reasons = {
        "stopped at the fault": is_broken,
        "time limit": not is_broken and not all(scope.complete for scope in log.scopes),
        "interrupted": not is_broken and bool(log.unexplored),
        "preemption limit": any(scope.most_preemptions is not None for scope in log.scopes),
        "some not repeatable": any(scope.impossible for scope in log.scopes),
    }
    given = ", ".join(reason for reason, applies in reasons.items() if applies)
    return f" ({given})" if given else ""


def _detailed(log: ExploredLog, form: Form) -> str:
    """The promises, scopes and counterexamples of a log."""
    parts = [f"**{log.log}**, which promises: {log.promises.words()}."]
    if log.failure:
        return f"{parts[0]} Not explored: {log.failure}"
    parts.append("\n".join([*(f"- {scope_line(each)}" for each in log.scopes), *_unexplored(log)]))
    if log.out_of_reach:
        parts.append("Sessions cannot be stopped inside:\n\n" + "\n".join(f"- {each}" for each in log.out_of_reach))
    parts += [counterexample(each, form) for each in log.counterexamples]
    return "\n\n".join(parts)


def _unexplored(log: ExploredLog) -> list[str]:
    return [f"- Not explored: {', '.join(log.unexplored)}."] if log.unexplored else []


def scope_line(scope: ExploredScope) -> str:
    """The number of orders of a scope that were carried out, and of those that failed, by kinds of faults."""
    sessions = "; ".join(f"{name}: {', '.join(statements)}" for name, statements in scope.programs.items())
    failing = "".join(f", {count:,} with {kinds}" for kinds, count in scope.failing.items()) or ", no fault"
    unrepeated = f"; {scope.impossible:,} could not be repeated" if scope.impossible else ""
    return f"{scope.name} ({sessions}): {_extent(scope)}{failing}{unrepeated}."


def _extent(scope: ExploredScope) -> str:
    orders = plural(scope.orders, "order")
    if scope.complete and scope.orders_at_most == 1:
        return "the only order"
    if scope.complete:
        bound = "" if scope.most_preemptions is None else f" with up to {plural(scope.most_preemptions, 'preemption')}"
        if not scope.equivalent:
            return f"all {orders}{bound}"
        total = plural(scope.orders + scope.equivalent, "order")
        return f"all {total}{bound}, {scope.orders:,} of them carried out and the others equivalent to one of these"
    orders += f" ({plural(scope.equivalent, 'equivalent order')} left out)" if scope.equivalent else ""
    known = f" of at most {scope.orders_at_most:,}" if scope.orders_at_most else ""
    reached = {
        None: "",
        0: ", including every order without preemptions",
    }.get(scope.preemptions, f", including every order with up to {plural(scope.preemptions or 0, 'preemption')}")
    return f"{orders}{known}{reached}"


def counterexample(example: Counterexample, form: Form = markdown) -> str:
    """The faults of an order, and a table of its sessions over time."""
    names = example.sessions
    rows = []
    number = 0
    for step in example.trace:
        own_turn = step.woken_by is None
        number += own_turn
        rows.append(
            {"step": str(number) if own_turn else "", **dict.fromkeys(names, ""), step.session: _does(step, example)}
        )
    rows.append(
        {
            "step": "then",
            **dict.fromkeys(names, ""),
            **{name: f"reads on: {_named(events, example) or 'nothing'}" for name, events in example.read_on.items()},
        }
    )
    counts = ", ".join(f"{count:,} {kind}" for kind, count in example.counts.items()) or ", ".join(example.kinds)
    events = f": {', '.join(dict.fromkeys(example.examples))}" if example.examples else ""
    promise = "" if example.promised else " The log does not promise to be complete when it is tailed."
    failures = "".join(f" {failure}." for failure in dict.fromkeys(example.failures))
    heading = f"In {plural(example.steps, 'step')} ({example.scope}), {counts}{events}.{promise}{failures}"
    return f"{heading}\n\n{form(rows)}"


def _does(step: Step, example: Counterexample) -> str:
    """A clause: the action of a session in one step."""
    action = {
        "append": f"appends {_named(step.events, example)}".rstrip(),
        "page": "reads",
        "commit": "commits",
        "rollback": "rolls back",
        "write elsewhere": "writes to another table",
        "prepare": "prepares its transaction",
        "commit prepared": "commits the prepared transaction",
    }[step.kind]
    started = action if step.begins else f"goes on: {action}" if step.end != "done" else f"goes on, {action}"
    match step.end:
        case "stops":
            return f"{started}, stops {step.stop}"
        case "waits":
            return f"{started}, waits for {' and '.join(step.waits_for) or 'another session'}"
        case "fails":
            return f"{started}, fails: {step.failure}"
        case "done":
            return f"{started}: {_named(step.events, example) or 'nothing'}" if step.kind == "page" else started


def _named(events: Sequence[str], example: Counterexample) -> str:
    """Events, each with its etag if it is known."""
    return ", ".join(f"{event} (etag {example.etags[event]})" if event in example.etags else event for event in events)
