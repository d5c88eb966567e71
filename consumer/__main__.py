"""A consumer: reads the log through from its start and reports what it was given."""

from typing import Any

import psycopg

from bench.records import ConsumerJob, Report, delivered
from bench.worker import Meter, main, say, wait_at_gate
from consumer.ledger import Ledger
from consumer.reader import Row, pages

ROWS_A_LOOK = 1000
"""Pages are put together until they have so many rows, because looking at rows has a cost a look."""


def consume(connection: psycopg.Connection[Any], job: ConsumerJob) -> None:
    """Do one consumer's job."""
    ledger = Ledger(job.limit)
    unseen: list[Row] = []
    received = 0
    meter = Meter(wait_at_gate(connection, job.gate))
    for sent, page in pages(connection, job):
        received += len(page)
        meter.count(sent, received)
        unseen += page
        if len(unseen) >= ROWS_A_LOOK:
            ledger.see(unseen)
            unseen.clear()
    ledger.see(unseen)
    seconds, cpu_seconds, latency = meter.finish()
    for part in delivered(ledger.delivered()):
        say(part)
    for anomaly in ledger.anomalies():
        say(anomaly)
    say(
        Report(
            events=ledger.events,
            checksum=ledger.checksum,
            started_at=meter.started_at,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            latency=latency,
            max_etag_gap=ledger.max_etag_gap,
            repeated_ctimes=ledger.repeated_ctimes,
        )
    )


if __name__ == "__main__":
    main(ConsumerJob, consume)
