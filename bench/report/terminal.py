"""The summary of a run that is over, for the terminal: its phases, its rates, its verdict in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import stdev
from types import MappingProxyType
from typing import Any, NamedTuple

from bench import stats
from bench.judge.words import faults
from bench.report import bottleneck, phases, screen, tabular
from bench.report import runs as runs_report
from bench.report.growth import growth
from bench.report.verdict import load_clause, trial_verdict, wrong_ctimes
from bench.results.costs import Observed, Retention
from bench.results.models import Append, Latency, Offered, Read, Result, Trial, Unjudged, WarmUp
from bench.results.series import Unseen
from bench.results.tracks import APPEND, Reading, Step, phase_key
from bench.text import number, plural
from bench.values import range_text, wait_text

NAME_WIDTH = 10
SECONDS_WIDTH = 8
FULL_VERDICTS = 3
"""Of several trials that failed, this many are shown in full; each other one in a line."""
SHORTEST_BEHIND_SECONDS = 0.05
NOTABLE_QUEUE_SHARE = 0.03
"""NOTIFY's queue is named from this share in use on: it is nearly empty where readers keep up."""
MANY_PAGES = 3
"""When a reader was given events for this many pages and no page was full, that is not chance."""


def summary(result: Result) -> str:
    """The summary under the table, in as many columns as standard output has."""
    lines = [*(_one(result) if len(result.trials) == 1 else _several(result))]
    if result.unfinished:
        lines.append(f"The run ended after {result.unfinished}.")
    return screen.shown("\n".join(lines))


def outcome(result: Result) -> str:
    """The verdict in one line; with several trials, the number that failed."""
    if len(result.trials) == 1:
        return trial_verdict(result.trials[0]).partition("\n")[0]
    failed = sum(not trial.verdict.ok for trial in result.trials)
    of = plural(len(result.trials), "trial")
    of += ", the warm-up trials that failed included" * any(trial.warm_up for trial in result.trials)
    return f"verdict: FAILED in {failed} of {of}." if failed else f"verdict: ok in {of}."


def _one(result: Result) -> Iterator[str]:
    (trial,) = result.trials
    yield ""
    yield from _phases(trial, result.spec)
    if trial.load_phases:
        yield from ("", phases.table(trial.load_phases, tabular.form()))
    if trial.nodes:
        yield from ("", runs_report.nodes(trial, tabular.form()))
    yield from ("", trial_verdict(trial))
    yield from (f"Note: {note}." for note in trial.notes)


def _several(result: Result) -> Iterator[str]:
    """The trials that failed, the first of them in full; then the rates of all trials, and the verdict."""
    names = trial_names(result)
    failed = [(name, trial) for name, trial in zip(names, result.trials, strict=True) if not trial.verdict.ok]
    for index, (name, trial) in enumerate(failed):
        yield from (("", name, trial_verdict(trial)) if index < FULL_VERDICTS else (trial_line(name, trial),))
    measured = [trial for trial in result.trials if not trial.warm_up]
    yield ""
    if not failed:
        yield from _rates(measured, names[-len(measured) :])
    right = [trial for trial in measured if trial.verdict.ok]
    if right:
        yield f"verdict: ok in {len(right)} of {plural(len(measured), 'trial')}. Last trial:"
        yield f"  {trial_verdict(right[-1])}"


def trial_names(result: Result) -> list[str]:
    """The names of the trials of a result. Of warm-up trials only those that failed are stored."""
    of = max(result.spec.get("trials", 1), sum(not trial.warm_up for trial in result.trials))
    names: list[str] = []
    number = 0
    for trial in result.trials:
        number += not trial.warm_up
        names.append("warm-up trial" if trial.warm_up else f"trial {number} of {of}")
    return names


def trial_line(name: str, trial: Trial) -> str:
    """A trial in one line: its verdict and its rates, or its faults."""
    if not trial.verdict.ok:
        return f"{name}: FAILED, {faults(trial.verdict)}"
    rates = {APPEND.key: trial.append.events_per_second}
    rates |= {_reading(read.reading): read.events_per_second for read in trial.reads}
    clauses = [f"{track} {rate:,.0f}/s" for track, rate in rates.items() if rate is not None]
    word = "ok, but untested" if trial.exposure and trial.exposure.exposed is False else "ok"
    return f"{name}: {', '.join([word, *clauses])}"


