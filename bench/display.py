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
from bench.results import Latency, Result, Trial

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
    if not found.ok:
        return "\n".join([f"verdict: FAILED. {_faults(found)}.", *(_example(fault) for fault in found.examples)])
    reads = f"each of {len(trial.reads)} reads" if len(trial.reads) > 1 else "the read"
    gap = max(read.max_etag_gap for read in trial.reads)
    return (
        f"verdict: ok. {found.expected_events:,} events were acknowledged and {reads} delivered each of them once and\n"
        f"in order. Checksum {found.expected_checksum}, max etag gap {gap}"
        f"{': etags that were drawn and not used' if gap > 1 else ''}."
    )


def _phases(trial: Trial) -> Iterator[str]:
    append = trial.append
    stored_bytes = trial.telemetry.table_bytes + trial.telemetry.index_bytes
    wal = "" if append.wal_bytes is None else f", {append.wal_bytes / append.events:.0f} of WAL"
    yield _phase("start", trial.phase_seconds["start"])
    yield _phase("append", append.seconds, f"{_rate(append.events_per_second)}  batch {_latency(append.latency_ms)}")
    yield _phase(
        "settle", trial.phase_seconds["settle"], f"an event takes {stored_bytes / append.events:.0f} bytes on disk{wal}"
    )
    for read in trial.reads:
        rate = _rate(read.events_per_second)
        yield _phase(f"read {read.read_batch}", read.seconds, f"{rate}  page {_latency(read.latency_ms)}")
    yield _phase("check", trial.phase_seconds["check"])
    bound = [f"read {read.read_batch}" for read in trial.reads if read.client_bound]
    if append.client_bound:
        bound.insert(0, "append")
    if bound:
        yield f"* client-bound: a worker, and not Postgres, set the pace of {', '.join(bound)}"


def _phase(name: str, seconds: float, more: str = "") -> str:
    return f"{name:<10} {seconds:>8.1f} s  {more}".rstrip()


def _latency(latency: Latency) -> str:
    return f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms, max {latency.max:.1f} ms"


def _rate(events_per_second: float | None) -> str:
    return f"{'FAILED':>18}" if events_per_second is None else f"{events_per_second:>9,.0f} events/s"


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
