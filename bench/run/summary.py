"""What workers reported, put into the words of a result. A rate is left out when the verdict is not ok."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.judge.checker import Delivered, Holder
from bench.judge.ranges import events_in, normal
from bench.postgres.telemetry import WORKER, Observation
from bench.records import Report
from bench.results.models import (
    Append,
    ImpossibleCtimes,
    Latency,
    Node,
    NodeLoss,
    Observed,
    Producer,
    Read,
    Sample,
    Unjudged,
    Wait,
)
from bench.run import bottleneck
from bench.run.phase import Lost, Phase, Work
from bench.spec import Spec

CLIENT_BOUND_SHARE = 0.9
"""A worker that uses this much of a core has no time left to wait for Postgres."""


def append(phase: Phase, wal_bytes: int | None, began_at: float, *, ok: bool) -> Append:
    """The append phase: it lasts from the first producer's start to the last one's end, on the database's clock."""
    reports = [work.report for work in phase.works]
    events = sum(report.events for report in reports)
    seconds = seconds_of(phase.works)
    answered = [report.first_call_seconds for report in reports if report.first_call_seconds is not None]
    ended: list[Work | Lost] = [*phase.works, *phase.lost]
    aborted = [part for each in ended for part in each.ranges.get("aborted", [])]
    return Append(
        events=events,
        rolled_back=events_in(normal(aborted)),
        seconds=seconds,
        events_per_second=_rate(events, seconds, ok=ok and not phase.lost),
        latency_ms=Latency.of([report.latency for report in reports]),
        transport=_transport(phase.works),
        client_bound=any(_client_bound(report) for report in reports),
        first_event_seconds=phase.opened_at - began_at + min(answered) if answered else None,
        wal_bytes=wal_bytes,
        producers=[
            Producer(
                name=work.name,
                node=work.node,
                events=work.report.events,
                seconds=work.report.seconds,
                cpu_seconds=work.report.cpu_seconds,
                memory_bytes=work.report.memory_bytes,
                clock_offset_ms=work.ready.clock_offset_ms,
                round_trip_ms=work.ready.round_trip_ms,
            )
            for work in phase.works
        ],
    )


@dataclass(frozen=True)
class Reader:
    """One that is judged by itself: a consumer, or a group by the works of its members."""

    name: str
    read_batch: int
    works: list[Work]
    holders: Sequence[Holder] | None = None
    """As in `Phase`."""

    def events(self, node: str | None = None) -> int:
        """Events that it was given, each counted once; of its members on a node, if that is named."""
        works = [work for work in self.works if node in {None, work.node}]
        return events_in(normal([part for work in works for part in work.ranges.get("delivered", [])]))

    def delivered(self) -> Delivered:
        """What it was given."""
        return Delivered.together(
            self.name,
            [
                Delivered(
                    self.name,
                    work.report.events,
                    work.report.checksum,
                    work.ranges["delivered"],
                    work.anomalies,
                    work.report.falling_etags or 0,
                    [work.report.stopped] if work.report.stopped else [],
                    work.error is not None,
                    work.report.highest_etag,
                    holders=self.holders,
                    page_events=self.read_batch,
                    largest_page=work.report.largest_page,
                    oversized_pages=work.report.oversized_pages,
                )
                for work in self.works
            ],
        )


def readers(spec: Spec, phases: Mapping[str, Phase]) -> list[Reader]:
    """Who is judged by itself, of the readings that are over: each consumer, or a group as a whole."""
    found: list[Reader] = []
    for size in spec.read_batch:
        phase = phases.get(f"read {size}")
        if phase is None:
            continue
        if spec.group:
            found.append(Reader(f"group-{size}", size, phase.works, phase.holders))
        else:
            found += [Reader(work.name, size, [work], phase.holders) for work in phase.works]
    return found


def read(reader: Reader, mode: Literal["drain", "tail"], *, ok: bool) -> Read:
    """One reading of the whole log."""
    reports = [work.report for work in reader.works]
    events = reader.events()
    seconds = seconds_of(reader.works)
    impossible = _impossible(reports)
    delays = [report.delay for report in reports if report.delay and not impossible]
    return Read(
        reader=reader.name,
        read_batch=reader.read_batch,
        mode=mode,
        members=len(reports),
        transport=_transport(reader.works),
        largest_page=max(report.largest_page for report in reports),
        events=events,
        redelivered=_redelivered(reader.delivered()),
        seconds=seconds,
        events_per_second=_rate(events, seconds, ok=ok),
        checksum=sum(report.checksum for report in reports),
        max_etag_gap=max(report.max_etag_gap or 0 for report in reports),
        repeated_ctimes=sum(report.repeated_ctimes or 0 for report in reports),
        latency_ms=Latency.of([report.latency for report in reports]),
        end_to_end_ms=Latency.of(delays),
        impossible_ctimes=impossible,
        longest_wait_seconds=max((report.longest_wait_seconds or 0 for report in reports), default=0),
        cpu_seconds=sum(report.cpu_seconds for report in reports),
        memory_bytes=max(report.memory_bytes for report in reports),
        client_bound=mode == "drain" and any(_client_bound(report) for report in reports),
        clock_offset_ms=reader.works[0].ready.clock_offset_ms,
        round_trip_ms=max(work.ready.round_trip_ms for work in reader.works),
    )


def _transport(works: Sequence[Work]) -> str | None:
    """The slower one of those that these workers used."""
    used = {work.ready.session.get("transport") for work in works}
    return "libpq" if "libpq" in used else next(iter(used), None)


