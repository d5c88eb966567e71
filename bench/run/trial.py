"""A trial told from top to bottom: append, settle, read, audit, verdict. The log is installed, the place is open."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.judge.ranges import checksum, events_in, normal
from bench.places.api import Place
from bench.postgres import audit
from bench.postgres.connection import Connection, pinned
from bench.postgres.contract import table_of
from bench.postgres.server import settle, wal_position
from bench.postgres.telemetry import observer
from bench.results.models import Observed, Telemetry, Trial
from bench.run import summary
from bench.run.jobs import consumers, producers
from bench.run.phase import NodeLostError, Phase, ToRead, Tracks, carry_out
from bench.run.stranded import stranded
from bench.run.verdict import explained, judged, noted, what_is_kept, written_by
from bench.run.watch import Watch
from bench.spec import Spec

Over = Callable[[Mapping[str, Phase], Mapping[str, Observed]], None]
"""Takes the phases that are over, and what each cost, by the names under which a result has them."""


def carry_out_trial(
    spec: Spec,
    log: Log,
    place: Place,
    connection: Connection,
    watch: Watch,
    began_at: float,
    over: Over = lambda _phases, _observed: None,
) -> Trial:
    """Append as the spec says, read meanwhile or afterwards, and judge. `began_at` is when the command began (Unix).
    `over` is called whenever another phase is over.

    Raises:
        BenchError: something broke; there is no verdict then.
    """
    seconds = {"start": time.time() - began_at}
    notes: list[str] = []
    conninfo = pinned(connection, place.database.conninfo)
    observed: dict[str, Observed] = {}

    phases: dict[str, Phase] = {}

    def workers(tracks: Tracks, to_read: tuple[int, int] | None = None) -> None:
        name = " + ".join(tracks)
        with _timed(seconds, name), observer(conninfo, connection, place.database.usage) as server:
            try:
                carried_out = carry_out(
                    tracks,
                    place.workers.start,
                    connection,
                    spec.events,
                    ToRead(spec.idle_timeout, to_read),
                    watch,
                    server.observe,
                    spare_producers=spec.on_node_loss == "continue",
                )
            except NodeLostError as lost:
                raise InfrastructureError(f"{lost}{what_is_kept(lost.acknowledged, log, connection)}") from lost
        if server.seen:
            works = [work for phase in carried_out.values() for work in phase.works]
            observed[name] = summary.observed(server.seen, works)
        phases.update(carried_out)
        over(phases, observed)

    appending = {"append": producers(spec, log, table_of(connection, log))}
    reading = {f"read {size}": consumers(spec, log, size) for size in spec.read_batch}
    wal_before = wal_position(connection)
    workers({**appending, **reading} if spec.mode == "tail" else appending)
    wal_after = wal_position(connection)
    with (
        _timed(seconds, "settle"),
        watch.step("settling the log: vacuum, analyze, checkpoint"),
        noted(notes, "the log was not settled before it was read"),
    ):
        settle(connection)
    if spec.mode == "drain":
        acknowledged = normal(written_by(phases["append"]).acknowledged)
        to_read = events_in(acknowledged), sum(checksum(part) for part in acknowledged)
        for name, jobs in reading.items():
            workers({name: jobs}, to_read)
    readers = summary.readers(spec, phases)
    works = [work for phase in phases.values() for work in phase.works]
    failures = stranded(works, log, connection)
    with _timed(seconds, "check"), watch.step("checking what was stored and delivered"):
        written = written_by(phases["append"], cut_short=bool(failures))
        found = judged(spec, log, written, readers, connection, notes, failures)
        verdict = explained(found, spec, log, readers, connection, notes)
    sizes: tuple[int, int] | None = None
    with noted(notes, "the size of the log on disk is not known"):
        sizes = audit.log_bytes(connection)
    wal_bytes = None if wal_before is None or wal_after is None else wal_after - wal_before
    return Trial(
        phase_seconds=seconds,
        append=summary.append(phases["append"], wal_bytes, began_at, ok=verdict.ok),
        reads=[summary.read(reader, spec.mode, ok=verdict.ok) for reader in readers],
        nodes=summary.nodes(phases, readers, ok=verdict.ok),
        losses=summary.losses(phases["append"].lost),
        verdict=verdict,
        telemetry=Telemetry(
            table_bytes=sizes and sizes[0],
            index_bytes=sizes and sizes[1],
            phases=observed,
        ),
        series=summary.series(phases),
        notes=notes,
    )


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
