"""The ways to append. Each takes a connection and a job and returns a function that appends events first..last
in one transaction and returns how many the server says it has; when it returns, they are committed.
"""

from collections.abc import Callable
from typing import Any

import psycopg

from bench.padding import padding
from bench.records import ProducerJob, Way
from bench.worker import BatchSender, caller, copier, text_caller
from producers.payloads import ARRAY, LINES, Batches, Delimiters

Append = Callable[[int, int], int]


def generate(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """The server builds the payloads: $1 is the producer, $2 the first seq, $3 the last. $4 is the text that pads them;
    a statement without padding does not have it."""
    name, pad = b"%d" % producer, padding(job.payload_bytes)
    if pad:
        insert = caller(connection, job.sql, 4)
        return lambda first, last: insert(name, b"%d" % first, b"%d" % last, pad)
    insert = caller(connection, job.sql, 3)
    return lambda first, last: insert(name, b"%d" % first, b"%d" % last)


def log_event(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """A JSON array goes through the log's own function: $1 is the array; yields how many rows it returned."""
    return _batches(job, producer, ARRAY, text_caller(connection, job.sql))


def copy(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """COPY FROM STDIN in text format."""
    return _batches(job, producer, LINES, copier(connection, job.sql))


def _batches(job: ProducerJob, producer: int, delimiters: Delimiters, outlet: BatchSender) -> Append:
    message, count = Batches(producer, job.payload_bytes, delimiters, outlet.wrap).message, outlet.count
    return lambda first, last: count(message(first, last))


WAYS: dict[Way, Callable[[psycopg.Connection[Any], ProducerJob, int], Append]] = {
    "generate": generate,
    "log_event": log_event,
    "copy": copy,
}
