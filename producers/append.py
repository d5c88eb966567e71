"""The ways to append. Each takes a connection and a job and returns a function that appends events first..last
in one transaction and returns how many the server says it has; when it returns, they are committed.
"""

from collections.abc import Callable
from itertools import chain, pairwise
from typing import Any

import psycopg

from bench.records import ProducerJob, Way
from bench.worker import Statement, check

Append = Callable[[int, int], int]


def payloads(producer: int, first: int, last: int, payload_bytes: int, separator: str) -> str:
    """The payloads of events first..last, joined: {"producer": p, "seq": i, "value": i}, padded with a key "pad".

    Texts of the same length share one template, so a batch costs one formatting and not one an event.
    """
    bounds = [first, *(10**digits for digits in range(1, 20) if first < 10**digits <= last), last + 1]
    parts = []
    for start, stop in pairwise(bounds):
        template = f'{{"producer":{producer},"seq":%d,"value":%d}}'
        if payload_bytes:
            size = len(template % (start, start)) + len(',"pad":""')
            template = template[:-1] + ',"pad":"' + "x" * (payload_bytes - size) + '"}'
        numbers = range(start, stop)
        parts.append(
            separator.join([template] * len(numbers)) % tuple(chain.from_iterable(zip(numbers, numbers, strict=True)))
        )
    return separator.join(parts)


def generate(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """The server builds the payloads: $1 is the producer, $2 the first seq and $3 the last."""
    insert = Statement(connection, job.sql)
    name = b"%d" % producer

    def append(first: int, last: int) -> int:
        return insert.run(name, b"%d" % first, b"%d" % last).command_tuples or 0

    return append


def log_event(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """A JSON array goes through the log's own function: $1 is the array; yields how many rows it returned."""
    call = Statement(connection, job.sql)

    def append(first: int, last: int) -> int:
        array = f"[{payloads(producer, first, last, job.payload_bytes, ',')}]"
        return int(call.run(array.encode()).get_value(0, 0) or 0)

    return append


def copy(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """COPY FROM STDIN in text format; a payload holds nothing that the format would want escaped."""
    pgconn = connection.pgconn
    encoding = connection.info.encoding
    statement = job.sql.encode()

    def append(first: int, last: int) -> int:
        check(pgconn.exec_(statement), encoding)
        pgconn.put_copy_data(payloads(producer, first, last, job.payload_bytes, "\n").encode() + b"\n")
        pgconn.put_copy_end()
        copied = 0
        while result := pgconn.get_result():
            check(result, encoding)
            copied = result.command_tuples or 0
        return copied

    return append


WAYS: dict[Way, Callable[[psycopg.Connection[Any], ProducerJob, int], Append]] = {
    "generate": generate,
    "log_event": log_event,
    "copy": copy,
}
