"""`bench limits`: the producers and the consumer against PostgreSQL's own programs, alternating on the same data.

Published tables are made from the record, `limits.json`. What the workers append and read is verified as in a run.
"""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.errors import InfrastructureError
from bench.eventlog import load
from bench.flags import RESULTS, OneMachine, ResultsFolder
from bench.overhead.testbed import FILLERS, GROWN, INSERT_BATCH, READ, Testbed
from bench.places.rundir import RunFolder
from bench.postgres.connection import connected
from bench.postgres.read_back import refuse_without_effect
from bench.quota import processors
from bench.results import store
from bench.results.base import StoredModel
from bench.results.environment import Environment
from bench.run import environment
from bench.run.place import ChosenPlace, open_place
from bench.run.preflight import refuse_full_disk
from bench.run.watch import Watch
from bench.spec import Spec

FILE = "limits.json"
_news = logging.getLogger("bench")
SETTINGS = {"max_wal_size": "4GB", "shared_buffers": "1GB"}
"""Keep all but the grown log in the cache, and keep checkpoints from hitting one program of a pair only."""
SIZES = ((1000, 1.0), (100, 1.0), (10, 0.95))
"""Read batches, each with the least ratio of the consumer's rate to pgbench's."""
SINGLES = 10
"""Producers that append one event per transaction, and the number of pgbench's clients."""


OFFERED_PER_SECOND, OFFERED_SECONDS = 1000, 10.0
"""An offered load of appends of one event, and the longest time that it lasts."""


