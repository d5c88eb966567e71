"""The payloads that producers build, as fast as their digits can be changed.

Consecutive batches differ only in their numbers, and most numbers only in their leading digits. So the message that
appends a batch is built once, and then those digits are overwritten.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from bench.shapes import Shapes

FEW = 24
"""Up to this many events are written faster by a format than digit by digit."""


class Delimiters(NamedTuple):
    """The bytes before, between and after the payloads of a batch."""

    start: bytes
    between: bytes
    end: bytes
    escapes: tuple[tuple[bytes, bytes], ...] = ()
    """Characters that a payload may hold, each with what stands for it, in the order in which they are replaced."""


ARRAY = Delimiters(b"[", b",", b"]")
"""A JSON array."""
LINES = Delimiters(b"", b"\n", b"\n", ((b"\\", rb"\\"), (b"\t", rb"\t")))
"""COPY's text format; padded payloads hold nothing that needs escaping in it."""


def batch(producer: int, first: int, last: int, shapes: Shapes, delimiters: Delimiters) -> bytes:
    """The payloads of events first..last with their delimiters."""
    payloads: list[bytes] = []
    while first <= last:
        digits = len(str(first))
        end = min(last + 1, 10**digits)
        formats = shapes.formats(producer, digits)
        numbers = shapes.numbers(producer, first, end - 1)
        payloads += [formats[shape] % (seq, seq) for seq, shape in zip(range(first, end), numbers, strict=True)]
        first = end
    text = delimiters.between.join(payloads)
    for character, escape in delimiters.escapes if shapes.from_file else ():
        text = text.replace(character, escape)
    return delimiters.start + text + delimiters.end


def messages(
    producer: int, shapes: Shapes, delimiters: Delimiters, wrap: Callable[[bytes], bytes]
) -> Callable[[int, int], bytes | bytearray]:
    """A function that returns the message for events first..last, made by `wrap` as in `Batches`; the message is valid
    until the next call."""
    if len(shapes.all) > 1 or shapes.from_file:
        return lambda first, last: wrap(batch(producer, first, last, shapes, delimiters))
    return Batches(producer, shapes, delimiters, wrap).message


class Batches:
    """One producer's batches of payloads of one shape, each made into a message by `wrap`, which may put bytes before
    and after the batch that depend on the batch's length only.
    """

    def __init__(self, producer: int, shapes: Shapes, delimiters: Delimiters, wrap: Callable[[bytes], bytes]) -> None:
        self._producer = producer
        self._shapes = shapes
        self._frame = delimiters
        self._wrap = wrap
        self._lowest = self._end = self._more = 0
        """Lowest number and end of the current digit count; number of events per batch minus one."""
        self._format = b""
        """The message with %d for each number; empty when that would be slower."""
        self._message = bytearray()
        self._columns: list[bytes] = []
        """The digits in the message: the last digit of each event, then the last but one of each, and so on."""
        self._places: list[tuple[slice, slice]] = []
        """The place of each such column of digits, in the seqs and in the values."""

    def message(self, first: int, last: int) -> bytes | bytearray:
        """The message for events first..last; it is valid until the next call."""
        if first < self._lowest or last >= self._end or last - first != self._more:
            message = self._wrap(batch(self._producer, first, last, self._shapes, self._frame))
            if len(str(first)) == len(str(last)):
                self._keep(message, first, last)
            return message
        if not self._more:
            return self._format % (first, first)
        if self._format:
            return self._format % tuple([number for number in range(first, last + 1) for _ in ("seq", "value")])
        self._renumber(first)
        return self._message

    def _keep(self, message: bytes, first: int, last: int) -> None:
        digits = len(str(first))
        self._lowest, self._end, self._more = 10 ** (digits - 1) if digits > 1 else 0, 10**digits, last - first
        events = last - first + 1
        (form,) = self._shapes.formats(self._producer, digits)
        before, payload, behind = message.partition(form % (first, first))
        if events <= FEW:
            behind = behind[(events - 1) * (len(payload) + len(self._frame.between)) :]
            forms = self._frame.between.join([form] * events)
            self._format = before.replace(b"%", b"%%") + forms + behind.replace(b"%", b"%%")
            return
        self._format = b""
        self._message = bytearray(message)
        seq = len(before) + form.index(b"%d")
        value = len(before) + form.rindex(b"%d") - len("%d") + digits
        row = len(payload) + len(self._frame.between)
        end = len(before) + row * events
        self._places = [
            (slice(seq + place, end, row), slice(value + place, end, row)) for place in reversed(range(digits))
        ]
        self._columns = [column(first, events, 10**exponent) for exponent in range(digits)]

    def _renumber(self, first: int) -> None:
        for exponent, (seqs, values) in enumerate(self._places):
            digits = column(first, self._more + 1, 10**exponent)
            if digits != self._columns[exponent]:
                self._message[seqs] = self._message[values] = self._columns[exponent] = digits


def column(first: int, events: int, unit: int) -> bytes:
    """The digits of one decimal place, `unit` (such as 100), of `events` numbers from `first` on."""
    if unit >= events:
        digit, past = divmod(first, unit)
        till = min(unit - past, events)
        return b"%d" % (digit % 10) * till + b"%d" % ((digit + 1) % 10) * (events - till)
    start = first % (10 * unit)
    return (_turns(unit) * (2 + events // (10 * unit)))[start : start + events]


@lru_cache
def _turns(unit: int) -> bytes:
    return b"".join(b"%d" % digit * unit for digit in range(10))
