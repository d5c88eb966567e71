"""Gathers the facts from which the chances to fail of a tailed log are counted: the times that workers report, and the
commits that the server knows.
"""

from typing import TYPE_CHECKING

from bench.eventlog import Log
from bench.job import ConsumerJob
from bench.judge.exposure import Commits, Exposure, Pages, Unknown, measure
from bench.postgres import history
from bench.postgres.connection import Connection
from bench.postgres.contract import table_of
from bench.run.outcome import Outcome, Reader, TrackOutcome
from bench.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def exposure(
    spec: Spec, log: Log, appended: TrackOutcome, readers: list[Reader], connection: Connection
) -> Exposure | None:
    """The chances to fail that the log met; None when it was not tailed.

    Raises:
        psycopg.Error: the log's table cannot be read.
    """
    if spec.mode != "tail":
        return None
    import numpy as np  # noqa: PLC0415 - see bench.stats

    from bench.run.appends import timed_appends  # noqa: PLC0415 - numpy

    table = table_of(connection, log)
    commits: Commits | Unknown = history.transactions(connection, log, table)
    if not isinstance(commits, str) and (spec.retention or not log.promises.replay):
        acknowledged = sum(producer.report.events for producer in appended.reported)
        if commits.events.sum() < acknowledged:
            commits = "deleted" if spec.retention else "taken away"
    calls = []
    for producer in map(timed_appends, appended.workers):
        # Only what is certain: no longer than from the latest beginning to the earliest end.
        begins, ends = (
            producer.sent_at + producer.uncertainty_seconds,
            producer.answered_at - producer.uncertainty_seconds,
        )
        calls.append(np.stack([begins, ends], axis=1)[begins < ends])
    etags = [part for producer in appended.workers for part in producer.rolled_back_etags]
    return measure(
        commits,
        calls,
        [pages for reader in readers for pages in _pages(reader)],
        etags if table.xmin or not spec.abort_rate else None,
        untimed=sum(producer.report.untimed_calls for producer in appended.reported),
        ordered=log.promises.order != "none",
    )


def _pages(reader: Reader) -> list[Pages]:
    """The pages of each member of a reader. Members of a group share what there is: each was given what all were."""
    import numpy as np  # noqa: PLC0415

    def columns(member: Outcome) -> tuple["NDArray[np.float64]", "NDArray[np.float64]"]:
        rows = [(record.since + asked / 1e6, given) for record in member.page_times for asked, given in record.pages]
        both = np.array(rows, float).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    of_members = [columns(member) for member in reader.members]
    pages = []
    for member, (asked_at, _) in zip(reader.members, of_members, strict=True):
        given = sum(
            np.concatenate(([0.0], its_given))[np.searchsorted(its_asked, asked_at, "right")]
            for its_asked, its_given in of_members
        )
        depth = member.job.depth if isinstance(member.job, ConsumerJob) else 1
        uncertainty = max((record.uncertainty_seconds for record in member.page_times), default=0.0)
        size, untimed = reader.reading.read_batch * depth, member.report.untimed_calls
        pages.append(Pages(asked_at, np.asarray(given, np.int64), size, uncertainty, untimed))
    return pages
