"""Names what set the pace of a phase, in one sentence. Pure."""

from collections import Counter
from collections.abc import Mapping

from bench.postgres.telemetry import ON_CPU, WORKER

OTHERS = 3
SMALL_SHARE = 0.03
"""What took less of the backends' time than this is not told in the sentence."""

_WORDS = {
    ON_CPU: "Postgres's CPU",
    "Client:ClientRead": "the clients' next statement",
    "Client:ClientWrite": "clients that take their rows slowly",
    "IO:AioIoCompletion": "reading the table from disk",
    "IO:AioIoUring*": "reading the table from disk",
    "IO:Buffile*": "temporary files",
    "IO:ControlFile*": "the control file",
    "IO:DataFileExtend": "extending the table",
    "IO:DataFilePrefetch": "reading the table from disk",
    "IO:DataFileRead": "reading the table from disk",
    "IO:DataFile*": "writing the table to disk",
    "IO:Slru*": "files of transaction states",
    "IO:Twophase*": "files of prepared transactions",
    "IO:WalInit*": "new WAL files",
    "IO:WalSync": "WAL flush",
    "IO:WalWrite": "WAL flush",
    "IO:WalRead": "reading WAL",
    "IO:*": "reading or writing other files",
    "IPC:BtreePage": "another session that splits an index page",
    "IPC:BufferIo": "another session that reads or writes the same page",
    "IPC:CheckpointDelay*": "a checkpoint",
    "IPC:CheckpointDone": "a checkpoint",
    "IPC:CheckpointStart": "a checkpoint",
    "IPC:ProcarrayGroupUpdate": "the list of running transactions",
    "IPC:SyncRep": "a standby's acknowledgement",
    "IPC:XactGroupUpdate": "the states of transactions",
    "IPC:*": "another process of Postgres",
    "LWLock:AioUring*": "reading the table from disk",
    "LWLock:AioWorker*": "the queue of reads from disk",
    "LWLock:BufferContent": "several sessions on one page",
    "LWLock:BufferMapping": "the buffer cache",
    "LWLock:CommitTs*": "the times of commits",
    "LWLock:LockFastPath": "the table of locks",
    "LWLock:LockManager": "the table of locks",
    "LWLock:MultiXact*": "rows that several transactions lock",
    "LWLock:Notify*": "the queue of NOTIFY",
    "LWLock:OidGen": "new object numbers",
    "LWLock:PgStats*": "Postgres's own statistics",
    "LWLock:Predicate*": "checks of serializable transactions",
    "LWLock:PerXactPredicateList": "checks of serializable transactions",
    "LWLock:ProcArray": "the list of running transactions",
    "LWLock:ReplicationSlot*": "replication slots",
    "LWLock:Serial*": "checks of serializable transactions",
    "LWLock:SInval*": "news of changed tables",
    "LWLock:Subtrans*": "the states of transactions",
    "LWLock:SyncRep": "a standby's acknowledgement",
    "LWLock:TwoPhaseState": "prepared transactions",
    "LWLock:WALBufMapping": "WAL buffers",
    "LWLock:WALInsert": "WAL insertion",
    "LWLock:WALWrite*": "WAL flush",
    "LWLock:Xact*": "the states of transactions",
    "LWLock:XidGen": "new transaction numbers",
    "LWLock:*": "another lock inside Postgres",
    "Lock:advisory": "an advisory lock",
    "Lock:extend": "extending the table",
    "Lock:object": "a lock on an object, such as the queue of NOTIFY",
    "Lock:page": "a lock on an index page",
    "Lock:relation": "a table lock",
    "Lock:spectoken": "another session that inserts the same key",
    "Lock:transactionid": "another transaction's end",
    "Lock:tuple": "a row lock",
    "Lock:virtualxid": "another transaction's end",
    "Lock:*": "another lock",
    "Timeout:PgSleep": "pg_sleep",
    "Timeout:SpinDelay": "a spinlock inside Postgres",
    "Timeout:Vacuum*": "vacuum's own pauses",
    "Timeout:*": "a pause of Postgres's own",
    "BufferPin:*": "a page that another session uses",
    "Extension:*": "an extension",
    "Client:*": "another program or server",
    "Activity:*": "idle processes of Postgres",
}
"""The wait events of PostgreSQL 14 to 18 (pg_wait_events) in people's words; a star is for all that begin so, and the
first that fits counts. Case does not matter: some names changed theirs in 17."""
_ALONE = {key.lower(): words for key, words in _WORDS.items() if not key.endswith("*")}
_BEGINNINGS = [(key[:-1].lower(), words) for key, words in _WORDS.items() if key.endswith("*")]


def in_words(event: str) -> str:
    """A wait event as people say it; with its own name where the words are for all others of its type."""
    name = event.lower()
    if name in _ALONE:
        return _ALONE[name]
    for beginning, words in _BEGINNINGS:
        if name.startswith(beginning):
            return f"{words} ({event.partition(':')[2]})" if beginning.endswith(":") else words
    return event


def shares(waits: Mapping[tuple[str, str], int], cpu_share: float | None) -> list[tuple[str, float]]:
    """What the workers' backends spent their time with, as (words, share of it), the most first.

    `cpu_share` is the share of their time in which they ran, by the system's accounting. A backend that was woken and
    waits for a processor still shows what it waited for, and the one that takes the sample keeps a processor busy; so
    on few cores samples see too little of the CPU, and the accounting is believed when it says more.
    """
    counts: Counter[str] = Counter()
    for (kind, event), count in waits.items():
        if kind == WORKER:
            counts[in_words(event)] += count
    total = counts.total()
    found = {words: count / total for words, count in counts.items()}
    running = in_words(ON_CPU)
    sampled = found.pop(running, 0)
    believed = max(sampled, min(cpu_share or 0, 1)) if found else 1
    found = {words: share * (1 - believed) / (1 - sampled) for words, share in found.items()}
    if total and believed:
        found[running] = believed
    return sorted(found.items(), key=lambda item: -item[1])


def sentence(
    waits: Mapping[tuple[str, str], int],
    samples: int,
    busy_cores: float | None,
    client: tuple[str, float] | None,
) -> str | None:
    """What set the pace; None when nothing was seen of it, because the phase was too short.

    `busy_cores` is Postgres's CPU seconds a second; `client` is the worker whose CPU set the pace, with its share of a
    core.
    """
    if client:
        return f"client-bound: {client[0]} used {client[1]:.0%} of a core"
    backends = sum(count for (kind, _), count in waits.items() if kind == WORKER) / max(samples, 1)
    if not backends:
        return None
    found = shares(waits, None if busy_cores is None else busy_cores / backends)
    words, share = found[0]
    told = f"{words}: {share:.0%} of the backends' time"
    if words == in_words(ON_CPU) and busy_cores is not None:
        told += f", {busy_cores:.1f} cores busy"
    others = [f"{words} {share:.0%}" for words, share in found[1 : 1 + OTHERS] if share >= SMALL_SHARE]
    return f"{told}; then {', '.join(others)}" if others else told
