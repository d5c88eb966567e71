"""The text that pads payloads to a size. Unless fewer random bits per character are asked for than its letters can
hold, it does not compress, so that padded payloads have their full cost.

PostgreSQL compresses each value by itself: pglz finds repetitions up to 4 KB apart, lz4 up to 64 KB apart. The text
repeats only after twice that, and it is random in between.
"""

import random
from base64 import urlsafe_b64encode
from functools import lru_cache

PERIOD_BYTES = 128 << 10
"""The text repeats after this many bytes."""
MOST_BITS = 6
"""Random bits per character of a text that does not compress."""
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LETTERS = _BASE64.translate(bytes.maketrans(b"CDZ", b".~!"))
"""Readers find rows, and the end of a page, by the bytes C, D and Z, so these bytes must stay rare."""


@lru_cache(maxsize=4)
def padding(size: int, bits: int = MOST_BITS) -> bytes:
    """Return the first `size` bytes of the text of 2^`bits` letters, `bits` from 0 to 6: always the same, with nothing
    that JSON or COPY would escape."""
    return (_block(bits) * (size // PERIOD_BYTES + 1))[:size]


@lru_cache(maxsize=1)
def _block(bits: int) -> bytes:
    chance = random.Random("padding")  # noqa: S311 - reproducible, not a secret
    letters = bytes(_LETTERS[index % (1 << bits)] for index in range(1 << MOST_BITS))
    return urlsafe_b64encode(chance.randbytes(PERIOD_BYTES // 4 * 3)).translate(bytes.maketrans(_BASE64, letters))
