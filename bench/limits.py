"""Our producers and consumer beside PostgreSQL's own programs, on the same data, in turns: is a number Postgres's?

What is published is made from the record that this returns, `limits.json`. Whatever ours did is judged like in a run.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench import audit, checker, control, environment, plan, results, rivals
from bench.checker import Stored, Written
from bench.control import Connection
from bench.errors import BadInputError, OutsideError
from bench.logs import Log, load
from bench.phase import Phase, Watch, carry_out
from bench.place import Choice, open_site, refuse_full_disk
from bench.places.folder import RunFolder
from bench.places.site import Program, Site
from bench.records import ConsumerJob, Job, Range, Report
from bench.results import Environment, store_text
from bench.spec import Spec
from bench.summary import Reader, seconds_of
from bench.telemetry import observer

FILE = "limits.json"
READ, GROWN = "bench_read", "bench_grown"
"""The schemas of the logs that are read; the one that is appended to is in plan.SCHEMA."""
SETTINGS = {"max_wal_size": "4GB", "shared_buffers": "1GB"}
"""So that all but the grown log stays in the cache, and no checkpoint falls upon one of two that take turns."""
FILLERS = 2
INSERT_BATCH = 10_000
SIZES = ((1000, 1.0), (100, 1.0), (10, 0.95))
"""Read batches, and how well the consumer must do beside pgbench."""
PASSES = {1000: 3, 100: 1, 10: 1}
"""The whole log is read so often for one measurement: once with large pages is over too soon."""
SINGLES = 10
"""Producers that append one event a transaction, and pgbench's clients beside them."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Contest(_Model):
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


class Limits(_Model):
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
    contests: list[Contest]
    first_event_seconds: list[float]
    """From the start of a command with ten producers until its first event was appended."""
    first_event_target: float
    """Seconds, at most."""


class _Measure(NamedTuple):
    """A contest that can be carried out."""

    contest: Contest
    ours: Callable[[], float]
    theirs: Callable[[], float]


