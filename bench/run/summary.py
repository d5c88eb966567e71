"""Makes the parts of a result of what workers reported. A rate is left out unless the trial is `ok`: its verdict is ok,
and sessions did not pause inside statements.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce

from bench.job import ConsumerJob, ProducerJob
from bench.judge.evidence import Delivered, Written
from bench.judge.ranges import events_in, intersect, normal, subtract
from bench.postgres.audit import LogSize
from bench.postgres.retention import Deleted, deleted_events
from bench.postgres.telemetry import WORKER, Observation
from bench.records import Report, Timed
from bench.results.costs import Observed, Preload, Retention, Wait
from bench.results.models import (
    MOST_LATENESS_MS,
    SATURATED_SHARE,
    Append,
    ImpossibleCtimes,
    Latency,
    Offered,
    Producer,
    Read,
    Unjudged,
    WarmUp,
)
from bench.results.nodes import Node, NodeLoss
from bench.results.series import UNITS, Figure, Series
from bench.results.tracks import APPEND, Track
from bench.run import jobs
from bench.run.bottleneck import BusyWorker, bottleneck
from bench.run.outcome import Outcome, Reader, TrackOutcome, latencies_of
from bench.schedule import span_seconds
from bench.spec import Spec

CLIENT_BOUND_SHARE = 0.9
"""A worker that uses this much of a core has no time left to wait for Postgres."""


def append(appended: TrackOutcome, wal_bytes: int | None, began_at: float, *, ok: bool) -> Append:
    """The append phase: it lasts from the first producer's start to the last one's end, on the database's clock.

    `wal_bytes` is what the server wrote of WAL meanwhile, `began_at` the Unix time at which the command began.
    """
    producers = appended.reported
    reports = [producer.report for producer in producers]
    events = sum(report.events for report in reports)
    warm_up = _warm_up(producers, appended.started_at)
    latencies = _latencies(appended.workers)
    answered = [report.first_call_seconds for report in reports if report.first_call_seconds is not None]
    aborted = [part for producer in appended.workers for part in producer.ranges["aborted"]]
    offered = _offered(producers, latencies, warm_up, ok=ok and not appended.lost)
    return Append(
        events=events,
        rolled_back=events_in(normal(aborted)),
        seconds=seconds_of(producers),
        events_per_second=_rate(
            _measured(events, producers),
            _measured_seconds(producers, appended.started_at),
            ok=ok and not appended.lost,
        ),
        latency_ms=latencies.get("append"),
        warm_up=warm_up,
        offered=offered,
        transport=_transport(producers),
        client_bound=any(_client_bound(report) for report in reports),
        first_event_seconds=appended.opened_at - began_at + min(answered) if answered else None,
        wal_bytes=wal_bytes,
        producers=[
            Producer(
                name=producer.name,
                node=producer.node,
                events=producer.report.events,
                seconds=producer.report.seconds,
                cpu_seconds=producer.report.cpu_seconds,
                memory_bytes=producer.report.memory_bytes,
                clock_offset_ms=producer.ready.clock_offset_ms,
                round_trip_ms=producer.ready.round_trip_ms,
            )
            for producer in producers
        ],
    )


def _offered(
    producers: Sequence[Outcome], latencies: Mapping[Timed, Latency], warm_up: WarmUp | None, *, ok: bool
) -> Offered | None:
    """How the schedule of an offered load was kept after the warm-up; None without one.

    A schedule of fixed arrivals ends when the rate has offered all events, and not before the times of its steps are
    over; one of random arrivals when the last batch was due.
    """
    kept = [producer.report.offered for producer in producers if producer.report.offered]
    if not kept:
        return None
    jobs = [producer.job for producer in producers if isinstance(producer.job, ProducerJob)]
    load, events = jobs[0].load, sum(job.limit for job in jobs)
    span = max(each.last_due_seconds for each in kept)
    if load and load.arrival == "fixed":
        times = [seconds for _, seconds in load.steps if seconds is not None]
        span = max(span_seconds(load.steps, events), sum(times) if len(times) == len(load.steps) else 0.0)
    seconds = max(span, *(each.ended_seconds for each in kept))
    left_out = warm_up.seconds if warm_up else 0
    if span <= left_out:
        return None
    achieved = _measured(sum(producer.report.events for producer in producers), producers)
    lateness = latencies.get("lateness")
    return Offered(
        events_per_second=(events - sum(each.warm_up_events for each in kept)) / (span - left_out),
        achieved_per_second=_rate(achieved, seconds - left_out, ok=ok),
        saturated=span - left_out < SATURATED_SHARE * (seconds - left_out),
        service_ms=latencies.get("service"),
        lateness_ms=lateness,
        generator_bound=lateness is not None and lateness.p99 > MOST_LATENESS_MS,
        largest_backlog=sum(each.largest_backlog for each in kept),
        most_behind_seconds=max(each.most_behind_seconds for each in kept),
    )


def readers(spec: Spec, outcomes: Mapping[Track, TrackOutcome]) -> list[Reader]:
    """The readers of the readings that are over: each consumer, or a group as a whole."""
    all_readers: list[Reader] = []
    for outcome, readings in ((outcomes.get(Track(size)), jobs.readings(spec, size)) for size in spec.read_batch):
        if outcome is None:
            continue
        members = [outcome.workers] if spec.group else [[worker] for worker in outcome.workers]
        all_readers += [
            Reader(reading, each, outcome.holders, outcome.started_at)
            for reading, each in zip(readings, members, strict=True)
        ]
    return all_readers


def read(reader: Reader, spec: Spec, *, ok: bool) -> Read:
    """One reading of the whole log."""
    tails = spec.mode == "tail"
    reports = [member.report for member in reader.members]
    events = reader.events()
    warm_up = _warm_up(reader.members, reader.started_at)
    impossible = _impossible(reports)
    latencies = _latencies(reader.members)
    return Read(
        reader=reader.name,
        read_batch=reader.reading.read_batch,
        group=reader.reading.group,
        number=reader.reading.number,
        mode=spec.mode,
        members=len(reports),
        transport=_transport(reader.members),
        wake=(spec.wake or "poll") if tails else None,
        poll_ms=spec.poll_ms if tails else None,
        largest_page=max(report.largest_page for report in reports),
        warm_up=warm_up,
        events=events,
        redelivered=_redelivered(reader.delivered()),
        seconds=seconds_of(reader.members),
        events_per_second=_rate(
            _measured(events, reader.members), _measured_seconds(reader.members, reader.started_at), ok=ok
        ),
        checksum=sum(report.checksum for report in reports),
        max_etag_gap=max(report.max_etag_gap or 0 for report in reports),
        repeated_ctimes=sum(report.repeated_ctimes or 0 for report in reports),
        latency_ms=latencies.get("read"),
        end_to_end_ms=None if impossible else latencies.get("end_to_end"),
        negative_delays=0 if impossible else sum(report.negative_delays for report in reports),
        most_negative_ms=0 if impossible else max(report.most_negative_seconds for report in reports) * 1e3,
        clock_uncertainty_ms=max(report.clock_uncertainty_seconds for report in reports) * 1e3 if tails else None,
        impossible_ctimes=impossible,
        longest_wait_seconds=max((report.longest_wait_seconds or 0 for report in reports), default=0),
        cpu_seconds=sum(report.cpu_seconds for report in reports),
        memory_bytes=max(report.memory_bytes for report in reports),
        client_bound=not tails and any(_client_bound(report) for report in reports),
        clock_offset_ms=reader.members[0].ready.clock_offset_ms,
        round_trip_ms=max(member.ready.round_trip_ms for member in reader.members),
    )


def _transport(workers: Sequence[Outcome]) -> str | None:
    """The slower one of the transports that these workers used."""
    used = {worker.ready.session.get("transport") for worker in workers}
    return "libpq" if "libpq" in used else next(iter(used), None)


def _impossible(reports: Sequence[Report]) -> ImpossibleCtimes | None:
    """The ctimes that give no delay, of all members together."""
    reported = [report.impossible_ctimes for report in reports if report.impossible_ctimes]
    if not reported:
        return None
    return ImpossibleCtimes(
        infinite=sum(each.infinite for each in reported),
        ahead=sum(each.ahead for each in reported),
        ahead_seconds=max(each.ahead_seconds for each in reported),
        old=sum(each.old for each in reported),
        old_seconds=max(each.old_seconds for each in reported),
    )


def _redelivered(read: Delivered) -> int:
    return sum(anomaly.count for anomaly in read.anomalies if anomaly.kind == "duplicated")


def _latencies(workers: Sequence[Outcome]) -> dict[Timed, Latency]:
    """The latencies of workers after the warm-up, by metric; a metric without a value is left out."""
    first = _warm_up_seconds(workers)
    found = {metric: Latency.from_buckets(timeline.total(first)) for metric, timeline in latencies_of(workers).items()}
    return {metric: latency for metric, latency in found.items() if latency}


def _warm_up_seconds(workers: Sequence[Outcome]) -> int:
    return workers[0].job.warm_up_seconds if workers else 0


def _warm_up(workers: Sequence[Outcome], started_at: float) -> WarmUp | None:
    """The warm-up of workers that reported; None without one. `started_at` is as in `TrackOutcome`."""
    seconds = _warm_up_seconds(workers)
    if not seconds:
        return None
    events = sum(worker.report.warm_up_events for worker in workers)
    return WarmUp(seconds=seconds, events=events, measured_seconds=_measured_seconds(workers, started_at))


def _measured_seconds(workers: Sequence[Outcome], started_at: float) -> float:
    """As `seconds_of`, without the warm-up."""
    warm_up = _warm_up_seconds(workers)
    if not warm_up:
        return seconds_of(workers)
    ended_at = max(worker.report.started_at + worker.report.seconds for worker in workers)
    return max(0.0, ended_at - started_at - warm_up)


def _measured(events: int, workers: Sequence[Outcome]) -> int:
    """The number of these events that came after the warm-up. One delivered twice in the warm-up counts twice in it."""
    return max(0, events - sum(worker.report.warm_up_events for worker in workers))


def _rate(events: int, seconds: float, *, ok: bool) -> float | None:
    """Events per second; None when the verdict is not ok, and when there are no events."""
    return events / seconds if ok and events and seconds > 0 else None


def nodes(outcomes: Mapping[Track, TrackOutcome], readers: Sequence[Reader], *, ok: bool) -> list[Node]:
    """The work of each node; none in a place without nodes."""
    by_node: dict[str, dict[Track, list[Outcome]]] = {}
    for track, outcome in outcomes.items():
        for worker in outcome.reported:
            if worker.node:
                by_node.setdefault(worker.node, {}).setdefault(track, []).append(worker)
    seconds = {track: _measured_seconds(outcome.reported, outcome.started_at) for track, outcome in outcomes.items()}
    read = {node: sum(reader.events(node) for reader in readers) for node in by_node}
    return [_node(node, by_node[node], read[node], seconds, ok=ok) for node in sorted(by_node)]


def _node(
    node: str,
    workers: Mapping[Track, Sequence[Outcome]],
    read_events: int,
    seconds: Mapping[Track, float],
    *,
    ok: bool,
) -> Node:
    appending = workers.get(APPEND, [])
    reading = [worker for track, of_track in workers.items() if track != APPEND for worker in of_track]
    every = [*appending, *reading]
    nearest = min((worker.ready for worker in every), key=lambda ready: ready.round_trip_ms)
    appended = sum(worker.report.events for worker in appending)
    read_seconds = sum(seconds[track] for track in workers if track != APPEND)
    return Node(
        node=node,
        producers=len(appending),
        consumers=len(every) - len(appending),
        appended=appended,
        appended_per_second=_rate(_measured(appended, appending), seconds[APPEND], ok=ok) if appending else None,
        read=read_events,
        read_per_second=_rate(_measured(read_events, reading), read_seconds, ok=ok),
        cpu_seconds=sum(worker.report.cpu_seconds for worker in every),
        clock_offset_ms=nearest.clock_offset_ms,
        round_trip_ms=nearest.round_trip_ms,
    )


def unjudged(spec: Spec, outcomes: Mapping[Track, TrackOutcome], observed: Mapping[str, Observed]) -> Unjudged:
    """The measurements of a trial that ended without a verdict; its append must be among the tracks that are over."""
    appended = outcomes[APPEND]
    return Unjudged(
        append=append(appended, None, appended.opened_at, ok=not spec.pause),
        reads=[read(reader, spec, ok=not spec.pause) for reader in readers(spec, outcomes)],
        phases=dict(observed),
    )


def preload(spec: Spec, size: LogSize | None) -> Preload | None:
    """The events that were in the log before the run; `size` is that of the log then."""
    if not spec.preloaded:
        return None
    return Preload(
        events=spec.preloaded,
        first_producer=spec.scale,
        table_bytes=size and size.table_bytes,
        index_bytes=size and size.index_bytes,
    )


def retention(deletions: Sequence[Deleted], readers: Sequence[Reader], written: Written) -> Retention | None:
    """The events that were deleted behind readers; None where none were to be. A phantom is never deleted
    too early."""
    if not deletions:
        return None
    deleted = deleted_events(deletions)
    given = [normal(read.ranges) for read in (reader.delivered() for reader in readers)]
    possible = normal([*written.acknowledged, *written.indeterminate])
    return Retention(
        deleted=events_in(deleted),
        too_early=events_in(subtract(intersect(deleted, possible), reduce(intersect, given, deleted))),
        statements=sum(behind.statements for behind in deletions),
        seconds=sum(behind.seconds for behind in deletions),
    )


def losses(lost: Sequence[Outcome]) -> list[NodeLoss]:
    """The nodes that were lost, with the producers on them."""
    by_node: dict[str, list[Outcome]] = {}
    for producer in lost:
        by_node.setdefault(producer.node or "", []).append(producer)
    return [
        NodeLoss(
            node=node,
            producers=[producer.name for producer in here],
            seconds=min(producer.lost_after or 0 for producer in here),
            acknowledged=events_in(normal([part for producer in here for part in producer.ranges["acknowledged"]])),
        )
        for node, here in sorted(by_node.items())
    ]


def seconds_of(workers: Sequence[Outcome]) -> float:
    """From the first worker's start to the last one's end, on the database's clock; 0 of no workers."""
    reports = [worker.report for worker in workers]
    if not reports:
        return 0.0
    return max(report.started_at + report.seconds for report in reports) - min(r.started_at for r in reports)


