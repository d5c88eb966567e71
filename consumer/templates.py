"""Payloads as columns of numbers: checked and read all at once, without an object per event.

Healthy payloads differ only in the digits of their numbers. So one payload, once checked in full, is the template of
all payloads that have their digits in the same places; the first payload of each template is checked by itself.
"""

import re
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.rows import FRAME, Bytes, Columns, Numbers, ctimes_of, etags_of, words

Numbered = tuple[Numbers, Numbers]
"""Producer and seq of each event, in the order of their delivery; each event's value is its seq."""

ShapesOf = Callable[[Numbers, Numbers], Numbers]
"""Returns the number of the shape that the payload of each event must have, given producers and seqs."""

Misfit = tuple[int, bytes]
"""Row number and payload."""

TILES_BYTES = 30_000
"""The most bytes that are compared in one step."""
MOST_TEMPLATES = 64
"""The most templates of one length that are remembered: there is one for each number of digits of producer and seq."""
MOST_FAILURES = 16
"""Payloads of one length in which a template is looked for without success; after these, the rest count as misfits."""
_MOST_DIGITS = 16
"""Two words of digits."""
_WORD = 8
"""Bytes."""
_PAIRS = 0x000000FF_000000FF
"""The lowest byte of each half of a word."""
_KEYS = tuple(re.compile(rb'"%s"\s*:\s*([0-9]+)(?=\s*[,}])' % key) for key in (b"producer", b"seq", b"value"))


class _NumberField:
    """The place of a number in a text, with the weight of its digits."""

    def __init__(self, start: int, end: int) -> None:
        self.place = slice(start, end)
        # JSON has no numbers that begin with a 0, except for 0 itself.
        self.leading = int(end - start > 1)
        self._least = self.leading * 10 ** (end - start - 1)

    def shifted(self, places: int) -> "_NumberField":
        """This field moved `places` bytes to the right."""
        return _NumberField(self.place.start + places, self.place.stop + places)

    def windows(self, digits: Bytes) -> Iterator[Numbers]:
        """The digits that remain in each row once the template is subtracted, eight per word, the last word first.

        At least the seven characters of a key stand before a number, and subtraction leaves zeros of them.
        """
        ends = range(self.place.stop, self.place.start, -_WORD)
        return (words(digits, end - _WORD, "<i8") for end in ends)

    def read(self, digits: Bytes) -> Numbers:
        """The number in each row."""
        if self.place.stop - self.place.start == 1:
            return digits[:, self.place.start].astype(np.int64)
        last, *front = self.windows(digits)
        numbers: Numbers = _worth(last) + self._least
        if front:
            numbers += _worth(front[0]) * 10**_WORD
        return numbers


def _worth(window: Numbers) -> Numbers:
    """The numbers that eight digits each make, with the first digit in the lowest byte: digits are joined to pairs,
    pairs to fours, fours to eight.

    Source: Johnny Lee's fast_atoi, described in D. Lemire, "Quickly parsing eight digits", 2018. No sum overflows its
    byte.
    """
    pairs = window * 10 + (window >> 8)
    return ((pairs & _PAIRS) * (100 + (1_000_000 << 32)) + ((pairs >> 16) & _PAIRS) * (1 + (10_000 << 32))) >> 32


class _Template(NamedTuple):
    """The common part of healthy payloads of one length with their digits in the same places."""

    least: Bytes
    """The least value of each byte; only digits may be larger."""
    more: Bytes
    """By how much each byte may be larger than `least`."""
    producer: _NumberField
    seq: _NumberField
    value: _NumberField
    shape: int | None
    """The number of the shape of these payloads; None when there is one shape only."""

    def fits(self, digits: Bytes) -> NDArray[np.bool_]:
        """Which rows, given with `least` subtracted, have this template and their seq as their value."""
        within = digits <= self.more
        same = digits[:, self.seq.place] == digits[:, self.value.place]
        if within.all() and same.all():  # the common case, and quicker than a result per row
            return np.ones(len(digits), np.bool_)
        fits: NDArray[np.bool_] = within.all(axis=1) & same.all(axis=1)
        return fits

    def read(self, digits: Bytes) -> Numbered:
        return self.producer.read(digits), self.seq.read(digits)