def _impossible(reports: Sequence[Report]) -> ImpossibleCtimes | None:
    """The ctimes of which there is no delay, of all members together."""
    met = [report.impossible_ctimes for report in reports if report.impossible_ctimes]
    if not met:
        return None
    return ImpossibleCtimes(
        infinite=sum(each.infinite for each in met),
        ahead=sum(each.ahead for each in met),
        ahead_seconds=max(each.ahead_seconds for each in met),
        old=sum(each.old for each in met),
        old_seconds=max(each.old_seconds for each in met),
    )


def _redelivered(read: Delivered) -> int:
    return sum(anomaly.count for anomaly in read.anomalies if anomaly.kind == "duplicated")


def _rate(events: int, seconds: float, *, ok: bool) -> float | None:
    """Events per second; None of what was not ok, and of nothing."""
    return events / seconds if ok and events and seconds > 0 else None


def nodes(phases: dict[str, Phase], readers: Sequence[Reader], *, ok: bool) -> list[Node]:
    """What each node did, for workers that ran on nodes."""
    by_node: dict[str, dict[str, list[Work]]] = {}
    for name, phase in phases.items():
        for work in phase.works:
            if work.node:
                by_node.setdefault(work.node, {}).setdefault(name, []).append(work)
    seconds = {name: seconds_of(phase.works) for name, phase in phases.items()}
    read = {node: sum(reader.events(node) for reader in readers) for node in by_node}
    return [_node(node, by_node[node], read[node], seconds, ok=ok) for node in sorted(by_node)]


def _node(node: str, works: dict[str, list[Work]], read_events: int, seconds: dict[str, float], *, ok: bool) -> Node:
    appending = works.get("append", [])
    reading = {name: here for name, here in works.items() if name != "append"}
    every = [work for here in works.values() for work in here]
    nearest = min((work.ready for work in every), key=lambda ready: ready.round_trip_ms)
    appended = sum(work.report.events for work in appending)
    read_seconds = sum(seconds[name] for name in reading)
    return Node(
        node=node,
        producers=len(appending),
        consumers=len(every) - len(appending),
        appended=appended,
        appended_per_second=_rate(appended, seconds["append"], ok=ok) if appending else None,
        read=read_events,
        read_per_second=_rate(read_events, read_seconds, ok=ok),
        cpu_seconds=sum(work.report.cpu_seconds for work in every),
        clock_offset_ms=nearest.clock_offset_ms,
        round_trip_ms=nearest.round_trip_ms,
    )


def unjudged(spec: Spec, phases: Mapping[str, Phase], observed: Mapping[str, Observed]) -> Unjudged:
    """What was measured by phases of a trial that ended without a verdict; the append must be among them."""
    appended = phases["append"]
    return Unjudged(
        append=append(appended, None, appended.opened_at, ok=True),
        reads=[read(reader, spec.mode, ok=True) for reader in readers(spec, phases)],
        phases=dict(observed),
    )


def losses(lost: Sequence[Lost]) -> list[NodeLoss]:
    """The nodes that were lost, with what was on them."""
    by_node: dict[str, list[Lost]] = {}
    for each in lost:
        by_node.setdefault(each.node, []).append(each)
    return [
        NodeLoss(
            node=node,
            producers=[each.job.name for each in here],
            seconds=min(each.seconds for each in here),
            acknowledged=events_in(normal([part for each in here for part in each.ranges.get("acknowledged", [])])),
        )
        for node, here in sorted(by_node.items())
    ]


def seconds_of(works: Sequence[Work]) -> float:
    """From the first one's start to the last one's end, on the database's clock; 0 when none reported."""
    reports = [work.report for work in works]
    if not reports:
        return 0.0
    return max(report.started_at + report.seconds for report in reports) - min(r.started_at for r in reports)


def observed(seen: Observation, works: list[Work]) -> Observed:
    """What a phase cost and what it waited for, server and workers together."""
    of_kind: Counter[str] = Counter()
    for (kind, _), count in seen.waits.items():
        of_kind[kind] += count
    cpu_seconds = seen.postgres_cpu_seconds
    busiest = max(works, key=lambda work: _share_of_a_core(work.report))
    bound = _client_bound(busiest.report)
    return Observed(
        seconds=seen.seconds,
        samples=seen.samples,
        bottleneck=bottleneck.sentence(
            seen.waits,
            seen.samples,
            busy_cores=None if cpu_seconds is None else cpu_seconds / seen.seconds,
            client=(busiest.name, _share_of_a_core(busiest.report)) if bound else None,
        ),
        waits=[
            Wait(backend=kind, event=event, share=count / of_kind[kind])
            for (kind, event), count in sorted(seen.waits.items(), key=lambda item: (item[0][0] != WORKER, -item[1]))
        ],
        counters=dict(seen.counters),
        postgres_cpu_seconds=cpu_seconds,
        postgres_memory_bytes=seen.postgres_memory_bytes,
        workers_cpu_seconds=sum(work.report.cpu_seconds for work in works),
        worker_memory_bytes=max(work.report.memory_bytes for work in works),
    )


def series(phases: dict[str, Phase]) -> dict[str, list[Sample]]:
    """The progress of each phase."""
    return {
        name: [Sample(seconds=seconds, events=events) for seconds, events in phase.series]
        for name, phase in phases.items()
    }


def _client_bound(report: Report) -> bool:
    return _share_of_a_core(report) > CLIENT_BOUND_SHARE


def _share_of_a_core(report: Report) -> float:
    return report.cpu_seconds / report.seconds if report.seconds else 0