def _rates(trials: Sequence[Trial], names: Sequence[str]) -> Iterator[str]:
    """The rates of several trials together: a line per rate, and one for the trials that are unlike the others."""
    rates = {APPEND.key: [trial.append.events_per_second for trial in trials]}
    for place, read in enumerate(trials[0].reads):
        rates[_reading(read.reading)] = [trial.reads[place].events_per_second for trial in trials]
    wide = max(NAME_WIDTH, *map(len, rates))
    for name, per_trial in rates.items():
        values = [rate for rate in per_trial if rate is not None]
        if len(values) < len(per_trial):
            lacking = f"no rate in {len(per_trial) - len(values)} of {plural(len(per_trial), 'trial')}"
            lacking += ", which ended in the warm-up" * any(_is_all_warm_up(trial) for trial in trials)
            yield f"{name:<{wide}}  {screen.HANG}no median: {lacking}"
            continue
        middle = stats.median(values)
        clauses = [f"{middle.value:,.0f} events/s, the median of {plural(len(values), 'trial')}"]
        if len(values) >= stats.SMALLEST_SAMPLE:
            clauses.append(f"{stats.interval_name(len(values))} {middle.low:,.0f} to {middle.high:,.0f}")
        if len(values) > 1:
            clauses.append(f"range {min(values):,.0f} to {max(values):,.0f}, sigma {stdev(values) / middle.value:.1%}")
        yield f"{name:<{wide}}  {screen.HANG}{'; '.join(clauses)}"
        odd = [f"{names[place].partition(' of ')[0]} ({values[place]:,.0f})" for place in stats.outliers(values)]
        if odd:
            odd_ones = f"unlike the others: {', '.join(odd)}; was the machine busy with something else?"
            yield f"{'':<{wide}}  {screen.HANG}{odd_ones}"


class _Line(NamedTuple):
    """A phase and how it went; without a name, more about the phase before."""

    name: str = ""
    seconds: float | None = None
    text: str = ""


def unjudged(measured: Unjudged, spec: Mapping[str, Any]) -> str:
    """The measurements of the phases that were over when their trial ended without a verdict."""
    lines = [
        *_append_lines(measured.append, "none", spec),
        *_costs("", measured.phases.get(APPEND.key), measured.append.events),
        *_read_lines(measured.reads, "none", measured.phases),
    ]
    heading = "No verdict: the figures below were not verified."
    return screen.fit("\n".join([heading, *_set(lines)]), screen.width())


def _phases(trial: Trial, spec: Mapping[str, Any]) -> Iterator[str]:
    yield from _set(_phase_lines(trial, spec))
    bound = [_reading(read.reading) for read in trial.reads if read.client_bound]
    if trial.append.client_bound:
        bound.insert(0, APPEND.key)
    if bound:
        yield f"* client-bound: a worker, and not Postgres, set the pace of {', '.join(bound)}"


def _set(lines: Iterable[_Line]) -> Iterator[str]:
    """Lines in columns: the phase, its seconds, its text."""
    shown = [line for line in lines if line.name or line.text]
    wide = max(NAME_WIDTH, *(len(line.name) for line in shown))
    for name, seconds, text in shown:
        took = f"{seconds:>{SECONDS_WIDTH}.1f} s" if seconds is not None else f"{'':>{SECONDS_WIDTH + 2}}"
        yield f"{name:<{wide}} {took}  {screen.HANG}{text}"


def _phase_lines(trial: Trial, spec: Mapping[str, Any]) -> Iterator[_Line]:
    append, observed = trial.append, trial.telemetry.phases
    first = (
        "" if append.first_event_seconds is None else f"first batch appended after {append.first_event_seconds:.1f} s"
    )
    tails = trial.reads[0].mode == "tail"
    yield _Line(Step.START, trial.phase_seconds[Step.START], first)
    if trial.preload:
        per_event = f"{(trial.preload.stored_bytes or 0) / trial.preload.events:.0f} bytes on disk per event"
        text = f"{trial.preload.events:,} events were in the log before the run, {per_event}; no figure counts them"
        yield _Line(Step.PRELOAD, trial.phase_seconds[Step.PRELOAD], text)
    yield from _append_lines(append, trial.instead_of_append_rate, spec)
    if trial.retention:
        yield _Line(text=_retention(trial.retention))
    if tails:
        yield from _readings(trial.reads, trial.instead_of_read_rate, trial.unseen)
        yield _Line(text=_said_of_pages(spec))
        together = observed.get(phase_key(APPEND, trial.reads[0].reading.track))
        yield from _costs("  together", together, append.events, trial.unseen)
    else:
        yield from _costs("", observed.get(APPEND.key), append.events)
    yield _Line(Step.SETTLE, trial.phase_seconds[Step.SETTLE], _space(trial))
    if not tails:
        yield from _read_lines(trial.reads, trial.instead_of_read_rate, observed)
        yield _Line(text=_said_of_pages(spec))
    yield _Line(Step.CHECK, trial.phase_seconds[Step.CHECK])


