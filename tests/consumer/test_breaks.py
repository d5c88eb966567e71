"""A consumer's breaks: the phases in which it does not read."""

import math
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.worker import LOOK_SECONDS, Lifeline
from consumer import breaks as program
from consumer.breaks import Breaks

START = 1000.0


class Simulated:
    """A clock that moves only when somebody sleeps, and a lifeline that notes when it was looked at."""

    def __init__(self) -> None:
        self.now = START
        self.looks: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def look(self) -> None:
        self.looks.append(self.now)


@given(st.lists(st.tuples(st.floats(0.5, 20), st.booleans()), max_size=8))
def test_a_consumer_that_takes_its_breaks_reads_in_all_other_phases(phases: list[tuple[float, bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Simulated()
        patch.setattr(program, "time", clock)
        breaks = Breaks(phases, START)
        rested = 0.0
        while breaks.next_pc < math.inf:
            clock.now = began = breaks.next_pc
            breaks.take(cast(Lifeline, clock))
            rested += clock.now - began
        assert rested == pytest.approx(sum(seconds for seconds, reads in phases if not reads))
        assert rested == 0 or len(clock.looks) >= rested / LOOK_SECONDS


def test_a_break_that_was_noticed_late_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Simulated()
    monkeypatch.setattr(program, "time", clock)
    breaks = Breaks([(5, True), (3, False), (1, False), (2, True)], START)
    assert breaks.next_pc == START + 5
    clock.now = START + 7
    breaks.take(cast(Lifeline, clock))
    assert clock.now == START + 9
    assert breaks.next_pc == math.inf
