"""A consumer's account of the events that it was given: which ones, their faults, their sum and their gaps.

Its size does not depend on the number of healthy events.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from bench.job import Payloads
from bench.records import EXAMPLES, Anomaly, Example, Fault, Range
from consumer.events import Events
from consumer.positions import Deviations, Positions, Steps
from consumer.rows import Columns, Numbers, Page, columns
from consumer.stream import Stream
from consumer.templates import Templates

MANY = 2000
"""The number of events that are best looked at together."""
MANY_BYTES = 1 << 20
"""Bytes that are looked at together at most: the look must be quick, because the next page comes meanwhile."""
FEW = 64
"""Fewer events than this are looked at one by one: preparing to look at them all at once would cost more."""

_BIGINT = (-(2**63), 2**63 - 1)

_HALF_BITS = 32


class Ledger:
    """An account of events, taken in the order of their delivery. A seq outside of 0..limit-1 is nobody's event.

    A payload must have the value that was appended, which is its seq, and the padding or the object of its event.
    Up to `max_jumps` jumps over etags are remembered. `batch` and `ordered` are those of `Stream`, `preloaded`
    is that of `Positions`.
    """

    def __init__(
        self,
        limit: int,
        payloads: Payloads | None = None,
        max_jumps: int = 0,
        batch: int = 0,
        *,
        ordered: bool = False,
        preloaded: tuple[int, int] | None = None,
    ) -> None:
        self._content = Events(payloads or Payloads())
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
        self._positions = Positions(limit, preloaded)
        self._faults: dict[Fault, int] = {}
        self._examples: dict[Fault, list[Example]] = {}
        self._last: tuple[np.int64, np.int64] | None = None
        self._pages: list[Page] = []
        self._unseen = self._unseen_bytes = 0
        self._templates = Templates(self._content.is_healthy, self._content.shapes_of)

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
        if FEW <= events <= self._positions.most_at_once:
            received = b"".join([page.rows for page in pages])
            yield
            alike = yield from self._templates.read(received, events)
            yield
        if alike:
            yield from self._place(alike.producers, alike.seqs, alike.etags)
            yield
            yield from self._measure_gaps(alike.etags, alike.ctimes, at, pages)
        else:
            yield from self._look_closely(columns(pages), at, pages)
        self.events += events

    def _look_closely(self, rows: Columns, at: float, pages: Sequence[Page]) -> Steps[None]:
        yield from self._measure_gaps(rows.etags, rows.ctimes, at, pages)
        events = len(rows.etags)
        if not FEW <= events <= self._positions.most_at_once:
            yield from self._look_at_each(rows.payloads(), rows.etags.tolist())
            return
        (producers, seqs), misfits = self._templates.read_any(rows)
        yield
        parsed = self._content.parse([payload for _, payload in misfits])
        read = [(place, event) for (place, _), event in zip(misfits, parsed, strict=True) if event]
        try:
            places = [place for place, _ in read]
            producers[places] = np.array([event.producer for _, event in read], np.int64)
            seqs[places] = np.array([event.seq for _, event in read], np.int64)
        except OverflowError:  # a number of more than 64 bits
            yield from self._look_at_each(rows.payloads(), rows.etags.tolist())
            return
        yield
        self.checksum += sum(event.value - event.seq for _, event in read)
        corrupt = [place for place, event in read if not self._content.is_faultless(event)]
        unreadable = [place for (place, _), event in zip(misfits, parsed, strict=True) if not event]
        yield from self._place(producers, seqs, rows.etags, corrupt, unreadable)

    def _place(
        self,
        producers: Numbers,
        seqs: Numbers,
        etags: Numbers,
        corrupt: Sequence[int] = (),
        unreadable: Sequence[int] = (),
    ) -> Steps[None]:
        """Take events column by column and note their faults; `corrupt` and `unreadable` are the places of those whose
        payloads are wrong or no events.
        """
        places = np.delete(np.arange(len(seqs)), unreadable) if unreadable else None
        read = (producers, seqs, etags) if places is None else (producers[places], seqs[places], etags[places])
        if len(read[1]):
            yield from self.stream.note(*read)
            yield
        deviations = yield from self._positions.follow(*read[:2])
        if deviations is None:
            deviations = yield from self._positions.sort_out(*read[:2])
            yield
        # Seqs below the limit have a sum of at most 62 bits: there are no more than `most_at_once`.
        self.checksum += _sum(read[1]) if len(deviations.phantom) else int(read[1].sum())
        if not corrupt and not unreadable and not any(map(len, deviations)):
            return
        if places is not None:
            deviations = Deviations(*(places[each] for each in deviations))
        faults: dict[Fault, Numbers] = {
            "corrupt": np.array(corrupt, np.int64),
            "phantom": np.sort(np.append(deviations.phantom, np.array(unreadable, np.int64))),
            "reordered": deviations.reordered,
            "duplicated": deviations.duplicated,
        }
        # As one by one: kinds are ordered by their first event, and a corrupt event is corrupt before anything else.
        for kind, wrong in sorted((each for each in faults.items() if len(each[1])), key=lambda each: int(each[1][0])):
            self._faults[kind] = self._faults.get(kind, 0) + len(wrong)
            examples = self._examples.setdefault(kind, [])
            for place in wrong[: EXAMPLES - len(examples)].tolist():
                etag = int(etags[place])
                event = {} if place in unreadable else {"producer": int(producers[place]), "seq": int(seqs[place])}
                examples.append(Example(**event, etag=etag))

    @property
    def distinct_events(self) -> int:
        """Events of producers, each counted once."""
        return self.events - self._faults.get("duplicated", 0) - self._faults.get("phantom", 0)

    def delivered(self) -> list[Range]:
        """The events that were delivered at least once, in order of producer and seq."""
        return self._positions.delivered()

    def anomalies(self) -> list[Anomaly]:
        """The kinds of fault that occurred, the most frequent one first."""
        faults = [Anomaly(kind, count, self._examples[kind]) for kind, count in self._faults.items()]
        if self.stream.torn:
            faults.append(Anomaly("torn", self.stream.torn, self.stream.torn_examples))
        return sorted(faults, key=lambda fault: -fault.count)

    def _measure_gaps(self, etags: Numbers, ctimes: Numbers, at: float, pages: Sequence[Page]) -> Steps[None]:
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

    def _look_at_each(self, payloads: Sequence[bytes], etags: Sequence[int]) -> Steps[None]:
        stream: list[tuple[int, int, int]] = []
        for event, etag in zip(self._content.parse(payloads), etags, strict=True):
            if event is None:
                self._fault("phantom", Example(etag=etag))
                continue
            if _BIGINT[0] <= min(event.producer, event.seq) <= max(event.producer, event.seq) <= _BIGINT[1]:
                stream.append((event.producer, event.seq, etag))
            self.checksum += event.value
            if not self._content.is_faultless(event):
                self._fault("corrupt", Example(producer=event.producer, seq=event.seq, etag=etag))
            fault = self._positions.take(event.producer, event.seq)
            if fault:
                self._fault(fault, Example(producer=event.producer, seq=event.seq, etag=etag))
        if stream:
            yield from self.stream.note(*np.array(stream, np.int64).T)

    def _fault(self, kind: Fault, example: Example) -> None:
        self._faults[kind] = self._faults.get(kind, 0) + 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(example)


def _sum(numbers: Numbers) -> int:
    """The sum of numbers whose sum may have more than 64 bits."""
    return (int((numbers >> _HALF_BITS).sum()) << _HALF_BITS) + int((numbers & ((1 << _HALF_BITS) - 1)).sum())
