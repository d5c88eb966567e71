"""Judges one order: converts its events into the input of the checker. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import pack

from bench.eventlog import Log
from bench.explore.carried import Carried, Delivery, Event, event_of
from bench.explore.scope import PAGE_EVENTS, Scope
from bench.judge.checker import judge
from bench.judge.evidence import Delivered, Stored, Written
from bench.judge.ranges import normal
from bench.judge.stranded import Stranded
from bench.judge.verdict import Verdict
from bench.kinds import KINDS
from bench.postgres.connection import in_words
from bench.records import Range
from bench.run.verdict import promise_of

MOST_EVENTS = 1000
"""No producer of a scope appends more events than this: a higher seq is nobody's."""
_NO_CTIME = bytes(8)
TAILING = ("skipped", "withheld")
"""Faults that are allowed to a log that does not promise to be complete when it is tailed."""


@dataclass(frozen=True)
class Finding:
    """The faults of one order."""

    kinds: tuple[str, ...]
    """Kinds of faults: those of a verdict, or `numbering`, `stranded`, `given up`."""
    promised: bool
    """The log promises that this does not happen."""
    verdict: Verdict


def finding(log: Log, scope: Scope, carried: Carried) -> Finding | None:
    """Judge an order by what the log promises; None when it has no fault."""
    verdict = judge(
        _written(carried),
        _delivered(log, scope, carried),
        _stored(log, carried),
        promise_of(log, grouped=scope.client, drained=False),
        _stranded(carried),
    )
    if verdict.ok:
        return None
    kinds = [kind for kind in KINDS if getattr(verdict, kind) and kind not in verdict.excused]
    if verdict.stranded:
        kinds.append("stranded")
    if verdict.stopped:
        kinds.append("given up")
    kinds = kinds or ["numbering"]
    return Finding(tuple(kinds), log.promises.tail or not set(kinds) <= set(TAILING), verdict)


def _ranges(events: Iterable[Event]) -> list[Range]:
    return normal([(producer, seq, seq) for producer, seq in events])


def _written(carried: Carried) -> Written:
    return Written(_ranges(carried.acknowledged), aborted=_ranges(carried.aborted), rolled_back_etags=None)


def _delivered(log: Log, scope: Scope, carried: Carried) -> list[Delivered]:
    """The events that each reader received. The sessions of one client share theirs, in the order of arrival."""
    names = {number: program.name for number, program in enumerate(scope.programs)}
    # Pieces of a transaction are recognised by its number of events, so all transactions must have the same number.
    checks_batches = log.promises.whole_batches and not scope.client and len(carried.batches) == 1
    batch = min(carried.batches) if checks_batches else 0
    each = [_of_reader(names[number], given, batch, carried, number) for number, given in carried.delivered.items()]
    return [Delivered.together("client", each)] if scope.client else each


def _of_reader(name: str, given: Sequence[Delivery], batch: int, carried: Carried, number: int) -> Delivered:
    """The account of a reader, as a consumer keeps it. `batch` is the number of events of each transaction."""
    from consumer.ledger import Ledger  # noqa: PLC0415 - numpy
    from consumer.rows import Page, row  # noqa: PLC0415 - numpy

    ledger = Ledger(MOST_EVENTS, batch=batch)
    rows = [row([pack("!q", each.etag), _NO_CTIME, each.payload.encode()]) for each in given]
    ledger.take(Page(b"".join(rows), len(rows)))
    for _ in ledger.look():
        pass
    highest = ledger.highest_etag
    below = _events(
        payload for etag, payload in carried.stored if highest is not None and etag is not None and etag < highest
    )
    return Delivered(
        name,
        ledger.events,
        ledger.checksum,
        ledger.delivered(),
        ledger.anomalies(),
        ledger.falling_etags,
        ["it reached no end of the log"] if number in carried.endless else [],
        highest_etag=highest,
        below=_ranges(below),
        page_events=PAGE_EVENTS,
    )


def _stored(log: Log, carried: Carried) -> Stored:
    etags = sorted(etag for etag, _ in carried.stored if etag is not None)
    foreign = [etag for etag, payload in carried.stored if event_of(payload) is None]
    removed = (
        []
        if log.promises.replay
        else [event for given in carried.delivered.values() for event in _events(each.payload for each in given)]
    )
    return Stored(
        _ranges(_events(payload for _, payload in carried.stored)),
        foreign=len(foreign),
        foreign_etags=[etag for etag in foreign if etag is not None],
        missing_etags=[(low + 1, high - 1) for low, high in pairwise(etags) if high > low + 1]
        if log.promises.replay
        else (),
        doubled=len(etags) - len(set(etags)),
        doubled_etags=sorted({low for low, high in pairwise(etags) if low == high}),
        removed=_ranges(removed),
    )


def _events(payloads: Iterable[str | None]) -> list[Event]:
    return [event for payload in payloads if (event := event_of(payload))]


def _stranded(carried: Carried) -> list[Stranded]:
    return [
        Stranded(f"session {number}", text, in_words(error), error.sqlstate) for number, error, text in carried.failures
    ]
