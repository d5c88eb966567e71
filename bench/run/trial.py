"""A trial, from start to finish: append, settle, read, audit, verdict. The log is installed, the place is open."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.job import Job
from bench.judge.exposure import Exposure
from bench.judge.ranges import checksum, events_in, normal
from bench.judge.realtime import RealTimeOrder
from bench.places.api import Place
from bench.postgres import audit
from bench.postgres.connection import Connection, pinned
from bench.postgres.contract import table_of
from bench.postgres.server import settle, wal_position
from bench.postgres.telemetry import observer
from bench.results.costs import Observed, Telemetry
from bench.results.models import Trial
from bench.results.tracks import APPEND, Step, Track, phase_key
from bench.run import summary
from bench.run.disk_watch import DiskWatch
from bench.run.exposure import exposure
from bench.run.jobs import bounded, consumers, producers
from bench.run.outcome import TrackOutcome
from bench.run.phase import NodeLostError, Plan, Total, carry_out
from bench.run.realtime import order_of_appends
from bench.run.stranded import stranded
from bench.run.unseen import unseen
from bench.run.verdict import explained, judged, noted, stored_clause, written_by
from bench.run.watch import Watch
from bench.spec import Spec

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
        with _timed(seconds, key), observer(conninfo, connection, place.database.usage) as server:
            try:
                carried_out = carry_out(plan, place.workers.start, connection, watch, server.observe)
            except NodeLostError as lost:
                raise InfrastructureError(f"{lost}{stored_clause(lost.acknowledged, log, connection)}") from lost
        if server.seen:
            workers = [worker for outcome in carried_out.values() for worker in outcome.reported]
            observed[key] = summary.observed(server.seen, workers)
        outcomes.update(carried_out)
        over(outcomes, observed)

    appending = {APPEND: producers(spec, log, table_of(connection, log))}
    reading = {Track(size): consumers(spec, log, size) for size in spec.read_batch}
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
        acknowledged = normal(appended.of_fate("acknowledged"))
        to_read = Total(events_in(acknowledged), sum(checksum(part) for part in acknowledged))
        for track, jobs in reading.items():
            carry_out_phase({track: bounded(jobs, [producer.seq_limit for producer in appended.workers])}, to_read)
    readers = summary.readers(spec, outcomes)
    failures = stranded([worker for outcome in outcomes.values() for worker in outcome.reported], log, connection)
    with _timed(seconds, Step.CHECK), watch.step("checking what was stored and delivered"):
        written = written_by(appended, cut_short=bool(failures))
        order: RealTimeOrder | None = None
        with noted(notes, "whether appends kept the real-time order is not known"):
            order = order_of_appends(spec, log, appended, connection)
        unexplained = judged(spec, log, written, readers, connection, notes, failures, order)
        verdict = explained(unexplained, spec, log, readers, connection, notes)
        met: Exposure | None = None
        with noted(notes, "how far readers were exposed to open transactions is not known"):
            met = exposure(spec, log, appended, readers, connection)
    size: audit.LogSize | None = None
    with noted(notes, "the size of the log on disk is not known"):
        size = audit.log_size(connection)
    has_rates = verdict.ok and not spec.pause  # a paused trial has no speed
    wal_bytes = None if wal_before is None or wal_after is None else wal_after - wal_before
    return Trial(
        pause_ms=spec.pause,
        phase_seconds=seconds,
        append=summary.append(appended, wal_bytes, began_at, ok=has_rates),
        reads=[summary.read(reader, spec.mode, ok=has_rates) for reader in readers],
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
        unseen=unseen(appended, readers) if spec.mode == "tail" else {},
        notes=notes,
    )


@contextmanager
def _timed(seconds: dict[str, float], key: str) -> Iterator[None]:
    began_pc = time.perf_counter()
    yield
    seconds[key] = time.perf_counter() - began_pc
