"""A run as one typed model, made from flags or from a TOML file with the same keys, and valid before anything starts.

Checks values and their combinations; whether Docker, disk or the log fit is checked elsewhere.
"""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from bench import phases
from bench.flags import Flag, Switch, flag_name, sizes
from bench.job import Arrival, Wake, Way
from bench.objectives import Objective, parse_objective
from bench.padding import MOST_BITS
from bench.phases import Phases
from bench.schedule import span_seconds
from bench.values import (
    FIND,
    LONGEST_SECONDS,
    SMALLEST_PAYLOAD_BYTES,
    Constraint,
    Dsn,
    Memory,
    ObjectiveText,
    checked_payload_bytes,
    checked_rate_or_find,
    offered_events,
    parse_count,
    parse_pause,
    parse_range,
    parse_retention,
    parse_time,
    parse_wait,
    parse_whole_seconds,
    payload_sizes_of,
    steps_of,
)

PlaceName = Literal["auto", "local", "docker", "swarm"]

LARGEST_BATCH_BYTES = 256 * 1024 * 1024
"""A quarter of the 1 GiB limit of a PostgreSQL value; a worker can hold it in memory."""

DEFAULT_LOOPS = 100
"""Append transactions per producer, if neither `insert_loops` nor `limit` is given."""
MAX_LIMIT = 10**12
MAX_SCALE = 1000

_OURS = {"listen_addresses", "unix_socket_directories", "port", "data_directory", "hba_file", "config_file"}
SMALLEST_CPUS, LARGEST_CPUS = 0.01, 8192
"""Docker refuses smaller limits, or ignores those that round to 0; Linux supports no more processors."""
_SETTING = Flag("NAME=VALUE", repeated=True, example="shared_buffers=2GB")
_WAIT = Flag("TIME|A..Bms", default="1ms")
DEFAULT_POLL_MS = (1.0, 1.0)
_Cpus = Annotated[float | None, Field(ge=SMALLEST_CPUS, le=LARGEST_CPUS, allow_inf_nan=False)]


LogName = Annotated[
    str, Field(min_length=1, description="A log that ships, or the folder of your own."), Flag("NAME|DIR")
]
DEFAULT_LOG = "bigserial"


