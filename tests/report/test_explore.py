"""An exploration as people read it."""

from bench.eventlog import load
from bench.explore.models import Counterexample, ExploredLog, ExploredScope, Step
from bench.report import explore as report
from tests.conftest import golden

FOUND = Counterexample(
    scope="inside statements",
    kinds=["skipped"],
    promised=True,
    counts={"skipped": 1},
    examples=["0.0"],
    steps=5,
    sessions=["writer 1", "writer 2", "reader"],
    trace=[
        Step(session="writer 1", kind="append", sql="", begins=True, end="stops", stop="after nextval(numbers)"),
        Step(session="writer 2", kind="append", sql="", begins=True, end="done", events=["1.0"]),
        Step(session="writer 1", kind="append", sql="", begins=False, end="waits", waits_for=["writer 2"]),
        Step(session="writer 2", kind="commit", sql="", begins=True, end="done"),
        Step(
            session="writer 1",
            kind="append",
            sql="",
            begins=False,
            end="done",
            events=["0.0"],
            woken_by="writer 2",
        ),
        Step(session="reader", kind="page", sql="", begins=True, end="done", events=["1.0"], etags=[2]),
    ],
    read_on={"reader": []},
    failures=[],
    etags={"0.0": 1, "1.0": 2},
    sql="",
)


def scope(**changes: object) -> ExploredScope:
    return ExploredScope.model_validate(
        {
            "name": "two transactions",
            "programs": {"writer 1": ["append 1", "commit"], "reader": ["page"]},
            "inside": False,
            "orders": 420,
            "orders_at_most": 420,
            "complete": True,
            "preemptions": None,
            "most_preemptions": None,
            "impossible": 0,
            "failing": {},
            "writers_waited": 0,
            "readers_waited": 0,
            "held_back": 0,
            "seconds": 3.0,
            **changes,
        }
    )


def test_a_counterexample_is_a_table_of_sessions_over_time() -> None:
    golden("explore-counterexample.md", report.counterexample(FOUND) + "\n")


def test_a_scope_says_how_far_it_was_explored() -> None:
    assert "all 420 orders, no fault" in report.scope_line(scope())
    cut_short = report.scope_line(scope(orders=99, complete=False, preemptions=2, failing={"skipped": 7}))
    assert "99 orders of at most 420, including every order with up to 2 preemptions, 7 with skipped" in cut_short
    assert "all 420 orders with up to 3 preemptions" in report.scope_line(scope(most_preemptions=3))
    reduced = report.scope_line(scope(orders=20, equivalent=400))
    assert "all 420 orders, 20 of them carried out and the others equivalent to one of these, no fault" in reduced
    cut_short = report.scope_line(scope(orders=99, equivalent=9, complete=False, preemptions=2))
    assert "99 orders (9 equivalent orders left out) of at most 420" in cut_short
    assert "2 could not be repeated" in report.scope_line(scope(impossible=2))


def test_what_is_found_of_a_log_says_whether_it_was_promised() -> None:
    log = ExploredLog(log="late", promises=load("lock-drain").promises, scopes=[scope()], counterexamples=[FOUND])
    assert not log.ok
    assert report.verdict(log) == "**skipped** in 5 steps"
    unpromised = log.model_copy(update={"counterexamples": [FOUND.model_copy(update={"promised": False})]})
    assert unpromised.ok
    assert "allowed by its promises" in report.verdict(unpromised)
    assert report.verdict(log.model_copy(update={"failure": "it has no schema"})) == "not explored"