class Options(BaseModel):
    """The flags of `bench limits`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    events: Annotated[int, Field(ge=1000, le=100_000_000)] = 1_000_000
    """Events in the log that is read, and events appended for each measurement; at least 1000."""
    grown: Annotated[int, Field(ge=0, le=1_000_000_000)] = 10_000_000
    """Events in a second, larger log, to see whether reading slows down; 0 skips it."""
    rounds: Annotated[int, Field(ge=1, le=1000)] = 5
    """Number of rounds; each runs every pair once."""
    place: OneMachine = "auto"
    output: ResultsFolder = RESULTS

    @model_validator(mode="after")
    def _the_second_log_is_larger(self) -> Self:
        if 0 < self.grown <= self.events:
            raise ValueError(f"--grown {self.grown} must be more than --events {self.events}, or 0 to skip it")
        return self


class Pairing(StoredModel):
    """One task, carried out by our workers and by another program alternately."""

    name: str
    ours: str
    theirs: str
    unit: Literal["events/s", "bytes", "ms"]
    target: float
    """Least ratio of our rate to theirs; of bytes and milliseconds, of theirs to ours."""
    pairs: list[tuple[float, float]]
    """(ours, theirs), one pair per round."""

    def ratios(self) -> list[float]:
        """Per round, our rate over theirs, or their bytes or milliseconds over ours: 1 is equal, more is better."""
        return [ours / theirs if self.unit == "events/s" else theirs / ours for ours, theirs in self.pairs]


class Limits(StoredModel):
    """The measurements of `bench limits`."""

    schema_: Literal["bench.limits/1"] = Field(default="bench.limits/1", alias="schema")
    run_id: str
    started_at: datetime
    rounds: int
    events: int
    """Events in the log that is read, and about as many appended for each measurement."""
    grown: int
    """Events in the larger log; 0 if it was skipped."""
    environment: Environment
    contests: list[Pairing]
    first_event_seconds: list[float]
    """Per round, from the start of a command with ten producers to its first appended event."""
    first_event_target: float
    """Seconds, at most."""
    lateness_p99_ms: list[float] = Field(default_factory=list)
    """Per round, by how much producers that waited sent their batches later than due, as the 99th percentile; none in
    a record of a version that did not measure it."""
    lateness_target: float = 1
    """Milliseconds, at most."""


class _Measure(NamedTuple):
    """A pairing, and the two measurements of one round."""

    pairing: Pairing
    ours: Callable[[], float]
    theirs: Callable[[], float]


def measure(options: Options, chosen: ChosenPlace, folder: RunFolder, watch: Watch) -> Iterator[Limits]:
    """Carry out round after round; yields the record so far after each.

    Raises:
        BenchError: something cannot be run or broke, or what the workers appended or read failed verification.
    """
    events, grown = options.events, options.grown
    log = load("bigserial")
    spec = Spec(scale=SINGLES, limit=(events + grown) // SINGLES, set=SETTINGS)
    refuse_full_disk(chosen, spec, folder)
    started_at = datetime.now(UTC)
    with open_place(chosen, spec, log, folder) as place, connected(place.database.conninfo) as connection:
        refuse_without_effect(connection, spec.set)
        testbed = Testbed(place, connection, log, watch)
        for schema, size in ((READ, events), (GROWN, grown)):
            if size:
                _news.info("filling a log with %s events", f"{size:,}")
                testbed.fill(schema, size)
        testbed.install()
        measures = _measures(testbed, events, grown)
        machine = environment.describe(chosen.name, place.about, connection)
        first: list[float] = []
        late: list[float] = []
        for number in range(options.rounds):
            testbed.read(1000, events)  # brings back what the grown log pushed out of the cache
            for pairing, ours, theirs in measures:
                _news.info(
                    "round %d of %d: %s, %s against %s",
                    number + 1,
                    options.rounds,
                    pairing.name,
                    pairing.ours,
                    pairing.theirs,
                )
                if number % 2:
                    their_value, our_value = theirs(), ours()
                else:
                    our_value, their_value = ours(), theirs()
                pairing.pairs.append((our_value, their_value))
            _news.info("round %d of %d: from the command to the first event", number + 1, options.rounds)
            first.append(_first_event_seconds(chosen.name, folder))
            late.append(testbed.lateness(SINGLES, OFFERED_PER_SECOND, _offered_seconds(events)))
            yield Limits(
                run_id=folder.run_id,
                started_at=started_at,
                rounds=number + 1,
                events=events,
                grown=grown,
                environment=machine,
                contests=[each.pairing for each in measures],
                first_event_seconds=first,
                lateness_p99_ms=late,
                first_event_target=2 if chosen.name == "local" else 6,
            )


def _measures(testbed: Testbed, events: int, grown: int) -> list[_Measure]:
    """All pairings with their targets."""

    def pairing(name: str, target: float, ours: str, theirs: str, unit: Literal["events/s", "bytes", "ms"]) -> Pairing:
        return Pairing(name=name, ours=ours, theirs=theirs, unit=unit, target=target, pairs=[])

    def rates(name: str, target: float, ours: str, theirs: str, *both: Callable[[], float]) -> _Measure:
        return _Measure(pairing(name, target, ours, theirs, "events/s"), *both)

    threads = min(processors(), FILLERS)
    loops = events // FILLERS // INSERT_BATCH or 1
    seconds = _offered_seconds(events)
    measures = [
        rates(
            f"read {size:,}",
            target,
            "consumer",
            "pgbench, rows thrown away",
            partial(testbed.read, size, events),
            partial(testbed.pgbench_reads, size, events),
        )
        for size, target in SIZES
    ]
    measures += [
        rates(
            "read 1,000",
            0.5,
            "consumer",
            "psql, binary COPY of the whole table",
            partial(testbed.read, 1000, events),
            partial(testbed.psql_reads, events),
        ),
        rates(
            f"generate {INSERT_BATCH:,}",
            0.98,
            f"{FILLERS} producers",
            f"pgbench, {FILLERS} clients",
            partial(testbed.append, "generate", FILLERS, INSERT_BATCH, loops),
            partial(testbed.pgbench_generates, FILLERS, INSERT_BATCH, loops, threads),
        ),
        rates(
            f"copy {INSERT_BATCH:,}",
            0.9,
            "1 producer",
            "psql, one \\copy of the same rows",
            partial(testbed.append, "copy", 1, INSERT_BATCH, -(-events // INSERT_BATCH)),
            partial(testbed.psql_appends, -(-events // INSERT_BATCH) * INSERT_BATCH),
        ),
        *(
            rates(
                f"append {batch:,}",
                0.9,
                "1 producer, log_event",
                "1 producer, copy",
                partial(testbed.append, "log_event", 1, batch, -(-events // batch)),
                partial(testbed.append, "copy", 1, batch, -(-events // batch)),
            )
            for batch in (1000, INSERT_BATCH)
        ),
        rates(
            "append 1",
            0.8,
            f"{SINGLES} producers, log_event",
            f"pgbench, {SINGLES} clients",
            partial(testbed.append, "log_event", SINGLES, 1, max(1, events // 500)),
            partial(testbed.pgbench_appends, SINGLES, max(1, events // 500)),
        ),
        _Measure(
            pairing(
                f"append 1 at {OFFERED_PER_SECOND:,}/s: p99",
                0.9,
                f"{SINGLES} producers, log_event",
                f"pgbench --rate, {SINGLES} clients",
                unit="ms",
            ),
            partial(testbed.offer, SINGLES, OFFERED_PER_SECOND, seconds),
            partial(testbed.pgbench_offers, SINGLES, OFFERED_PER_SECOND, seconds),
        ),
        *(
            rates(
                f"read {size:,}",
                0.95,
                "consumer, checking",
                "consumer, not checking",
                partial(testbed.read, size, events),
                partial(testbed.read, size, events, check=False),
            )
            for size in (1000, 10)
        ),
        rates(
            "read 1,000",
            0.99,
            "consumer, Postgres sampled",
            "consumer, Postgres not sampled",
            partial(testbed.read, 1000, events, sampled=True),
            partial(testbed.read, 1000, events),
        ),
    ]
    if grown:
        measures += [
            rates(
                "read 1,000",
                0.9,
                f"consumer, {grown:,} events",
                f"consumer, {events:,} events",
                partial(testbed.read, 1000, grown, schema=GROWN, readings=1),
                partial(testbed.read, 1000, events),
            ),
            _Measure(
                pairing(
                    "memory", 1 / 1.05, f"consumer, {grown:,} events", f"consumer, {events:,} events", unit="bytes"
                ),
                partial(testbed.memory, GROWN),
                partial(testbed.memory, READ),
            ),
        ]
    return measures


def _offered_seconds(events: int) -> float:
    return min(OFFERED_SECONDS, events / OFFERED_PER_SECOND)


def _first_event_seconds(place: str, folder: RunFolder) -> float:
    """Run the command as a user would; returns the seconds to the first appended event."""
    file = folder.path / "first.json"
    command = [*(sys.executable, "-m", "bench", "run", "--place", place, "--scale", "10", "--insert-batch", "1")]
    command += ["--limit", "1", "--quiet", "--output", str(folder.path), "--export-json", str(file)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, start_new_session=True)
    if ran.returncode:
        raise InfrastructureError(f"a run of ten events failed: {ran.stderr.strip()}")
    return store.load(file).trials[0].append.first_event_seconds or 0
