"""The ways to append. Each takes a connection and a job and returns a function that appends events first..last in one
transaction and returns the number of events that the server reports; when it returns, they are committed.
"""

from collections.abc import Callable
from typing import Any

import psycopg

from bench.padding import padding
from bench.records import ProducerJob, Way
from bench.worker import BatchSender, copy_sender, prepare_append, statement_sender
from producers.payloads import ARRAY, LINES, Batches, Delimiters

Append = Callable[[int, int], int]


def generate(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """Let the server build the payloads: $1 is the producer, $2 the first seq, $3 the last. $4 is the padding; a
    statement without padding does not have it."""
    name, pad = b"%d" % producer, padding(job.payload_bytes)
    if pad:
        insert = prepare_append(connection, job.sql, 4)
        return lambda first, last: insert(name, b"%d" % first, b"%d" % last, pad)
    insert = prepare_append(connection, job.sql, 3)
    return lambda first, last: insert(name, b"%d" % first, b"%d" % last)


def log_event(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """Pass a JSON array to the log's own function: $1 is the array; the statement yields the number of rows that the
    function returned."""
    return _batches(job, producer, ARRAY, statement_sender(connection, job.sql))


def copy(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """Append with COPY FROM STDIN, in text format."""
    return _batches(job, producer, LINES, copy_sender(connection, job.sql))


def _batches(job: ProducerJob, producer: int, delimiters: Delimiters, sender: BatchSender) -> Append:
    message, count = Batches(producer, job.payload_bytes, delimiters, sender.wrap).message, sender.count
    return lambda first, last: count(message(first, last))


WAYS: dict[Way, Callable[[psycopg.Connection[Any], ProducerJob, int], Append]] = {
    "generate": generate,
    "log_event": log_event,
    "copy": copy,
}
