"""A search finds the highest load of a modelled system, also when windows are disturbed, and always ends."""

from collections.abc import Callable
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from bench.run.search import TOLERANCE, Attempt, Found, search
from bench.values import MOST_PER_SECOND

MOST_ATTEMPTS = 250
"""The way up or down in two windows per load, the bisection, and that of the confirmation."""


def searched(
    holds: Callable[[Attempt], bool], first: float = 1000, lowest: float = 20, seconds: float = 30
) -> tuple[float | None, list[tuple[Attempt, bool]]]:
    """The load that a search finds, and its attempts with their answers."""
    attempts: list[tuple[Attempt, bool]] = []
    steps = search(first, lowest, seconds)
    step = next(steps)
    while isinstance(step, Attempt):
        attempts.append((step, holds(step)))
        assert len(attempts) < MOST_ATTEMPTS
        step = steps.send(attempts[-1][1])
    assert isinstance(step, Found)
    return step.rate, attempts


KNEES = st.floats(25, 10**8)
FIRSTS = st.floats(20, 10**6)


@given(KNEES, FIRSTS)
def test_it_finds_the_knee(knee: float, first: float) -> None:
    found, attempts = searched(lambda attempt: attempt.rate <= knee, first)
    assert found is not None
    assert knee / (1 + TOLERANCE) <= found <= knee
    (confirmed, held), *above = attempts[-3:]
    assert (confirmed.rate, confirmed.confirms, held) == (found, True, True)
    assert [(attempt.confirms, holds) for attempt, holds in above] == [(True, False)] * 2
    assert all(found < attempt.rate <= found * (1 + TOLERANCE) for attempt, _ in above)


@given(KNEES, FIRSTS, st.data())
def test_it_finds_the_knee_as_far_as_that_is_steady(knee: float, first: float, data: st.DataObject) -> None:
    unsteady = 0.05

    def holds(attempt: Attempt) -> bool:
        return attempt.rate <= knee * (1 + data.draw(st.floats(-unsteady, unsteady)))

    found, attempts = searched(holds, first)
    assert found is not None
    assert knee * (1 - unsteady) / (1 + TOLERANCE) <= found <= knee * (1 + unsteady)
    assert [held for attempt, held in attempts if attempt.confirms and attempt.rate == found][-1]


@given(KNEES, FIRSTS, st.lists(st.integers(1, 9), min_size=1))
def test_windows_that_are_disturbed_do_not_decide(knee: float, first: float, undisturbed: list[int]) -> None:
    """A disturbance makes any window fail; undisturbed windows come between two disturbed ones."""
    coming = cycle(undisturbed)
    left = 0

    def holds(attempt: Attempt) -> bool:
        nonlocal left
        if not left:
            left = next(coming)
            return False
        left -= 1
        return attempt.rate <= knee

    found, _ = searched(holds, first)
    assert found is not None
    assert knee / (1 + TOLERANCE) <= found <= knee


@given(st.lists(st.booleans(), min_size=1, max_size=300), FIRSTS, st.floats(0.01, 10**6))
def test_it_ends_whatever_the_answers_are(answers: list[bool], first: float, lowest: float) -> None:
    left = iter(answers)
    found, attempts = searched(lambda _: next(left, False), max(first, lowest), lowest)
    confirmed = [attempt.rate for attempt, held in attempts if attempt.confirms and held]
    assert found is None or found in confirmed
    assert all(attempt.rate <= MOST_PER_SECOND for attempt, _ in attempts)
    assert all(attempt.seconds <= 30 for attempt, _ in attempts)
    assert all(attempt.seconds == 30 for attempt, _ in attempts if attempt.confirms)


def test_a_load_fails_when_two_windows_fail_and_one_that_holds_is_enough() -> None:
    answers = iter([False, False])
    _, attempts = searched(lambda attempt: next(answers, attempt.rate <= 700))
    assert [attempt.rate for attempt, _ in attempts[:3]] == [1000, 1000, 500]
    answers = iter([False, True])
    _, attempts = searched(lambda attempt: next(answers, attempt.rate <= 700))
    assert [attempt.rate for attempt, _ in attempts[:3]] == [1000, 1000, 2000]


@given(st.lists(st.booleans(), min_size=1, max_size=300), FIRSTS)
def test_no_load_above_the_answer_was_confirmed(answers: list[bool], first: float) -> None:
    left = iter(answers)
    found, attempts = searched(lambda _: next(left, False), first)
    confirmed = [attempt.rate for attempt, held in attempts if attempt.confirms and held]
    assert max(confirmed, default=None) == found


def test_windows_grow_as_the_search_closes_in() -> None:
    _, attempts = searched(lambda attempt: attempt.rate <= 12_345)
    seconds = [attempt.seconds for attempt, _ in attempts]
    assert seconds[0] == 5
    assert seconds == sorted(seconds)
    assert len(attempts) < 20


@given(KNEES.filter(lambda knee: knee > 1000))
def test_a_load_that_was_ruled_out_by_mistake_is_found_out(knee: float) -> None:
    wrong = iter([False, False])
    found, attempts = searched(lambda attempt: next(wrong, attempt.rate <= knee))
    assert [attempt.rate for attempt, _ in attempts[:3]] == [1000, 1000, 500]
    assert found is not None
    assert knee / (1 + TOLERANCE) <= found <= knee


def test_where_nothing_holds_the_lowest_load_is_tried_last() -> None:
    found, attempts = searched(lambda _: False, 1000, 30)
    assert found is None
    assert [attempt.rate for attempt, _ in attempts[::2]] == [1000, 500, 250, 125, 62.5, 31.2, 30]


def test_a_load_that_holds_for_a_short_time_only_is_lowered_until_it_is_confirmed() -> None:
    found, attempts = searched(lambda attempt: attempt.rate <= (5000 if attempt.confirms else 20_000))
    assert found is not None
    assert 5000 / (1 + TOLERANCE) <= found <= 5000
    assert len(attempts) < 40


def test_nothing_is_found_when_no_load_is_confirmed() -> None:
    found, attempts = searched(lambda attempt: not attempt.confirms and attempt.rate <= 2000, lowest=100)
    assert found is None
    assert attempts[-1][0].rate == 100


def test_a_system_that_holds_every_load_ends_the_search_too() -> None:
    found, attempts = searched(lambda _: True)
    assert found == MOST_PER_SECOND
    assert len(attempts) < 30
