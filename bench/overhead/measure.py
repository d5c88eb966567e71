"""Our producers and consumer beside PostgreSQL's own programs, on the same data, in turns: is a number Postgres's?

What is published is made from the record that this returns, `limits.json`. Whatever ours did is judged like in a run.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Literal, NamedTuple

from pydantic import Field

from bench.errors import InfrastructureError
from bench.eventlog import load
from bench.overhead.testbed import FILLERS, GROWN, INSERT_BATCH, READ, Testbed
from bench.places.rundir import RunFolder
from bench.postgres.connection import connected
from bench.postgres.read_back import refuse_without_effect
from bench.quota import processors
from bench.results import store
from bench.results.models import Environment, StoredModel
from bench.run import environment
from bench.run.place import ChosenPlace, open_place
from bench.run.preflight import refuse_full_disk
from bench.run.watch import Watch
from bench.spec import Spec

FILE = "limits.json"
SETTINGS = {"max_wal_size": "4GB", "shared_buffers": "1GB"}
"""So that all but the grown log stays in the cache, and no checkpoint falls upon one of two that take turns."""
SIZES = ((1000, 1.0), (100, 1.0), (10, 0.95))
"""Read batches, and how well the consumer must do beside pgbench."""
SINGLES = 10
"""Producers that append one event a transaction, and pgbench's clients beside them."""


class Pairing(StoredModel):
    """One thing done by us and by another, again and again in turns."""

    name: str
    ours: str
    theirs: str
    unit: Literal["events/s", "bytes"]
    target: float
    """Ours over theirs, at least; of bytes theirs over ours."""
    pairs: list[tuple[float, float]]
    """(ours, theirs), a pair a round."""

    def ratios(self) -> list[float]:
        """How well ours did in each round, 1 being as well as theirs and more being better."""
        return [ours / theirs if self.unit == "events/s" else theirs / ours for ours, theirs in self.pairs]


class Limits(StoredModel):
    """The table of limits, as it was measured."""

    schema_: Literal["bench.limits/1"] = Field(default="bench.limits/1", alias="schema")
    run_id: str
    started_at: datetime
    rounds: int
    events: int
    """In the log that is read and in what is appended."""
    grown: int
    """Events in the log that was left to grow; 0 when there was none."""
    environment: Environment
    contests: list[Pairing]
    first_event_seconds: list[float]
    """From the start of a command with ten producers until its first event was appended."""
    first_event_target: float
    """Seconds, at most."""


class _Measure(NamedTuple):
    """A pairing that can be carried out."""

    pairing: Pairing
    ours: Callable[[], float]
    theirs: Callable[[], float]


def measure(
    events: int,
    grown: int,
    rounds: int,
    chosen: ChosenPlace,
    folder: RunFolder,
    watch: Watch,
    tell: Callable[[str], None],
) -> Iterator[Limits]:
    """Carry out one round after the other; yields what is known after each.

    Raises:
        BenchError: it cannot be run, or something broke, or what ours did was not right.
    """
    log = load("bigserial")
    spec = Spec(scale=SINGLES, limit=(events + grown) // SINGLES, set=SETTINGS)
    refuse_full_disk(chosen, spec, folder)
    started_at = datetime.now(UTC)
    with open_place(chosen, spec, log, folder) as place, connected(place.database.conninfo) as connection:
        refuse_without_effect(connection, spec.set)
        testbed = Testbed(place, connection, log, watch)
        for schema, size in ((READ, events), (GROWN, grown)):
            if size:
                tell(f"filling a log with {size:,} events")
                testbed.fill(schema, size)
        testbed.install()
        measures = _measures(testbed, events, grown)
        where = environment.describe(chosen.name, place.about, connection)
        first: list[float] = []
        for number in range(rounds):
            testbed.read(1000, events)  # what the grown log pushed out of the cache comes back
            for pairing, ours, theirs in measures:
                tell(f"round {number + 1}: {pairing.name}")
                if number % 2:
                    their_value, our_value = theirs(), ours()
                else:
                    our_value, their_value = ours(), theirs()
                pairing.pairs.append((our_value, their_value))
            tell(f"round {number + 1}: from the command to the first event")
            first.append(_first_event_seconds(chosen.name, folder))
            yield Limits(
                run_id=folder.run_id,
                started_at=started_at,
                rounds=number + 1,
                events=events,
                grown=grown,
                environment=where,
                contests=[each.pairing for each in measures],
                first_event_seconds=first,
                first_event_target=2 if chosen.name == "local" else 6,
            )


def _measures(testbed: Testbed, events: int, grown: int) -> list[_Measure]:
    """What is compared with what, and how well ours must do."""

    def pairing(name: str, target: float, ours: str, theirs: str, unit: Literal["events/s", "bytes"]) -> Pairing:
        return Pairing(name=name, ours=ours, theirs=theirs, unit=unit, target=target, pairs=[])

    def rates(name: str, target: float, ours: str, theirs: str, *both: Callable[[], float]) -> _Measure:
        return _Measure(pairing(name, target, ours, theirs, "events/s"), *both)

    threads = min(processors(), FILLERS)
    loops = events // FILLERS // INSERT_BATCH or 1
    found = [
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
    found += [
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
        found += [
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
    return found


def _first_event_seconds(place: str, folder: RunFolder) -> float:
    """Run the program as a user would."""
    file = folder.path / "first.json"
    command = [*(sys.executable, "-m", "bench", "run", "--place", place, "--scale", "10", "--insert-batch", "1")]
    command += ["--limit", "1", "--quiet", "--output", str(folder.path), "--export-json", str(file)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, start_new_session=True)
    if ran.returncode:
        raise InfrastructureError(f"a run of ten events failed: {ran.stderr.strip()}")
    return store.load(file).trials[0].append.first_event_seconds or 0
