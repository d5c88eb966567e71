"""The chances that a tailed log had to lose an event, which are what an "ok" was worth. Pure: arrays of times and etags
in, counts out.

A *page at risk* is counted by what a naive reader would have been given, one that remembers the last etag and asks for
the events with a higher one. When a reader asked for a page, some events were committed already and others were
committed only later. Let L be the lowest etag of those that came later. The page is at risk if an event with an etag
higher than L was committed already, and if fewer events have etags below L than the reader had been given before plus
the events of one page: the page of a naive reader that had come as far would have reached beyond L, and that reader
would never have been given the event L. Logs that hold readers back, or that move the cursor by snapshot, meet this
too, so a page at risk says nothing about what was delivered.

Sources of error:

- Readers' times are on the database's clock by an offset that is right to some microseconds (Cristian, 1989). A commit
  within that uncertainty of the question counts neither as earlier nor as later.
- A commit timestamp is taken before the commit becomes visible. A transaction between the two counts as committed, so
  a page may be at risk and not be counted, and the event beyond L may not have been visible yet either.
- The events of a transaction count as standing together at its lowest etag, when events below L are counted.
- The times of each worker's first pages and transactions only are known; the others are in no count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST_OVERLAPS = 100
"""A log keeps its writers in order, and was not only lucky, if this many transactions overlapped and every commit came
in the order of the etags: then fewer than 3 % come out of order, with 95 % confidence (rule of three)."""

Unknown = Literal["no xmin", "no commit times", "taken away", "deleted"]
"""Why commits are unknown: the log's table shows no transaction ids, the server keeps no commit times, or reading took
events out of the table."""


class Commits(NamedTuple):
    """Transactions whose events the log's table holds, as columns of equal length."""

    lowest: "NDArray[np.int64]"
    """The lowest etag of each."""
    highest: "NDArray[np.int64]"
    events: "NDArray[np.int64]"
    """Number of events."""
    at: "NDArray[np.float64]"
    """When each was committed: Unix times on the database's clock."""


class Pages(NamedTuple):
    """The pages that one reader asked for, as columns of equal length."""

    asked_at: "NDArray[np.float64]"
    """Unix times on the database's clock, ascending."""
    given: "NDArray[np.int64]"
    """Events that the reader had been given before each page."""
    size: int
    """Events per page that were asked for."""
    uncertainty_seconds: float
    """The largest error of `asked_at`."""
    untimed: int = 0
    """Later pages, of which the times are unknown."""


@dataclass(frozen=True)
class Exposure:
    """The chances to fail that a log met while it was tailed. A count that is None could not be made."""

    transactions: int = 0
    """Append transactions whose times are known, rolled-back ones included."""
    overlapped: int = 0
    """Those of them that were under way at the same time as one of another producer: from the moment at which the
    producer sent a transaction until the moment at which the answer to its commit came."""
    out_of_order: int | None = None
    """Commits that came after the commit of a higher etag."""
    rolled_back_between: int | None = None
    """Runs of rolled-back etags below an etag that was committed."""
    pages: int = 0
    """Pages, empty ones included, that readers are known to have asked for before the last append transaction ended."""
    pages_amid_overlap: int = 0
    """Pages that were asked for while at least two append transactions were under way."""
    pages_at_risk: int | None = None
    """Pages in which a naive reader would have been given an event with a higher etag than one not committed yet."""
    untimed: int = 0
    """Pages and transactions beyond the first ones of each worker: their times are unknown, and no count has them.
    Pages that are known to have come after the last append transaction are left out."""
    unknown: Unknown | None = None
    """Why the counts of commits and of pages at risk are None."""
    ordered: bool = True
    """Whether the log promises an order. Without one there is no position that a reader could have got ahead to, and
    overlapping transactions are the only chance to fail."""

    @property
    def exposed(self) -> bool | None:
        """Whether the log met a chance to fail; None when that is unknown.

        That is: pages were at risk; or the log kept its writers in order, so that no page can be at risk, although
        enough of them overlapped while readers asked for pages; or readers of a log without an order asked for pages
        while transactions overlapped.
        """
        if self.pages_at_risk:
            return True
        if not self.ordered:
            return self.pages_amid_overlap > 0
        return None if self.unknown else self.kept_in_order

    @property
    def kept_in_order(self) -> bool:
        """Whether every commit came in the order of the etags, and that was no luck."""
        return self.out_of_order == 0 and self.pages_amid_overlap > 0 and self.overlapped >= FEWEST_OVERLAPS


