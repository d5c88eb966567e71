"""An order is judged by what the log promises."""

import json

import pytest

from bench import eventlog
from bench.eventlog import Log
from bench.explore.carried import Carried, Delivery
from bench.explore.judging import Finding, finding
from bench.explore.scope import Program, Scope, Statement

SCOPE = Scope(
    "by hand",
    (
        Program("writer 1", (Statement("append", 1), Statement("commit"))),
        Program("writer 2", (Statement("append", 1), Statement("commit"))),
        Program("reader", (Statement("page"),), is_reader=True),
    ),
)


def payload(producer: int, seq: int, value: int | None = None) -> str:
    return json.dumps({"producer": producer, "seq": seq, "value": seq if value is None else value})


STORED: list[tuple[int | None, str | None]] = [(1, payload(0, 0)), (2, payload(1, 0))]


def judged(log: Log, *given: tuple[int, str]) -> Finding | None:
    """Two events were acknowledged and are stored."""
    return finding(
        log,
        SCOPE,
        Carried(
            acknowledged=[(0, 0), (1, 0)],
            delivered={2: [Delivery(etag, event) for etag, event in given]},
            stored=STORED,
        ),
    )


FIRST, SECOND = (1, payload(0, 0)), (2, payload(1, 0))


def test_every_event_once_and_in_order_is_right() -> None:
    assert judged(eventlog.load("lock-drain"), FIRST, SECOND) is None


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ([SECOND], ("skipped",)),
        ([FIRST], ("withheld",)),
        ([FIRST, SECOND, SECOND], ("duplicated",)),
        ([SECOND, FIRST], ("reordered",)),
        ([FIRST, SECOND, (3, payload(0, 7))], ("phantom",)),
        ([FIRST, (2, payload(1, 0, value=5))], ("corrupt",)),
        ([FIRST, SECOND, (3, "no event")], ("phantom",)),
    ],
)
def test_what_is_wrong_has_its_name(given: list[tuple[int, str]], kinds: tuple[str, ...]) -> None:
    wrong = judged(eventlog.load("lock-drain"), *given)
    assert wrong is not None
    assert wrong.kinds == kinds
    assert wrong.promised


def test_a_log_that_promises_nothing_when_tailed_may_skip_but_not_repeat() -> None:
    skipped = judged(eventlog.load("bigserial"), SECOND)
    assert skipped is not None
    assert not skipped.promised
    repeated = judged(eventlog.load("bigserial"), FIRST, SECOND, FIRST)
    assert repeated is not None
    assert repeated.promised


def test_a_queue_may_deliver_in_any_order() -> None:
    assert judged(eventlog.load("skip-locked"), SECOND, FIRST) is None


def test_a_gap_matters_where_none_is_promised() -> None:
    carried = Carried(
        acknowledged=[(0, 0), (1, 0)],
        delivered={2: [Delivery(1, payload(0, 0)), Delivery(3, payload(1, 0))]},
        stored=[(1, payload(0, 0)), (3, payload(1, 0))],
    )
    assert finding(eventlog.load("lock-drain"), SCOPE, carried) is None
    wrong = finding(eventlog.load("counter"), SCOPE, carried)
    assert wrong is not None
    assert wrong.kinds == ("numbering",)


@pytest.mark.parametrize(("batches", "kinds"), [({2}, ("torn",)), ({1, 2}, None)])
def test_a_batch_is_in_pieces_where_all_batches_have_one_size(batches: set[int], kinds: tuple[str, ...] | None) -> None:
    events = [(0, 0), (1, 0), (1, 1), (0, 1)]
    rows = [(etag, payload(*event)) for etag, event in enumerate(events, 1)]
    carried = Carried(
        acknowledged=sorted(events),
        batches=batches,
        delivered={2: [Delivery(*row) for row in rows]},
        stored=[*rows],
    )
    wrong = finding(eventlog.load("xid-horizon"), SCOPE, carried)
    assert (wrong.kinds if wrong else None) == kinds