def _retention(retention: Retention) -> str:
    if not retention.deleted:
        return "retention: no event was due to be deleted"
    deleted = plural(retention.deleted, "event was", "events were")
    return (
        f"retention: {deleted} deleted behind readers by {plural(retention.statements, 'statement')} in "
        f"{retention.seconds:.1f} s"
    )


def _append_lines(append: Append, otherwise: str, spec: Mapping[str, Any]) -> Iterator[_Line]:
    rate = _rate(append.events_per_second, otherwise)
    yield _Line(APPEND.key, append.seconds, f"{rate}  batch {_latency(append.latency_ms)}")
    yield _Line(text=_warm_up(append.warm_up))
    if append.offered:
        yield from _offered_lines(append.offered)
    yield _Line(text=_said_of_batches(append, spec))


def _is_all_warm_up(trial: Trial) -> bool:
    """Whether a phase of a trial ended before its warm-up was over."""
    warm_ups = [trial.append.warm_up, *(read.warm_up for read in trial.reads)]
    return any(warm_up and not warm_up.measured_seconds for warm_up in warm_ups)


def _warm_up(warm_up: WarmUp | None) -> str:
    """The part of a phase that its figures leave out; empty without a warm-up."""
    if warm_up is None:
        return ""
    if not warm_up.measured_seconds:
        return f"no rate and no latencies: it ended in its --warm-up-seconds {warm_up.seconds}; append for longer"
    return f"rates and latencies leave out the first {warm_up.seconds} s, with {plural(warm_up.events, 'event')}"


def _offered_lines(offered: Offered) -> Iterator[_Line]:
    """How far an offered load was kept, and the latency that hides how long batches waited."""
    clauses = [load_clause(offered)]
    if offered.largest_backlog:
        clauses.append(f"largest backlog {plural(offered.largest_backlog, 'event')}")
    if offered.most_behind_seconds >= SHORTEST_BEHIND_SECONDS:
        clauses.append(f"up to {offered.most_behind_seconds:.1f} s behind the schedule")
    yield _Line(text="; ".join(clauses))
    counted = "latencies count from the time at which a batch was due; uncorrected, from its sending"
    yield _Line(text=f"{counted}: {_latency(offered.service_ms)}")
    if offered.generator_bound and offered.lateness_ms:
        late = _latency(offered.lateness_ms)
        yield _Line(text=f"generator-bound: producers that waited for a due time were late themselves by {late}")


def _read_lines(reads: Sequence[Read], otherwise: str, observed: Mapping[str, Observed]) -> Iterator[_Line]:
    for track, group in groupby(reads, key=lambda read: read.reading.track):
        of_track = list(group)
        yield from _readings(of_track, otherwise)
        yield from _costs("", observed.get(track.key), sum(read.events for read in of_track))


def _said_of_batches(append: Append, spec: Mapping[str, Any]) -> str:
    """The facts about batches without which their latency and their costs are misread."""
    clauses = []
    held_ms, pause_ms = spec.get("transaction_ms", (0, 0)), spec.get("pause")
    if held_ms[1]:
        clauses.append(f"batches were held open for {range_text(held_ms)} ms, included in the latency")
    if pause_ms:
        clauses.append(
            f"sessions paused for {range_text(pause_ms)} ms at a time inside statements, included in all times"
        )
    if append.rolled_back:
        clauses.append(
            f"{plural(append.rolled_back, 'event was', 'events were')} rolled back; they are excluded from latencies "
            "but included in CPU, WAL and disk per event"
        )
    return "; ".join(clauses)


def _said_of_pages(spec: Mapping[str, Any]) -> str:
    """The work of readers with each page, without which their rates are misread."""
    think_ms = spec.get("consumer_think")
    return f"readers worked {wait_text(think_ms)} with each page, included in the rate" if think_ms else ""


def _space(trial: Trial) -> str:
    """The bytes on disk and of WAL per event; empty when there are no events. WAL is the whole server's, from the start
    of the append phase to its end.
    """
    events, wal_bytes = trial.append.events, trial.append.wal_bytes
    if not events:
        return ""
    stored_bytes = None if trial.retention else trial.stored_bytes  # of few events that are left
    clauses = [
        *([] if stored_bytes is None else [f"{stored_bytes / events:.0f} bytes on disk"]),
        *([] if wal_bytes is None else [f"{wal_bytes / events:.0f} bytes of WAL"]),
    ]
    return f"per event: {', '.join(clauses)}" if clauses else ""