def measure(
    commits: Commits | Unknown,
    calls: Sequence["NDArray[np.float64]"],
    pages: Sequence[Pages],
    rolled_back_etags: Sequence[tuple[int, int]] | None,
    *,
    untimed: int = 0,
    ordered: bool = True,
) -> Exposure:
    """Count the chances to fail of a trial. `calls` has, for each producer, the times at which its append transactions
    were sent and answered, as an array of two columns; `untimed` is the number of their later transactions.
    """
    import numpy as np  # noqa: PLC0415 - see bench.stats

    every = np.concatenate([np.empty((0, 2)), *calls])
    sent, answered = np.sort(every[:, 0]), np.sort(every[:, 1])

    def under_way(at: "NDArray[np.float64]") -> "NDArray[np.int64]":
        return np.searchsorted(sent, at, "right") - np.searchsorted(answered, at, "right")

    ends = answered if isinstance(commits, str) else np.concatenate([answered, commits.at])
    end = ends.max(initial=-np.inf)
    amid = sum(int(np.count_nonzero(under_way(each.asked_at) >= 2)) for each in pages)
    exposure = Exposure(
        transactions=len(every),
        # A producer's own transactions do not overlap: of those that meet a transaction in time, one is that one.
        overlapped=int(
            np.count_nonzero(
                np.searchsorted(sent, every[:, 1], "left") - np.searchsorted(answered, every[:, 0], "right") > 1
            )
        ),
        pages=sum(int(np.searchsorted(each.asked_at, end, "right")) for each in pages),
        pages_amid_overlap=amid,
        untimed=untimed + sum(each.untimed for each in pages if not (each.asked_at > end).any()),
        ordered=ordered,
    )
    if isinstance(commits, str):
        return replace(exposure, unknown=commits)
    in_order = _by_time(commits)
    highest_until = np.maximum.accumulate(in_order.highest)
    between = None
    if rolled_back_etags is not None:
        highest = int(highest_until[-1]) if len(highest_until) else None
        between = sum(1 for first, _ in rolled_back_etags if highest is not None and first < highest)
    return replace(
        exposure,
        out_of_order=int(np.count_nonzero(in_order.lowest[1:] < highest_until[:-1])),
        rolled_back_between=between,
        pages_at_risk=sum(int(np.count_nonzero(at_risk(in_order, each))) for each in pages),
    )


def at_risk(commits: Commits, pages: Pages) -> "NDArray[np.bool_]":
    """Whether each page was at risk; `commits` are in the order of their times."""
    import numpy as np  # noqa: PLC0415

    if not len(commits.at):
        return np.zeros(len(pages.asked_at), bool)
    earlier = np.searchsorted(commits.at, pages.asked_at - pages.uncertainty_seconds, "right")
    later = np.searchsorted(commits.at, pages.asked_at + pages.uncertainty_seconds, "right")
    some = (earlier > 0) & (later < len(commits.at))
    highest_until = np.maximum.accumulate(commits.highest)
    lowest_from = np.minimum.accumulate(commits.lowest[::-1])[::-1]
    highest_committed = highest_until[np.maximum(earlier - 1, 0)]
    lowest_open = lowest_from[np.minimum(later, len(commits.at) - 1)]
    by_etag = np.argsort(commits.lowest, kind="stable")
    events_below = np.concatenate(([0], np.cumsum(commits.events[by_etag])))[
        np.searchsorted(commits.lowest[by_etag], lowest_open, "left")
    ]
    return some & (highest_committed > lowest_open) & (events_below < pages.given + pages.size)


def together(exposures: Sequence[Exposure]) -> Exposure:
    """Add up the exposures of several trials of one log; what is unknown of one is unknown of all."""

    def total(counts: Sequence[int | None]) -> int | None:
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    return Exposure(
        transactions=sum(each.transactions for each in exposures),
        overlapped=sum(each.overlapped for each in exposures),
        out_of_order=total([each.out_of_order for each in exposures]),
        rolled_back_between=total([each.rolled_back_between for each in exposures]),
        pages=sum(each.pages for each in exposures),
        pages_amid_overlap=sum(each.pages_amid_overlap for each in exposures),
        pages_at_risk=total([each.pages_at_risk for each in exposures]),
        untimed=sum(each.untimed for each in exposures),
        unknown=next((each.unknown for each in exposures if each.unknown), None),
        ordered=all(each.ordered for each in exposures),
    )


def _by_time(commits: Commits) -> Commits:
    import numpy as np  # noqa: PLC0415

    order = np.argsort(commits.at, kind="stable")
    return Commits(commits.lowest[order], commits.highest[order], commits.events[order], commits.at[order])
