"""A consumer's account of the events that it was given: which ones, their faults, their sum and their gaps.

Its size does not depend on the number of healthy events: a producer's delivered events are all those below its next
expected seq, except for the ranges that are still missing.
"""

from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec
import numpy as np

from bench.padding import padding
from bench.records import EXAMPLES, Anomaly, Example, Fault, Range
from consumer.rows import Columns, Numbers, Page, columns
from consumer.stream import Stream
from consumer.templates import Numbered, Templates

MANY = 2000
"""The number of events that are best looked at together."""
MANY_BYTES = 1 << 20
"""Bytes that are looked at together at most: the look must be quick, because the next page comes meanwhile."""
FEW = 64
"""Fewer events than this are looked at one by one: preparing to look at them all at once would cost more."""
MOST_RUNS = 64
"""When events of one producer come in more runs than this, events are sorted by producer first."""

_BIGINT = (-(2**63), 2**63 - 1)

_UNREADABLE = (msgspec.MsgspecError, RecursionError)
"""Errors for a payload that is no event; RecursionError for arrays nested a thousand deep."""

T = TypeVar("T")
_Steps = Generator[None, None, T]
"""A computation that yields between steps and returns T."""


class Event(msgspec.Struct, gc=False):
    """The keys of a payload that the ledger needs."""

    producer: int
    seq: int
    value: int


class PaddedEvent(Event, gc=False):
    """The keys of a padded payload."""

    pad: str = ""