def _costs(
    name: str,
    observed: Observed | None,
    events: int,
    unseen: Mapping[str, Sequence[Unseen]] = MappingProxyType({}),
) -> Iterator[_Line]:
    """The bottleneck of a phase, its costs, and what grew in it."""
    if observed is None or not events:
        return
    pace = bottleneck.sentence(observed)
    if pace:
        yield _Line(name, text=pace)
    cost = f"{observed.workers_cpu_seconds / events * 1e6:.2f} CPU s of workers"
    if observed.postgres_cpu_seconds is not None:
        cost += f" and {observed.postgres_cpu_seconds / events * 1e6:.2f} of Postgres"
    clauses = [f"a million events cost {cost}"]
    counted = observed.counters
    checkpoints = counted.get("checkpoints_timed", 0) + counted.get("checkpoints_requested", 0)
    if checkpoints:
        clauses.append(plural(checkpoints, "checkpoint"))
    looked_up = counted.get("blocks_hit", 0) + counted.get("blocks_read", 0)
    if looked_up:
        clauses.append(f"{counted['blocks_hit'] / looked_up:.1%} of blocks in the cache")
    if observed.notify_queue_share and observed.notify_queue_share >= NOTABLE_QUEUE_SHARE:
        clauses.append(f"NOTIFY's queue was up to {observed.notify_queue_share:.0%} full")
    yield _Line(text="; ".join(clauses))
    yield _Line(text=growth(observed.series, unseen))
    if observed.others:
        yield _Line(text=runs_report.others_at_work([observed.others]))


def _readings(
    reads: Sequence[Read], otherwise: str, unseen: Mapping[str, Sequence[Unseen]] = MappingProxyType({})
) -> Iterator[_Line]:
    for read in reads:
        rate = _rate(read.events_per_second, otherwise)
        yield _Line(_reading(read.reading), read.seconds, f"{rate}  page {_latency(read.latency_ms)}")
        yield _Line(text=_warm_up(read.warm_up))
        if read.redelivered:
            yield _Line(text=f"{read.redelivered:,} more deliveries, of events delivered before: not in the rate")
        if read.mode == "tail":
            yield _Line(text=f"{_delay(read)}; longest wait {read.longest_wait_seconds:.2f} s")
        if samples := unseen.get(read.reader):
            most, lag = max(each.events for each in samples), max(each.lag_seconds for each in samples)
            yield _Line(text=f"unseen: at most {plural(most, 'acknowledged event')}; lag at most {lag:.2f} s")
        if _is_read_in_small_pages(read):
            yield _Line(text=f"no page held more than {plural(read.largest_page or 0, 'event')}")


def _is_read_in_small_pages(read: Read) -> bool:
    """Whether no page was as large as was asked for, though there were events for many such pages.

    A log may end its pages early. Its rate is then one of smaller pages.
    """
    enough = read.mode == "drain" and read.events >= MANY_PAGES * read.read_batch * read.members
    return enough and read.largest_page is not None and read.largest_page < read.read_batch


def _delay(read: Read) -> str:
    """The delay from ctime to delivery, or why there is none to print."""
    if read.end_to_end_ms:
        clauses = [f"from ctime to delivery {_latency(read.end_to_end_ms)}"]
        if read.clock_uncertainty_ms is not None:
            offset = f"clock offset {read.clock_offset_ms:.2f} ms"
            clauses.append(f"{offset} taken into account, right to {read.clock_uncertainty_ms:.2f} ms")
        if read.negative_delays:
            below = plural(read.negative_delays, "delay is", "delays are")
            clauses.append(f"{below} below 0 by up to {read.most_negative_ms:.3f} ms and not among these")
        return "; ".join(clauses)
    if read.impossible_ctimes:
        return f"delay not available: {wrong_ctimes(read.impossible_ctimes)}"
    return "delay not available: no event came"


def _reading(reading: Reading) -> str:
    """The name of a reading: that of its track, or that of its reader where several read with one read batch."""
    return reading.track.key if reading.number is None else reading.reader


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "p50, p99, max: none"
    parts = f"p50 {latency.p50:.2f},", f"p99 {latency.p99:.2f},", f"max {latency.max:.1f} ms"
    return " ".join(part.replace(" ", screen.TIED) for part in parts)


def _rate(events_per_second: float | None, otherwise: str) -> str:
    return f"{otherwise:>11}" if events_per_second is None else f"{number(events_per_second):>9}/s"
