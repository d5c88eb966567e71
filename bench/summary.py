"""What workers reported, put into the words of a result. A rate is left out when the verdict is not ok."""

from bench.phase import Phase
from bench.records import Report
from bench.results import Append, Latency, Producer, Read, Sample

CLIENT_BOUND_SHARE = 0.9
"""A worker that uses this much of a core has no time left to wait for Postgres."""


def append(phase: Phase, wal_bytes: int | None, *, ok: bool) -> Append:
    """The append phase: it lasts from the first producer's start to the last one's end, on the database's clock."""
    reports = [work.report for work in phase.works]
    events = sum(report.events for report in reports)
    began = min(report.started_at for report in reports)
    seconds = max(report.started_at + report.seconds for report in reports) - began
    return Append(
        events=events,
        seconds=seconds,
        events_per_second=events / seconds if ok else None,
        latency_ms=Latency.of([report.latency for report in reports]),
        client_bound=any(_client_bound(report) for report in reports),
        wal_bytes=wal_bytes,
        producers=[
            Producer(
                name=work.name,
                events=work.report.events,
                seconds=work.report.seconds,
                cpu_seconds=work.report.cpu_seconds,
                clock_offset_ms=work.ready.clock_offset_ms,
                round_trip_ms=work.ready.round_trip_ms,
            )
            for work in phase.works
        ],
    )


def read(read_batch: int, phase: Phase, *, ok: bool) -> Read:
    """One consumer's read of the whole log."""
    (work,) = phase.works
    report = work.report
    return Read(
        read_batch=read_batch,
        events=report.events,
        seconds=report.seconds,
        events_per_second=report.events / report.seconds if ok else None,
        checksum=report.checksum,
        max_etag_gap=report.max_etag_gap or 0,
        repeated_ctimes=report.repeated_ctimes or 0,
        latency_ms=Latency.of([report.latency]),
        cpu_seconds=report.cpu_seconds,
        client_bound=_client_bound(report),
        clock_offset_ms=work.ready.clock_offset_ms,
        round_trip_ms=work.ready.round_trip_ms,
    )


def series(phases: dict[str, Phase]) -> dict[str, list[Sample]]:
    """The progress of each phase."""
    return {
        name: [Sample(seconds=seconds, events=events) for seconds, events in phase.series]
        for name, phase in phases.items()
    }


def _client_bound(report: Report) -> bool:
    return report.cpu_seconds > CLIENT_BOUND_SHARE * report.seconds
