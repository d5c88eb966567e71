"""What a consumer has seen: which events of which producer, what was wrong with them, their sum and their gaps.

Its size does not depend on the number of healthy events: what was delivered of a producer is everything below its
next expected seq, except for the ranges that are still missing.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from operator import eq, sub
from typing import Any

import msgspec

from bench.records import EXAMPLES, Anomaly, Example, Fault, Range


class Event(msgspec.Struct, gc=False):
    """The part of a payload that the ledger needs."""

    producer: int
    seq: int
    value: int


class PaddedEvent(Event, gc=False):
    """A payload with its padding."""

    pad: str = ""


class Ledger:
    """Takes events in the order of their delivery. A seq outside of 0..limit-1 is nobody's event.

    A payload must have the value that was appended, its seq, and when payloads are padded, the whole padding. Up to
    `passes` jumps over etags are remembered.
    """

    def __init__(self, limit: int, payload_bytes: int = 0, passes: int = 0) -> None:
        self._limit = limit
        self._payload_bytes = payload_bytes
        event = PaddedEvent if payload_bytes else Event
        self._parse_event = msgspec.json.Decoder(event).decode
        self._parse_events = msgspec.json.Decoder(list[event]).decode  # type: ignore[valid-type]
        self._passes = passes
        self.jumps: list[tuple[int, int, float]] = []
        """(etag before, etag after, when they were asked for), the first ones."""
        self.falling_etags = 0
        self.events = 0
        self.checksum = 0
        self.max_etag_gap = 0
        self.repeated_ctimes = 0
        self._expected: dict[int, int] = {}
        self._missing: dict[int, list[tuple[int, int]]] = {}
        self._faults: dict[Fault, int] = {}
        self._examples: dict[Fault, list[Example]] = {}
        self._last: tuple[int, int] | None = None

    def see(self, rows: Sequence[tuple[Any, ...]], at: float = 0) -> None:
        """Take rows of (etag, ctime, payload, ...) that were asked for at a time. Many cost less than one each."""
        if not rows:
            return
        etags, ctimes, payloads, *_ = zip(*rows, strict=True)
        self._measure_gaps(etags, ctimes, at)
        self.events += len(rows)
        expected = self._expected
        checksum = 0
        for etag, event in zip(etags, self._parse(payloads, etags), strict=True):
            if event is None:
                continue
            producer, seq = event.producer, event.seq
            checksum += event.value
            if event.value != seq or self._payload_bytes:
                self._look_closely(event, etag)
            if expected.get(producer, 0) == seq:
                expected[producer] = seq + 1
            else:
                self._out_of_line(producer, seq, etag)
        self.checksum += checksum

    @property
    def distinct_events(self) -> int:
        """Events of producers, each counted once."""
        return self.events - self._faults.get("duplicated", 0) - self._faults.get("phantom", 0)

    def delivered(self) -> list[Range]:
        """Everything that was delivered at least once, in order of producer and seq."""
        ranges: list[Range] = []
        for producer in sorted(self._expected):
            start = 0
            for first, last in self._missing.get(producer, []):
                if first > start:
                    ranges.append((producer, start, first - 1))
                start = last + 1
            ranges.append((producer, start, self._expected[producer] - 1))
        return ranges

    def anomalies(self) -> list[Anomaly]:
        """The kinds of fault that were met, most frequent first."""
        kinds = sorted(self._faults, key=lambda kind: -self._faults[kind])
        return [Anomaly(kind, self._faults[kind], self._examples[kind]) for kind in kinds]

    def _parse(self, payloads: Sequence[bytes], etags: Sequence[int]) -> Sequence[Event | None]:
        try:
            return self._parse_events(b"[%b]" % b",".join(payloads))
        except msgspec.MsgspecError:
            return [self._parse_one(payload, etag) for payload, etag in zip(payloads, etags, strict=True)]

    def _parse_one(self, payload: bytes, etag: int) -> Event | None:
        try:
            return self._parse_event(payload)
        except msgspec.MsgspecError:
            self._fault("phantom", Example(etag=etag))
            return None

    def _measure_gaps(self, etags: Sequence[int], ctimes: Sequence[int], at: float) -> None:
        if self._last is not None:
            etags = (self._last[0], *etags)
            ctimes = (self._last[1], *ctimes)
        elif self._passes and etags[0] > 1:
            self.jumps.append((0, etags[0], at))
        if len(etags) > 1:
            steps = list(map(sub, etags[1:], etags))
            widest = max(steps)
            self.max_etag_gap = max(self.max_etag_gap, widest)
            self.repeated_ctimes += sum(map(eq, ctimes[1:], ctimes))
            # No step is wider than 1: when they add up to their number, each of them is 1.
            if widest > 1 or etags[-1] - etags[0] != len(steps):
                self._note_jumps(etags, steps, at)
        self._last = etags[-1], ctimes[-1]

    def _note_jumps(self, etags: Sequence[int], steps: Sequence[int], at: float) -> None:
        self.falling_etags += sum(step < 0 for step in steps)
        room = self._passes - len(self.jumps)
        if room:
            jumps = ((before, before + step, at) for before, step in zip(etags, steps, strict=False) if step > 1)
            self.jumps += islice(jumps, room)

    def _look_closely(self, event: Event | PaddedEvent, etag: int) -> None:
        """Check a payload that is padded or has not the value of its seq."""
        padding = event.pad if isinstance(event, PaddedEvent) else ""
        bare = len(f'{{"producer":{event.producer},"seq":{event.seq},"value":{event.value},"pad":""}}')
        padded = not self._payload_bytes or (len(padding) == self._payload_bytes - bare and not padding.strip("x"))
        if event.value != event.seq or not padded:
            self._fault("corrupt", Example(producer=event.producer, seq=event.seq, etag=etag))

    def _out_of_line(self, producer: int, seq: int, etag: int) -> None:
        """Note an event that is not the next one of its producer."""
        example = Example(producer=producer, seq=seq, etag=etag)
        if not 0 <= seq < self._limit:
            self._fault("phantom", example)
            return
        expected = self._expected.get(producer, 0)
        if seq > expected:
            self._missing.setdefault(producer, []).append((expected, seq - 1))
            self._expected[producer] = seq + 1
        elif self._fill(producer, seq):
            self._fault("reordered", example)
        else:
            self._fault("duplicated", example)

    def _fill(self, producer: int, seq: int) -> bool:
        """Take a seq out of the missing ranges; False when it is in none of them."""
        missing = self._missing.get(producer, [])
        index = bisect_right(missing, seq, key=lambda hole: hole[0]) - 1
        if index < 0 or missing[index][1] < seq:
            return False
        first, last = missing[index]
        missing[index : index + 1] = [hole for hole in ((first, seq - 1), (seq + 1, last)) if hole[0] <= hole[1]]
        return True

    def _fault(self, kind: Fault, example: Example) -> None:
        self._faults[kind] = self._faults.get(kind, 0) + 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(example)
