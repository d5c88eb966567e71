"""Judges one order: converts its events into the input of the checker. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.eventlog import Log
from bench.explore.carried import Carried, Delivery, Event, event_of
from bench.explore.scope import PAGE_EVENTS, Scope
from bench.judge.checker import judge
from bench.judge.evidence import Delivered, Stored, Written
from bench.judge.ranges import normal
from bench.judge.stranded import Stranded
from bench.judge.verdict import KINDS, Verdict
from bench.postgres.connection import in_words
from bench.records import Anomaly, Example, Fault, Range
from bench.run.verdict import promise_of

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
        _delivered(scope, carried),
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


def _delivered(scope: Scope, carried: Carried) -> list[Delivered]:
    """The events that each reader received. The sessions of one client share theirs, in the order of arrival."""
    names = {number: program.name for number, program in enumerate(scope.programs)}
    each = [_of_reader(names[number], given, carried, number) for number, given in carried.delivered.items()]
    return [Delivered.together("client", each)] if scope.client else each


def _of_reader(name: str, given: Sequence[Delivery], carried: Carried, number: int) -> Delivered:
    seen: set[Event] = set()
    highest_seq: dict[int, int] = {}
    faults: dict[Fault, list[Example]] = {}
    checksum = falling = foreign = 0
    before: int | None = None
    for each in given:
        falling += before is not None and each.etag < before
        before = each.etag
        event = event_of(each.payload)
        if event is None:
            foreign += 1
            faults.setdefault("phantom", []).append(Example(etag=each.etag))
            continue
        producer, seq, value = event
        checksum += value
        example = Example(producer=producer, seq=seq, etag=each.etag)
        if (producer, seq) in seen:
            faults.setdefault("duplicated", []).append(example)
        elif seq < highest_seq.get(producer, -1):
            faults.setdefault("reordered", []).append(example)
        if value != seq:
            faults.setdefault("corrupt", []).append(example)
        seen.add((producer, seq))
        highest_seq[producer] = max(seq, highest_seq.get(producer, -1))
    highest = max((each.etag for each in given), default=None)
    below = _events(
        payload for etag, payload in carried.stored if highest is not None and etag is not None and etag < highest
    )
    return Delivered(
        name,
        len(given),
        checksum,
        _ranges(seen),
        [Anomaly(kind, len(examples), examples) for kind, examples in faults.items()],
        falling,
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
    return [event[:2] for payload in payloads if (event := event_of(payload))]


def _stranded(carried: Carried) -> list[Stranded]:
    return [
        Stranded(f"session {number}", text, in_words(error), error.sqlstate) for number, error, text in carried.failures
    ]