def observed(seen: Observation, workers: Sequence[Outcome]) -> Observed:
    """The costs of a phase and what it waited for, server and workers together; `workers` are those of the phase."""
    of_kind: Counter[str] = Counter()
    for (kind, _), count in seen.waits.items():
        of_kind[kind] += count
    cpu_seconds = seen.postgres_cpu_seconds
    busiest = max(workers, key=lambda worker: _share_of_a_core(worker.report))
    bound = BusyWorker(busiest.name, _share_of_a_core(busiest.report)) if _client_bound(busiest.report) else None
    return Observed(
        seconds=seen.seconds,
        samples=seen.samples,
        bottleneck=bottleneck(
            seen.waits,
            seen.samples,
            busy_cores=None if cpu_seconds is None else cpu_seconds / seen.seconds,
            busy_worker=bound,
        ),
        waits=[
            Wait(backend=kind, event=event, share=count / of_kind[kind])
            for (kind, event), count in sorted(seen.waits.items(), key=lambda item: (item[0][0] != WORKER, -item[1]))
        ],
        counters=dict(seen.counters),
        postgres_cpu_seconds=cpu_seconds,
        postgres_memory_bytes=seen.postgres_memory_bytes,
        notify_queue_share=seen.notify_queue_share,
        workers_cpu_seconds=sum(worker.report.cpu_seconds for worker in workers),
        worker_memory_bytes=max(worker.report.memory_bytes for worker in workers),
        series=_with_memory(seen.series, seen.began_at, workers),
        observer_cpu_seconds=seen.own_cpu_seconds,
    )


