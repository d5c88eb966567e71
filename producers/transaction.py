"""How an append becomes a transaction: one by itself, or one that is held open and perhaps rolled back."""

import random
import time
from typing import Any

import psycopg

from bench.records import ProducerJob
from bench.wire import long_answers
from bench.worker import Statement
from producers.append import Append

_BEFORE_ALL = -(2**63)
"""The lowest bigint: etags may begin anywhere."""


class RolledBack(Exception):  # noqa: N818 - what was asked for, not an error
    """A transaction that was rolled back, as the job wants some to be."""

    def __init__(self, etags: list[tuple[int, int]]) -> None:
        super().__init__()
        self.etags = etags
        """The etags that it had drawn, as (first, last)."""


def transactions(
    connection: psycopg.Connection[Any], job: ProducerJob, append: Append, chance: random.Random
) -> Append:
    """Make of `append` a function that appends events first..last in a transaction as the job wants it.

    It raises RolledBack when that is not to be committed.
    """
    if not job.abort_rate and not job.transaction_ms[1]:
        return append

    begin, commit, rollback = (Statement(connection, words) for words in ("BEGIN", "COMMIT", "ROLLBACK"))
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
