"""Only steps that can neither see nor change each other's outcome are independent."""

import pytest

from bench.explore.carried import Carried, End, Part
from bench.explore.independence import Independence
from bench.explore.machine import MOST_STOPS
from bench.explore.traces import Footprint, enabled_after, rearranged, turns_of

PLAIN = Independence("blind", pages_of_rows=True)
LOCKING = Independence("quiet", pages_of_rows=True)
HORIZON = Independence("blind", pages_of_rows=False)
UNKNOWN = Independence()


def whole(kind: str) -> Part:
    return Part(0, 0, begins=True, end="done", kind=kind)


def depends(log: Independence, one: str, other: str) -> bool:
    first, second = log(whole(one), ""), log(whole(other), "")
    assert first.depends_on(second) is second.depends_on(first)
    return first.depends_on(second)


@pytest.mark.parametrize(
    ("one", "other", "logs"),
    [
        ("append", "append", [PLAIN, LOCKING, HORIZON, UNKNOWN]),
        ("append", "commit", [LOCKING, UNKNOWN]),
        ("append", "rollback", [LOCKING, UNKNOWN]),
        ("append", "page", [HORIZON, UNKNOWN]),
        ("page", "page", [HORIZON, UNKNOWN]),
        ("page", "commit", [PLAIN, LOCKING, HORIZON, UNKNOWN]),
        ("page", "rollback", [HORIZON, UNKNOWN]),
        ("commit", "commit", [PLAIN, LOCKING, HORIZON, UNKNOWN]),
        ("rollback", "rollback", []),
        ("prepare", "rollback", [PLAIN, LOCKING, HORIZON, UNKNOWN]),
    ],
)
def test_whole_statements(one: str, other: str, logs: list[Independence]) -> None:
    assert [log for log in (PLAIN, LOCKING, HORIZON, UNKNOWN) if depends(log, one, other)] == logs


def test_sessions_of_one_client_depend_on_each_other() -> None:
    assert depends(PLAIN.of_client(), "page", "page")


def part_of_append(start: str, stop: str, stops: int = 3) -> Footprint:
    end: End = "stops" if stop else "done"
    return PLAIN(Part(0, 0, begins=not start, end=end, stop=stop, stops=stops, kind="append"), start)


def test_of_a_blind_append_only_drawing_a_number_depends_on_drawing_a_number() -> None:
    draws = part_of_append("before nextval(s)", "after nextval(s)")
    inserts = part_of_append("after nextval(s)", "after the insert on events_log")
    assert draws.depends_on(draws)
    assert not draws.depends_on(part_of_append("before the insert on events_log", "before nextval(s)"))
    assert not inserts.depends_on(part_of_append("", "before the insert on events_log"))
    assert part_of_append("somewhere", "elsewhere").depends_on(draws)
    assert part_of_append("after the insert on events_log", "", stops=MOST_STOPS + 1).depends_on(draws)


def test_a_reader_that_looks_at_locks_depends_on_the_begin_of_an_append() -> None:
    page = HORIZON(whole("page"), "")
    assert page.depends_on(part_of_append("", "before the insert on events_log"))
    assert not page.depends_on(part_of_append("before the insert on events_log", "before nextval(s)"))


def test_a_session_that_waits_takes_its_next_turn_together_with_the_session_that_releases_it() -> None:
    parts = [
        Part(0, 0, begins=True, end="done", kind="append"),
        Part(1, 0, begins=True, end="waits", kind="append"),
        Part(0, 1, begins=True, end="done", kind="commit"),
        Part(1, 0, begins=False, end="done", kind="append", woken_by=0),
        Part(2, 0, begins=True, end="done", kind="page"),
    ]
    turns = turns_of(Carried(parts=parts), LOCKING)
    assert [turn.footprint is None for turn in turns] == [False, True, True, False]
    assert enabled_after(turns, 2) == [0, 2]
    other = rearranged(turns, 2, 2)
    assert other is not None
    assert [turn.session for turn in other] == [0, 1, 2, 0]
    assert rearranged(turns, 0, 1) is not None
    assert rearranged(turns, 2, 1) is None
