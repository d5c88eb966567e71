"""A checksum of which etag each event has, as readers, the audit and SQL compute it alike.

It is the sum, modulo 2^64, of one term per event: a hash of its etag times a weight that depends on its producer and
seq. The same events with the same etags always have one checksum; an event with another etag changes it, and so do
events that exchange their etags, except for a chance of about one in 2^31. Only the lowest 31 bits of an etag count, so
that no term overflows a bigint.
"""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # numpy takes a twentieth of a second to load, and most commands need none
    import numpy as np
    from numpy.typing import NDArray

Number = TypeVar("Number", int, "NDArray[np.int64]")

MODULUS = 1 << 64
_LOW = (1 << 31) - 1
_PER_ETAG, _PER_SEQ, _PER_PRODUCER, _START = 1_103_515_245, 1_540_483_477, 22_695_477, 12_345
"""Odd numbers, with which neighbours get hashes and weights that are far apart."""
_SHIFT = 15
"""Without a shift, hashes would be linear: three events could exchange their etags and keep the checksum."""


def hashes(etags: Number) -> Number:
    """The hash of each etag: of 31 bits."""
    hashed = etags * _PER_ETAG
    hashed &= _LOW  # in place, which is quicker
    hashed ^= hashed >> _SHIFT
    return hashed


def weights(producers: Number, seqs: Number) -> Number:
    """The weight of each event: of 31 bits."""
    weighted = seqs * _PER_SEQ
    weighted += producers * _PER_PRODUCER
    weighted += _START
    weighted &= _LOW
    return weighted


def mixed(weighted: Number) -> Number:
    """Other weights made of the weights of events, for sums in which no factor is a hash."""
    shifted = weighted ^ (weighted >> _SHIFT)
    return shifted * shifted


def term_sql(etag: str, producer: str, seq: str) -> str:
    """The term of an event as an SQL expression over bigints. It raises an error where a seq or a producer is beyond
    2^32."""
    hashed = f"((({etag} & {_LOW}) * {_PER_ETAG}) & {_LOW})"
    weight = f"(({seq} * {_PER_SEQ} + {producer} * {_PER_PRODUCER} + {_START}) & {_LOW})"
    return f"({hashed} # ({hashed} >> {_SHIFT})) * {weight}"
