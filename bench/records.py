"""The messages between the orchestrator and its workers: one job in, records out, one JSON object a line.

A record stays under 16 KiB, because Docker splits longer lines; so it speaks of ranges of events, never of single
healthy ones. Unknown keys are refused on both sides: an old worker image never half-understands a new job.
"""

from typing import Literal, TypeVar

import msgspec

T = TypeVar("T")

Way = Literal["generate", "log_event", "copy"]
"""A way to append: built in the server, through the log's own function, or COPY."""

Fate = Literal["acknowledged", "aborted", "indeterminate", "delivered"]
"""What became of events. Of a producer's: committed for sure, rolled back, or the connection died while they were being
committed. Of a consumer's: delivered to it at least once."""

Fault = Literal["duplicated", "reordered", "phantom", "corrupt"]
"""What a consumer can tell by itself: delivered twice, after a later one of its producer, nobody's event, or an event
whose payload is not what was appended."""

Range = tuple[int, int, int]
"""(producer, first seq, last seq), both ends included."""

ROWS_A_RECORD = 200
"""200 rows of three 64-bit numbers take at most 12.8 KB."""

EXAMPLES = 10
"""Anomalies are counted in full, and this many of each kind are shown."""


class ProducerJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="job", tag="producer"):
    """Append `limit` events, seq and value 0..limit-1, in transactions of `insert_batch`."""

    name: str
    """Who it is, in records, messages and pg_stat_activity."""
    schema: str
    barrier: int
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
    transaction_ms: tuple[float, float] = (0, 0)
    """Before its end a transaction stays open for a random time between these two."""
    abort_rate: float = 0
    """The probability that a transaction is rolled back; its events are then not appended again."""
    seed: int = 0
    """Of the random times and aborts; each producer adds its number to it."""
    stop: int | None = None
    """The key of an advisory lock that is let go when this worker is to end before it has appended everything, because
    the verdict is known; it looks whenever it reports its progress. None never ends early."""
    drawn: str | None = None
    """Yields the etags that the open transaction has drawn above $1, as texts: first and last of each run."""
    server: str = ""
    """What `SERVER` yields in the orchestrator's session: the worker works nowhere else. "" takes any server."""
    session: str = ""
    """What its session is called in pg_stat_activity; "" is `bench` and its name."""
    alive: int | None = None
    """The key of an advisory lock that the orchestrator holds for as long as it lives; the worker ends when it is free.
    None of a worker that nobody waits for."""


class ConsumerJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="job", tag="consumer"):
    """Read the whole log, a page per call, until an empty page and the permission to stop."""

    name: str
    schema: str
    barrier: int
    sql: str
    """Yields the next page as (etag, ctime, payload, more of the cursor). Its parameters are the cursor that the last
    row of the page before held, as it came, and NULLs at first."""
    cursor: list[int]
    """The columns of a row that make up the cursor, in the order of the parameters; none when the server keeps it."""
    depth: int
    """Reads that are sent together, in one transaction; more than one only when the server keeps the cursor."""
    limit: int
    """Events per producer: a seq outside of 0..limit-1 is nobody's event."""
    payload_bytes: int
    most_events: int
    """A log that delivers more than this would be read for ever: the reader gives up."""
    stop: int | None = None
    """The key of an advisory lock that is let go when this worker may stop; until then it goes on after an empty page,
    because more may come. None stops at the first empty page."""
    tails: bool = False
    """Whether producers append meanwhile. What is measured then ends with the last event, else with the first empty
    page after it."""
    max_jumps: int = 0
    """How many jumps over etags to remember, with their time."""
    awake_seconds: float = 0
    """Wait awake for so long before going to sleep, where a processor is to spare: to wake up can take longer than to
    read a small page."""
    check: bool = True
    """False counts the events and does not look at them: for measuring what looking costs."""
    rejoin_pages: int = 0
    """A member of a group leaves after so many pages and joins again; 0 never."""
    read_batch: int = 0
    """The events per page that `sql` asks for: a larger page is a fault of the log. 0 when nobody says."""
    server: str = ""
    """As in a producer's job; a member of a group that joins again joins there."""
    session: str = ""
    """As in a producer's job."""
    alive: int | None = None
    """As in a producer's job."""


Job = ProducerJob | ConsumerJob


SESSION = ("server_version", "synchronous_commit", "default_transaction_isolation", "plan_cache_mode", "jit")
"""Settings that all sessions of a run must agree on: a role, an environment or a pooler can change them for some."""

TIMEOUTS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
"""By these a server ends statements, transactions and sessions; the last one came with PostgreSQL 17."""

SERVER = """
    SELECT format('database %s (oid %s) of the server on port %s that was started at %s UTC%s', datname, oid,
                  current_setting('port'),
                  to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
                  CASE WHEN pg_is_in_recovery() THEN ' as a standby' ELSE '' END)
    FROM pg_database WHERE datname = current_database()"""
