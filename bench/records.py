"""The messages between the orchestrator and its workers: one job in, records out, one JSON object a line.

A record stays under 16 KiB, because Docker splits longer lines; so it speaks of ranges of events, never of single
healthy ones. Unknown keys are refused on both sides: an old worker image never half-understands a new job.
"""

from typing import Literal

import msgspec

Way = Literal["generate", "log_event", "copy"]
"""A way to append: built in the server, through the log's own function, or COPY."""

Fate = Literal["acknowledged", "indeterminate", "delivered"]
"""What became of events. Of a producer's: committed for sure, or the connection died while they were being committed.
Of a consumer's: delivered to it at least once."""

Fault = Literal["duplicated", "reordered", "phantom"]
"""What a consumer can tell by itself: delivered twice, after a later one of its producer, or nobody's event."""

Range = tuple[int, int, int]
"""(producer, first seq, last seq), both ends included."""

RANGES_A_RECORD = 200
"""200 ranges of three 64-bit numbers take at most 12.4 KB."""

EXAMPLES = 10
"""Anomalies are counted in full, and this many of each kind are shown."""


class ProducerJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="job", tag="producer"):
    """Append `limit` events, seq and value 0..limit-1, in transactions of `insert_batch`."""

    name: str
    """Who it is, in records, messages and pg_stat_activity."""
    schema: str
    gate: int
    """The key of the advisory lock that holds all workers back until they may start together."""
    append: Way
    sql: str
    """The statement that appends one batch."""
    producer: int | str
    """Its number in its events, or a query that draws one (where nobody hands out numbers)."""
    limit: int
    insert_batch: int
    payload_bytes: int
    """Every payload is padded to this size; 0 leaves payloads as short as they are."""


class ConsumerJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="job", tag="consumer"):
    """Read the whole log, a page a call, until a call yields none."""

    name: str
    schema: str
    gate: int
    sql: str
    """Yields the next page as (etag, ctime, payload); $1 is the etag of the last event read, NULL at first."""
    limit: int
    """Events per producer: a seq outside of 0..limit-1 is nobody's event."""


Job = ProducerJob | ConsumerJob


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="ready"):
    """Connected and waiting at the gate."""

    clock_offset_ms: float
    """The database's clock minus this worker's."""
    round_trip_ms: float
    """The quickest round trip seen while measuring it: the offset is right to half of this."""


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="progress"):
    """Events appended or read so far."""

    events: int


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="ledger"):
    """A part of the events of one fate. All parts come before the report."""

    fate: Fate
    ranges: list[Range]


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event that something is wrong with; whatever is not known of it is None."""

    producer: int | None = None
    seq: int | None = None
    etag: int | None = None


class Anomaly(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="anomaly"):
    """How often a consumer met one kind of fault, with the first examples."""

    kind: Fault
    count: int
    examples: list[Example]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="report"):
    """The last record of a worker that did all of its job. A stream that ends without one proves nothing."""

    events: int
    checksum: int
    """The sum of the events' values."""
    started_at: float
    """Unix time on the database's clock."""
    seconds: float
    cpu_seconds: float
    """User and system time of this worker between the same two moments as `seconds`."""
    latency: str
    """An encoded HdrHistogram of microseconds a call."""
    max_etag_gap: int | None = None
    """Consumers: the largest difference of the etags of two events delivered one after the other."""
    repeated_ctimes: int | None = None
    """Consumers: events with the same ctime as the one delivered before."""


Record = Ready | Progress | Ledger | Anomaly | Report

encode_record = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(Record).decode
encode_job = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(Job).decode


def delivered(ranges: list[Range]) -> list[Ledger]:
    """Cut what was delivered into records that are small enough."""
    return [
        Ledger("delivered", ranges[start : start + RANGES_A_RECORD]) for start in range(0, len(ranges), RANGES_A_RECORD)
    ]
