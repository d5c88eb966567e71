"""A producer: appends its events batch by batch, as fast as the answers come, and reports what was acknowledged."""

import time
from typing import Any

import psycopg

from bench.records import Ledger, ProducerJob, Report
from bench.worker import Meter, Statement, fail, main, say, wait_at_gate
from producers.append import WAYS


def produce(connection: psycopg.Connection[Any], job: ProducerJob) -> None:
    """Do one producer's job."""
    producer = _number(connection, job.producer)
    append = WAYS[job.append](connection, job, producer)
    meter = Meter(wait_at_gate(connection, job.gate))
    for first in range(0, job.limit, job.insert_batch):
        last = min(first + job.insert_batch, job.limit) - 1
        sent = time.perf_counter()
        try:
            appended = append(first, last)
        except psycopg.OperationalError:
            _account(producer, acknowledged=first, indeterminate=last - first + 1)
            raise
        if appended != last - first + 1:
            fail(f"the log took {appended} of the {last - first + 1} events of a batch and reported no error")
        meter.count(sent, last + 1)
    seconds, cpu_seconds, latency = meter.finish()
    _account(producer, acknowledged=job.limit, indeterminate=0)
    say(
        Report(
            events=job.limit,
            checksum=job.limit * (job.limit - 1) // 2,
            started_at=meter.started_at,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            latency=latency,
        )
    )


def _account(producer: int, *, acknowledged: int, indeterminate: int) -> None:
    """Tell the fate of the first events: so many are committed, so many after them may or may not be."""
    if acknowledged:
        say(Ledger("acknowledged", [(producer, 0, acknowledged - 1)]))
    if indeterminate:
        say(Ledger("indeterminate", [(producer, acknowledged, acknowledged + indeterminate - 1)]))


def _number(connection: psycopg.Connection[Any], producer: int | str) -> int:
    if isinstance(producer, int):
        return producer
    return int(Statement(connection, f"SELECT ({producer})::text").run().get_value(0, 0) or 0)


if __name__ == "__main__":
    main(ProducerJob, produce)
