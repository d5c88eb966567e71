"""The shapes of payloads: which one each event has, and what a payload of it holds besides producer, seq and value.

Producers write payloads by it, and consumers and the audit know by it which payload is right.
"""

import random
import zlib
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bench.job import Payloads
from bench.padding import padding

if TYPE_CHECKING:  # producers need no numpy, which takes a twentieth of a second to load
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", int, "NDArray[np.int64]")

PERIOD = 100_000
"""The shapes of a producer's events repeat after this many events; in each period the shares are those asked for."""
FIRST_LETTER = ord("0")
"""The letter of the first shape, where shapes are named by letters."""
_STRIDE = 61_803
"""The distance between the places at which two producers begin in the period; it has no factor in common with it."""


class Shape(NamedTuple):
    """What a payload holds besides its producer, seq and value."""

    size: int = 0
    """Bytes of the payload, which padding fills up; 0 without padding."""
    padding: bytes = b""
    """Text of at least this size."""
    keys: bytes = b""
    """The keys of an object, as JSON with a comma before each key and without the braces."""

    def format(self, producer: int, digits: int) -> bytes:
        """The payload {"producer": p, "seq": i, "value": i, ...} of an event whose seq has `digits` digits, with %d for
        each i."""
        bare = b'{"producer":%d,"seq":%%d,"value":%%d' % producer
        if not self.size:
            return bare + self.keys.replace(b"%", b"%%") + b"}"
        rest = self.size - (len(bare) - 2 * len("%d") + 2 * digits) - len(',"pad":""}')
        return bare + b',"pad":"' + self.padding[:rest] + b'"}'


class Shapes:
    """The shapes of a run's payloads. The shape of an event depends on its producer, its seq and the seed only."""

    def __init__(self, payloads: Payloads) -> None:
        self.from_file = bool(payloads.objects)
        objects = zlib.decompress(payloads.objects).splitlines() if payloads.objects else []
        largest = padding(max(size for size, _ in payloads.sizes), payloads.entropy)
        self.all = [Shape(keys=b"," + keys if keys else b"") for keys in (text[1:-1].strip() for text in objects)]
        self.all = self.all or [Shape(size, largest) for size, _ in payloads.sizes]
        shares = (1.0,) * len(objects) or tuple(share for _, share in payloads.sizes)
        self.period = _period(shares, payloads.seed)
        """The number of the shape at each place of the period; see `place`."""
        self._formats: dict[tuple[int, int], list[bytes]] = {}

    def formats(self, producer: int, digits: int) -> list[bytes]:
        """The format of each shape, as in `Shape.format`."""
        if (producer, digits) not in self._formats:
            self._formats = {(producer, digits): [shape.format(producer, digits) for shape in self.all]}
        return self._formats[producer, digits]

    def numbers(self, producer: int, first: int, last: int) -> Sequence[int]:
        """The numbers of the shapes of events first..last."""
        start, events = place(producer, first), last + 1 - first
        if start + events <= PERIOD:
            return self.period[start : start + events]
        return (self.period * (1 + (start + events) // PERIOD))[start : start + events]


def place(producers: Number, seqs: Number) -> Number:
    """The place in the period of each event."""
    return (seqs + producers * _STRIDE) % PERIOD


@lru_cache(maxsize=2)
def _period(shares: tuple[float, ...], seed: int) -> "array[int]":
    """Numbers in a random order, each as often as its share of the period says, by the method of largest remainders."""
    if len(shares) == 1:
        return array("H", bytes(2 * PERIOD))
    whole = sum(shares)
    exact = [PERIOD * share / whole for share in shares]
    counts = [int(each) for each in exact]
    by_remainder = sorted(range(len(shares)), key=lambda number: counts[number] - exact[number])
    for number in by_remainder[: PERIOD - sum(counts)]:
        counts[number] += 1
    numbers = array("H")
    for number, count in enumerate(counts):
        numbers.extend(repeat(number, count))
    # Of a generator's methods, only random() yields the same numbers in all versions of Python.
    chance = random.Random(f"{seed} payloads")  # noqa: S311 - reproducible, not a secret
    keys = [chance.random() for _ in range(PERIOD)]
    return array("H", [numbers[index] for index in sorted(range(PERIOD), key=keys.__getitem__)])