"""Yields which database of which server a session has reached: two sessions with one text are on one server.

Every role may ask for all of it. The system identifier, which not every role may ask for, would not do alone: a
standby has its primary's.
"""


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="ready"):
    """Connected and waiting at the barrier."""

    clock_offset_ms: float
    """The database's clock minus this worker's."""
    round_trip_ms: float
    """The quickest round trip seen while measuring it: the offset is right to half of this."""
    job: Job
    """What this worker is going to do, as it understood it."""
    session: dict[str, str]
    """The settings of `SESSION` as it has them, its schema, its server as `SERVER` yields it, its transport: `wire`
    when it speaks the protocol itself, `libpq` when that does, because the connection is encrypted."""


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="progress"):
    """Events appended or read so far."""

    events: int
    checksum: int = 0
    """Consumers: the sum of the values that were delivered, those of repeated events too."""


class LedgerPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="ledger"):
    """A part of the events of one fate. A producer tells of its events as they get their fates; all parts come before
    the report."""

    fate: Fate
    ranges: list[Range]


class RolledBackEtags(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="rolled_back_etags"
):
    """Some of the etags that rolled back transactions had drawn, as (first, last)."""

    etags: list[tuple[int, int]]


class Jumps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="jumps"):
    """Some of a tailing reader's jumps over etags: (etag before the jump, etag after it, Unix time on the database's
    clock at which the page with the later one was asked for)."""

    jumps: list[tuple[int, int, float]]


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


class ImpossibleCtimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events of a tailing reader whose ctime cannot be when they were logged, so that it gives no delay."""

    infinite: int = 0
    ahead: int = 0
    """Their ctime was still to come on the database's clock when they were delivered."""
    ahead_seconds: float = 0
    """The most that it was ahead."""
    old: int = 0
    """Their ctime was over before the reader stood at the barrier, so before anybody appended."""
    old_seconds: float = 0
    """The most that it was over by then."""


class LogError(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="log error"):
    """Why a worker went no further, when that is the log's own doing: an error of its SQL, or an answer that no log may
    give. It comes before the report of what was done until then."""

    call: str
    """What the worker called: log_event, INSERT, COPY or get_event."""
    message: str
    sqlstate: str | None = None
    """None when it is no error of the server's."""
    detail: str = ""
    hint: str = ""
    context: str = ""
    """Where the server met it, function by function, innermost first."""
    events: tuple[int, int] | None = None
    """Producers: the first seq and the last of the batch that it was met with."""


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="report"):
    """The last record of a worker that did its job, as far as the log let it. A stream that ends without one proves
    nothing."""

    events: int
    checksum: int
    """The sum of the events' values."""
    started_at: float
    """Unix time on the database's clock."""
    seconds: float
    cpu_seconds: float
    """User and system time of this worker between the same two moments as `seconds`."""
    latency: str
    """An encoded HdrHistogram of microseconds per call. Of a producer's calls only those count that were committed."""
    first_call_seconds: float | None = None
    """Until the first call that counts was answered; None when none was."""
    memory_bytes: int = 0
    """The most that this worker had resident."""
    max_etag_gap: int | None = None
    """Consumers: the largest difference of the etags of two events delivered one after the other."""
    repeated_ctimes: int | None = None
    """Consumers: events with the same ctime as the one delivered before."""
    falling_etags: int | None = None
    """Consumers: events with a lower etag than the one delivered before."""
    highest_etag: int | None = None
    """Consumers: the highest etag that was delivered; None when nothing was."""
    delay: str | None = None
    """Tailing: an encoded HdrHistogram of microseconds from an event's ctime to its delivery."""
    impossible_ctimes: ImpossibleCtimes | None = None
    """Tailing: ctimes of which there is no delay; None when each gave one. With any, `delay` means nothing."""
    longest_wait_seconds: float | None = None
    """Consumers: the longest time without a page with events in it, while tailing or after an empty page."""
    largest_page: int = 0
    """Consumers: the most events that one read yielded."""
    oversized_pages: int = 0
    """Consumers: pages in which a read yielded more events than it asked for."""
    stopped: str | None = None
    """Why a reader gave up before the end of the log; None when it did not."""


Record = Ready | Progress | LedgerPart | RolledBackEtags | Jumps | Anomaly | LogError | Report

encode_record = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(Record).decode
encode_job = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(Job).decode


def ledger_parts(fate: Fate, ranges: list[Range]) -> list[LedgerPart]:
    """The events of a fate, cut into records that are small enough."""
    return [LedgerPart(fate, part) for part in _cut(ranges)]


def rolled_back_etags(etags: list[tuple[int, int]]) -> list[RolledBackEtags]:
    """The etags of rolled back transactions, cut into records that are small enough."""
    return [RolledBackEtags(part) for part in _cut(etags)]


def jump_records(jumps: list[tuple[int, int, float]]) -> list[Jumps]:
    """Jumps over etags, cut into records that are small enough."""
    return [Jumps(part) for part in _cut(jumps)]


def _cut(rows: list[T]) -> list[list[T]]:
    return [rows[start : start + ROWS_A_RECORD] for start in range(0, len(rows), ROWS_A_RECORD)]
