"""The messages between the orchestrator and its workers: one job in, records out, one JSON object per line.

A record stays under 16 KiB, because Docker splits longer lines; so it holds ranges of events, never single healthy
ones. Unknown keys are refused on both sides: an old worker image never half-understands a new job.
"""

from typing import Literal, TypeVar

import msgspec

from bench.job import Job

T = TypeVar("T")

Fate = Literal["acknowledged", "aborted", "indeterminate", "delivered"]
"""The fate of events. A producer's: certainly committed, rolled back, or the connection died while they were being
committed. A consumer's: delivered to it at least once."""

Fault = Literal["duplicated", "reordered", "torn", "phantom", "corrupt"]
"""The faults that a consumer can recognize by itself: an event delivered twice, or after a later event of its producer,
the rest of a batch after another producer's event, an event of no producer, or one whose payload is not the appended
one."""

Range = tuple[int, int, int]
"""(producer, first seq, last seq), both ends included."""

ROWS_PER_RECORD = 200
"""200 rows of three 64-bit numbers take at most 12.8 KB."""
BUCKETS_PER_RECORD = 500
"""500 buckets, of at most five digits, with a 64-bit number each take at most 14 KB."""

Timed = Literal["append", "service", "lateness", "read", "end_to_end"]
"""A metric of a worker, with a latency for each of its calls or events, in microseconds. A producer's are `append`, of
committed batches: from sending a batch, or with an offered load from the time at which it was due, to its commit; and
with an offered load `service`, from sending a batch to its commit, and `lateness`, from the time at which a batch was
due to its sending, of the batches for which the producer had waited. A consumer's are `read`, from asking for a page to
having it, and when it tails `end_to_end`, from an event's ctime to its delivery."""

EXAMPLES = 10
"""All anomalies are counted, and this many of each kind are shown."""


SESSION = ("server_version", "synchronous_commit", "default_transaction_isolation", "plan_cache_mode", "jit")
"""Settings that all sessions of a run must agree on: a role, an environment or a pooler can change them in some."""

TIMEOUTS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
"""The time-outs by which a server ends statements, transactions and sessions; the last one came with PostgreSQL 17."""

SERVER = """
    SELECT format('database %s (oid %s) of the server on port %s that was started at %s UTC%s', datname, oid,
                  current_setting('port'),
                  to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
                  CASE WHEN pg_is_in_recovery() THEN ' as a standby' ELSE '' END)
    FROM pg_database WHERE datname = current_database()"""
"""The query that identifies the database and the server of a session: two sessions that get equal texts are on one
server.

Every role may run it. The system identifier, which not every role may read, would not do alone: a standby has its
primary's.
"""


_STARTS = 0x3E5
_MICROSECONDS_BITS = 52
"""Enough until the year 2112."""

STARTS_AT = f"""
    SELECT ((classid::bigint << 32 | objid::bigint) & {(1 << _MICROSECONDS_BITS) - 1})::text
    FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> {_MICROSECONDS_BITS - 32} = {_STARTS}
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"""
"""The query that yields when the phase opened, or the schedule starts that producers share, by which batches are due or
appending ends, in microseconds of Unix time on the database's clock; no row when the orchestrator has not announced
it."""


def start_key(unix_seconds: float) -> int:
    """The key of the advisory lock that announces when the phase opens or the schedule starts: one that every session
    can see, without a table, on whatever server."""
    return _STARTS << _MICROSECONDS_BITS | round(unix_seconds * 1e6)


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="ready"):
    """The worker is connected and waits at the barrier."""

    clock_offset_ms: float
    """The database's clock minus this worker's."""
    round_trip_ms: float
    """The quickest round trip while the offset was measured: the offset is right to half of this."""
    job: Job
    """The job as this worker understood it, as `bench.job.echo` makes it."""
    session: dict[str, str]
    """The settings of `SESSION` in the worker's session, its schema, its server as `SERVER` yields it, and its
    transport: `wire` when the worker speaks the protocol itself, `libpq` when the connection is encrypted."""


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="progress"):
    """Events appended or read so far."""

    events: int
    checksum: int = 0
    """Consumers: the sum of the delivered values, repeated events included."""
    memory_bytes: int = 0
    """The worker's resident memory; 0 where the system does not show it."""
    cursor: list[bytes] = []
    """Consumers whose job asks for it: the cursor in the last row that was delivered, in PostgreSQL's binary format."""


class LedgerPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="ledger"):
    """A part of the events of one fate. A producer reports its events as they get their fates; all parts come before
    the final report."""

    fate: Fate
    ranges: list[Range]


class RolledBackEtags(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="rolled_back_etags"
):
    """Some of the etags drawn by transactions that were rolled back, as (first, last)."""

    etags: list[tuple[int, int]]


class Jumps(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="jumps"):
    """Some of a tailing reader's jumps over etags: (etag before the jump, etag after it, Unix time on the database's
    clock at which the page with the later etag was asked for)."""

    jumps: list[tuple[int, int, float]]


class PageTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="page_times"):
    """Some of the pages that a tailing reader asked for, empty ones included, in their order."""

    since: float
    """Unix time on the database's clock from which the times count."""
    uncertainty_seconds: float
    """The largest error of the times."""
    pages: list[tuple[int, int]]
    """When the page was asked for, in microseconds after `since`; events that had been given before."""


class CallTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="call_times"):
    """Some of the append transactions of a producer, in their order; rolled-back ones too."""

    since: float
    """As in `PageTimes`."""
    uncertainty_seconds: float
    """As in `PageTimes`."""
    calls: list[tuple[int, int]]
    """When the transaction was sent and when its end was answered, in microseconds after `since`."""


class Interval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="interval"):
    """Some of the latencies of a worker that ended in one second. A second may have several records, and they add
    up."""

    metric: Timed
    second: int
    """From 0, which begins when the phase opens, or with an offered load when the schedule starts."""
    buckets: list[tuple[int, int]]
    """Buckets of `bench.histograms`, each with the number of latencies in it."""


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One faulty event; unknown fields are None."""

    producer: int | None = None
    seq: int | None = None
    etag: int | None = None


class Anomaly(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="anomaly"):
    """The number of a consumer's faults of one kind, with the first examples."""

    kind: Fault
    count: int
    examples: list[Example]


class ReturnedEtags(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="returned_etags"):
    """Some of a producer's acknowledged events, each with the etag with which log_event returned it."""

    events: list[Example]


class ImpossibleCtimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events of a tailing reader whose ctime is impossible as the time of logging, so that it gives no delay."""

    infinite: int = 0
    ahead: int = 0
    """Events whose ctime was in the future on the database's clock when they were delivered."""
    ahead_seconds: float = 0
    """The farthest that a ctime was in the future."""
    old: int = 0
    """Events whose ctime was before the reader reached the barrier, so before any producer appended."""
    old_seconds: float = 0
    """The farthest that a ctime was before that."""


class LogError(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="log error"):
    """An error of the log's own that stopped a worker: an error of its SQL, or an answer that no log may give. It comes
    before the report of everything done until then."""

    call: str
    """The call that failed: log_event, INSERT, COPY or get_event."""
    message: str
    sqlstate: str | None = None
    """None when the error did not come from the server."""
    detail: str = ""
    hint: str = ""
    context: str = ""
    """The server's CONTEXT: the functions that were running, innermost first."""
    events: tuple[int, int] | None = None
    """Producers: the first and the last seq of the batch that failed."""


