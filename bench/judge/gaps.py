"""Explains why etags are missing between delivered ones. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from bench.judge.evidence import Etags
from bench.judge.ranges import events_in, intersect, normal, subtract
from bench.judge.verdict import Gaps, Verdict
from bench.records import EXAMPLES


class Jump(NamedTuple):
    """A tailing reader's step from one etag to a later one that is not the next."""

    before: int
    """The etag that it was given before the jump."""
    after: int
    asked_at: float
    """When it asked for the page that begins after the jump: Unix time on the database's clock."""


def explain(missing: Etags, rolled_back_etags: Etags | None, skipped: int, *, drained: bool) -> Gaps:
    """Explain why etags are missing between delivered ones: `missing` are the etags that no row has,
    `rolled_back_etags` the etags drawn by transactions that were rolled back (None when unknown), `skipped` the number
    of stored events that a reader has passed. `drained` means that reading began after the producers had ended.
    """
    absent = normal([(0, first, last) for first, last in missing])
    rolled_back = intersect(absent, normal([(0, first, last) for first, last in rolled_back_etags or ()]))
    others = subtract(absent, rolled_back)
    return Gaps(
        visible=skipped if drained else 0,
        skipped=0 if drained else skipped,
        rolled_back=events_in(rolled_back),
        unexplained=0 if rolled_back_etags is None else events_in(others),
        unknown=events_in(others) if rolled_back_etags is None else 0,
        examples=[(first, last) for _, first, last in others[:EXAMPLES]],
    )


def with_commits(verdict: Verdict, late: int, early: int) -> Verdict:
    """Add to a verdict how many skipped events were seen to be committed after a reader had asked for the page with a
    later event (`late`), and how many were seen to begin their commit before that (`early`).
    """
    gaps = verdict.gaps
    return replace(
        verdict, gaps=replace(gaps, late_commit=late, early_commit=early, skipped=gaps.skipped - late - early)
    )


def jump_over(etag: int, jumps: Iterable[Jump]) -> Jump | None:
    """The first of a reader's jumps over an etag."""
    return next((jump for jump in jumps if jump.before < etag < jump.after), None)
