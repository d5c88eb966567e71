"""Searches all orders of a scope, beginning with those that have the fewest preemptions.

Stateless model checking: an order is carried out from the start, each time on an empty log, by taking given turns and
then letting each session continue until it cannot. Wherever another session could have continued instead, another order
is still to be carried out; so every order is carried out once, unless it is equivalent to one that was carried out.
Orders are tried by their number of preemptions: points at which the turn was taken from a session that could have
continued.

Sources: Godefroid, "Model checking for programming languages using VeriSoft" (POPL 1997); Musuvathi and Qadeer,
"Iterative context bounding for systematic testing of multithreaded programs" (PLDI 2007), the search of CHESS.
"""

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.explore.carried import Carried
from bench.explore.machine import Machine
from bench.explore.scope import Program
from bench.explore.traces import FootprintOf, Traces, Turn, costs_after, rearranged, sleeps, turns_of

Turns = tuple[int, ...]
"""The sessions that take a step, in this order."""


class _Entry(NamedTuple):
    """An order to be carried out, given by its first turns."""

    preemptions: int
    chance: float
    turns: Turns
    parent: Sequence[Turn]
    """The turns of the order that begins like this one, except for the last of `turns`; empty when unknown."""


@dataclass
class Search:
    """The orders of some programs on a machine, and the progress of carrying them out."""

    machine: Machine
    programs: Sequence[Program]
    most_preemptions: int | None
    """Orders with more preemptions are left out; None carries out all."""
    seed: int
    footprint: FootprintOf | None = None
    """Tells which turns are independent; None carries out equivalent orders too."""
    carried_out: int = 0
    equivalent: int = 0
    """Orders that were not carried out, because an equivalent order was."""
    impossible: int = 0
    """Orders that could not be repeated: a session could not take a turn that it could take there before."""
    left_out: int = 0
    """Orders left out for having more than `most_preemptions`; each counts for all orders that begin with its turns."""
    _frontier: list[_Entry] = field(default_factory=list)
    _traces: Traces = field(default_factory=Traces)

    @property
    def preemptions(self) -> int | None:
        """All orders with fewer preemptions than this are carried out; None when no order is left."""
        return self._frontier[0].preemptions if self._frontier else None

    def orders(self, is_over: Callable[[], bool]) -> Iterator[Carried]:
        """Carry out orders one at a time, until none is left or `is_over` returns True."""
        chance = random.Random(self.seed)  # noqa: S311 - the same orders for the same seed
        self._frontier = [_Entry(0, 0.0, (), ())]
        while self._frontier and not is_over():
            entry = heapq.heappop(self._frontier)
            known = rearranged(entry.parent, len(entry.turns) - 1, entry.turns[-1]) if entry.parent else None
            if known and self._traces.has(known):
                self.equivalent += 1
                costs = (costs_after(known, depth) for depth in range(len(known)))
                self._note_others(chance, entry, [turn.session for turn in known], costs, known)
                continue
            carried = self._carry_out(entry.turns)
            if carried is None:
                self.impossible += 1
                continue
            self.carried_out += 1
            turns: Sequence[Turn] = ()
            if self.footprint and not sleeps(carried):
                turns = turns_of(carried, self.footprint)
                self._traces.note(turns)
            chosen = [choice.chosen for choice in carried.choices]
            costs = (zip(choice.enabled, choice.costs, strict=True) for choice in carried.choices)
            self._note_others(chance, entry, chosen, costs, turns)
            yield carried

    def _carry_out(self, turns: Turns) -> Carried | None:
        """Carry out an order that begins with these turns; None when a session cannot take its turn."""
        machine = self.machine
        machine.start(self.programs)
        for number in turns:
            if number not in machine.enabled():
                machine.finish()
                return None
            machine.advance(number)
        return machine.finish()

    def _note_others(
        self,
        chance: random.Random,
        entry: _Entry,
        chosen: Sequence[int],
        costs: "Iterator[Iterator[tuple[int, int]]]",
        turns: Sequence[Turn],
    ) -> None:
        """Note the orders that begin like an order and then give the turn to another session. `costs` has, for each
        turn, the sessions that could have taken it, each with 1 if that is a preemption.
        """
        for depth, able in enumerate(costs):
            if depth < len(entry.turns):
                continue
            for session, cost in able:
                if session == chosen[depth]:
                    continue
                total = entry.preemptions + cost
                if self.most_preemptions is not None and total > self.most_preemptions:
                    self.left_out += 1
                    continue
                begin = (*chosen[:depth], session)
                heapq.heappush(self._frontier, _Entry(total, chance.random(), begin, turns))
