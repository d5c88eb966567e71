"""Searches all orders of a scope, beginning with those that have the fewest preemptions.

Stateless model checking: an order is carried out from the start, each time on an empty log, by taking given turns and
then letting each session continue until it cannot. Wherever another session could have continued instead, another order
is still to be carried out; so every order is carried out once. Orders are tried by their number of preemptions: points
at which the turn was taken from a session that could have continued.

Sources: Godefroid, "Model checking for programming languages using VeriSoft" (POPL 1997); Musuvathi and Qadeer,
"Iterative context bounding for systematic testing of multithreaded programs" (PLDI 2007), the search of CHESS.
"""

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.explore.carried import Carried
from bench.explore.machine import Machine
from bench.explore.scope import Program

Turns = tuple[int, ...]
"""The sessions that take a step, in this order."""


@dataclass
class Search:
    """The orders of some programs on a machine, and the progress of carrying them out."""

    machine: Machine
    programs: Sequence[Program]
    most_preemptions: int | None
    """Orders with more preemptions are left out; None carries out all."""
    seed: int
    carried_out: int = 0
    impossible: int = 0
    """Orders that could not be repeated: a session could not take a turn that it could take there before."""
    left_out: int = 0
    """Orders left out for having more than `most_preemptions`; each counts for all orders that begin with its turns."""
    _frontier: list[tuple[int, float, Turns]] = field(default_factory=list)

    @property
    def preemptions(self) -> int | None:
        """All orders with fewer preemptions than this are carried out; None when no order is left."""
        return self._frontier[0][0] if self._frontier else None

    def orders(self, is_over: Callable[[], bool]) -> Iterator[Carried]:
        """Carry out orders one at a time, until none is left or `is_over` returns True."""
        chance = random.Random(self.seed)  # noqa: S311 - the same orders for the same seed
        self._frontier = [(0, 0.0, ())]
        while self._frontier and not is_over():
            preemptions, _, turns = heapq.heappop(self._frontier)
            carried = self._carry_out(turns)
            if carried is None:
                self.impossible += 1
                continue
            self.carried_out += 1
            self._note_others(chance, preemptions, turns, carried)
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

    def _note_others(self, chance: random.Random, preemptions: int, turns: Turns, carried: Carried) -> None:
        """Note the orders that begin like this order and then give the turn to another session."""
        before: Turns = ()
        for depth, choice in enumerate(carried.choices):
            if depth >= len(turns):
                for number, cost in zip(choice.enabled, choice.costs, strict=True):
                    if number == choice.chosen:
                        continue
                    total = preemptions + cost
                    if self.most_preemptions is not None and total > self.most_preemptions:
                        self.left_out += 1
                        continue
                    heapq.heappush(self._frontier, (total, chance.random(), (*before, number)))
            before = (*before, choice.chosen)
