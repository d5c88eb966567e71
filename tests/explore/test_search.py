"""The search carries out every order once, those with few preemptions first, and an order shrinks to what it needs."""

from collections.abc import Sequence
from itertools import pairwise
from math import factorial, prod

from hypothesis import given
from hypothesis import strategies as st

from bench.explore.carried import Carried, Choice, Part
from bench.explore.machine import Machine
from bench.explore.scope import Program, Statement
from bench.explore.search import Search
from bench.explore.shrink import Order, Step, order_of, replayed, shrunk
from bench.explore.traces import Footprint, Traces, turns_of


class Clockwork(Machine):
    """Sessions that never wait: each step is one statement."""

    def __init__(self) -> None:
        self._next: list[int] = []

    def start(self, programs: Sequence[Program]) -> None:
        self._programs = programs
        self._next = [0] * len(programs)
        self._previous = None
        self._carried = Carried()

    def enabled(self) -> list[int]:
        return [nth for nth, program in enumerate(self._programs) if self._next[nth] < len(program.statements)]

    def statement(self, number: int) -> int:
        return self._next[number]

    def cost(self, number: int) -> int:
        return int(self._previous not in {None, number} and self._previous in self.enabled())

    def advance(self, number: int) -> Part:
        enabled = tuple(self.enabled())
        self._carried.choices.append(Choice(enabled, tuple(map(self.cost, enabled)), number))
        part = Part(number, self._next[number], begins=True, end="done")
        self._carried.parts.append(part)
        self._previous = number
        self._next[number] += 1
        return part

    def finish(self) -> Carried:
        while enabled := self.enabled():
            self.advance(self._previous if self._previous in enabled else enabled[0])
        return self._carried


def programs(lengths: Sequence[int]) -> tuple[Program, ...]:
    return tuple(Program(str(nth), (Statement("page"),) * length) for nth, length in enumerate(lengths))


def turns(carried: Carried) -> tuple[int, ...]:
    return tuple(choice.chosen for choice in carried.choices)


def preemptions(taken: Sequence[int], lengths: Sequence[int]) -> int:
    left = list(lengths)
    count = 0
    for one, other in pairwise(taken):
        left[one] -= 1
        count += one != other and left[one] > 0
    return count


LENGTHS = st.lists(st.integers(0, 3), min_size=1, max_size=3)


@given(LENGTHS, st.integers(0, 5))
def test_every_order_is_carried_out_once_and_the_least_interrupted_come_first(lengths: list[int], seed: int) -> None:
    search = Search(Clockwork(), programs(lengths), None, seed)
    orders = [turns(carried) for carried in search.orders(lambda: False)]
    assert len(orders) == len(set(orders)) == factorial(sum(lengths)) // prod(map(factorial, lengths))
    interrupted = [preemptions(taken, lengths) for taken in orders]
    assert interrupted == sorted(interrupted)
    assert search.preemptions is None


@given(LENGTHS, st.integers(0, 3))
def test_a_bound_leaves_out_what_is_interrupted_more_often(lengths: list[int], most: int) -> None:
    everything = [turns(carried) for carried in Search(Clockwork(), programs(lengths), None, 0).orders(lambda: False)]
    search = Search(Clockwork(), programs(lengths), most, 0)
    bounded = {turns(carried) for carried in search.orders(lambda: False)}
    assert bounded == {taken for taken in everything if preemptions(taken, lengths) <= most}
    assert bool(search.left_out) is (len(bounded) < len(everything))


@given(
    LENGTHS,
    st.lists(st.tuples(st.sets(st.sampled_from("ab")), st.sets(st.sampled_from("ab"))), min_size=9, max_size=9),
    st.none() | st.integers(0, 3),
)
def test_of_each_class_of_equivalent_orders_the_least_interrupted_is_carried_out(
    lengths: list[int], touched: list[tuple[set[str], set[str]]], most: int | None
) -> None:
    def footprint(part: Part, _: str) -> Footprint:
        reads, writes = touched[3 * part.session + part.statement]
        return Footprint(reads=frozenset(reads), writes=frozenset(writes))

    classes = Traces()

    def class_of(carried: Carried) -> frozenset[int]:
        return classes.class_of(turns_of(carried, footprint))

    everything = [*Search(Clockwork(), programs(lengths), most, 0).orders(lambda: False)]
    least: dict[frozenset[int], int] = {}
    for carried in everything:
        least.setdefault(class_of(carried), preemptions(turns(carried), lengths))
    search = Search(Clockwork(), programs(lengths), most, 0, footprint)
    reduced = [*search.orders(lambda: False)]
    assert {class_of(carried): preemptions(turns(carried), lengths) for carried in reduced} == least
    assert len(reduced) == len(least) == search.carried_out
    assert search.carried_out + search.equivalent == len(everything)


def test_it_stops_when_time_is_over_and_says_how_far_it_came() -> None:
    search = Search(Clockwork(), programs([3, 3]), None, 0)
    orders = list(search.orders(lambda: search.carried_out == 3))
    assert len(orders) == 3
    assert search.preemptions == 1


def test_what_a_fault_does_not_need_is_left_out() -> None:
    """The fault: a statement of session 0 comes between two of session 1."""

    def is_faulty(carried: Carried) -> bool:
        taken = "".join(map(str, turns(carried)))
        return "1" in taken and "0" in taken[taken.index("1") :] and "1" in taken[taken.index("0", taken.index("1")) :]

    machine = Clockwork()
    steps = tuple(Step(session, statement) for session, statement in ((2, 0), (1, 0), (0, 0), (1, 1), (0, 1), (2, 1)))
    smallest = shrunk(machine, Order(programs([2, 2, 2]), steps), is_faulty)
    assert [step.session for step in smallest.steps] == [1, 0, 1]
    assert [len(program.statements) for program in smallest.programs] == [1, 2, 0]
    assert is_faulty(replayed(machine, smallest))


def test_parts_of_a_statement_that_nobody_interrupts_are_one_step() -> None:
    parts = [
        Part(0, 0, begins=True, end="stops", stops=1),
        Part(0, 0, begins=False, end="stops", stops=2),
        Part(1, 0, begins=True, end="waits"),
        Part(0, 0, begins=False, end="done", stops=2),
        Part(1, 0, begins=False, end="done", woken_by=0),
    ]
    order = order_of(programs([1, 1]), Carried(parts=parts))
    assert order.steps == (Step(0, 0, through=2), Step(1, 0), Step(0, 0))
