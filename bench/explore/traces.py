"""Orders that differ only in the sequence of independent turns are equivalent: all of them end in one state. Pure.

The class of equivalent orders is a Mazurkiewicz trace: the turns, each with the earlier turns on which it depends. Of
each class one order is carried out. That another order is equivalent to it is derived from the turns of an order that
was carried out: independent turns that follow each other can be swapped, and then do and see what they did before.

Sources: Mazurkiewicz, "Trace theory" (1987); Godefroid, "Partial-order methods for the verification of concurrent
systems" (LNCS 1032, 1996). Sleep sets, his method, forbid first turns at each state; here the whole order is compared,
because then the representative of a class is the order with the fewest preemptions, and a bound on them stays exact.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from bench.explore.breakpoints import SLEEP
from bench.explore.carried import Carried, Part


@dataclass(frozen=True)
class Footprint:
    """The parts of the database's state that a turn touches, by name."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    adds: frozenset[str] = frozenset()
    """Changes whose sequence does not matter among each other, like the locks of several sessions that do not
    conflict."""

    def depends_on(self, other: "Footprint") -> bool:
        """Whether the sequence of two turns may matter."""
        return bool(
            self.writes & (other.reads | other.writes | other.adds)
            or other.writes & (self.reads | self.adds)
            or self.adds & other.reads
            or other.adds & self.reads
        )


FootprintOf = Callable[[Part, str], Footprint]
"""The footprint of a part; the second argument is the stop at which the part begins, "" for the begin of a
statement."""


@dataclass(frozen=True)
class Turn:
    """A step of a session, and of the sessions that it released."""

    session: int
    sessions: frozenset[int]
    """The session and those that it released."""
    outcome: Hashable
    footprint: Footprint | None
    """None depends on every other turn: sessions waited, were released, slept or failed."""

    def depends_on(self, other: "Turn") -> bool:
        """Whether the sequence of two turns may matter."""
        return (
            bool(self.sessions & other.sessions)
            or self.footprint is None
            or other.footprint is None
            or self.footprint.depends_on(other.footprint)
        )


def turns_of(carried: Carried, footprint: FootprintOf) -> list[Turn]:
    """The turns of an order that was carried out."""
    groups: list[list[Part]] = []
    for part in carried.parts:
        if part.woken_by is None:
            groups.append([part])
        elif groups:
            groups[-1].append(part)
    stops: dict[int, str] = {}
    turns = []
    for parts in groups:
        first = parts[0]
        slept = SLEEP in {stops.get(first.session), first.stop}
        is_plain = len(parts) == 1 and first.end in {"done", "stops"} and not slept
        turns.append(
            Turn(
                first.session,
                frozenset(part.session for part in parts),
                tuple((part.session, part.statement, part.begins, part.end, part.stop) for part in parts),
                footprint(first, "" if first.begins else stops.get(first.session, "")) if is_plain else None,
            )
        )
        stops.update((part.session, part.stop) for part in parts)
    return turns


def sleeps(carried: Carried) -> bool:
    """Whether a session slept: when it continues then depends on all others, not on its own turns alone."""
    return any(part.stop == SLEEP for part in carried.parts)


class Traces:
    """The classes of the orders that were carried out."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._known: set[frozenset[int]] = set()

    def class_of(self, turns: Sequence[Turn]) -> frozenset[int]:
        """The class of an order: each turn is numbered by its outcome and the earlier turns on which it depends."""
        numbers: list[int] = []
        for turn in turns:
            before = frozenset(number for number, other in zip(numbers, turns, strict=False) if turn.depends_on(other))
            numbers.append(self._numbers.setdefault((turn.session, turn.outcome, before), len(self._numbers)))
        return frozenset(numbers)

    def note(self, turns: Sequence[Turn]) -> None:
        """Note an order that was carried out."""
        self._known.add(self.class_of(turns))

    def has(self, turns: Sequence[Turn]) -> bool:
        """Whether an equivalent order was carried out."""
        return self.class_of(turns) in self._known


def enabled_after(turns: Sequence[Turn], depth: int) -> list[int]:
    """The sessions that can take a turn after the first `depth` turns of an order: those whose next turn is their
    own, and not one in which another session releases them.
    """
    following: dict[int, int] = {}
    for turn in turns[depth:]:
        for session in turn.sessions:
            following.setdefault(session, turn.session)
    return sorted(session for session, owner in following.items() if session == owner)


def rearranged(turns: Sequence[Turn], depth: int, session: int) -> list[Turn] | None:
    """The turns of an order in another sequence: after the first `depth` turns a given session takes its turn, and then
    each session continues until it cannot, as a machine that finishes an order has it. None when the turns cannot come
    in this sequence.
    """
    order, left = list(turns[:depth]), list(turns[depth:])
    while left:
        following = next((turn for turn in left if session in turn.sessions), None)
        if (
            following is None
            or following.session != session
            or any(next(turn for turn in left if each in turn.sessions) is not following for each in following.sessions)
        ):
            return None
        order.append(following)
        left.remove(following)
        able = enabled_after(left, 0)
        if not able:
            break
        session = session if session in able else able[0]
    return order if not left else None


def costs_after(turns: Sequence[Turn], depth: int) -> Iterator[tuple[int, int]]:
    """The sessions that can take a turn after the first `depth` turns, each with 1 if that takes the turn from a
    session that could have continued, else 0.
    """
    able = enabled_after(turns, depth)
    previous = turns[depth - 1].session if depth else None
    for session in able:
        yield session, int(previous in able and session != previous)
