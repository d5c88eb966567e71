"""A run told from top to bottom: start, install, append, settle, read, audit, verdict, result."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from bench import checker, control, environment, plan, summary
from bench.checker import Delivered, Fault, Promise, Stored, Verdict, Written
from bench.control import Connection
from bench.errors import OutsideError
from bench.logs import Log
from bench.phase import Phase, Tracks, Watch, carry_out
from bench.place import Choice, free_bytes, open_site
from bench.places.dsn import without_password
from bench.places.folder import RunFolder
from bench.places.site import Site
from bench.records import Fate, Range
from bench.results import Environment, Result, Telemetry, Trial
from bench.spec import Spec
from bench.summary import Reader


def execute(spec: Spec, log: Log, choice: Choice, folder: RunFolder, watch: Watch) -> Result:
    """Run a spec at a place. Everything that it starts is gone when it returns or raises.

    Raises:
        BenchError: it cannot be run, or something broke; there is no verdict then.
    """
    plan.refuse_misfits(spec, log)
    started_at = datetime.now(UTC)
    refuse_full_disk(spec, free_bytes(choice, spec, folder))
    began = time.perf_counter()
    with (
        open_site(choice, spec, log, folder) as site,
        control.connected(site.conninfo) as connection,
        control.installed(connection, log, folder.run_id),
    ):
        control.check_connections(connection, spec.workers)
        where = _environment(choice, site, connection)
        trial = _trial(spec, log, site, connection, watch, {"start": time.perf_counter() - began})
    shown = {} if spec.dsn is None else {"dsn": without_password(spec.dsn)}
    return Result(
        run_id=folder.run_id,
        started_at=started_at,
        spec={**spec.model_dump(mode="json"), "limit": spec.events_per_producer, **shown},
        sql={
            "append": plan.append_sql(spec, log),
            **{f"read {size}": plan.consumers(spec, log, size)[0].sql for size in spec.read_batch},
        },
        environment=where,
        trials=[trial],
    )


def _trial(spec: Spec, log: Log, site: Site, connection: Connection, watch: Watch, seconds: dict[str, float]) -> Trial:
    def workers(tracks: Tracks) -> dict[str, Phase]:
        with _timed(seconds, " + ".join(tracks)):
            return carry_out(tracks, site.start_workers, connection, spec.events, spec.idle_timeout, watch)

    appending = {"append": plan.producers(spec, log)}
    reading = {f"read {size}": plan.consumers(spec, log, size) for size in spec.read_batch}
    phases: dict[str, Phase] = {}
    wal_before = control.wal_position(connection)
    phases |= workers({**appending, **reading} if spec.mode == "tail" else appending)
    wal_after = control.wal_position(connection)
    with _timed(seconds, "settle"):
        control.settle(connection)
    if spec.mode == "drain":
        for name, jobs in reading.items():
            phases |= workers({name: jobs})
    readers = _readers(spec, phases)
    with _timed(seconds, "check"):
        verdict = _verdict(spec, log, phases["append"], readers, connection)

    table_bytes, index_bytes = control.log_bytes(connection)
    wal_bytes = None if wal_before is None or wal_after is None else wal_after - wal_before
    return Trial(
        phase_seconds=seconds,
        append=summary.append(phases["append"], wal_bytes, ok=verdict.ok),
        reads=[summary.read(reader, spec.mode, ok=verdict.ok) for reader in readers],
        verdict=verdict,
        telemetry=Telemetry(table_bytes=table_bytes, index_bytes=index_bytes),
        series=summary.series(phases),
    )


def _readers(spec: Spec, phases: dict[str, Phase]) -> list[Reader]:
    """Who is judged by itself: each consumer, or a group as a whole."""
    readers: list[Reader] = []
    for size in spec.read_batch:
        works = phases[f"read {size}"].works
        if spec.group:
            readers.append(Reader(f"group-{size}", size, works))
        else:
            readers += [Reader(work.name, size, [work]) for work in works]
    return readers


def _verdict(spec: Spec, log: Log, appended: Phase, readers: list[Reader], connection: Connection) -> Verdict:
    def all_of(fate: Fate) -> list[Range]:
        return [part for work in appended.works for part in work.ranges[fate]]

    written = Written(
        acknowledged=all_of("acknowledged"),
        indeterminate=all_of("indeterminate"),
        aborted=all_of("aborted"),
        undone=[part for work in appended.works for part in work.undone],
    )
    if checker.attempted(written) != spec.events:
        raise OutsideError(
            f"there is no verdict: producers account for {checker.attempted(written):,} of {spec.events:,} events"
        )
    delivered = [reader.delivered() for reader in readers]
    stored = _stored(log, written, delivered, connection)
    promised = log.promises
    verdict = checker.judge(
        written,
        delivered,
        stored,
        Promise(
            etag_order=promised.order == "etag" and not spec.group,
            producer_order=promised.order != "none",
            once=promised.once,
            gap_free=promised.gap_free,
        ),
    )
    return _with_stories(verdict, log, readers, connection)


def _stored(log: Log, written: Written, delivered: list[Delivered], connection: Connection) -> Stored:
    """What the table holds; looked through only when its number of rows does not prove it already."""
    events, highest_etag = control.stored_events(connection, log)
    ranges, foreign = written.acknowledged, 0
    if checker.needs_audit(written, delivered, events):
        ranges, foreign = control.stored_ranges(connection, log)
        if not log.promises.replay:  # what was read from a queue was stored
            ranges = [*ranges, *(part for read in delivered for part in read.ranges)]
    gaps = log.promises.replay and highest_etag > events
    return Stored(ranges, foreign, control.missing_etags(connection, log) if gaps else [])


def _with_stories(verdict: Verdict, log: Log, readers: list[Reader], connection: Connection) -> Verdict:
    """Tell of each skipped example how it came about."""
    wanted = {(fault.producer, fault.seq) for fault in verdict.examples if fault.kind == "skipped"}
    if not wanted:
        return verdict
    events = [(producer, seq) for producer, seq in wanted if producer is not None and seq is not None]
    rows = {(row[0], row[1]): row[2:] for row in control.stories(connection, log, events)}
    jumps = {reader.name: [jump for work in reader.works for jump in work.jumps] for reader in readers}
    return replace(
        verdict,
        examples=[
            _told(fault, *rows[fault.producer or 0, fault.seq or 0], jumps.get(fault.reader or "", []))
            if fault.kind == "skipped" and (fault.producer, fault.seq) in rows
            else fault
            for fault in verdict.examples
        ],
    )


def _told(
    fault: Fault, etag: int, logged_at: float, visible_at: float | None, jumps: list[tuple[int, int, float]]
) -> Fault:
    passed_to, passed_at = checker.passed(etag, jumps) or (None, None)
    return replace(
        fault, etag=etag, logged_at=logged_at, visible_at=visible_at, passed_to=passed_to, passed_at=passed_at
    )


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
