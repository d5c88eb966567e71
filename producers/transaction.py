"""How an append becomes a transaction: one by itself, or one that is held open and perhaps rolled back."""

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg

from bench.records import ProducerJob
from bench.worker import Statement
from producers.append import Append


class Done(NamedTuple):
    """What became of one transaction."""

    appended: int
    """Events that the server took, before it committed or rolled back."""
    committed: bool
    undone: list[tuple[int, int]]
    """The etags that a rolled back transaction had drawn, as (first, last)."""


def transactions(
    connection: psycopg.Connection[Any], job: ProducerJob, append: Append, chance: random.Random
) -> Callable[[int, int], Done]:
    """Make of `append` a function that appends events first..last in a transaction as the job wants it."""
    if not job.abort_rate and not job.transaction_ms[1]:
        return lambda first, last: Done(append(first, last), committed=True, undone=[])

    begin, commit, rollback = (Statement(connection, words) for words in ("BEGIN", "COMMIT", "ROLLBACK"))
    drawn = Statement(connection, job.drawn) if job.drawn and job.abort_rate else None
    highest = 0

    def held(first: int, last: int) -> Done:
        nonlocal highest
        begin.run()
        appended = append(first, last)
        time.sleep(chance.uniform(*job.transaction_ms) / 1e3)
        if chance.random() >= job.abort_rate:
            commit.run()
            return Done(appended, committed=True, undone=[])
        etags: list[tuple[int, int]] = []
        if drawn:
            result = drawn.run(b"%d" % highest)
            etags = [
                (int(result.get_value(row, 0) or 0), int(result.get_value(row, 1) or 0))
                for row in range(result.ntuples)
            ]
        highest = max([highest, *(end for _, end in etags)])
        rollback.run()
        return Done(appended, committed=False, undone=etags)

    return held
