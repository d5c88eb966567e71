"""The fates of a producer's events, by the answers to its appends."""

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.log_error import LogFailedError
from bench.records import ProducerJob
from bench.worker import Meter
from producers.__main__ import _append_until_progress, _Tally
from producers.transaction import RolledBack


def job(limit: int, insert_batch: int) -> ProducerJob:
    return ProducerJob("producer-0", "bench", 1, "log_event", "", 0, limit, insert_batch, 0)


@given(st.integers(1, 30), st.integers(1, 7), st.lists(st.sampled_from(["all", "rolled back", "fewer"]), max_size=20))
def test_a_batch_that_was_taken_in_part_is_acknowledged_as_a_whole(limit: int, size: int, answers: list[str]) -> None:
    """Without an error, an application takes all of a committed batch for stored."""
    fates: dict[str, set[int]] = {"acknowledged": set(), "aborted": set(), "indeterminate": set()}
    coming = iter(answers)

    def append(first: int, last: int) -> int:
        answer = next(coming, "all")
        fates["aborted" if answer == "rolled back" else "acknowledged"] |= {*range(first, last + 1)}
        if answer == "rolled back":
            raise RolledBack([])
        return last - first + (answer == "all")

    tally = _Tally(0)
    meter = cast("Meter", SimpleNamespace(calls=[]))
    first = 0
    failed = False
    while first < limit and not failed:
        try:
            first = _append_until_progress(append, job(limit, size), first, tally, meter, float("inf"))
        except LogFailedError:
            failed = True
    tally.close()
    noted = {
        fate: {seq for _, start, end in ranges for seq in range(start, end + 1)}
        for fate, ranges in tally._ranges.items()
    }
    assert noted == fates
    assert failed == ("fewer" in answers[: -(-limit // size)])


@pytest.mark.parametrize("answer", [0, 2, 4])
def test_any_other_number_than_that_of_the_batch_ends_the_producer(answer: int) -> None:
    tally = _Tally(0)
    meter = cast("Meter", SimpleNamespace(calls=[]))
    with pytest.raises(LogFailedError):
        _append_until_progress(lambda _first, _last: answer, job(9, 3), 0, tally, meter, float("inf"))
    tally.close()
    assert tally.events == 3