class _RepeatedRow:
    """A row with a payload of one template, many times over: a long array is compared faster than many short ones."""

    def __init__(self, template: _Template, row: Bytes, payload_at: int, shapes_of: ShapesOf | None) -> None:
        self._shape, self._shapes_of = template.shape, shapes_of
        payload = slice(payload_at, payload_at + len(template.least))
        # The frame must match this row, the payload its template; etag and ctime may be anything.
        least, more = np.zeros_like(row), np.full_like(row, 0xFF)
        least[FRAME], more[FRAME] = row[FRAME], 0
        least[payload_at - 1], more[payload_at - 1] = row[payload_at - 1], 0
        least[payload], more[payload] = template.least, template.more
        self._producer, self._seq, self._value = (
            number.shifted(payload_at) for number in (template.producer, template.seq, template.value)
        )
        rows = max(1, TILES_BYTES // len(row))
        self.size = len(row)
        self._least, self._more = np.tile(least, rows), np.tile(more, rows)

    def read(self, received: Bytes) -> Generator[None, None, Numbered | None]:
        """Read rows, step by step; None when one of them does not match."""
        size = len(self._least)
        digits = np.empty_like(received)
        for start in range(0, len(received), size):
            part = digits[start : start + size]
            np.subtract(received[start : start + size], self._least[: len(part)], out=part)
            if (part > self._more[: len(part)]).any():
                return None
            yield
        rows = digits.reshape(-1, self.size)
        for seqs, values in zip(self._seq.windows(rows), self._value.windows(rows), strict=True):
            if (seqs != values).any():
                return None
            yield
        producers = self._producer.read(rows)
        yield
        seqs = self._seq.read(rows)
        if self._shapes_of and (self._shapes_of(producers, seqs) != self._shape).any():
            return None
        return producers, seqs


def _template_of(text: bytes, shapes_of: ShapesOf | None) -> _Template | None:
    """The template of a healthy payload; None when each number cannot be found exactly once."""
    if b"\\" in text:  # an escape may spell a key, or hold a quote
        return None
    by_key = [list(key.finditer(text)) for key in _KEYS]
    if any(len(matches) != 1 or len(matches[0][1]) > _MOST_DIGITS for matches in by_key):
        return None
    (producer, seq, value) = (_NumberField(*matches[0].span(1)) for matches in by_key)
    if text[seq.place] != text[value.place]:
        return None
    least = np.frombuffer(text, np.uint8).copy()
    more = np.zeros_like(least)
    for number in (producer, seq, value):
        least[number.place], more[number.place] = ord("0"), 9
        least[number.place.start] += number.leading
        more[number.place.start] -= number.leading
    shape = None
    if shapes_of:
        shape = int(shapes_of(*(np.array([int(text[number.place])], np.int64) for number in (producer, seq)))[0])
    return _Template(least, more, producer, seq, value, shape)


class HealthyEvents(NamedTuple):
    """Healthy events, column by column."""

    etags: Numbers
    ctimes: Numbers
    producers: Numbers
    seqs: Numbers


class Templates:
    """The templates of the healthy payloads seen so far. `healthy` checks one payload, and need not be fast;
    `shapes_of` is None when all payloads have one shape.
    """

    def __init__(self, healthy: Callable[[bytes], bool], shapes_of: ShapesOf | None = None) -> None:
        self._healthy = healthy
        self._shapes_of = shapes_of
        self._known: dict[int, list[_Template]] = {}
        self._latest: _RepeatedRow | None = None

    def read(self, received: bytes, events: int) -> Generator[None, None, HealthyEvents | None]:
        """Read `events` rows with payloads of the latest template, step by step; None when a row does not match."""
        latest = self._latest
        if not latest or len(received) != latest.size * events:
            return None
        everything = np.frombuffer(received, np.uint8)
        numbered = yield from latest.read(everything)
        if numbered is None:
            return None
        yield
        rows = everything.reshape(events, latest.size)
        return HealthyEvents(etags_of(rows), ctimes_of(rows), *numbered)

    def read_any(self, rows: Columns) -> tuple[Numbered, list[Misfit]]:
        """Read rows of any templates. Payloads without one, because they are not healthy or because there are too many
        templates, are returned as they are, in the order of the rows; their numbers are 0.
        """
        events = len(rows.etags)
        producers, seqs = np.zeros((2, events), np.int64)
        misfits: list[Misfit] = []
        for places, texts in rows.groups:
            known = self._known.setdefault(texts.shape[1], [])
            tried = failures = 0
            while len(texts):
                if tried == len(known) and not self._learn(texts[0].tobytes(), known):
                    failures += 1
                    alien = 1 if len(known) < MOST_TEMPLATES and failures < MOST_FAILURES else len(texts)
                    misfits += zip(places[:alien].tolist(), map(bytes, texts[:alien]), strict=True)
                    texts, places = texts[alien:], places[alien:]  # noqa: PLW2901 - the rest
                    continue
                template = known[tried]
                tried += 1
                digits = texts - template.least
                fits = template.fits(digits)
                if self._shapes_of:
                    fits &= self._shapes_of(*template.read(digits)) == template.shape
                if fits.all():
                    producers[places], seqs[places] = template.read(digits)
                    if len(texts) == events and rows.first is not None:
                        self._latest = _RepeatedRow(template, rows.first, rows.payload_at, self._shapes_of)
                    break
                if fits.any():
                    producers[places[fits]], seqs[places[fits]] = template.read(digits[fits])
                texts, places = texts[~fits], places[~fits]  # noqa: PLW2901 - the rest
        return (producers, seqs), sorted(misfits)

    def _learn(self, text: bytes, known: list[_Template]) -> bool:
        is_new = len(known) < MOST_TEMPLATES and self._healthy(text)
        template = _template_of(text, self._shapes_of) if is_new else None
        if template is None:
            return False
        known.append(template)
        return True
