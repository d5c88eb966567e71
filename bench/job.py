"""The jobs of workers: one per worker, a JSON object on a line of its own. Unknown keys are refused, as in records."""

from hashlib import sha256
from typing import Literal

import msgspec
from msgspec.structs import replace

Way = Literal["generate", "log_event", "copy"]
"""A way to append: events built in the server, events passed to the log's own function, or COPY."""

Arrival = Literal["fixed", "poisson"]
"""How batches arrive: at even distances, or at random with the same mean."""

Wake = Literal["poll", "notify", "both"]
"""What makes a reader ask again after an empty page: time, a notification, or whichever comes first."""


class Load(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An offered load: batches have due times, whether earlier batches are answered or not."""

    steps: list[tuple[float, float | None]]
    """Rates, in events per second of all producers together, each with the seconds that it lasts. The last one is above
    0 and goes on for as long as there are events; only its seconds may be None."""
    arrival: Arrival
    producers: int
    """Number of producers that share the load."""


class Payloads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What payloads hold besides producer, seq and value: padding, or an object of a file."""

    sizes: tuple[tuple[int, float], ...] = ((0, 100.0),)
    """The sizes to which payloads are padded, in bytes, each with its share in percent; 0 leaves payloads as short as
    they are, and is the only one then."""
    entropy: int = 6
    """Random bits per character of the padding, from 0 to 6."""
    objects: bytes = b""
    """Objects as lines of JSON, compressed by zlib: each payload is one of them with producer, seq and value added. b""
    for padding."""
    seed: int = 0
    """Random seed for the choice of each event's size or object."""


class ProducerJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="job", tag="producer"):
    """Append `limit` events, seq and value 0..limit-1, in transactions of `insert_batch`; fewer when `seconds` are over
    before."""

    name: str
    """The worker's name in records, messages and pg_stat_activity."""
    schema: str
    barrier: int
    """The key of the advisory lock that holds all workers back until they may start together."""
    append: Way
    sql: str
    """The statement that appends one batch."""
    producer: int | str
    """The producer's number in its events, or a query that draws one (where no orchestrator assigns numbers, as in
    compose.yml)."""
    limit: int
    insert_batch: int
    returned: str | None = None
    """A statement that appends as `sql` does, and yields the first rows that log_event returned, as texts: etag,
    payload, number of all rows. It is used for the first batch, and for one after 1, 2, 4, 8 reports of
    progress and so on."""
    transaction_ms: tuple[float, float] = (0, 0)
    """A transaction stays open before its end for a random time between these two."""
    abort_rate: float = 0
    """The probability that a transaction is rolled back; its events are then not appended again."""
    seed: int = 0
    """Random seed for the times and the aborts; each producer adds its number to it."""
    stop: int | None = None
    """The key of an advisory lock that is released when this worker is to end before it has appended everything,
    because the verdict is known; the worker checks it whenever it reports progress. With None it never ends early."""
    drawn: str | None = None
    """A query that yields the etags that the open transaction has drawn above $1, as texts: first and last of each
    run."""
    server: str = ""
    """The result of `SERVER` in the orchestrator's session: the worker works on no other server. "" allows any."""
    session: str = ""
    """The application_name of the worker's session; "" is `bench` and its name."""
    session_sql: str = ""
    """Statements that the worker's session runs first of all that it does in the schema; "" for none."""
    alive: int | None = None
    """The key of an advisory lock that the orchestrator holds for as long as it lives; the worker ends when the lock is
    free. None for a worker without an orchestrator."""
    timed_calls: int = 0
    """The times of this many transactions, the first ones, are reported."""
    load: Load | None = None
    """The load that is offered; without one each batch is sent when the batch before is answered."""
    payloads: Payloads = Payloads()
    """What payloads hold besides producer, seq and value."""
    seconds: float | None = None
    """No batch is sent later than this after the start of the schedule; the batch that is under way then is finished.
    None without an end by time."""
    warm_up_seconds: int = 0
    """The first seconds of the phase, or of the schedule, that are to be left out of rates."""


class ConsumerJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="job", tag="consumer"):
    """Read the whole log, a page per call, until an empty page and the permission to stop."""

    name: str
    schema: str
    barrier: int
    sql: str
    """The query that yields the next page as (etag, ctime, payload, more of the cursor). Its parameters are the cursor
    in the last row of the page before, as it came; at first `after`, or NULLs."""
    cursor: list[int]
    """The columns of a row that make up the cursor, in the order of the parameters; none when the server keeps it."""
    depth: int
    """Reads that are sent together, in one transaction; more than one only when the server keeps the cursor."""
    limit: int
    """Events per producer, the most of any, or a bound while that is not known: a seq outside of 0..limit-1 is nobody's
    event."""
    most_events: int
    """The reader gives up when the log delivers more events than this: it might never end."""
    stop: int | None = None
    """The key of an advisory lock that is released when this worker may stop; until then it goes on after an empty
    page, because more may come. With None it stops at the first empty page."""
    tails: bool = False
    """Whether producers append meanwhile. The measured time then ends with the last event, else with the first empty
    page after it."""
    max_jumps: int = 0
    """The most jumps over etags to remember, with their times."""
    timed_calls: int = 0
    """The times of this many pages, the first ones, are reported."""
    awake_seconds: float = 0
    """Time to wait for a page without sleeping, where a processor is to spare: waking up can take longer than reading a
    small page."""
    check: bool = True
    """False counts the events without looking at them, to measure the cost of the look."""
    after: list[bytes] = []
    """The cursor to begin after, as in `cursor`, in PostgreSQL's binary format; empty at the start of the log."""
    reports_cursor: bool = False
    """Whether reports of progress have the reader's cursor."""
    batch: int = 0
    """Events per append transaction, where each transaction's events are to be delivered in one piece; 0 leaves that
    unchecked."""
    preloaded: tuple[int, int] | None = None
    """The first producer of preloaded events, and the limit, as `limit`, of all producers from that one on."""
    ordered: bool = False
    """Whether to compute the checksum of the order of delivery."""
    rejoin_pages: int = 0
    """A member of a group leaves after this many pages and joins again; 0 never."""
    phases: list[tuple[float, bool]] = []
    """The phases of an offered load: the seconds that each lasts, and whether this consumer reads meanwhile. It always
    reads after the last one. Figures are reported for each phase."""
    warm_up_seconds: int = 0
    """As in a producer's job."""
    read_batch: int = 0
    """The events per page that `sql` asks for: a larger page is a fault of the log. 0 when unknown."""
    listen: str = ""
    """The channel whose notifications make the worker ask again after an empty page; "" for none."""
    poll_ms: tuple[float, float] | None = (1, 1)
    """After an empty page the worker asks again after a random time between these two, if not before. None: only when a
    notification comes, or when it may stop."""
    think_ms: tuple[float, float] = (0, 0)
    """The worker works with each page that has events for a random time between these two, and asks for the next page
    after that; with 0 it asks before it looks at the page."""
    seed: int = 0
    """Random seed for these times; each worker adds its name to it."""
    server: str = ""
    """As in a producer's job; a member of a group rejoins on this server."""
    session: str = ""
    """As in a producer's job."""
    session_sql: str = ""
    """As in a producer's job."""
    alive: int | None = None
    """As in a producer's job."""
    payloads: Payloads = Payloads()
    """As in a producer's job."""


Job = ProducerJob | ConsumerJob


def echo(job: Job) -> Job:
    """The job as a worker reports it: with a digest of its objects, so that a record can hold it."""
    if not job.payloads.objects:
        return job
    digest = sha256(job.payloads.objects).digest()
    return replace(job, payloads=replace(job.payloads, objects=digest))


encode_job = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(Job).decode