def _with_memory(series: Series, began_at: float, workers: Sequence[Outcome]) -> Series:
    """Add the memory of workers, which they report with their progress, to the figures of a phase."""
    figures = dict(series.figures)
    for name, kind in (("producer_memory", ProducerJob), ("consumer_memory", ConsumerJob)):
        reports = [worker.memory for worker in workers if isinstance(worker.job, kind) and worker.memory]
        if reports:
            values: list[int | float | None] = [
                _largest_until(began_at + seconds, reports) for seconds in series.seconds
            ]
            figures[name] = Figure(unit=UNITS[name], values=values)
    return series.model_copy(update={"figures": figures})


def _largest_until(at: float, reports: Sequence[Sequence[tuple[float, int]]]) -> int | None:
    """The largest of the last values that were reported until a time; None before the first one. `reports` has each
    worker's, as times and values.
    """
    places = [bisect_right(of_one, at, key=lambda entry: entry[0]) for of_one in reports]
    return max((of_one[place - 1][1] for of_one, place in zip(reports, places, strict=True) if place), default=None)


def _client_bound(report: Report) -> bool:
    return _share_of_a_core(report) > CLIENT_BOUND_SHARE


def _share_of_a_core(report: Report) -> float:
    return report.cpu_seconds / report.seconds if report.seconds else 0