class Spec(BaseModel):
    """One run. The fields are the flags of `bench run`."""

    # A value may be a DSN with a password, and --debug prints pydantic's errors.
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True, hide_input_in_errors=True
    )
    groups: ClassVar = {
        "Appending": "scale",
        "Reading": "read_batch",
        "The log and its trials": "log",
        "Where it runs": "place",
        "On a swarm": "constraint",
    }
    """The headings of the help, each with its first field."""

    scale: Annotated[int, Field(ge=1, le=MAX_SCALE), Flag(alias="--producers")] = 10
    """Number of producers."""
    insert_batch: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Events per append transaction."""
    insert_loops: Annotated[int | None, Field(ge=1, le=MAX_LIMIT), Flag(default="100")] = None
    """Append transactions per producer."""
    limit: Annotated[int | None, Field(ge=1, le=MAX_LIMIT)] = None
    """Events per producer, instead of --insert-loops; the last batch may be short."""
    rate: Annotated[str | None, BeforeValidator(checked_rate_or_find), Flag("RATE[:TIME,...]|find")] = None
    """Offered load in events per second of all producers together, like 5000, or in steps like 1000:60s,5000:30s; find
    searches for the highest one that meets --slo and confirms it for --duration (30s); without --rate each batch
    follows the answer to the one before."""
    slo: Annotated[tuple[ObjectiveText, ...], Flag("OBJECTIVE", repeated=True)] = ()
    """With --rate find: an objective that the load has to meet, like 'append p99 < 50ms' (append, end_to_end or read;
    p50, p90, p99, p99.9, p99.99 or max)."""
    arrival: Annotated[Arrival | None, Flag(default="fixed")] = None
    """With --rate: batches arrive at even distances, or at random as a Poisson process."""
    duration: Annotated[float | None, Field(gt=0, le=LONGEST_SECONDS), BeforeValidator(parse_time), Flag("TIME")] = None
    """Append for this time, like 90s, 10m or 2h, instead of --limit or --insert-loops; with --rate, the time in which
    events are offered."""
    phase: Annotated[Phases, Flag(in_file_only=True)] = ()
    """Phases of an offered load with --mode tail, each with its own rate."""
    warm_up_seconds: Annotated[int, Field(ge=0), BeforeValidator(parse_whole_seconds), Flag("TIME")] = 0
    """Leave the first seconds of appending, and of reading with --mode tail, out of rates and latencies."""
    append: Way = "log_event"
    """How to append: events generated in the server, a JSON array passed to the log's log_event, or COPY."""
    payload_bytes: Annotated[int | str, BeforeValidator(checked_payload_bytes), Flag("BYTES[:SHARE%,...]")] = 0
    """Pad each payload to this size with random text, or to sizes in these shares, like 200:80%,4000:20%; 0 does not
    pad."""
    payload_entropy: Annotated[int | None, Field(ge=0, le=MOST_BITS), Flag("BITS", default="6")] = None
    """With --payload-bytes: random bits per character of padding, from 0 (one letter again and again) to 6 (does not
    compress)."""
    payload_file: Annotated[Path | None, Flag("FILE")] = None
    """JSON lines: each event is one of these objects at random, with producer, seq and value added; instead of
    --payload-bytes."""
    transaction_ms: Annotated[tuple[float, float], BeforeValidator(parse_range), Flag("A..B", default="0..0")] = (0, 0)
    """Keep each append transaction open for a random time from A to B milliseconds."""
    abort_rate: Annotated[float, Field(ge=0, le=0.9)] = 0
    """Share of append transactions that are rolled back."""
    pause: Annotated[tuple[float, float] | None, BeforeValidator(parse_pause), Flag("A..Bms")] = None
    """Pause all sessions at random inside statements, for A to B milliseconds; no rate is published."""
    seed: int = 0
    """Random seed for --transaction-ms, --abort-rate, --arrival, --pause, --poll-interval, --consumer-think, and for
    which payload an event has."""
    read_batch: Annotated[
        tuple[Annotated[int, Field(ge=1, le=10_000_000)], ...],
        Field(min_length=1, max_length=20),
        Flag("N[,N...]", default="1000"),
    ] = (1000,)
    """Events per page; given several sizes, the whole log is read once with each."""
    mode: Literal["drain", "tail"] = "drain"
    """Read after the producers are done (drain), or while they append (tail)."""
    wake: Annotated[Wake | None, Flag(default="poll")] = None
    """With --mode tail: a reader asks again after an empty page when --poll-interval is over (poll), when the writers
    notify it (notify), or at whichever comes first (both)."""
    poll_interval: Annotated[tuple[float, float] | None, BeforeValidator(parse_wait), _WAIT] = None
    """With --mode tail: how long a reader waits after an empty page; random for a range."""
    consumer_think: Annotated[tuple[float, float] | None, BeforeValidator(parse_wait), Flag("TIME|A..Bms")] = None
    """A reader works with each page of events for this time before it asks for the next one; random for a range."""
    consumers: Annotated[int, Field(ge=1, le=MAX_SCALE)] = 1
    """Number of consumers; each reads the whole log."""
    group: Annotated[int, Field(ge=0, le=MAX_SCALE)] = 0
    """Number of members of one consumer that share the log's events; 0 for no group."""
    rejoin: Annotated[int, Field(ge=0)] = 0
    """With --group: each member leaves after this number of pages and joins again; 0 disables."""
    cursor: Literal["own", "client"] = "own"
    """Who stores a consumer's position: the consumer itself (own), or the database under its name (client)."""
    depth: Annotated[int, Field(ge=1, le=1000)] = 1
    """With --cursor client or --group: number of reads sent together as one transaction."""
    idle_timeout: Annotated[float, Field(gt=0), Flag("SECONDS")] = 10
    """Stop reading after SECONDS without a new event, counted from the producers' end."""
    log: LogName = DEFAULT_LOG
    preload: Annotated[int | None, Field(ge=0, le=MAX_LIMIT), BeforeValidator(parse_count), Flag("N")] = None
    """Events in the log before the run, like 100k or 10M; readers begin after them, and no figure counts them."""
    retention: Annotated[str | None, BeforeValidator(parse_retention), Flag("TIME|EVENTS")] = None
    """With --mode tail: delete events behind all readers that are older than TIME, like 30s or 5m, or not among the
    newest EVENTS, like 100k or 1M."""
    trials: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of trials, each on a new log."""
    warm_up: Annotated[int | None, Field(ge=0, le=100), Flag(default="0, or 1 with several trials")] = None
    """Number of warm-up trials, run first and discarded."""
    fresh: Switch = False
    """Start a fresh Postgres for each trial."""
    place: PlaceName = "auto"
    """Where Postgres and the workers run; auto takes Docker when an engine answers."""
    dsn: Annotated[Dsn | None, Field(repr=False), Flag("URL", variable="BENCH_DSN")] = None
    """Use this PostgreSQL; a schema `bench` is created in it and dropped at the end."""
    set: Annotated[dict[str, str], Field(default_factory=dict), _SETTING]
    """PostgreSQL setting."""
    pg_bin: Annotated[Path | None, Flag("DIR")] = None
    """local: folder with the initdb and postgres to use."""
    postgres_image: Annotated[str | None, Field(min_length=1), Flag(default="postgres:18")] = None
    """docker, swarm: Postgres image."""
    worker_image: Annotated[str | None, Field(min_length=1), Flag(default="built here")] = None
    """docker, swarm: worker image, by tag or digest."""
    postgres_memory: Annotated[Memory | None, Flag("SIZE")] = None
    """docker, swarm: memory limit of the Postgres container, like 4g."""
    postgres_cpus: Annotated[_Cpus, Flag()] = None
    """docker, swarm: CPU limit of the Postgres container, like 1.5."""
    worker_memory: Annotated[Memory | None, Flag("SIZE")] = None
    """docker, swarm: memory limit of each worker container, like 512m."""
    worker_cpus: Annotated[_Cpus, Flag()] = None
    """docker, swarm: CPU limit of each worker container."""
    constraint: Annotated[tuple[Constraint, ...], Flag("EXPRESSION", repeated=True)] = ()
    """Docker placement constraint for workers, like node.labels.disk==ssd."""
    max_per_node: Annotated[int | None, Field(ge=1, le=MAX_SCALE)] = None
    """Maximum number of producers, and of consumers, per node."""
    postgres_node: Annotated[str | None, Field(min_length=1), Flag("NODE", default="the current manager")] = None
    """Node that Postgres runs on."""
    on_node_loss: Literal["fail", "continue"] = "fail"
    """When a node with producers is lost: end the run, or continue without them."""

    @field_validator("read_batch", mode="before")
    @classmethod
    def _one_size_is_a_list_of_one(cls, value: object) -> object:
        return [value] if isinstance(value, int) else sizes(value)

    @field_validator("set", mode="before")
    @classmethod
    def _settings_are_texts(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        switches = {True: "on", False: "off"}
        return {
            name.lower(): switches[text]
            if isinstance(text, bool)
            else str(text)
            if isinstance(text, int | float)
            else text
            for name, text in value.items()
        }

    @field_validator("set")
    @classmethod
    def _settings_can_be_given(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not re.fullmatch(r"[a-z_][a-z0-9_.]*", name):
                raise ValueError(f"{name!r} is not the name of a setting")
            if name in _OURS:
                raise ValueError(f"{name} is set by the harness itself")
        return value

    @field_validator("read_batch")
    @classmethod
    def _each_size_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("give each size once")
        return value

    @model_validator(mode="after")
    def _values_fit_together(self) -> Self:
        if self.limit is not None and self.insert_loops is not None:
            raise ValueError("--limit and --insert-loops set the same number: give one of them")
        self._load_fits()
        self._every_producer_has_events()
        self._waits_fit()
        self._warm_up_fits()
        if (self.events_per_producer or 0) > MAX_LIMIT:
            raise ValueError(f"--insert-batch x --insert-loops is over {MAX_LIMIT:,} events per producer")
        self._payloads_fit()
        if self.group and self.consumers > 1:
            raise ValueError("--group and --consumers are mutually exclusive: give one of them")
        if self.rejoin and not self.group:
            raise ValueError("--rejoin is for the members of a group: give --group too")
        if self.depth > 1 and self.cursor == "own" and not self.group:
            raise ValueError("--depth needs a position that the database stores: give --cursor client or --group too")
        if self.cursor == "client" and self.group:
            raise ValueError("--group is a named client already: leave --cursor client out")
        if self.mode == "tail" and len(self.read_batch) > 1:
            raise ValueError("--mode tail reads the log once, while events are appended: give one --read-batch")
        if self.retention and self.mode != "tail":
            raise ValueError("--retention deletes behind readers while events are appended: give --mode tail too")
        if self.retention and (self.group or self.cursor == "client"):
            raise ValueError("--retention needs readers that keep their cursors: leave --group and --cursor client out")
        if self.preload and (self.payload_file or len(self.payload_sizes) > 1):
            raise ValueError("--preload makes payloads of one size: give one --payload-bytes, and no --payload-file")
        payload_bytes = max(size for size, _ in self.payload_sizes) or SMALLEST_PAYLOAD_BYTES
        for name, batch in (
            ("insert-batch", self.insert_batch),
            ("read-batch", max(self.read_batch) * self.depth),
        ):
            if batch * payload_bytes > LARGEST_BATCH_BYTES:
                raise ValueError(
                    f"--{name} {batch} of {payload_bytes} bytes is more than {LARGEST_BATCH_BYTES // 2**20} MiB at once"
                )
        self._flags_fit_the_place()
        return self

    def _payloads_fit(self) -> None:
        is_padded = self.payload_bytes != 0
        if self.payload_entropy is not None and not is_padded:
            raise ValueError("--payload-entropy is for padding: give --payload-bytes too")
        if self.payload_file is not None and is_padded:
            raise ValueError("--payload-file has payloads of their own sizes: leave --payload-bytes out")
        if self.payload_file is not None and self.append == "generate":
            raise ValueError(
                "--append generate builds payloads in the server, which has no --payload-file: give --append log_event "
                "or copy"
            )

    def _load_fits(self) -> None:
        if self.slo and not self.is_search:
            raise ValueError("--slo is what --rate find searches for: give --rate find too, or leave --slo out")
        if self.phase:
            phases.refuse_misfits(self.phase, dict(self))
            return
        if self.arrival is not None and self.rate is None:
            raise ValueError("--arrival is for an offered load: give --rate too")
        if self.pause and self.rate is not None:
            raise ValueError("--rate measures how a load is borne, and a run with --pause has no speed: drop one")
        if self.is_search:
            self._search_fits()
            return
        lasts = [
            name
            for name, given in (
                ("--duration", self.duration is not None),
                ("the time of the last step of --rate", any(seconds is not None for _, seconds in self.steps[-1:])),
                ("--limit", self.limit is not None),
                ("--insert-loops", self.insert_loops is not None),
            )
            if given
        ]
        if len(lasts) > 1:
            raise ValueError(f"{' and '.join(lasts)} say how much is appended: give one of them")
        if self.append_seconds is not None and self.on_node_loss == "continue":
            raise ValueError(
                "--on-node-loss continue must know how many events a lost producer had: give --limit, --insert-loops "
                "or --rate"
            )

    def _every_producer_has_events(self) -> None:
        if self.offered_events is not None and self.offered_events < self.scale:
            load = "[[phase]]: the phases offer" if self.phase else f"--rate {self.rate}: this load offers"
            raise ValueError(
                f"{load} {self.offered_events:.3g} events in all, fewer than --scale/--producers {self.scale}: give a "
                "higher rate, a longer time or fewer producers"
            )

    def _search_fits(self) -> None:
        if not self.slo:
            raise ValueError("--rate find needs an objective: give --slo too, like --slo 'append p99 < 50ms'")
        for name in ("limit", "insert_loops", "trials", "warm_up", "warm_up_seconds", "on_node_loss"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{flag_name(name)} cannot be combined with --rate find, which decides itself how many windows it "
                    "needs and how many events each has: leave it out"
                )
        for objective in self.objectives:
            objective.refuse_for_search(tails=self.mode == "tail")

    def _waits_fit(self) -> None:
        for name in ("wake", "poll_interval"):
            if getattr(self, name) is not None and self.mode != "tail":
                raise ValueError(f"{flag_name(name)} is for reading while producers append: give --mode tail too")
        if self.wake == "notify" and self.poll_interval is not None:
            raise ValueError("--wake notify never polls: leave --poll-interval out, or give --wake both")
        for name in ("poll_interval", "consumer_think"):
            _, longest_ms = getattr(self, name) or (0, 0)
            if longest_ms > self.idle_timeout * 1000 / 2:
                raise ValueError(
                    f"{flag_name(name)} must be at most half of --idle-timeout, which is {self.idle_timeout:g} s: a "
                    "reader that waits for longer would be stopped as idle"
                )

    def _warm_up_fits(self) -> None:
        lasts = span_seconds(self.steps, self.events) if self.steps and self.events else self.duration
        if self.warm_up_seconds and lasts is not None and self.warm_up_seconds >= lasts:
            raise ValueError(
                f"--warm-up-seconds {self.warm_up_seconds} leaves nothing to measure of {lasts:.6g} s: give less"
            )

    def _flags_fit_the_place(self) -> None:
        given = self.model_dump(exclude_none=True)
        if self.dsn is not None:
            for name in (
                "fresh",
                "set",
                "postgres_image",
                "pg_bin",
                "postgres_memory",
                "postgres_cpus",
                "postgres_node",
            ):
                if given.get(name):
                    raise ValueError(
                        f"{flag_name(name)} cannot be combined with --dsn: that server is already running; drop one"
                    )
        if self.place == "local":
            for name in ("postgres_image", "worker_image", *LIMITS):
                if name in given:
                    raise ValueError(f"{flag_name(name)} is for the docker place, and the place is local")
        if self.place in {"docker", "swarm"} and self.pg_bin is not None:
            raise ValueError(f"--pg-bin is for the local place, and the place is {self.place}")
        if self.place != "swarm":
            for name in ("constraint", "max_per_node", "postgres_node", "on_node_loss"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{flag_name(name)} is for the swarm place: give --place swarm too")

    @property
    def is_search(self) -> bool:
        """Whether the offered load is to be found. Each window of the search is a spec with a rate and a duration."""
        return self.rate == FIND

    @property
    def objectives(self) -> list[Objective]:
        """The objectives of a search."""
        return [parse_objective(text) for text in self.slo]

    @property
    def steps(self) -> list[tuple[float, float | None]]:
        """The steps of the offered load, as in `steps_of`; none without one, and while it is to be found."""
        if self.phase:
            return phases.steps(self.phase)
        return steps_of(self.rate) if self.rate and not self.is_search else []

    @property
    def offered_events(self) -> float | None:
        """The events that the offered load has in its time; None without a load, without a time, and while the load is
        to be found.
        """
        if self.phase:
            return phases.offered_events(self.phase)
        return offered_events(self.rate, self.duration) if self.rate and not self.is_search else None

    @property
    def payload_sizes(self) -> list[tuple[int, float]]:
        """The sizes that payloads are padded to, as in `payload_sizes_of`; 0 is no padding."""
        return payload_sizes_of(str(self.payload_bytes))

    @property
    def append_seconds(self) -> float | None:
        """Seconds for which producers append as fast as they can; None where the number of events is known before."""
        return self.duration if self.rate is None else None

    @property
    def seq_limit(self) -> int:
        """Every seq is below this: the events per producer, or `MAX_LIMIT` where producers append for a time."""
        return MAX_LIMIT if self.events_per_producer is None else self.events_per_producer

    @property
    def events_per_producer(self) -> int | None:
        """Events per producer, seq and value from 0 to this minus 1; None where producers append for a time."""
        if self.append_seconds is not None:
            return None
        if self.limit is not None:
            return self.limit
        if self.is_search:
            return self.insert_batch  # the fewest that a window offers
        if self.offered_events is None:
            return self.insert_batch * (self.insert_loops or DEFAULT_LOOPS)
        return max(1, round(self.offered_events / self.scale))

    @property
    def preloaded(self) -> int:
        """Number of events that are in the log before the run."""
        return self.preload or 0

    @property
    def poll_ms(self) -> tuple[float, float] | None:
        """Range of the milliseconds after which a reader asks again; None when only notifications make it ask."""
        return None if self.wake == "notify" else self.poll_interval or DEFAULT_POLL_MS

    @property
    def warm_ups(self) -> int:
        """Number of trials that are run first and discarded."""
        return self.warm_up if self.warm_up is not None else int(self.trials > 1)

    @property
    def workers(self) -> int:
        """Maximum number of workers at any time."""
        return self.scale + self.readers if self.mode == "tail" else max(self.scale, self.readers)

    @property
    def readers(self) -> int:
        """Number of workers of one reading."""
        return self.group or self.consumers

    @property
    def events(self) -> int | None:
        """Number of events of all producers; None where they append for a time."""
        return None if self.events_per_producer is None else self.scale * self.events_per_producer


LIMITS = ("postgres_memory", "postgres_cpus", "worker_memory", "worker_cpus")
"""The fields that set limits of containers."""
