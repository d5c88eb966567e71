"""Gathers the facts by which the real-time order of appends is judged: their times, and their etags in the table."""

from bench.eventlog import Log
from bench.judge.realtime import Appends, RealTimeOrder, real_time_order
from bench.postgres.connection import Connection
from bench.run.outcome import TrackOutcome
from bench.spec import Spec


def order_of_appends(spec: Spec, log: Log, appended: TrackOutcome, connection: Connection) -> RealTimeOrder | None:
    """Whether the etags of appends kept the real-time order, as far as producers timed their appends. None where they
    timed none because the log was not tailed, and where an event may have several etags.

    An append of which the table holds more rows than it has events is left out: it is unknown which etags are its own.

    Raises:
        psycopg.Error: the log's table cannot be read.
    """
    if spec.mode != "tail" or not log.promises.one_etag:
        return None
    import numpy as np  # noqa: PLC0415 - see bench.stats

    from bench.postgres.append_etags import append_etags  # noqa: PLC0415 - numpy
    from bench.run.appends import timed_appends  # noqa: PLC0415 - numpy

    timed = [timed_appends(worker) for worker in appended.workers]  # producers are numbered in this order
    etags = append_etags(connection, log, spec.insert_batch, [len(each.sent_at) for each in timed])
    parts = []
    for number, (each, stored) in enumerate(zip(timed, etags, strict=True)):
        columns = Appends(
            np.full(len(each.sent_at), number, np.int64),
            each.first_seqs,
            each.sent_at - each.uncertainty_seconds,
            np.where(each.acknowledged > 0, each.answered_at + each.uncertainty_seconds, np.inf),
            stored.lowest,
            stored.highest,
        )
        known = (stored.rows > 0) & (stored.rows <= each.events)
        parts.append([column[known] for column in columns])
    return real_time_order(Appends(*(np.concatenate(columns) for columns in zip(*parts, strict=True))))
