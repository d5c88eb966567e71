"""A phase: workers start, wait, go together and report. Listens to their records; judges nothing."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from bench.control import Connection, gate
from bench.errors import OutsideError
from bench.places.site import Ended, Messages, StartWorkers
from bench.records import Anomaly, Fate, Job, Ledger, Progress, Range, Ready, Report

SAMPLE_SECONDS = 0.5
"""Progress is kept this often, however many workers tell of theirs."""

Update = Callable[[int, int], None]
"""Takes the events so far and how many workers are done."""

Watch = Callable[[str, int, int], AbstractContextManager[Update]]
"""Shows a phase to a person: takes its name, its events and its workers, yields what to call as it goes on."""


@dataclass(frozen=True)
class Work:
    """What one worker said, from its ready to its report."""

    name: str
    ready: Ready
    report: Report
    ranges: dict[Fate, list[Range]]
    """The events of each fate; a fate that no event has is an empty list."""
    anomalies: list[Anomaly]


@dataclass
class _Heard:
    """What one worker has said up to now."""

    ready: Ready | None = None
    report: Report | None = None
    events: int = 0
    ranges: dict[Fate, list[Range]] = field(default_factory=lambda: defaultdict(list))
    anomalies: list[Anomaly] = field(default_factory=list)


@dataclass(frozen=True)
class Phase:
    """What all workers of a phase said, and their progress together as (seconds since the gate opened, events)."""

    works: list[Work]
    series: list[tuple[float, int]]


def carry_out(
    name: str,
    jobs: Sequence[Job],
    start_workers: StartWorkers,
    connection: Connection,
    events: int,
    watch: Watch,
) -> Phase:
    """Start workers, let them go together when all are ready, and listen until each has ended.

    Raises:
        OutsideError: a worker ended without having done its job; the message ends with its last words.
    """
    heard = {job.name: _Heard() for job in jobs}
    series: list[tuple[float, int]] = []
    with ExitStack() as stack:
        open_gate = stack.enter_context(gate(connection))
        update = stack.enter_context(watch(name, events, len(jobs)))
        messages = stack.enter_context(start_workers(jobs))
        for _ in _listen(messages, heard):
            if all(each.ready for each in heard.values()):
                break
        open_gate()
        began = time.perf_counter()
        update(0, 0)
        for _ in _listen(messages, heard):
            total = sum(each.events for each in heard.values())
            seconds = time.perf_counter() - began
            if not series or seconds - series[-1][0] >= SAMPLE_SECONDS:
                series.append((seconds, total))
            update(total, sum(each.report is not None for each in heard.values()))
        series.append((time.perf_counter() - began, sum(each.events for each in heard.values())))
    return Phase(
        [
            Work(worker, each.ready, each.report, each.ranges, each.anomalies)
            for worker, each in heard.items()
            if each.ready and each.report
        ],
        series,
    )


def _listen(messages: Messages, heard: dict[str, _Heard]) -> Iterator[None]:
    """Note what workers say; yields whenever one is ready or further."""
    for message in messages:
        worker = heard[message.worker]
        if isinstance(message, Ended):
            if message.exit_code or worker.report is None:
                raise OutsideError(
                    f"{message.worker} ended before its job was done, with exit code {message.exit_code}: "
                    f"{message.last_words or '(it said nothing)'}"
                )
            continue
        match message.record:
            case Ready() as ready:
                worker.ready = ready
                yield
            case Progress(events=events):
                worker.events = events
                yield
            case Ledger(fate=fate, ranges=ranges):
                worker.ranges[fate].extend(ranges)
            case Anomaly() as anomaly:
                worker.anomalies.append(anomaly)
            case Report() as report:
                worker.report = report
                worker.events = report.events
                yield
