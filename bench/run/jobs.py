"""What each worker of a run is to do."""

from bench.eventlog import Log
from bench.postgres.barrier import CONSUMERS_MAY_STOP, START
from bench.records import ConsumerJob, ProducerJob
from bench.spec import Spec
from bench.statements import PLAIN_TABLE, SCHEMA, Table, append_sql, cursor_columns, drawn_sql, read_sql

MAX_JUMPS = 5000
"""A tailing consumer remembers so many jumps over etags, to tell the story of those that skipped an event."""

AWAKE_SECONDS = 50e-6
"""A reader that is alone waits awake for so long: a virtual machine needs about as much to wake up a processor."""

GROUP = "bench"
"""What named clients' names begin with."""


def producers(spec: Spec, log: Log, table: Table = PLAIN_TABLE) -> list[ProducerJob]:
    """One job for each producer, numbered from 0."""
    return [
        ProducerJob(
            name=f"producer-{number}",
            schema=SCHEMA,
            barrier=START,
            append=spec.append,
            sql=append_sql(spec, log),
            producer=number,
            limit=spec.events_per_producer,
            insert_batch=spec.insert_batch,
            payload_bytes=spec.payload_bytes,
            transaction_ms=spec.transaction_ms,
            abort_rate=spec.abort_rate,
            seed=spec.seed,
            drawn=drawn_sql(log) if spec.abort_rate and table.xmin else None,
        )
        for number in range(spec.scale)
    ]


def consumers(spec: Spec, log: Log, read_batch: int) -> list[ConsumerJob]:
    """The jobs of those that read the log: consumers that each read all of it, or the members of a group."""
    group = spec.group > 0
    kept = group or spec.cursor == "client"
    tails = spec.mode == "tail"
    number = spec.group or spec.consumers
    alone = number == 1 and not tails
    return [
        ConsumerJob(
            name=f"{'member' if group else 'consumer'}-{read_batch}" + (f"-{index}" if number > 1 else ""),
            schema=SCHEMA,
            barrier=START,
            sql=read_sql(log, read_batch, client=_client(read_batch, 0 if group else index) if kept else None),
            cursor=[] if kept else cursor_columns(log),
            depth=spec.depth if kept else 1,
            limit=spec.events_per_producer,
            payload_bytes=spec.payload_bytes,
            most_events=2 * spec.events + 1000,
            stop=CONSUMERS_MAY_STOP,
            tails=tails,
            max_jumps=MAX_JUMPS if tails and log.promises.order == "etag" and not kept else 0,
            awake_seconds=AWAKE_SECONDS if alone else 0,
            rejoin_pages=spec.rejoin if group else 0,
            read_batch=read_batch,
        )
        for index in range(number)
    ]


def _client(read_batch: int, number: int) -> str:
    """The name of a client: the members of a group share one, consumers have one each."""
    return f"{GROUP} {read_batch} {number}"
