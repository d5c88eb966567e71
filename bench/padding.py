"""The text that pads payloads to a size. It does not compress, so that padded payloads have their full cost.

PostgreSQL compresses each value by itself: pglz finds repetitions up to 4 KB apart, lz4 up to 64 KB apart. The text
repeats only after twice that, and it is random in between.
"""

import random
from base64 import urlsafe_b64encode
from functools import lru_cache

PERIOD_BYTES = 128 << 10
"""The text repeats after this many bytes."""
_WITHOUT_MESSAGE_TYPES = bytes.maketrans(b"CDZ", b".~!")
"""Readers find rows, and the end of a page, by the bytes C, D and Z, so these bytes must stay rare."""


@lru_cache(maxsize=4)
def padding(size: int) -> bytes:
    """Return the first `size` bytes of the text: always the same, with nothing that JSON or COPY would escape."""
    return (_block() * (size // PERIOD_BYTES + 1))[:size]


@lru_cache(maxsize=1)
def _block() -> bytes:
    chance = random.Random("padding")  # noqa: S311 - reproducible, not a secret
    return urlsafe_b64encode(chance.randbytes(PERIOD_BYTES // 4 * 3)).translate(_WITHOUT_MESSAGE_TYPES)
