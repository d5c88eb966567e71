"""Events taken as arrays must be found as they are found one by one."""

from random import Random
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import consumer.positions
from bench.records import Fault
from consumer.positions import Deviations, Positions, at_once

LIMIT = 40
RUNS = st.tuples(
    st.integers(0, 2) | st.just(2**40),
    st.integers(-3, LIMIT + 2) | st.sampled_from([-(2**63), 2**63 - 8]),
    st.integers(1, 8),
)
"""Producer, first seq and length of some consecutive events."""
BATCHES = st.lists(st.lists(RUNS, max_size=12), max_size=6)


def one_by_one(positions: Positions, events: list[tuple[int, int]]) -> Deviations:
    faults = [positions.take(*event) for event in events]

    def places(fault: Fault) -> list[int]:
        return [place for place, each in enumerate(faults) if each == fault]

    return Deviations(*(np.array(places(cast("Fault", fault)), np.int64) for fault in Deviations._fields))


def as_arrays(positions: Positions, events: list[tuple[int, int]]) -> Deviations:
    producers, seqs = np.array(events, np.int64).reshape(-1, 2).T
    deviations = at_once(positions.follow(producers, seqs))
    return at_once(positions.sort_out(producers, seqs)) if deviations is None else deviations


@given(
    batches=BATCHES,
    most_runs=st.sampled_from([0, 3, 64]),
    shuffled=st.randoms() | st.none(),
    preloaded=st.none() | st.just((1, 20)),
)
def test_events_are_taken_as_one_by_one(
    batches: list[list[tuple[int, int, int]]],
    most_runs: int,
    shuffled: Random | None,
    preloaded: tuple[int, int] | None,
) -> None:
    expected, found = Positions(LIMIT, preloaded), Positions(LIMIT, preloaded)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumer.positions, "MOST_RUNS", most_runs)
        for runs in batches:
            events = [(producer, first + more) for producer, first, length in runs for more in range(length)]
            if shuffled:
                shuffled.shuffle(events)
            if events:
                for ours, theirs in zip(as_arrays(found, events), one_by_one(expected, events), strict=True):
                    assert ours.tolist() == theirs.tolist()
                assert found.delivered() == expected.delivered()


def test_preloaded_events_have_a_limit_of_their_own() -> None:
    positions = Positions(10, (2, 30))
    assert [positions.take(*event) for event in [(1, 29), (2, 29), (1, 0), (2, 30)]] == [
        "phantom",
        None,
        None,
        "phantom",
    ]
    assert positions.delivered() == [(1, 0, 0), (2, 29, 29)]
