"""Minimises a counterexample: leaves out everything without which the fault still occurs.

Source: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002); the units left out here are
sessions, statements, stops and events, one at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bench.explore.carried import Carried
from bench.explore.machine import Machine
from bench.explore.scope import Program


@dataclass(frozen=True)
class Step:
    """A statement, or the part of a statement between two turns of other sessions."""

    session: int
    statement: int
    through: int | None = None
    """How often the statement has stopped when the step ends; None when the statement runs to its end."""


@dataclass(frozen=True)
class Order:
    """Programs and the steps that they take."""

    programs: tuple[Program, ...]
    steps: tuple[Step, ...]


def order_of(programs: tuple[Program, ...], carried: Carried) -> Order:
    """The steps of an order that was carried out, without those that other sessions released."""
    steps: list[Step] = []
    for part in carried.parts:
        if part.woken_by is not None:
            continue
        step = Step(part.session, part.statement, part.stops if part.end == "stops" else None)
        if steps and (steps[-1].session, steps[-1].statement) == (step.session, step.statement):
            steps[-1] = step
        else:
            steps.append(step)
    return Order(programs, tuple(steps))


def replayed(machine: Machine, order: Order) -> Carried:
    """Carry out these steps. A step whose session waits is skipped."""
    machine.start(order.programs)
    for step in order.steps:
        while step.session in machine.enabled() and machine.statement(step.session) == step.statement:
            part = machine.advance(step.session)
            if part.end != "stops" or (step.through is not None and part.stops >= step.through):
                break
    return machine.finish()


def shrunk(machine: Machine, order: Order, is_alike: Callable[[Carried], bool]) -> Order:
    """Leave out one unit at a time while the fault stays, and return the smallest order; `is_alike` returns whether an
    order that was carried out has the fault.
    """
    smaller: Order | None = order
    while smaller:
        order = smaller
        smaller = next((each for each in _smaller(order) if is_alike(replayed(machine, each))), None)
    return order


def _smaller(order: Order) -> Iterator[Order]:
    """Orders with one unit left out, the largest units first."""
    for session, program in enumerate(order.programs):
        if program.statements:
            yield _without(order, session, range(len(program.statements)))
    for session, program in enumerate(order.programs):
        for number in reversed(range(len(program.statements))):
            yield _without(order, session, [number])
    for at, step in enumerate(order.steps):
        others = [
            nth
            for nth, each in enumerate(order.steps)
            if (each.session, each.statement) == (step.session, step.statement) and nth != at
        ]
        if others:
            # Run the whole statement at this point.
            yield replace(
                order,
                steps=tuple(
                    replace(each, through=None) if nth == at else each
                    for nth, each in enumerate(order.steps)
                    if nth not in others
                ),
            )
    for session, program in enumerate(order.programs):
        for number, statement in enumerate(program.statements):
            if statement.events > 1:
                fewer = replace(statement, events=statement.events - 1)
                statements = (*program.statements[:number], fewer, *program.statements[number + 1 :])
                yield replace(order, programs=_changed(order, session, replace(program, statements=statements)))


def _without(order: Order, session: int, numbers: "range | list[int]") -> Order:
    """The order without some statements of a session."""
    program = order.programs[session]
    for number in reversed(numbers):
        program = program.without(number)
    steps = [
        replace(step, statement=step.statement - sum(number < step.statement for number in numbers))
        if step.session == session
        else step
        for step in order.steps
        if step.session != session or step.statement not in numbers
    ]
    return Order(_changed(order, session, program), tuple(steps))


def _changed(order: Order, session: int, program: Program) -> tuple[Program, ...]:
    return (*order.programs[:session], program, *order.programs[session + 1 :])