def measure(
    events: int, grown: int, rounds: int, choice: Choice, folder: RunFolder, watch: Watch, tell: Callable[[str], None]
) -> Iterator[Limits]:
    """Carry out one round after the other; yields what is known after each.

    Raises:
        BenchError: it cannot be run, or something broke, or what ours did was not right.
    """
    log = load("bigserial")
    spec = Spec(scale=SINGLES, limit=(events + grown) // SINGLES, set=SETTINGS)
    refuse_full_disk(choice, spec, folder)
    started_at = datetime.now(UTC)
    with open_site(choice, spec, log, folder) as site, control.connected(site.conninfo) as connection:
        court = _Court(site, connection, log, watch)
        for schema, size in ((READ, events), (GROWN, grown)):
            if size:
                tell(f"filling a log with {size:,} events")
                court.fill(schema, size)
        court.install()
        measures = _measures(court, events, grown)
        where = environment.of(choice.name, site.about, connection)
        first: list[float] = []
        for number in range(rounds):
            court.read(1000, events)  # what the grown log pushed out of the cache comes back
            for contest, ours, theirs in measures:
                tell(f"round {number + 1}: {contest.name}")
                if number % 2:
                    their_value, our_value = theirs(), ours()
                else:
                    our_value, their_value = ours(), theirs()
                contest.pairs.append((our_value, their_value))
            tell(f"round {number + 1}: from the command to the first event")
            first.append(_first_event_seconds(choice.name, folder))
            yield Limits(
                run_id=folder.run_id,
                started_at=started_at,
                rounds=number + 1,
                events=events,
                grown=grown,
                environment=where,
                contests=[each.contest for each in measures],
                first_event_seconds=first,
                first_event_target=2 if choice.name == "local" else 6,
            )


def store(limits: Limits, runs: Path) -> Path:
    """Keep it as runs/RUN_ID/limits.json.

    Raises:
        OutsideError: it cannot be written.
    """
    return store_text(runs / limits.run_id / FILE, limits.model_dump_json(by_alias=True, indent=1) + "\n")


def load_all_limits(runs: Path) -> list[Limits]:
    """Read those kept in a folder, oldest first.

    Raises:
        BadInputError: one is none, or of another schema.
    """
    found = []
    for file in sorted(runs.glob(f"*/{FILE}")):
        try:
            found.append(Limits.model_validate_json(file.read_text(encoding="utf-8")))
        except ValidationError as error:
            raise BadInputError(f"{file} holds no limits of the schema bench.limits/1") from error
    return found


def _measures(court: "_Court", events: int, grown: int) -> list[_Measure]:
    """What is compared with what, and how well ours must do."""

    def contest(name: str, target: float, ours: str, theirs: str, unit: Literal["events/s", "bytes"]) -> Contest:
        return Contest(name=name, ours=ours, theirs=theirs, unit=unit, target=target, pairs=[])

    def rates(name: str, target: float, ours: str, theirs: str, *both: Callable[[], float]) -> _Measure:
        return _Measure(contest(name, target, ours, theirs, "events/s"), *both)

    threads = min(environment.cores(), FILLERS)
    loops = events // FILLERS // INSERT_BATCH or 1
    found = [
        rates(
            f"read {size:,}",
            target,
            "consumer",
            "pgbench, rows thrown away",
            partial(court.read, size, events),
            partial(court.pgbench_reads, size, events),
        )
        for size, target in SIZES
    ]
    found += [
        rates(
            "read 1,000",
            0.5,
            "consumer",
            "psql, binary COPY of the whole table",
            partial(court.read, 1000, events),
            partial(court.psql_reads, events),
        ),
        rates(
            f"generate {INSERT_BATCH:,}",
            0.98,
            f"{FILLERS} producers",
            f"pgbench, {FILLERS} clients",
            partial(court.append, "generate", FILLERS, INSERT_BATCH, loops),
            partial(court.pgbench_generates, FILLERS, INSERT_BATCH, loops, threads),
        ),
        rates(
            f"copy {INSERT_BATCH:,}",
            0.9,
            "1 producer",
            "psql, one \\copy of the same rows",
            partial(court.append, "copy", 1, INSERT_BATCH, -(-events // INSERT_BATCH)),
            partial(court.psql_appends, -(-events // INSERT_BATCH) * INSERT_BATCH),
        ),
        *(
            rates(
                f"append {batch:,}",
                0.9,
                "1 producer, log_event",
                "1 producer, copy",
                partial(court.append, "log_event", 1, batch, -(-events // batch)),
                partial(court.append, "copy", 1, batch, -(-events // batch)),
            )
            for batch in (1000, INSERT_BATCH)
        ),
        rates(
            "append 1",
            0.8,
            f"{SINGLES} producers, log_event",
            f"pgbench, {SINGLES} clients",
            partial(court.append, "log_event", SINGLES, 1, max(1, events // 500)),
            partial(court.pgbench_appends, SINGLES, max(1, events // 500)),
        ),
        *(
            rates(
                f"read {size:,}",
                0.95,
                "consumer, checking",
                "consumer, not checking",
                partial(court.read, size, events),
                partial(court.read, size, events, check=False),
            )
            for size in (1000, 10)
        ),
        rates(
            "read 1,000",
            0.99,
            "consumer, Postgres sampled",
            "consumer, Postgres not sampled",
            partial(court.read, 1000, events, sampled=True),
            partial(court.read, 1000, events),
        ),
    ]
    if grown:
        found += [
            rates(
                "read 1,000",
                0.9,
                f"consumer, {grown:,} events",
                f"consumer, {events:,} events",
                partial(court.read, 1000, grown, schema=GROWN, passes=1),
                partial(court.read, 1000, events),
            ),
            _Measure(
                contest(
                    "memory", 1 / 1.05, f"consumer, {grown:,} events", f"consumer, {events:,} events", unit="bytes"
                ),
                partial(court.memory, GROWN),
                partial(court.memory, READ),
            ),
        ]
    return found


class _Court:
    """Where ours and theirs meet: a Postgres with logs to read and one to append to."""

    def __init__(self, site: Site, connection: Connection, log: Log, watch: Watch) -> None:
        self._site = site
        self._connection = connection
        self._log = log
        self._watch = watch
        self._filled: dict[str, list[Range]] = {}
        self._memory: dict[str, int] = {}

    def install(self) -> None:
        """Make an empty log to append to."""
        control.make_schema(self._connection, "bench limits")
        control.install(self._connection, self._log)

    def fill(self, schema: str, events: int) -> None:
        """Make a log with so many events, to be read."""
        self.install()
        spec = self._spec("generate", FILLERS, INSERT_BATCH, events // FILLERS)
        phase = self._workers(spec, "append", plan.producers(spec, self._log))
        # Those who read it prove that this is what is stored; to sort a large log would take longer than to fill it.
        self._filled[schema] = _acknowledged(phase)
        control.settle(self._connection)
        self._connection.execute(f"ALTER SCHEMA {plan.SCHEMA} RENAME TO {schema}".encode())

    def read(
        self, size: int, events: int, *, schema: str = READ, check: bool = True, sampled: bool = False, passes: int = 0
    ) -> float:
        """Events/s of our consumer."""
        spec = self._spec("generate", FILLERS, INSERT_BATCH, events // FILLERS)
        (job,) = plan.consumers(spec, self._log, size)
        job = replace(job, schema=schema, check=check)
        passes = passes or PASSES[size]
        reports = [self._read_once(spec, job, sampled=sampled) for _ in range(passes)]
        self._memory[schema] = max(report.memory_bytes for report in reports)
        return sum(report.events for report in reports) / sum(report.seconds for report in reports)

    def _read_once(self, spec: Spec, job: ConsumerJob, *, sampled: bool) -> Report:
        phase = self._workers(spec, "read", [job], sampled=sampled)
        (work,) = phase.works
        if job.check:
            written = self._filled[job.schema]
            delivered = Reader(work.name, 0, phase.works).delivered()
            if not checker.judge(Written(written), [delivered], Stored(written, 0)).ok:
                raise OutsideError(f"there is nothing to compare: the consumer was not given what is in {job.schema}")
        if work.report.events != spec.events:
            raise OutsideError(f"there is nothing to compare: the consumer was given {work.report.events:,} events")
        return work.report

    def memory(self, schema: str) -> float:
        """The most that the consumer which read this log last had resident."""
        return self._memory[schema]

    def append(self, way: Literal["generate", "log_event", "copy"], scale: int, batch: int, loops: int) -> float:
        """Events/s of our producers, on an empty log."""
        self._clear()
        spec = self._spec(way, scale, batch, batch * loops)
        phase = self._workers(spec, "append", plan.producers(spec, self._log))
        self._refuse_wrong(phase)
        return spec.events / seconds_of(phase.works)

    def pgbench_reads(self, size: int, events: int) -> float:
        """Events/s of pgbench."""
        pages = -(-(events // FILLERS * FILLERS) // size)
        sql = plan.read_sql(self._log, size)
        return size * self._pgbench(rivals.pgbench_reads(READ, sql, size, pages, PASSES[size]))

    def pgbench_generates(self, clients: int, batch: int, loops: int, threads: int) -> float:
        """Events/s of pgbench, on an empty log."""
        self._clear()
        sql = plan.append_sql(self._spec("generate", clients, batch, batch * loops), self._log)
        return batch * self._pgbench(rivals.pgbench_generates(plan.SCHEMA, sql, batch, clients, loops, threads))

    def pgbench_appends(self, clients: int, loops: int) -> float:
        """Events/s of pgbench, one event a transaction, on an empty log."""
        self._clear()
        sql = plan.append_sql(self._spec("log_event", clients, 1, loops), self._log)
        event = f'[{{"producer":0,"seq":{loops},"value":{loops}}}]'
        return self._pgbench(rivals.pgbench_appends(plan.SCHEMA, sql, event, clients, loops))

    def psql_reads(self, events: int) -> float:
        """Events/s of a binary COPY."""
        events = events // FILLERS * FILLERS
        query = f"SELECT etag, ctime, payload FROM {self._log.table}"
        program = rivals.psql_copies_out(READ, query, PASSES[1000])
        return events / rivals.psql_seconds(self._site.run_program(program), events)

    def psql_appends(self, events: int) -> float:
        """Events/s of one COPY, on an empty log."""
        self._clear()
        program = rivals.psql_copies_in(plan.SCHEMA, self._log.table, events)
        return events / rivals.psql_seconds(self._site.run_program(program), events)

    def _pgbench(self, program: Program) -> float:
        return rivals.pgbench_rate(self._site.run_program(program))

    def _spec(self, way: Literal["generate", "log_event", "copy"], scale: int, batch: int, limit: int) -> Spec:
        return Spec(scale=scale, insert_batch=batch, limit=limit, append=way, set={})

    def _clear(self) -> None:
        """Empty the log, and leave nothing to do that the next one would pay for."""
        self._connection.execute(f"TRUNCATE {self._log.table} RESTART IDENTITY".encode())
        self._connection.execute("CHECKPOINT")

    def _refuse_wrong(self, phase: Phase) -> None:
        """Look whether what was acknowledged is what is stored.

        Raises:
            OutsideError: it is not.
        """
        stored, foreign = audit.stored_ranges(self._connection, self._log)
        if sorted(stored) != sorted(_acknowledged(phase)) or foreign:
            raise OutsideError("there is nothing to compare: the log does not hold what was acknowledged")

    def _workers(self, spec: Spec, track: str, jobs: Sequence[Job], *, sampled: bool = False) -> Phase:
        with ExitStack() as stack:
            observe: Callable[[], AbstractContextManager[None]] = nullcontext
            if sampled:
                watching = stack.enter_context(observer(self._site.conninfo, self._site.usage))
                observe = watching.observe
            phases = carry_out(
                {track: jobs},
                self._site.start_workers,
                self._connection,
                spec.events,
                spec.idle_timeout,
                self._watch,
                observe,
            )
        return phases[track]


def _acknowledged(phase: Phase) -> list[Range]:
    return [part for work in phase.works for part in work.ranges["acknowledged"]]


def _first_event_seconds(place: str, folder: RunFolder) -> float:
    """Run the program as a user would."""
    file = folder.path / "first.json"
    command = [*(sys.executable, "-m", "bench", "run", "--place", place, "--scale", "10", "--insert-batch", "1")]
    command += ["--limit", "1", "--quiet", "--output", str(folder.path), "--export-json", str(file)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, start_new_session=True)
    if ran.returncode:
        raise OutsideError(f"a run of ten events failed: {ran.stderr.strip()}")
    return results.load(file).trials[0].append.first_event_seconds or 0
