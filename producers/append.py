"""The ways to append. Each takes a connection and a job and returns a function that appends events first..last in one
transaction and returns the number of events that the server reports; when it returns, they are committed.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import psycopg

from bench.job import ProducerJob, Way
from bench.records import Example
from bench.shapes import FIRST_LETTER, Shapes
from bench.statement import BatchSender, Statement, copy_sender, prepare_append, statement_sender
from bench.wire import long_answers
from producers.payloads import ARRAY, LINES, Delimiters, batch, messages

Append = Callable[[int, int], int]


def generate(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """Let the server build the payloads: $1 is the producer, $2 the first seq, $3 the last. $4 is the padding; a
    statement without padding does not have it. $5, where there are several sizes, has a letter for the size of each
    event: the number of the size after `FIRST_LETTER`."""
    shapes = Shapes(job.payloads)
    name, pad = b"%d" % producer, shapes.all[0].padding
    if len(shapes.all) > 1:
        insert = prepare_append(connection, job.sql, 5)

        def of_several_sizes(first: int, last: int) -> int:
            letters = bytes([FIRST_LETTER + number for number in shapes.numbers(producer, first, last)])
            return insert(name, b"%d" % first, b"%d" % last, pad, letters)

        return of_several_sizes
    if pad:
        insert = prepare_append(connection, job.sql, 4)
        return lambda first, last: insert(name, b"%d" % first, b"%d" % last, pad)
    insert = prepare_append(connection, job.sql, 3)
    return lambda first, last: insert(name, b"%d" % first, b"%d" % last)


def log_event(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """Pass a JSON array to the log's own function: $1 is the array; the statement yields the number of rows that the
    function returned."""
    return _batches(job, producer, ARRAY, statement_sender(connection, job.sql))


def returning(connection: psycopg.Connection[Any], job: ProducerJob, producer: int, events: list[Example]) -> Append:
    """Append as `log_event` does, by the job's statement `returned`, and set `events` to the first events that the
    log's function returned, with their etags."""
    statement, shapes = Statement(connection, job.returned or ""), Shapes(job.payloads)

    def append(first: int, last: int) -> int:
        with long_answers(connection):
            statement.send([batch(producer, first, last, shapes, ARRAY)])
            result = statement.receive()
        rows = [[result.get_value(row, column) or b"" for column in range(3)] for row in range(result.ntuples)]
        events[:] = [_event(etag, payload) for etag, payload, _ in rows]
        return int(rows[0][2]) if rows else 0

    return append


def _event(etag: bytes, payload: bytes) -> Example:
    """An event as log_event returned it; without an etag if that is NULL, without a number if the payload is none."""
    with suppress(msgspec.MsgspecError, RecursionError):
        numbers = msgspec.json.decode(payload, type=dict[str, object])
        producer, seq = numbers.get("producer"), numbers.get("seq")
        if isinstance(producer, int) and isinstance(seq, int):
            return Example(producer, seq, int(etag) if etag else None)
    return Example(etag=int(etag) if etag else None)


def copy(connection: psycopg.Connection[Any], job: ProducerJob, producer: int) -> Append:
    """Append with COPY FROM STDIN, in text format."""
    return _batches(job, producer, LINES, copy_sender(connection, job.sql))


def _batches(job: ProducerJob, producer: int, delimiters: Delimiters, sender: BatchSender) -> Append:
    message, count = messages(producer, Shapes(job.payloads), delimiters, sender.wrap), sender.count
    return lambda first, last: count(message(first, last))


WAYS: dict[Way, Callable[[psycopg.Connection[Any], ProducerJob, int], Append]] = {
    "generate": generate,
    "log_event": log_event,
    "copy": copy,
}
