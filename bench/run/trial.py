"""A trial, from start to finish: append, settle, read, audit, verdict. The log is installed, the place is open."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.job import ConsumerJob, Job
from bench.judge.ranges import checksum, events_in, normal
from bench.places.api import Place
from bench.postgres import audit
from bench.postgres.connection import Connection, pinned
from bench.postgres.contract import table_of
from bench.postgres.preload import Fill, fill
from bench.postgres.retention import Deleted, deleting
from bench.postgres.server import settle, wal_position
from bench.postgres.telemetry import observer
from bench.results.costs import Observed, Telemetry
from bench.results.models import Trial
from bench.results.tracks import APPEND, Step, Track, phase_key
from bench.run import summary
from bench.run.disk_watch import DiskWatch
from bench.run.exposure import exposure
from bench.run.holding import holding
from bench.run.jobs import bounded, clients, consumers, preloaded_events, producers
from bench.run.load_phases import load_phases, never_held
from bench.run.nodes import NodeLostError
from bench.run.outcome import Outcome, TrackOutcome
from bench.run.payloads import pad_of
from bench.run.phase import Plan, Total, carry_out
from bench.run.realtime import order_of_appends
from bench.run.stranded import stranded
from bench.run.unseen import unseen
from bench.run.verdict import explained, judged, noted, stored_clause, written_by
from bench.run.watch import Watch
from bench.spec import Spec
from bench.text import plural
from bench.values import retained

T = TypeVar("T")
Over = Callable[[Mapping[Track, TrackOutcome], Mapping[str, Observed]], None]
"""Takes the tracks that are over, and what each phase cost, by its key."""


def carry_out_trial(
    spec: Spec,
    log: Log,
    place: Place,
    connection: Connection,
    watch: Watch,
    began_at: float,
    over: Over = lambda _outcomes, _observed: None,
    disk: DiskWatch | None = None,
) -> Trial:
    """Append as the spec says, read meanwhile or afterwards, and judge. `began_at` is the Unix time at which the
    command began. `over` is called whenever another phase is over. Producers that append for a time end before it is
    over when `disk` is nearly full.

    Raises:
        BenchError: something broke, so there is no verdict.
    """
    seconds: dict[str, float] = {Step.START: time.time() - began_at}
    notes: list[str] = []
    conninfo = pinned(connection, place.database.conninfo)
    observed: dict[str, Observed] = {}
    outcomes: dict[Track, TrackOutcome] = {}
    deletions: list[Deleted] = []

    def retain(workers: Sequence[Outcome]) -> AbstractContextManager[None]:
        return _retained(spec, audited, conninfo, connection, workers, deletions)

    def carry_out_phase(tracks: Mapping[Track, Sequence[Job]], to_read: Total | None = None) -> None:
        key = phase_key(*tracks)
        plan = Plan(
            tracks,
            spec.events,
            spec.idle_timeout,
            to_read,
            spare_producers=spec.on_node_loss == "continue",
            must_end=disk.is_nearly_full if disk and APPEND in tracks and spec.events is None else lambda: False,
        )
        with (
            _timed(seconds, key),
            observer(conninfo, connection, place.database.usage) as server,
            holding(spec.phase, conninfo, log) as its_holding,
        ):
            try:
                carried_out = carry_out(
                    plan, place.workers.start, connection, watch, server.observe, retain, its_holding
                )
            except NodeLostError as lost:
                raise InfrastructureError(f"{lost}{stored_clause(lost.acknowledged, audited, connection)}") from lost
        if server.seen:
            workers = [worker for outcome in carried_out.values() for worker in outcome.reported]
            observed[key] = summary.observed(server.seen, workers)
        outcomes.update(carried_out)
        over(outcomes, observed)

    before, size_before = _filled(spec, log, connection, seconds, watch, notes)
    audited = before.later if before else log
    appending = {APPEND: producers(spec, log, table_of(connection, log))}
    after = before.after if before else []
    reading = {Track(size): consumers(spec, log, size, after) for size in spec.read_batch}
    wal_before = wal_position(connection)
    carry_out_phase({**appending, **reading} if spec.mode == "tail" else appending)
    wal_after = wal_position(connection)
    if disk and disk.note:
        notes.append(disk.note)
    with (
        _timed(seconds, Step.SETTLE),
        watch.step("settling the log: vacuum, analyze, checkpoint"),
        noted(notes, "the log was not settled before it was read"),
    ):
        settle(connection)
    appended = outcomes[APPEND]
    if spec.mode == "drain":
        seq_limits = [producer.seq_limit for producer in appended.workers]
        for track, jobs in reading.items():
            carry_out_phase({track: bounded(spec, jobs, seq_limits)}, _acknowledged(appended))
    readers = summary.readers(spec, outcomes)
    failures = stranded([worker for outcome in outcomes.values() for worker in outcome.reported], log, connection)
    with _timed(seconds, Step.CHECK), watch.step("checking what was stored and delivered"):
        written = written_by(appended, cut_short=bool(failures))
        order = _found_out(
            lambda: order_of_appends(spec, audited, appended, connection),
            notes,
            "whether appends kept the real-time order is not known",
        )
        unexplained = judged(spec, audited, written, readers, connection, notes, failures, order, before, deletions)
        verdict = explained(unexplained, spec, audited, readers, connection, notes)
        met = _found_out(
            lambda: exposure(spec, audited, appended, readers, connection),
            notes,
            "how far readers were exposed to open transactions is not known",
        )
    size = _found_out(lambda: audit.log_size(connection), notes, "the size of the log on disk is not known")
    has_rates = verdict.ok and not spec.pause  # a paused trial has no speed
    samples = unseen(appended, readers) if spec.mode == "tail" else {}
    return Trial(
        pause_ms=spec.pause,
        phase_seconds=seconds,
        preload=summary.preload(spec, size_before),
        retention=summary.retention(deletions, readers, written),
        append=summary.append(appended, _grown(wal_before, wal_after), began_at, ok=has_rates),
        reads=[summary.read(reader, spec, ok=has_rates) for reader in readers],
        nodes=summary.nodes(outcomes, readers, ok=has_rates),
        losses=summary.losses(appended.lost),
        verdict=verdict,
        exposure=met,
        telemetry=Telemetry(
            table_bytes=size and size.table_bytes,
            index_bytes=size and size.index_bytes,
            phases=observed,
        ),
        series={track.key: outcome.series for track, outcome in outcomes.items()},
        load_phases=load_phases(spec, appended, readers, samples, ok=has_rates and not appended.lost),
        unseen=samples,
        notes=[*notes, *never_held(spec, appended)],
    )


def _filled(
    spec: Spec, log: Log, connection: Connection, seconds: dict[str, float], watch: Watch, notes: list[str]
) -> tuple[Fill | None, audit.LogSize | None]:
    """Preload and settle the log, if the spec asks for it; returns the preloaded events and the size of the log."""
    if not spec.preloaded:
        return None, None
    with _timed(seconds, Step.PRELOAD), watch.step(f"preloading {plural(spec.preloaded, 'event')}"):
        events = preloaded_events(spec)
        before = fill(connection, log, events, pad_of(spec), clients(spec), spec.idle_timeout)
        settle(connection)
    size = _found_out(lambda: audit.log_size(connection), notes, "the size of the log before the run is not known")
    return before, size


def _acknowledged(appended: TrackOutcome) -> Total:
    """The events that producers had acknowledged."""
    acknowledged = normal(appended.of_fate("acknowledged"))
    return Total(events_in(acknowledged), sum(checksum(part) for part in acknowledged))


def _found_out(find_out: Callable[[], T], notes: list[str], unknown: str) -> T | None:
    """Return the result of `find_out`; None when it fails, with a note that begins with `unknown`."""
    with noted(notes, unknown):
        return find_out()
    return None


@contextmanager
def _retained(
    spec: Spec,
    log: Log,
    conninfo: str,
    connection: Connection,
    workers: Sequence[Outcome],
    deletions: list[Deleted],
) -> Iterator[None]:
    """Delete events behind the readers among some workers, if the spec asks for it."""
    readers = [worker for worker in workers if isinstance(worker.job, ConsumerJob)]
    if spec.retention is None:
        yield
        return

    def cursors() -> list[list[bytes]]:
        return [reader.cursor for reader in readers]

    with deleting(conninfo, connection, log, retained(spec.retention), len(readers), cursors) as deleted:
        deletions.append(deleted)
        yield


def _grown(before: int | None, after: int | None) -> int | None:
    """By how much a number has grown; None where one of both is not known."""
    return None if before is None or after is None else after - before


@contextmanager
def _timed(seconds: dict[str, float], key: str) -> Iterator[None]:
    began_pc = time.perf_counter()
    yield
    seconds[key] = time.perf_counter() - began_pc
