"""The testbed of our workers and of other programs: one Postgres with logs to read and one to append to."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from statistics import quantiles

from msgspec.structs import replace

from bench import statements
from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.job import ConsumerJob, Job, Way
from bench.judge import checker
from bench.judge.evidence import Stored, Written
from bench.overhead import programs
from bench.places.api import Place, Program
from bench.postgres import audit, install
from bench.postgres.connection import Connection
from bench.postgres.server import settle
from bench.postgres.telemetry import observer
from bench.records import Range, Report, Timed
from bench.results.models import Latency
from bench.results.tracks import APPEND, Reading, Track
from bench.run.jobs import consumers, producers
from bench.run.outcome import Reader, TrackOutcome, latencies_of
from bench.run.phase import Plan, all_events, carry_out, unobserved
from bench.run.summary import seconds_of
from bench.run.waiting import Unanswered
from bench.run.watch import Watch
from bench.spec import Spec

READ, GROWN = "bench_read", "bench_grown"
"""The schemas of the logs that are read; the one that is appended to is in statements.SCHEMA."""
FILLERS = 2
INSERT_BATCH = 10_000
READINGS = {1000: 3, 100: 1, 10: 1}
"""Readings of the whole log per measurement, by read batch: a single one with large pages is over too soon."""


class Testbed:
    """A Postgres with logs to read and one to append to, and the measurements on it. What our workers did is judged."""

    def __init__(self, place: Place, connection: Connection, log: Log, watch: Watch) -> None:
        self._place = place
        self._connection = connection
        self._log = log
        self._watch = watch
        self._filled: dict[str, list[Range]] = {}
        self._memory: dict[str, int] = {}

    def install(self) -> None:
        """Make an empty log to append to."""
        install.make_schema(self._connection, "bench limits")
        install.install(self._connection, self._log)

    def fill(self, schema: str, events: int) -> None:
        """Make a log with this many events, to be read."""
        self.install()
        spec = self._spec("generate", FILLERS, INSERT_BATCH, events // FILLERS)
        appended = self._carried_out(spec, APPEND, producers(spec, self._log))
        # Readers prove that these events are stored; to sort a large log would take longer than to fill it.
        self._filled[schema] = _acknowledged(appended)
        settle(self._connection)
        self._connection.execute(f"ALTER SCHEMA {statements.SCHEMA} RENAME TO {schema}".encode())

    def read(
        self,
        size: int,
        events: int,
        *,
        schema: str = READ,
        check: bool = True,
        sampled: bool = False,
        readings: int = 0,
    ) -> float:
        """Events/s of our consumer."""
        spec = self._spec("generate", FILLERS, INSERT_BATCH, events // FILLERS)
        (job,) = consumers(spec, self._log, size)
        job = replace(job, schema=schema, check=check)
        readings = readings or READINGS[size]
        reports = [self._read_once(spec, Reading(size), job, sampled=sampled) for _ in range(readings)]
        self._memory[schema] = max(report.memory_bytes for report in reports)
        return sum(report.events for report in reports) / sum(report.seconds for report in reports)

    def _read_once(self, spec: Spec, reading: Reading, job: ConsumerJob, *, sampled: bool) -> Report:
        (consumer,) = self._carried_out(spec, reading.track, [job], sampled=sampled).reported
        if job.check:
            written = self._filled[job.schema]
            delivered = Reader(reading, [consumer]).delivered()
            if not checker.judge(Written(written), [delivered], Stored(written, 0)).ok:
                raise InfrastructureError(
                    f"cannot compare: the consumer was not given exactly the events of {job.schema}"
                )
        events = all_events(producers(spec, self._log)).events
        if consumer.report.events != events:
            raise InfrastructureError(
                f"cannot compare: the consumer was given {consumer.report.events:,} events, not {events:,}"
            )
        return consumer.report

    def memory(self, schema: str) -> float:
        """The largest resident memory of the consumer that read this log last, in bytes."""
        return self._memory[schema]

    def append(self, way: Way, scale: int, batch: int, loops: int) -> float:
        """Events/s of our producers, on an empty log."""
        self._clear()
        spec = self._spec(way, scale, batch, batch * loops)
        appended = self._carried_out(spec, APPEND, producers(spec, self._log))
        self._refuse_wrong(appended)
        return scale * batch * loops / seconds_of(appended.reported)

    def pgbench_reads(self, size: int, events: int) -> float:
        """Events/s of pgbench."""
        pages = -(-(events // FILLERS * FILLERS) // size)
        sql = statements.read_sql(self._log, size)
        return size * self._pgbench(programs.pgbench_reads(READ, sql, size, pages, READINGS[size]))

    def pgbench_generates(self, clients: int, batch: int, loops: int, threads: int) -> float:
        """Events/s of pgbench, on an empty log."""
        self._clear()
        sql = statements.append_sql(self._spec("generate", clients, batch, batch * loops), self._log)
        return batch * self._pgbench(programs.pgbench_generates(statements.SCHEMA, sql, batch, clients, loops, threads))

    def pgbench_appends(self, clients: int, loops: int) -> float:
        """Events/s of pgbench, one event per transaction, on an empty log."""
        self._clear()
        sql = statements.append_sql(self._spec("log_event", clients, 1, loops), self._log)
        return self._pgbench(programs.pgbench_appends(statements.SCHEMA, sql, _event(loops), clients, loops))

    def offer(self, clients: int, rate: float, seconds: float) -> float:
        """Milliseconds, as the 99th percentile, from the time at which one of our producers' appends of one event was
        due to its commit; on an empty log.
        """
        return self._p99_ms("append", clients, rate, seconds)

    def lateness(self, clients: int, rate: float, seconds: float) -> float:
        """Milliseconds, as the 99th percentile, by which our producers that waited sent an append later than due."""
        return self._p99_ms("lateness", clients, rate, seconds)

    def _p99_ms(self, metric: Timed, clients: int, rate: float, seconds: float) -> float:
        self._clear()
        spec = Spec(scale=clients, insert_batch=1, rate=f"{rate:g}", duration=seconds, arrival="poisson", set={})
        appended = self._carried_out(spec, APPEND, producers(spec, self._log))
        self._refuse_wrong(appended)
        timeline = latencies_of(appended.reported).get(metric)
        latency = Latency.from_buckets(timeline.total()) if timeline else None
        if not latency:
            raise InfrastructureError("cannot compare: no append was timed")
        return latency.p99

    def pgbench_offers(self, clients: int, rate: float, seconds: float) -> float:
        """The figure of `offer`, of pgbench."""
        self._clear()
        loops = round(rate * seconds / clients)
        sql = statements.append_sql(self._spec("log_event", clients, 1, loops), self._log)
        program = programs.pgbench_offers(statements.SCHEMA, sql, _event(loops), clients, rate, seconds)
        latencies = programs.pgbench_latencies(self._place.workers.run_program(program))
        return quantiles(latencies, n=100, method="inclusive")[98]

    def psql_reads(self, events: int) -> float:
        """Events/s of a binary COPY."""
        events = events // FILLERS * FILLERS
        query = f"SELECT etag, ctime, payload FROM {self._log.table}"
        program = programs.psql_copies_out(READ, query, READINGS[1000])
        return events / programs.psql_seconds(self._place.workers.run_program(program), events)

    def psql_appends(self, events: int) -> float:
        """Events/s of one COPY, on an empty log."""
        self._clear()
        program = programs.psql_copies_in(statements.SCHEMA, self._log.table, events)
        return events / programs.psql_seconds(self._place.workers.run_program(program), events)

    def _pgbench(self, program: Program) -> float:
        return programs.pgbench_rate(self._place.workers.run_program(program))

    def _spec(self, way: Way, scale: int, batch: int, limit: int) -> Spec:
        return Spec(scale=scale, insert_batch=batch, limit=limit, append=way, set={})

    def _clear(self) -> None:
        """Empty the log, and leave no work behind that the next measurement would pay for."""
        self._connection.execute(f"TRUNCATE {self._log.table} RESTART IDENTITY".encode())
        self._connection.execute("CHECKPOINT")

    def _refuse_wrong(self, appended: TrackOutcome) -> None:
        """Refuse a log that does not hold exactly the acknowledged events.

        Raises:
            InfrastructureError: it does not.
        """
        stored = audit.look_through(self._connection, self._log)
        if sorted(stored.ranges) != sorted(_acknowledged(appended)) or stored.foreign:
            raise InfrastructureError("cannot compare: the log does not hold exactly the acknowledged events")

    def _carried_out(self, spec: Spec, track: Track, jobs: Sequence[Job], *, sampled: bool = False) -> TrackOutcome:
        to_read = all_events(producers(spec, self._log))
        plan = Plan({track: jobs}, to_read.events, spec.idle_timeout, to_read)
        with ExitStack() as stack:
            observe: Callable[[], AbstractContextManager[Unanswered]] = unobserved
            if sampled:
                watching = stack.enter_context(
                    observer(self._place.database.conninfo, self._connection, self._place.database.usage)
                )
                observe = watching.observe
            outcome = carry_out(plan, self._place.workers.start, self._connection, self._watch, observe)[track]
        for worker in outcome.reported:
            if worker.error:
                raise InfrastructureError(f"cannot compare: {worker.name}: {worker.error.call}: {worker.error.message}")
        return outcome


def _event(number: int) -> str:
    return f'[{{"producer":0,"seq":{number},"value":{number}}}]'


def _acknowledged(appended: TrackOutcome) -> list[Range]:
    return [part for producer in appended.reported for part in producer.ranges["acknowledged"]]
