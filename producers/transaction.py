"""Makes an append a transaction: an implicit one, or one that is held open and perhaps rolled back."""

import random
import time
from typing import Any

import psycopg

from bench.job import ProducerJob
from bench.statement import Statement
from bench.wire import long_answers
from producers.append import Append

_BEFORE_ALL = -(2**63)
"""The lowest bigint: etags may begin anywhere."""


class RolledBack(Exception):  # noqa: N818 - what was asked for, not an error
    """A transaction was rolled back, because the job's abort_rate asks for it."""

    def __init__(self, etags: list[tuple[int, int]]) -> None:
        super().__init__()
        self.etags = etags
        """The etags that the transaction had drawn, as (first, last)."""


def transactions(
    connection: psycopg.Connection[Any], job: ProducerJob, append: Append, chance: random.Random
) -> Append:
    """Turn `append` into a function that appends events first..last in a transaction that the job describes.

    The function raises RolledBack when it has rolled the transaction back, as the job's abort_rate asks.
    """
    if not job.abort_rate and not job.transaction_ms[1]:
        return append

    begin, commit, rollback = (Statement(connection, query) for query in ("BEGIN", "COMMIT", "ROLLBACK"))
    drawn = Statement(connection, job.drawn) if job.drawn and job.abort_rate else None
    highest = _BEFORE_ALL

    def held(first: int, last: int) -> int:
        nonlocal highest
        begin.run()
        appended = append(first, last)
        time.sleep(chance.uniform(*job.transaction_ms) / 1e3)
        if chance.random() >= job.abort_rate:
            commit.run()
            return appended
        etags: list[tuple[int, int]] = []
        if drawn:
            with long_answers(connection):
                result = drawn.run(b"%d" % highest)
            etags = [
                (int(result.get_value(row, 0) or 0), int(result.get_value(row, 1) or 0))
                for row in range(result.ntuples)
            ]
        highest = max([highest, *(end for _, end in etags)])
        rollback.run()
        raise RolledBack(etags)

    return held
