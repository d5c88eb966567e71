"""The ways to append. Each takes a connection and a job and returns a function that appends events first..last
in one transaction and returns how many the server says it has; when it returns, they are committed.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import psycopg

from bench.records import ProducerJob, Way
from bench.worker import caller, copier, single_caller

Append = Callable[[int, int], int]


BLOCK = 1000
"""So many events, from a round number on, have the same digits in front."""
_FEW = 100
"""So few events are quicker written one by one than cut out of a block."""
_LARGEST_BLOCK_BYTES = 4 << 20
"""Payloads so large that a block is larger take their time to be sent, and not to be written."""
_FRONT = b"@"
"""Stands for the digits in front; nothing else in a payload looks like it."""


def payloads(producer: int, first: int, last: int, payload_bytes: int, separator: bytes) -> bytes:
    """The payloads of events first..last, joined: {"producer": p, "seq": i, "value": i}, padded with a key "pad"."""
    if first == last:
        return _template(producer, len(str(first)), payload_bytes) % (first, first)
    parts = []
    if last >= BLOCK and last - first >= _FEW and payload_bytes * BLOCK <= _LARGEST_BLOCK_BYTES:
        start = max(first, BLOCK)
        for front in range(start // BLOCK, last // BLOCK + 1):
            digits = b"%d" % front
            block = _block(producer, len(digits), payload_bytes, separator).replace(_FRONT, digits)
            size = (len(block) + len(separator)) // BLOCK
            begin, end = max(start - front * BLOCK, 0), min(last - front * BLOCK, BLOCK - 1)
            parts.append(block[begin * size : (end + 1) * size - len(separator)])
        last = start - 1
    one_by_one = [
        _template(producer, len(str(number)), payload_bytes) % (number, number) for number in range(first, last + 1)
    ]
    return separator.join(one_by_one + parts)


@lru_cache
def _template(producer: int, digits: int, payload_bytes: int) -> bytes:
    """The payload of an event whose seq has so many digits."""
    bare = b'{"producer":%d,"seq":%%d,"value":%%d}' % producer
    if not payload_bytes:
        return bare
    rest = payload_bytes - (len(bare) - 2 * len("%d") + 2 * digits) - len(',"pad":""')
    return bare[:-1] + b',"pad":"' + b"x" * rest + b'"}'


@lru_cache(maxsize=8)
def _block(producer: int, front_digits: int, payload_bytes: int, separator: bytes) -> bytes:
    """The payloads of a thousand events, joined, whose seqs have so many digits in front of the last three."""
    template = _template(producer, front_digits + 3, payload_bytes).replace(b"%d", _FRONT + b"%03d")
    return separator.join([template % (number, number) for number in range(BLOCK)])


def generate(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """The server builds the payloads: $1 is the producer, $2 the first seq and $3 the last."""
    insert = caller(connection, job.sql, 3)
    name = b"%d" % producer
    return lambda first, last: insert(name, b"%d" % first, b"%d" % last)


def log_event(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """A JSON array goes through the log's own function: $1 is the array; yields how many rows it returned."""
    size = job.payload_bytes
    if job.insert_batch == 1:
        one = single_caller(connection, job.sql, lambda digits: b"[%b]" % _template(producer, digits, size))
        if one:
            return lambda first, _: one(first)
    call = caller(connection, job.sql, 1)
    return lambda first, last: call(b"[%b]" % payloads(producer, first, last, size, b","))


def copy(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """COPY FROM STDIN in text format; a payload holds nothing that the format would want escaped."""
    into = copier(connection, job.sql)
    size = job.payload_bytes
    return lambda first, last: into(b"%b\n" % payloads(producer, first, last, size, b"\n"))


WAYS: dict[Way, Callable[[psycopg.Connection[Any], ProducerJob, int], Append]] = {
    "generate": generate,
    "log_event": log_event,
    "copy": copy,
}
