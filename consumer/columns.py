"""Payloads of a page as columns of numbers: checked and read all at once, without an object for each event.

Healthy payloads differ in the digits of their numbers only. So one of them, once it was looked at closely, is the form
of all that have their digits in the same places; whatever has another form must be looked at by itself.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int64]
Columns = tuple[Numbers, Numbers]
"""Producer and seq of each event, in the order of their delivery; each value is its seq."""

TILES_BYTES = 150_000
"""So much text is compared at once at most. More would leave a processor's nearer caches."""
MOST_FORMS = 64
"""Forms of one length that are remembered: each number of digits of a producer and of a seq has one."""
_MOST_DIGITS = 15
"""So that a sum of digits times powers of ten is exact in floating point."""
_KEYS = tuple(re.compile(rb'"%s"\s*:\s*([0-9]+)' % key) for key in (b"producer", b"seq", b"value"))


class _Number:
    """Where a number is in a text, and what its digits are worth."""

    def __init__(self, start: int, end: int) -> None:
        self.place = slice(start, end)
        self._powers = 10.0 ** np.arange(end - start - 1, -1, -1)
        # JSON has no numbers that begin with a 0, except for 0 itself.
        self.leading = int(end - start > 1)
        self._least = self.leading * 10 ** (end - start - 1)

    def read(self, digits: Bytes) -> Numbers:
        """The number in each row of what is left of texts after their form was taken off."""
        numbers: Numbers = (digits[:, self.place] @ self._powers).astype(np.int64) + self._least
        return numbers


class _Form(NamedTuple):
    """What healthy texts of one length have in common."""

    least: Bytes
    """Each byte, and for a digit the least that it can be."""
    more: Bytes
    """How much more a byte may be."""
    producer: _Number
    seq: _Number
    value: _Number

    def fits(self, digits: Bytes) -> NDArray[np.bool_]:
        """Which rows, after `least` was taken off, are of this form and have their seq as their value."""
        same = digits[:, self.seq.place] == digits[:, self.value.place]
        fits: NDArray[np.bool_] = (digits <= self.more).all(axis=1) & same.all(axis=1)
        return fits

    def columns(self, digits: Bytes) -> Columns:
        return self.producer.read(digits), self.seq.read(digits)


class _Tiles:
    """A form again and again: long arrays are compared many times as fast as many short ones."""

    def __init__(self, form: _Form) -> None:
        rows = max(1, TILES_BYTES // len(form.least))
        self.form = form
        self._least, self._more = np.tile(form.least, rows), np.tile(form.more, rows)
        # The digits of a value are as far behind those of its seq, or before them, as these two are apart.
        first, second = sorted((form.seq.place, form.value.place), key=lambda place: place.start)
        self._shift = second.start - first.start
        same = np.zeros_like(form.least)
        same[first] = 0xFF
        self._same = np.tile(same, rows)
        self._digits, self._unlike = np.empty_like(self._least), np.empty_like(self._least)

    def columns(self, texts: bytes) -> Columns | None:
        """Read texts that all have this form; None when one of them has not."""
        size = len(self._least)
        parts = []
        for start in range(0, len(texts), size):
            digits = self._healthy_digits(np.frombuffer(texts[start : start + size], np.uint8))
            if digits is None:
                return None
            parts.append(self.form.columns(digits.reshape(-1, len(self.form.least))))
        producers, seqs = zip(*parts, strict=True)
        return np.concatenate(producers), np.concatenate(seqs)

    def _healthy_digits(self, texts: Bytes) -> Bytes | None:
        size, shift = len(texts), self._shift
        digits = np.subtract(texts, self._least[:size], out=self._digits[:size])
        if (digits > self._more[:size]).any():
            return None
        unlike = np.bitwise_xor(digits[shift:], digits[:-shift], out=self._unlike[: size - shift])
        unlike &= self._same[: size - shift]
        return None if unlike.any() else digits


def _form(text: bytes) -> _Form | None:
    """The form of a healthy text, if it can be told."""
    found = [list(key.finditer(text)) for key in _KEYS]
    if any(len(matches) != 1 or len(matches[0][1]) > _MOST_DIGITS for matches in found):
        return None
    (producer, seq, value) = (_Number(*matches[0].span(1)) for matches in found)
    if text[seq.place] != text[value.place]:
        return None
    least = np.frombuffer(text, np.uint8).copy()
    more = np.zeros_like(least)
    for number in (producer, seq, value):
        least[number.place], more[number.place] = ord("0"), 9
        least[number.place.start] += number.leading
        more[number.place.start] -= number.leading
    return _Form(least, more, producer, seq, value)


class Forms:
    """The forms in which healthy payloads came. `healthy` says whether a payload is one, and may take its time."""

    def __init__(self, healthy: Callable[[bytes], bool]) -> None:
        self._healthy = healthy
        self._known: dict[int, list[_Form]] = {}
        self._latest: _Tiles | None = None

    def columns(self, payloads: Sequence[bytes], joined: bytes) -> Columns | None:
        """Read payloads, which come joined too; None when one of them is not healthy, or they have too many forms."""
        latest = self._latest
        # Texts of other lengths that add up to the same do not get through: they do not end where the form does.
        if latest and len(joined) == len(latest.form.least) * len(payloads):
            columns = latest.columns(joined)
            if columns:
                return columns
        return self._of_many_forms(payloads)

    def _of_many_forms(self, payloads: Sequence[bytes]) -> Columns | None:
        producers, seqs = np.empty((2, len(payloads)), np.int64)
        lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
        for length in set(lengths.tolist()):
            places = np.flatnonzero(lengths == length)
            texts = np.frombuffer(b"".join([payloads[place] for place in places.tolist()]), np.uint8)
            texts = texts.reshape(len(places), length)
            known = self._known.setdefault(length, [])
            tried = 0
            while len(texts):
                if tried == len(known) and not self._learn(texts[0].tobytes(), known):
                    return None
                form = known[tried]
                tried += 1
                digits = texts - form.least
                fits = form.fits(digits)
                producers[places[fits]], seqs[places[fits]] = form.columns(digits[fits])
                if fits.all() and len(texts) == len(payloads):
                    self._latest = _Tiles(form)
                texts, places = texts[~fits], places[~fits]
        return producers, seqs

    def _learn(self, text: bytes, known: list[_Form]) -> bool:
        form = _form(text) if len(known) < MOST_FORMS and self._healthy(text) else None
        if form is None:
            return False
        known.append(form)
        return True
