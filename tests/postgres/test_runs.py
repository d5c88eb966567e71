"""Numbers collected as runs of consecutive ones."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.postgres import runs
from bench.postgres.runs import Islands

LOWEST, HIGHEST = -(2**63), 2**63 - 1
NUMBERS = st.integers(0, 30) | st.integers(LOWEST, LOWEST + 3) | st.integers(HIGHEST - 3, HIGHEST)


@given(pages=st.lists(st.lists(NUMBERS, max_size=12), max_size=8), most=st.sampled_from([0, 3, 1000]))
def test_islands_know_what_is_between_them_and_what_came_again(pages: list[list[int]], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_RUNS", most)
        islands = Islands()
        for page in pages:
            islands.add(np.array(page, np.int64))
        numbers = sorted({number for page in pages for number in page})
        expected = [(before + 1, after - 1) for before, after in pairwise(numbers) if after - before > 1]
        assert islands.gaps() == expected
        assert islands.distinct() == len(numbers)
        assert islands.gaps() == expected


def test_many_runs_are_joined_once_they_touch() -> None:
    islands = Islands()
    even = np.arange(0, 10 * runs._RUNS, 2)
    islands.add(even)
    islands.add(even + 1)
    assert islands.gaps() == []
    assert islands.distinct() == 10 * runs._RUNS
