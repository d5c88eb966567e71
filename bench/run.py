"""A run told from top to bottom: start, install, append, settle, read, audit, verdict, result."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from bench import checker, control, environment, plan, summary
from bench.checker import Delivered, Stored, Verdict, Written
from bench.control import Connection
from bench.errors import OutsideError
from bench.logs import Log
from bench.phase import Phase, Watch, carry_out
from bench.place import Choice, free_bytes, open_site
from bench.places.dsn import without_password
from bench.places.folder import RunFolder
from bench.places.site import Site
from bench.records import Job
from bench.results import Environment, Result, Telemetry, Trial
from bench.spec import Spec


def execute(spec: Spec, log: Log, choice: Choice, folder: RunFolder, watch: Watch) -> Result:
    """Run a spec at a place. Everything that it starts is gone when it returns or raises.

    Raises:
        BenchError: it cannot be run, or something broke; there is no verdict then.
    """
    started_at = datetime.now(UTC)
    refuse_full_disk(spec, free_bytes(choice, spec, folder))
    began = time.perf_counter()
    with (
        open_site(choice, spec, folder) as site,
        control.connected(site.conninfo) as connection,
        control.installed(connection, log, folder.run_id),
    ):
        control.check_connections(connection, spec.scale)
        where = _environment(choice, site, connection)
        trial = _trial(spec, log, site, connection, watch, {"start": time.perf_counter() - began})
    shown = {} if spec.dsn is None else {"dsn": without_password(spec.dsn)}
    return Result(
        run_id=folder.run_id,
        started_at=started_at,
        spec={**spec.model_dump(mode="json"), "limit": spec.events_per_producer, **shown},
        sql={
            "append": plan.append_sql(spec, log),
            **{f"read {size}": plan.read_sql(log, size) for size in spec.read_batch},
        },
        environment=where,
        trials=[trial],
    )


def _trial(spec: Spec, log: Log, site: Site, connection: Connection, watch: Watch, seconds: dict[str, float]) -> Trial:
    def workers(name: str, jobs: Sequence[Job]) -> Phase:
        with _timed(seconds, name):
            return carry_out(name, jobs, site.start_workers, connection, spec.events, watch)

    wal_before = control.wal_position(connection)
    appended = workers("append", plan.producers(spec, log))
    wal_after = control.wal_position(connection)
    with _timed(seconds, "settle"):
        control.settle(connection)
    reads = {size: workers(f"read {size}", [plan.consumer(spec, log, size)]) for size in spec.read_batch}
    with _timed(seconds, "check"):
        verdict = _verdict(spec, log, appended, reads, connection)

    table_bytes, index_bytes = control.log_bytes(connection)
    wal_bytes = None if wal_before is None or wal_after is None else wal_after - wal_before
    return Trial(
        phase_seconds=seconds,
        append=summary.append(appended, wal_bytes, ok=verdict.ok),
        reads=[summary.read(size, phase, ok=verdict.ok) for size, phase in reads.items()],
        verdict=verdict,
        telemetry=Telemetry(table_bytes=table_bytes, index_bytes=index_bytes),
        series=summary.series({"append": appended, **{f"read {size}": read for size, read in reads.items()}}),
    )


def _verdict(spec: Spec, log: Log, appended: Phase, reads: dict[int, Phase], connection: Connection) -> Verdict:
    written = Written(
        acknowledged=[part for work in appended.works for part in work.ranges["acknowledged"]],
        indeterminate=[part for work in appended.works for part in work.ranges["indeterminate"]],
    )
    if checker.attempted(written) != spec.events:
        raise OutsideError(
            f"there is no verdict: producers account for {checker.attempted(written):,} of {spec.events:,} events"
        )
    delivered = [
        Delivered(size, work.report.events, work.report.checksum, work.ranges["delivered"], work.anomalies)
        for size, phase in reads.items()
        for work in phase.works
    ]
    stored = Stored(written.acknowledged)
    if checker.needs_audit(written, delivered, control.stored_events(connection, log)):
        stored = Stored(*control.stored_ranges(connection, log))
    return checker.judge(written, delivered, stored)


def refuse_full_disk(spec: Spec, free: int | None) -> None:
    """Refuse a run whose log will not fit into `free` bytes; None is unknown and refuses nothing.

    Raises:
        OutsideError: the estimate is over what is free.
    """
    needed = plan.disk_bytes(spec)
    if free is not None and needed > free:
        raise OutsideError(
            f"{spec.events:,} events need about {needed / 2**30:,.1f} GiB of disk, {free / 2**30:,.1f} GiB are free: "
            "append fewer, or name a larger disk with TMPDIR (local place) or Docker's data-root (docker place)"
        )


def _environment(choice: Choice, site: Site, connection: Connection) -> Environment:
    return Environment(
        place=choice.name,
        cpu=environment.cpu(),
        cores=environment.cores(),
        memory_bytes=environment.memory_bytes(),
        kernel=environment.kernel(),
        python=environment.python(),
        bench=environment.bench_version(),
        git_revision=environment.git_revision(),
        postgres=control.version(connection),
        settings=control.settings_that_differ(connection),
        about=site.about,
    )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
