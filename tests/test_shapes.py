"""Which shape the payload of each event has: the same everywhere, and as often as was asked for."""

import math
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.job import Payloads
from bench.padding import MOST_BITS, padding
from bench.shapes import PERIOD, Shapes, place

SHARES = ((200, 80.0), (500, 19.5), (4000, 0.5))


@given(st.integers(0, 999), st.integers(0, 10**12), st.integers(1, 3000), st.integers(0, 3))
def test_an_event_has_one_shape_whichever_batch_it_is_in(producer: int, first: int, events: int, seed: int) -> None:
    shapes = Shapes(Payloads(SHARES, seed=seed))
    numbers = [*shapes.numbers(producer, first, first + events - 1)]
    assert numbers == [shapes.period[place(producer, seq)] for seq in range(first, first + events)]
    places = place(np.full(events, producer), np.arange(first, first + events))
    assert numbers == np.array(shapes.period)[places].tolist()


def test_a_batch_may_be_longer_than_the_period() -> None:
    numbers = [*Shapes(Payloads(SHARES)).numbers(7, 5, 5 + 2 * PERIOD + 9)]
    assert len(numbers) == 2 * PERIOD + 10
    assert numbers[:PERIOD] == numbers[PERIOD : 2 * PERIOD]


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_exact_in_a_period_and_about_right_in_a_part_of_it(seed: int) -> None:
    shapes = Shapes(Payloads(SHARES, seed=seed))
    assert Counter(shapes.numbers(0, 0, PERIOD - 1)) == {0: 80_000, 1: 19_500, 2: 500}
    events = 10_000
    for producer in range(10):
        counts = Counter(shapes.numbers(producer, 0, events - 1))
        for number, (_, share) in enumerate(SHARES):
            expected, deviation = events * share / 100, math.sqrt(events * share / 100 * (1 - share / 100))
            assert abs(counts[number] - expected) < 6 * deviation


def test_another_seed_and_another_producer_have_other_sizes() -> None:
    of = {
        (seed, producer): bytes([*Shapes(Payloads(SHARES, seed=seed)).numbers(producer, 0, 99)])
        for seed in (0, 1)
        for producer in range(20)
    }
    assert len({*of.values()}) == len(of)


def test_the_largest_remainders_get_what_is_left() -> None:
    thirds = ((100, 100 / 3), (200, 100 / 3), (300, 100 / 3))
    counts = Counter(Shapes(Payloads(thirds)).period)
    assert sorted(counts.values()) == [33_333, 33_333, 33_334]


def test_padding_has_as_many_letters_as_its_bits_say_and_compresses_the_better_the_fewer() -> None:
    size = 1 << 16
    texts = [padding(size, bits) for bits in range(MOST_BITS + 1)]
    assert [len({*text}) for text in texts] == [2**bits for bits in range(MOST_BITS + 1)]
    packed = [len(zlib.compress(text, 9)) for text in texts]
    assert packed == sorted(packed)
    assert all(abs(bytes_ / size - bits / 8) < 0.08 for bits, bytes_ in enumerate(packed))
    assert padding(size) == texts[MOST_BITS]
