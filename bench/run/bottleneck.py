"""Finds what set the pace of a phase. Pure; `bench/report/bottleneck.py` puts it into words."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from bench.postgres.telemetry import ON_CPU, WORKER
from bench.results.costs import Bottleneck, CauseShare

CPU = "cpu"
"""The cause of backends that wait for nothing."""
CLIENT = "client"
"""The cause where a worker's own CPU set the pace."""

_CAUSES = {
    ON_CPU: CPU,
    "Client:ClientRead": "client_statement",
    "Client:ClientWrite": "client_fetch",
    "IO:AioIoCompletion": "table_read",
    "IO:AioIoUring*": "table_read",
    "IO:Buffile*": "temporary_files",
    "IO:ControlFile*": "control_file",
    "IO:DataFileExtend": "table_extension",
    "IO:DataFilePrefetch": "table_read",
    "IO:DataFileRead": "table_read",
    "IO:DataFile*": "table_write",
    "IO:Slru*": "transaction_status_files",
    "IO:Twophase*": "prepared_transaction_files",
    "IO:WalInit*": "wal_files",
    "IO:WalSync": "wal_flush",
    "IO:WalWrite": "wal_flush",
    "IO:WalRead": "wal_read",
    "IO:*": "io",
    "IPC:BtreePage": "index_split",
    "IPC:BufferIo": "page_io",
    "IPC:CheckpointDelay*": "checkpoint",
    "IPC:CheckpointDone": "checkpoint",
    "IPC:CheckpointStart": "checkpoint",
    "IPC:ProcarrayGroupUpdate": "running_transactions",
    "IPC:SyncRep": "standby",
    "IPC:XactGroupUpdate": "transaction_status",
    "IPC:*": "ipc",
    "LWLock:AioUring*": "table_read",
    "LWLock:AioWorker*": "read_queue",
    "LWLock:BufferContent": "page_contention",
    "LWLock:BufferMapping": "buffer_cache",
    "LWLock:CommitTs*": "commit_timestamps",
    "LWLock:LockFastPath": "lock_table",
    "LWLock:LockManager": "lock_table",
    "LWLock:MultiXact*": "multixact",
    "LWLock:Notify*": "notify_queue",
    "LWLock:OidGen": "object_ids",
    "LWLock:PgStats*": "statistics",
    "LWLock:Predicate*": "serializable_checks",
    "LWLock:PerXactPredicateList": "serializable_checks",
    "LWLock:ProcArray": "running_transactions",
    "LWLock:ReplicationSlot*": "replication_slots",
    "LWLock:Serial*": "serializable_checks",
    "LWLock:SInval*": "invalidation",
    "LWLock:Subtrans*": "transaction_status",
    "LWLock:SyncRep": "standby",
    "LWLock:TwoPhaseState": "prepared_transactions",
    "LWLock:WALBufMapping": "wal_buffers",
    "LWLock:WALInsert": "wal_insertion",
    "LWLock:WALWrite*": "wal_flush",
    "LWLock:Xact*": "transaction_status",
    "LWLock:XidGen": "transaction_ids",
    "LWLock:*": "lwlock",
    "Lock:advisory": "advisory_lock",
    "Lock:extend": "table_extension",
    "Lock:object": "object_lock",
    "Lock:page": "page_lock",
    "Lock:relation": "table_lock",
    "Lock:spectoken": "same_key",
    "Lock:transactionid": "transaction_end",
    "Lock:tuple": "row_lock",
    "Lock:virtualxid": "transaction_end",
    "Lock:*": "lock",
    "Timeout:PgSleep": "pg_sleep",
    "Timeout:SpinDelay": "spinlock",
    "Timeout:Vacuum*": "vacuum_delay",
    "Timeout:*": "timeout",
    "BufferPin:*": "buffer_pin",
    "Extension:*": "extension",
    "Client:*": "peer",
    "Activity:*": "activity",
}
"""The causes that the wait events of PostgreSQL 14 to 18 (pg_wait_events) stand for. A star is for all events that
begin so, and the first entry that fits counts. Case does not matter: some names changed theirs in 17."""
_EVENTS = {event.lower(): cause for event, cause in _CAUSES.items() if not event.endswith("*")}
_BEGINNINGS = [(event[:-1].lower(), cause) for event, cause in _CAUSES.items() if event.endswith("*")]
_UNKNOWN = "unknown"

CAUSES = frozenset(_CAUSES.values()) | {CLIENT, _UNKNOWN}
"""All causes that a result may have."""


class Cause(NamedTuple):
    """A cause and its wait event, as in `CauseShare`."""

    name: str
    event: str | None = None


class BusyWorker(NamedTuple):
    """A worker whose CPU set the pace."""

    name: str
    share: float
    """Of one core."""


def cause_of(event: str) -> Cause:
    """The cause that a wait event stands for. The event stays with it where it is one of the rest of its type."""
    name = event.lower()
    if name in _EVENTS:
        return Cause(_EVENTS[name])
    for beginning, cause in _BEGINNINGS:
        if name.startswith(beginning):
            return Cause(cause, event if beginning.endswith(":") else None)
    return Cause(_UNKNOWN, event)


def shares(waits: Mapping[tuple[str, str], int], cpu_share: float | None) -> list[CauseShare]:
    """The shares of the workers' backends' time by cause, the largest first.

    `cpu_share` is the share of their time in which they ran, by the system's accounting. A backend that was woken and
    waits for a processor still shows what it waited for, and the one that takes the sample keeps a processor busy; so
    on few cores samples see too little of the CPU, and the accounting is believed when it has more.
    """
    counts: Counter[Cause] = Counter()
    for (kind, event), count in waits.items():
        if kind == WORKER:
            counts[cause_of(event)] += count
    total = counts.total()
    by_cause = {cause: count / total for cause, count in counts.items()}
    running = Cause(CPU)
    sampled = by_cause.pop(running, 0)
    believed = max(sampled, min(cpu_share or 0, 1)) if by_cause else 1
    by_cause = {cause: share * (1 - believed) / (1 - sampled) for cause, share in by_cause.items()}
    if total and believed:
        by_cause[running] = believed
    by_size = sorted(by_cause.items(), key=lambda item: -item[1])
    return [CauseShare(cause=cause.name, event=cause.event, share=share) for cause, share in by_size]


def bottleneck(
    waits: Mapping[tuple[str, str], int], samples: int, busy_cores: float | None, busy_worker: BusyWorker | None
) -> Bottleneck | None:
    """Find what set the pace; None when no backend was sampled, because the phase was too short.

    `waits` is how often a backend of a kind was seen with a wait event, by (kind, event), in this number of samples.
    `busy_cores` is Postgres's CPU seconds per second; `busy_worker` is the worker whose CPU set the pace, if one did.
    """
    backends = sum(count for (kind, _), count in waits.items() if kind == WORKER) / max(samples, 1)
    causes = shares(waits, None if busy_cores is None else busy_cores / backends) if backends else []
    if busy_worker:
        return Bottleneck(
            cause=CLIENT, share=busy_worker.share, worker=busy_worker.name, busy_cores=busy_cores, others=causes
        )
    if not causes:
        return None
    first, *others = causes
    return Bottleneck(cause=first.cause, event=first.event, share=first.share, busy_cores=busy_cores, others=others)
