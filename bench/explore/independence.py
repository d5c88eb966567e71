"""Which steps of sessions are independent of each other. Pure.

Two steps are independent if their sequence makes no difference, neither to what they do and return nor to what any
later step can see. Only two kinds of step are known to be independent of others:

- a page of rows reads tables, and nothing else that depends on other sessions: its result depends on which transactions
  have committed;
- a blind append inserts rows with new numbers, and looks at nothing that other sessions do.

Every other page depends on each step of each other session, and every other append on each step but a page of rows.
"""

from dataclasses import dataclass, replace
from typing import Literal

from bench.explore.carried import Part
from bench.explore.machine import MOST_STOPS
from bench.explore.traces import Footprint

ROWS, XIDS, ENDS, NUMBERS, LOCKS = "committed rows", "transaction ids", "ended transactions", "sequences", "locks"
EVERYTHING = frozenset({ROWS, XIDS, ENDS, NUMBERS, LOCKS})

_ALL = Footprint(writes=EVERYTHING)
_NONE = Footprint()
_ROWS_ONLY = Footprint(reads=frozenset({ROWS}))
_COMMIT = Footprint(writes=frozenset({ROWS}), adds=frozenset({ENDS, LOCKS}))
_ROLLBACK = Footprint(adds=frozenset({ENDS, LOCKS}))
_APPEND = Footprint(reads=frozenset({ROWS, ENDS}), writes=frozenset({XIDS, NUMBERS, LOCKS}))
_BLIND_APPEND = Footprint(writes=frozenset({XIDS, NUMBERS}), adds=frozenset({LOCKS}))
_LOCK = Footprint(adds=frozenset({LOCKS}))
_XID = Footprint(writes=frozenset({XIDS}), adds=frozenset({LOCKS}))

Append = Literal["blind", "quiet", "loud"]
"""Quiet appends are seen by no reader of rows before their commit; others may notice a loud one."""


@dataclass(frozen=True)
class Independence:
    """How far the steps of a log's sessions are independent. Called with a part of an order, which released no other
    session, and with the stop at which it begins, it returns the footprint of the part.
    """

    appends: Append = "loud"
    pages_of_rows: bool = False

    def of_client(self) -> "Independence":
        """The independence of sessions that read as one named client, which changes that client's position."""
        return replace(self, pages_of_rows=False)

    def __call__(self, part: Part, stop: str) -> Footprint:
        """The footprint of a part; `stop` is "" at the begin of a statement."""
        match part.kind:
            case "append" if self.appends == "blind":
                return _blind_append(part, stop)
            case "append" if self.appends == "quiet":
                return _APPEND
            case "page":
                return _ROWS_ONLY if self.pages_of_rows else _ALL
            case "commit":
                return _COMMIT
            case "rollback":
                return _ROLLBACK
            case _:
                return _ALL


def _blind_append(part: Part, stop: str) -> Footprint:
    if part.stops > MOST_STOPS:
        return _BLIND_APPEND
    match _place(stop or "begin"), _place(part.stop if part.end == "stops" else "end"):
        case "before insert", "before nextval":
            return _NONE
        case (("begin" | "before line" | "after insert"), ("before insert" | "before line" | "after insert")):
            return _LOCK
        case "after insert", "end":
            return _LOCK
        case "after nextval", ("before nextval" | "after insert" | "end"):
            return _XID
        case _:
            return _BLIND_APPEND


def _place(stop: str) -> str:
    """A stop without the name of its subject."""
    for begin, place in (
        ("before nextval(", "before nextval"),
        ("after nextval(", "after nextval"),
        ("before the insert on ", "before insert"),
        ("after the insert on ", "after insert"),
        ("before line ", "before line"),
    ):
        if stop.startswith(begin):
            return place
    return stop
