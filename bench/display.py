"""What a person sees of a run: live progress, the lines that tell how it went, the verdict in words."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from bench.checker import KINDS, Fault, Verdict
from bench.phase import Update, Watch
from bench.results import Read, Result, Trial

SECONDS_A_LINE = 5.0


def watch(*, quiet: bool) -> Watch:
    """How progress is shown on stderr: as a live display, as a line now and then on a pipe, or not at all."""
    if quiet:
        return _silent
    return _live if sys.stderr.isatty() else _lines


@contextmanager
def _silent(name: str, events: int, workers: int) -> Iterator[Update]:  # noqa: ARG001
    yield lambda _events, _done: None


@contextmanager
def _lines(name: str, events: int, workers: int) -> Iterator[Update]:
    who = _who(name, workers)
    print(f"{name}: starting {who}", file=sys.stderr, flush=True)
    began = last = 0.0

    def update(so_far: int, done: int) -> None:
        nonlocal last, began
        now = time.perf_counter()
        if not began:
            began = last = now
            print(f"{name}: {who} started", file=sys.stderr, flush=True)
        elif now - last >= SECONDS_A_LINE or done == workers:
            last = now
            print(
                f"{name}: {so_far:,} of {events:,} events, {so_far / (now - began):,.0f} events/s, "
                f"{done} of {who} done",
                file=sys.stderr,
                flush=True,
            )

    yield update


@contextmanager
def _live(name: str, events: int, workers: int) -> Iterator[Update]:
    who = _who(name, workers)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        _Count(),
        _Rate(),
        TextColumn("{task.fields[workers]}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        task = progress.add_task(name, total=events, workers=f"starting {who}", began=None, seen=None)

        def update(so_far: int, done: int) -> None:
            now = time.perf_counter()
            began = progress.tasks[0].fields["began"] or now
            progress.update(task, completed=so_far, workers=f"{done} of {who} done", began=began, seen=now)

        yield update


def _who(phase: str, workers: int) -> str:
    if phase != "append":
        return "1 consumer"
    return f"{workers} producers" if workers > 1 else "1 producer"


class _Count(ProgressColumn):
    """Events so far and in all."""

    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed):>{len(f'{int(task.total or 0):,}')},}/{int(task.total or 0):,} events")


class _Rate(ProgressColumn):
    """Events a second since the gate opened."""

    def render(self, task: Task) -> Text:
        began, seen = task.fields["began"], task.fields["seen"]
        if began is None or seen <= began:
            return Text(f"{'':>18}")
        return Text(f"{task.completed / (seen - began):>9,.0f} events/s", style="green")


def summary(result: Result) -> str:
    """What a person reads under the table."""
    lines: list[str] = []
    for trial in result.trials:
        lines += ["", *_phases(trial), "", verdict(trial)]
    return "\n".join(lines)


def verdict(trial: Trial) -> str:
    """The verdict in words; when it failed, with the examples."""
    found = trial.verdict
    gap = max(read.max_etag_gap for read in trial.reads)
    if found.ok:
        reads = f"each of {len(trial.reads)} reads" if len(trial.reads) > 1 else "the read"
        text = (
            f"verdict: ok. {found.expected_events:,} events were acknowledged and {reads} delivered "
            f"every one of them once and in order; checksum {found.expected_checksum}, max etag gap {gap}."
        )
        return text + (" Gaps are etags that were drawn and not used." if gap > 1 else "")
    return "\n".join([f"verdict: FAILED. {_faults(found)}.", *(_example(fault) for fault in found.examples)])


def _phases(trial: Trial) -> Iterator[str]:
    append = trial.append
    latency = append.latency_ms
    took = trial.phase_seconds
    yield f"start    {took['start']:8.1f} s"
    yield (
        f"append   {append.seconds:8.1f} s  {_rate(append.events_per_second)}  "
        f"batch p50 {latency.p50:.1f} ms, p99 {latency.p99:.1f} ms, max {latency.max:.1f} ms"
        f"{_wal(append.wal_bytes, append.events)}{_bound(client_bound=append.client_bound)}"
    )
    yield f"settle   {took['settle']:8.1f} s"
    for read in trial.reads:
        yield _read(read)
    stored = trial.telemetry.table_bytes + trial.telemetry.index_bytes
    yield f"check    {took['check']:8.1f} s  {stored / max(append.events, 1):.0f} bytes an event on disk"


def _read(read: Read) -> str:
    latency = read.latency_ms
    return (
        f"{'read ' + str(read.read_batch):<9}{read.seconds:7.1f} s  {_rate(read.events_per_second)}  "
        f"page p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms, max {latency.max:.1f} ms"
        f"{_bound(client_bound=read.client_bound)}"
    )


def _rate(events_per_second: float | None) -> str:
    return "         FAILED   " if events_per_second is None else f"{events_per_second:>9,.0f} events/s"


def _wal(wal_bytes: int | None, events: int) -> str:
    return "" if wal_bytes is None else f", {wal_bytes / max(events, 1):.0f} bytes of WAL an event"


def _bound(*, client_bound: bool) -> str:
    return ", client-bound: a worker and not Postgres set the pace" if client_bound else ""


def _faults(found: Verdict) -> str:
    counts = [f"{getattr(found, kind):,} {kind}" for kind in KINDS if getattr(found, kind)]
    if found.wrong_checksums:
        counts.append(f"the right events with a wrong checksum in {found.wrong_checksums} reads")
    return f"Of {found.expected_events:,} acknowledged events: {', '.join(counts)}"


def _example(fault: Fault) -> str:
    where = [
        f"{name} {value}"
        for name, value in (
            ("producer", fault.producer),
            ("seq", fault.seq),
            ("etag", fault.etag),
            ("read batch", fault.read_batch),
        )
        if value is not None
    ]
    return f"  {fault.kind}: {', '.join(where) or 'a row that is no event of a producer'}"
