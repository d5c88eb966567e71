"""Names what set the pace of a phase, in one sentence. Pure."""

from collections import Counter
from collections.abc import Mapping

from bench.telemetry import ON_CPU, WORKER

OTHERS = 3
SMALL_SHARE = 0.03
"""What took less of the backends' time than this is not told in the sentence."""

_WORDS = {
    ON_CPU: "Postgres's CPU",
    "IO:WALSync": "WAL flush",
    "IO:WalSync": "WAL flush",
    "IO:WALWrite": "WAL flush",
    "IO:WalWrite": "WAL flush",
    "LWLock:WALWrite": "WAL flush",
    "LWLock:WALWriteLock": "WAL flush",
    "LWLock:WALInsert": "WAL insertion",
    "LWLock:WALBufMapping": "WAL buffers",
    "IO:WALInitWrite": "new WAL files",
    "IO:WalInitWrite": "new WAL files",
    "IO:WALInitSync": "new WAL files",
    "IO:WalInitSync": "new WAL files",
    "IO:DataFileRead": "reading the table from disk",
    "IO:DataFilePrefetch": "reading the table from disk",
    "IO:AioIoCompletion": "reading the table from disk",
    "IO:DataFileWrite": "writing the table to disk",
    "IO:DataFileExtend": "extending the table",
    "Lock:extend": "extending the table",
    "LWLock:BufferContent": "several sessions on one page",
    "LWLock:BufferMapping": "the buffer cache",
    "Client:ClientRead": "the clients' next statement",
    "Client:ClientWrite": "clients that take their rows slowly",
    "Timeout:PgSleep": "pg_sleep",
    "Lock:advisory": "an advisory lock",
    "Lock:relation": "a table lock",
    "Lock:object": "a lock on an object, such as the queue of NOTIFY",
    "Lock:tuple": "a row lock",
    "Lock:transactionid": "another transaction's end",
    "Lock:virtualxid": "another transaction's end",
}
"""PostgreSQL's names of wait events in people's words; some names changed their spelling in 17."""


def in_words(event: str) -> str:
    """A wait event as people say it."""
    return _WORDS.get(event, event)


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