class Ledger:
    """An account of events, taken in the order of their delivery. A seq outside of 0..limit-1 is nobody's event.

    A payload must have the value that was appended, which is its seq, and when payloads are padded, the whole padding.
    Up to `max_jumps` jumps over etags are remembered. `batch` and `ordered` are those of `Stream`.
    """

    def __init__(
        self, limit: int, payload_bytes: int = 0, max_jumps: int = 0, batch: int = 0, *, ordered: bool = False
    ) -> None:
        self._limit = limit
        self._payload_bytes = payload_bytes
        self._padding = padding(payload_bytes).decode()
        event = PaddedEvent if payload_bytes else Event
        self._parse_event = msgspec.json.Decoder(event).decode
        self._parse_events = msgspec.json.Decoder(list[event]).decode  # type: ignore[valid-type]
        self._max_jumps = max_jumps
        self.jumps: list[tuple[int, int, float]] = []
        """The first jumps: (etag before, etag after, Unix time at which the page with the later etag was asked for)."""
        self.stream = Stream(batch, ordered=ordered)
        self.falling_etags = 0
        self.backward_pages = 0
        """Pages that begin with a lower etag than the one delivered before."""
        self.highest_etag: int | None = None
        self.events = 0
        self.checksum = 0
        self.max_etag_gap = 0
        self.repeated_ctimes = 0
        self._expected: dict[int, int] = {}
        self._missing: dict[int, list[tuple[int, int]]] = {}
        self._faults: dict[Fault, int] = {}
        self._examples: dict[Fault, list[Example]] = {}
        self._last: tuple[np.int64, np.int64] | None = None
        self._pages: list[Page] = []
        self._unseen = self._unseen_bytes = 0
        self._templates = Templates(self._is_healthy)

    def take(self, page: Page) -> bool:
        """Put a page aside, to be looked at together with later pages, which costs less than a look at each.

        Returns whether enough was put aside for a look.
        """
        self._pages.append(page)
        self._unseen += page.events
        self._unseen_bytes += len(page.rows)
        return self._unseen >= MANY or self._unseen_bytes >= MANY_BYTES

    def look(self, at: float = 0) -> Iterator[None]:
        """Look at all pages that were put aside, in small steps: a server whose answer lies waiting goes to sleep, and
        wakes up slowly.

        `at` is when the pages were asked for: Unix time on the database's clock. The next look must not begin before
        the end of this one.

        Raises:
            MisshapenError: a row has no etag, ctime or payload.
        """
        pages, self._pages = self._pages, []
        events, self._unseen, self._unseen_bytes = self._unseen, 0, 0
        if not events:
            return
        alike = None
        if events >= FEW:
            received = b"".join([page.rows for page in pages])
            yield
            alike = yield from self._templates.read(received, events)
            yield
        if alike and (yield from self._follow(alike.producers, alike.seqs)):
            yield
            yield from self._measure_gaps(alike.etags, alike.ctimes, at, pages)
            yield
            yield from self.stream.note(alike.producers, alike.seqs, alike.etags)
        else:
            yield from self._look_closely(columns(pages), at, pages)
        self.events += events

    def _look_closely(self, rows: Columns, at: float, pages: Sequence[Page]) -> _Steps[None]:
        yield from self._measure_gaps(rows.etags, rows.ctimes, at, pages)
        numbered = None if len(rows.etags) < FEW else self._templates.read_any(rows)
        if numbered is None or not (yield from self._follow(*numbered)):
            numbered, etags = self._look_at_each(rows.payloads(), rows.etags.tolist())
        else:
            etags = rows.etags
        if len(etags):
            yield from self.stream.note(*numbered, etags)

    @property
    def distinct_events(self) -> int:
        """Events of producers, each counted once."""
        return self.events - self._faults.get("duplicated", 0) - self._faults.get("phantom", 0)

    def delivered(self) -> list[Range]:
        """The events that were delivered at least once, in order of producer and seq."""
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
        """The kinds of fault that occurred, the most frequent one first."""
        faults = [Anomaly(kind, count, self._examples[kind]) for kind, count in self._faults.items()]
        if self.stream.torn:
            faults.append(Anomaly("torn", self.stream.torn, self.stream.torn_examples))
        return sorted(faults, key=lambda fault: -fault.count)

    def _measure_gaps(self, etags: Numbers, ctimes: Numbers, at: float, pages: Sequence[Page]) -> _Steps[None]:
        last_etag, last_ctime = self._last or (None, None)
        self._last = etags[-1], ctimes[-1]
        self.repeated_ctimes += int(np.count_nonzero(ctimes[1:] == ctimes[:-1])) + int(ctimes[0] == last_ctime)
        yield
        if last_etag is not None:
            etags = np.concatenate(([last_etag], etags))
        elif self._max_jumps and etags[0] > 1:
            self.jumps.append((0, int(etags[0]), at))
        steps = etags[1:] - etags[:-1]
        falling = int(np.count_nonzero(steps < 0))
        highest = int(etags.max() if falling else etags[-1])
        self.highest_etag = highest if self.highest_etag is None else max(self.highest_etag, highest)
        if not len(steps):
            return
        self.max_etag_gap = max(self.max_etag_gap, int(steps.max()))
        self.falling_etags += falling
        if falling:
            falls = np.flatnonzero(steps < 0) + 1 - (last_etag is not None)
            sizes = [size for page in pages for size in page.sizes or (page.events,) if size]
            self.backward_pages += int(np.isin(falls, np.cumsum([0, *sizes])).sum())
        if len(self.jumps) < self._max_jumps:
            places = np.flatnonzero(steps > 1)[: self._max_jumps - len(self.jumps)]
            jumps = zip(etags[places].tolist(), etags[places + 1].tolist(), strict=True)
            self.jumps += [(before, after, at) for before, after in jumps]

    def _follow(self, producers: Numbers, seqs: Numbers) -> _Steps[bool]:
        """Take healthy events, each the next of its producer; False, with nothing taken, when one is out of line."""
        changes = np.flatnonzero(producers[1:] != producers[:-1])
        yield
        if len(changes) > MOST_RUNS:
            # numpy sorts numbers of 16 bits in linear time.
            order = (producers.astype(np.int16) if producers.max() < 1 << 15 else producers).argsort(kind="stable")
            yield
            producers, seqs = producers[order], seqs[order]
            changes = np.flatnonzero(producers[1:] != producers[:-1])
            yield
        follows = seqs[1:] - seqs[:-1] == 1
        follows[changes] = True
        if not follows.all():
            return False
        yield
        starts = [0, *(changes + 1).tolist()]
        ends = [*starts[1:], len(seqs)]
        expected: dict[int, int] = {}
        for start, end in zip(starts, ends, strict=True):
            producer, seq = int(producers[start]), int(seqs[start])
            if seq != expected.get(producer, self._expected.get(producer, 0)):
                return False
            expected[producer] = seq + end - start
        self._expected.update(expected)
        self.checksum += int(seqs.sum())
        return True

    def _look_at_each(self, payloads: Sequence[bytes], etags: Sequence[int]) -> tuple[Numbered, Numbers]:
        """Look at events one by one. Returns the producers' events among them, and their etags."""
        expected = self._expected
        stream: list[tuple[int, int, int]] = []
        for event, etag in zip(self._parse(payloads, etags), etags, strict=True):
            if event is None:
                continue
            if _BIGINT[0] <= min(event.producer, event.seq) <= max(event.producer, event.seq) <= _BIGINT[1]:
                stream.append((event.producer, event.seq, etag))
            self.checksum += event.value
            if not self._is_faultless(event):
                self._fault("corrupt", Example(producer=event.producer, seq=event.seq, etag=etag))
            if expected.get(event.producer, 0) == event.seq:
                expected[event.producer] = event.seq + 1
            else:
                self._out_of_line(event.producer, event.seq, etag)
        producers, seqs, delivered_etags = np.array(stream, np.int64).reshape(-1, 3).T
        return (producers, seqs), delivered_etags

    def _parse(self, payloads: Sequence[bytes], etags: Sequence[int]) -> Sequence[Event | None]:
        with suppress(*_UNREADABLE):
            events = self._parse_events(b"[%b]" % b",".join(payloads))
            if len(events) == len(payloads):  # a text that is no JSON may become JSON together with its neighbours
                return events
        return [self._parse_one(payload, etag) for payload, etag in zip(payloads, etags, strict=True)]

    def _parse_one(self, payload: bytes, etag: int) -> Event | None:
        try:
            return self._parse_event(payload)
        except _UNREADABLE:
            self._fault("phantom", Example(etag=etag))
            return None

    def _is_healthy(self, payload: bytes) -> bool:
        try:
            return self._is_faultless(self._parse_event(payload))
        except _UNREADABLE:
            return False

    def _is_faultless(self, event: Event | PaddedEvent) -> bool:
        """Whether an event's value is its seq, and its padding is complete."""
        if event.value != event.seq or not isinstance(event, PaddedEvent):
            return event.value == event.seq
        bare = len(f'{{"producer":{event.producer},"seq":{event.seq},"value":{event.value},"pad":""}}')
        return event.pad == self._padding[: max(0, self._payload_bytes - bare)]

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
        """Take a seq out of the missing ranges; False when no range holds it."""
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
