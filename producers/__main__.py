"""A producer: appends its events batch by batch, as fast as the answers come, and reports what became of them."""

import random
import time
from typing import Any

import psycopg

from bench.records import Fate, ProducerJob, Range, ledgers, undone
from bench.worker import Meter, Statement, fail, main, say, wait_at_gate
from producers.append import WAYS
from producers.transaction import transactions


def produce(connection: psycopg.Connection[Any], job: ProducerJob) -> None:
    """Do one producer's job."""
    producer = _number(connection, job.producer)
    chance = random.Random(f"{job.seed} {producer}")  # noqa: S311 - for repeating a run, not for secrets
    append = transactions(connection, job, WAYS[job.append](connection, job, producer), chance)
    account = _Account(producer)
    meter = Meter(wait_at_gate(connection, job.gate))
    for first in range(0, job.limit, job.insert_batch):
        last = min(first + job.insert_batch, job.limit) - 1
        sent = time.perf_counter()
        try:
            done = append(first, last)
        except psycopg.OperationalError:
            account.note("indeterminate", first, last)
            account.tell()
            raise
        if done.appended != last - first + 1:
            fail(f"the log took {done.appended} of the {last - first + 1} events of a batch and reported no error")
        account.note("acknowledged" if done.committed else "aborted", first, last)
        account.undone += done.undone
        meter.count(sent, last + 1)
    acknowledged = account.ranges["acknowledged"]
    report = meter.finish(
        events=sum(last - first + 1 for _, first, last in acknowledged),
        checksum=sum((first + last) * (last - first + 1) // 2 for _, first, last in acknowledged),
    )
    account.tell()
    say(report)


class _Account:
    """What became of each event: as few ranges as its fates change."""

    def __init__(self, producer: int) -> None:
        self._producer = producer
        self.ranges: dict[Fate, list[Range]] = {"acknowledged": [], "aborted": [], "indeterminate": []}
        self.undone: list[tuple[int, int]] = []
        """The etags of what was rolled back."""

    def note(self, fate: Fate, first: int, last: int) -> None:
        ranges = self.ranges[fate]
        if ranges and ranges[-1][2] == first - 1:
            ranges[-1] = (self._producer, ranges[-1][1], last)
        else:
            ranges.append((self._producer, first, last))

    def tell(self) -> None:
        for fate, ranges in self.ranges.items():
            for ledger in ledgers(fate, ranges):
                say(ledger)
        for part in undone(self.undone):
            say(part)


def _number(connection: psycopg.Connection[Any], producer: int | str) -> int:
    if isinstance(producer, int):
        return producer
    return int(Statement(connection, f"SELECT ({producer})::text").run().get_value(0, 0) or 0)


if __name__ == "__main__":
    main(ProducerJob, produce)
