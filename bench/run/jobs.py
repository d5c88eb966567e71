"""The jobs of a run's workers."""

from collections.abc import Sequence

from msgspec.structs import replace

from bench.eventlog import Log
from bench.job import ConsumerJob, Load, ProducerJob
from bench.postgres.barrier import CONSUMERS_MAY_STOP, START
from bench.postgres.pauses import session_sql
from bench.records import Range
from bench.results.tracks import Reading
from bench.run.payloads import payloads_of
from bench.spec import Spec
from bench.statements import (
    PLAIN_TABLE,
    SCHEMA,
    Table,
    append_sql,
    channel,
    cursor_columns,
    drawn_sql,
    read_sql,
    returned_sql,
)

MAX_JUMPS = 5000
"""Jumps over etags that a tailing consumer remembers, to explain how events were skipped."""

TIMED_PAGES = 10_000
"""Pages of which a tailing consumer reports when it asked for them."""
TIMED_TRANSACTIONS = 100_000
"""Transactions of which producers together report the times while the log is tailed."""
MOST_TIMED_TRANSACTIONS = 5000
"""The most of them that one producer reports."""

AWAKE_SECONDS = 50e-6
"""How long a reader that is alone waits awake: a virtual machine needs about as long to wake up a processor."""

GROUP = "bench"
"""The beginning of the names of named clients."""


def producers(spec: Spec, log: Log, table: Table = PLAIN_TABLE) -> list[ProducerJob]:
    """One job per producer, numbered from 0."""
    payloads = payloads_of(spec)
    load = Load(spec.steps, spec.arrival or "fixed", spec.scale) if spec.steps else None
    return [
        ProducerJob(
            name=f"producer-{number}",
            schema=SCHEMA,
            barrier=START,
            append=spec.append,
            sql=append_sql(spec, log),
            producer=number,
            limit=spec.seq_limit,
            insert_batch=spec.insert_batch,
            returned=returned_sql(spec, log),
            transaction_ms=spec.transaction_ms,
            abort_rate=spec.abort_rate,
            seed=spec.seed,
            session_sql=_session_sql(spec, f"producer-{number}"),
            drawn=drawn_sql(log) if spec.abort_rate and table.xmin else None,
            timed_calls=min(MOST_TIMED_TRANSACTIONS, TIMED_TRANSACTIONS // spec.scale) if spec.mode == "tail" else 0,
            load=load,
            payloads=payloads,
            seconds=spec.append_seconds,
            warm_up_seconds=spec.warm_up_seconds,
        )
        for number in range(spec.scale)
    ]


def consumers(spec: Spec, log: Log, read_batch: int, after: Sequence[bytes] = ()) -> list[ConsumerJob]:
    """The jobs of those that read the log: consumers that each read all of it, or the members of a group. Those that
    keep their cursor begin after the cursor `after`, if there is one.
    """
    group = spec.group > 0
    named = is_named(spec)
    tails = spec.mode == "tail"
    names = _members(spec, read_batch) if group else [reading.reader for reading in readings(spec, read_batch)]
    alone = len(names) == 1 and not tails
    payloads = payloads_of(spec)
    return [
        ConsumerJob(
            name=name,
            schema=SCHEMA,
            barrier=START,
            sql=read_sql(log, read_batch, client=_client(read_batch, 0 if group else index) if named else None),
            cursor=[] if named else cursor_columns(log),
            depth=spec.depth if named else 1,
            limit=spec.seq_limit,
            preloaded=(spec.scale, preloaded_per_producer(spec)) if spec.preloaded else None,
            most_events=most_events(spec.scale * spec.seq_limit + spec.preloaded),
            stop=CONSUMERS_MAY_STOP,
            tails=tails,
            max_jumps=MAX_JUMPS if tails and log.promises.order == "etag" and not named else 0,
            timed_calls=TIMED_PAGES if tails else 0,
            awake_seconds=AWAKE_SECONDS if alone else 0,
            after=[] if named else [*after],
            reports_cursor=spec.retention is not None,
            batch=spec.insert_batch if log.promises.whole_batches and not group else 0,
            ordered=log.promises.one_order and not group,
            rejoin_pages=spec.rejoin if group else 0,
            phases=[(phase.duration, phase.read) for phase in spec.phase],
            warm_up_seconds=spec.warm_up_seconds if tails else 0,
            read_batch=read_batch,
            listen=channel(log) if spec.wake in {"notify", "both"} else "",
            poll_ms=spec.poll_ms,
            think_ms=spec.consumer_think or (0, 0),
            seed=spec.seed,
            session_sql=_session_sql(spec, name),
            payloads=payloads,
        )
        for index, name in enumerate(names)
    ]


def most_events(events: int) -> int:
    """Number of events after which a reader of a log that holds `events` gives up: the log might never end."""
    return 2 * events + 1000


def bounded(spec: Spec, readers: Sequence[ConsumerJob], seq_limits: Sequence[int]) -> list[ConsumerJob]:
    """The jobs of readers of a log whose producers have ended; `seq_limits` are as `Outcome.seq_limit`."""
    limit, events = max(seq_limits), most_events(sum(seq_limits) + spec.preloaded)
    return [replace(reader, limit=limit, most_events=events) for reader in readers]


def is_named(spec: Spec) -> bool:
    """Whether readers are named clients, whose positions the database stores."""
    return spec.group > 0 or spec.cursor == "client"


def clients(spec: Spec) -> list[str]:
    """The names of all named clients of a run."""
    if not is_named(spec):
        return []
    numbers = range(1 if spec.group else spec.consumers)
    return [_client(read_batch, number) for read_batch in spec.read_batch for number in numbers]


def preloaded_per_producer(spec: Spec) -> int:
    """The most preloaded events of one producer."""
    return -(-spec.preloaded // spec.scale)


def preloaded_events(spec: Spec) -> list[Range]:
    """The preloaded events: as many producers as the run has append them, with the numbers after those of the run."""
    share = preloaded_per_producer(spec)
    counts = [min(share, spec.preloaded - number * share) for number in range(spec.scale)]
    return [(spec.scale + number, 0, count - 1) for number, count in enumerate(counts) if count > 0]


def _session_sql(spec: Spec, worker: str) -> str:
    return session_sql(spec.pause, spec.seed, worker) if spec.pause else ""


def readings(spec: Spec, read_batch: int) -> list[Reading]:
    """The readings of the whole log with one read batch: one per consumer, or one by a group."""
    if spec.group:
        return [Reading(read_batch, group=True)]
    if spec.consumers == 1:
        return [Reading(read_batch)]
    return [Reading(read_batch, number=number) for number in range(spec.consumers)]


def _members(spec: Spec, read_batch: int) -> list[str]:
    """The names of a group's members."""
    name = f"member-{read_batch}"
    return [name] if spec.group == 1 else [f"{name}-{index}" for index in range(spec.group)]


def _client(read_batch: int, number: int) -> str:
    """The name of a client: the members of a group share one, consumers have one each."""
    return f"{GROUP} {read_batch} {number}"