class Offered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a producer kept the schedule of an offered load."""

    last_due_seconds: float
    """When the last batch was due, in seconds after the start of the schedule."""
    ended_seconds: float
    """When the last answer came, in seconds after the start of the schedule."""
    largest_backlog: int
    """The most events that were due and not yet sent, when a batch was sent later than due. Batches that were due in
    the warm-up do not count, here and in `most_behind_seconds`."""
    most_behind_seconds: float
    """The largest time by which a batch was sent later than due."""
    warm_up_events: int = 0
    """Events that were due in the warm-up."""


class StepFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="record", tag="step"):
    """What a worker measured of one step of an offered load. The last step includes all that comes after its end."""

    step: int
    """Its number, from 0."""
    buckets: list[tuple[int, int]]
    """Buckets of `bench.histograms`, each with a number of latencies: of a producer, from the time at which a batch was
    due to its commit, of the batches that were due in the step; of a tailing consumer, from an event's ctime to its
    delivery, of the events with a ctime in the step. A step may have several records, and they add up."""
    done: int
    """Events that were acknowledged in the step, or delivered in it, whenever they were due or logged."""


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
    warm_up_events: int = 0
    """Events acknowledged or delivered in the job's warm-up."""
    clock_uncertainty_seconds: float = 0
    """The largest error of the worker's times on the database's clock, at its end."""
    first_call_seconds: float | None = None
    """Seconds until the first call that counts was answered; None when there was no such call."""
    memory_bytes: int = 0
    """The worker's peak resident memory."""
    max_etag_gap: int | None = None
    """Consumers: the largest difference between the etags of two events delivered one after the other."""
    repeated_ctimes: int | None = None
    """Consumers: events with the same ctime as the one delivered before."""
    falling_etags: int | None = None
    """Consumers: events with a lower etag than the one delivered before."""
    backward_pages: int | None = None
    """Consumers: pages that began with a lower etag than the event delivered before."""
    etag_checksum: int | None = None
    """Consumers: the checksum of `bench.pairing`: which etag each delivered event had."""
    order_checksum: int | None = None
    """Consumers: the sum, modulo 2^64, of each event's mixed weight times its number in the delivery, from 1;
    None unless the job asks for it."""
    highest_etag: int | None = None
    """Consumers: the highest delivered etag; None when no event was delivered."""
    impossible_ctimes: ImpossibleCtimes | None = None
    """Tailing: ctimes that give no delay; None when every ctime gives one. If there are any, the metric `end_to_end`
    means nothing."""
    negative_delays: int = 0
    """Tailing: events with a delay below 0, by no more than the clocks' uncertainty. They are not in `end_to_end`."""
    most_negative_seconds: float = 0
    """The amount of the lowest of these delays."""
    longest_wait_seconds: float | None = None
    """Consumers: the longest time without a page with events, while tailing or after an empty page."""
    largest_page: int = 0
    """Consumers: the most events that one read yielded."""
    oversized_pages: int = 0
    """Consumers: pages in which a read yielded more events than it asked for."""
    stopped: str | None = None
    """Why a reader gave up before the end of the log; None when it did not."""
    untimed_calls: int = 0
    """Pages or transactions beyond the job's `timed_calls`: no record has their times."""
    overslept_events: int = 0
    """Consumers that only notifications wake: events that were given when the worker was permitted to stop, each
    counted once, though no notification had come since its last empty page."""
    offered: Offered | None = None
    """Producers: how the schedule was kept; None of a producer that has none."""
    attempted: int | None = None
    """Producers: number of events that were sent, whatever became of them; their seqs go from 0 to this minus 1."""


Record = (
    Ready
    | Progress
    | LedgerPart
    | RolledBackEtags
    | ReturnedEtags
    | Jumps
    | PageTimes
    | CallTimes
    | Interval
    | Anomaly
    | LogError
    | StepFigures
    | Report
)

encode_record = msgspec.json.Encoder().encode
decode_record = msgspec.json.Decoder(Record).decode


def ledger_parts(fate: Fate, ranges: list[Range]) -> list[LedgerPart]:
    """Cut the events of a fate into records that are small enough."""
    return [LedgerPart(fate, part) for part in _cut(ranges)]


def rolled_back_etags(etags: list[tuple[int, int]]) -> list[RolledBackEtags]:
    """Cut the etags of rolled-back transactions into records that are small enough."""
    return [RolledBackEtags(part) for part in _cut(etags)]


def jump_records(jumps: list[tuple[int, int, float]]) -> list[Jumps]:
    """Cut jumps over etags into records that are small enough."""
    return [Jumps(part) for part in _cut(jumps)]


def page_times(since: float, uncertainty_seconds: float, pages: list[tuple[int, int]]) -> list[PageTimes]:
    """Cut the times of pages into records that are small enough."""
    return [PageTimes(since, uncertainty_seconds, part) for part in _cut(pages)]


def call_times(since: float, uncertainty_seconds: float, calls: list[tuple[int, int]]) -> list[CallTimes]:
    """Cut the times of transactions into records that are small enough."""
    return [CallTimes(since, uncertainty_seconds, part) for part in _cut(calls)]


def intervals(metric: Timed, second: int, buckets: list[tuple[int, int]]) -> list[Interval]:
    """Cut the latencies of one second into records that are small enough."""
    return [Interval(metric, second, part) for part in _cut(buckets, BUCKETS_PER_RECORD)]


def step_figures(step: int, buckets: list[tuple[int, int]], done: int) -> list[StepFigures]:
    """Cut the figures of a step into records that are small enough; the first one has the events."""
    first, *rest = _cut(buckets, BUCKETS_PER_RECORD) or [[]]
    return [StepFigures(step, first, done), *(StepFigures(step, part, 0) for part in rest)]


def _cut(rows: list[T], size: int = ROWS_PER_RECORD) -> list[list[T]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
