"""What a person sees of a run when it is over: the lines that say how it went, the verdict in words."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from statistics import stdev
from typing import Any, NamedTuple

from bench import stats
from bench.judge.checker import KINDS, Fault, Holder, Stranded, Verdict, line_in_function
from bench.report import runs as runs_report
from bench.report import screen, tabular
from bench.results.models import Append, ImpossibleCtimes, Latency, Observed, Read, Result, Trial
from bench.text import plural

NAME_WIDTH = 10
SHOWN_NAMES = 3
SECONDS_WIDTH = 8
FULL_VERDICTS = 3
"""Of several trials that failed, so many are shown in full; of all others a line."""
MANY_PAGES = 3
"""Events for so many pages per reader, of which none was full, are no chance."""


def summary(result: Result) -> str:
    """What a person reads under the table, in as many columns as standard output has."""
    lines = _one(result) if len(result.trials) == 1 else _several(result)
    return screen.fit("\n".join(lines), screen.width())


def _one(result: Result) -> Iterator[str]:
    (trial,) = result.trials
    yield ""
    yield from _phases(trial, result.spec)
    if trial.nodes:
        yield from ("", runs_report.nodes(trial, tabular.form()))
    yield from ("", _verdict(trial))
    yield from (f"Note: {note}." for note in trial.notes)


def _several(result: Result) -> Iterator[str]:
    """Trials that failed first, each in full as long as they are few; then what all of them come to together."""
    names = trial_names(result)
    failed = [(name, trial) for name, trial in zip(names, result.trials, strict=True) if not trial.verdict.ok]
    for place, (name, trial) in enumerate(failed):
        yield from (("", name, _verdict(trial)) if place < FULL_VERDICTS else (trial_line(name, trial),))
    measured = [trial for trial in result.trials if not trial.warm_up]
    yield ""
    if not failed:
        yield from _rates(measured, names[-len(measured) :])
    if any(trial.measured_nothing for trial in measured):
        yield runs_report.NOTHING
    right = [trial for trial in measured if trial.verdict.ok]
    if right:
        yield f"verdict: ok in {len(right)} of {plural(len(measured), 'trial')}; of the last of them:"
        yield f"  {_verdict(right[-1])}"


def trial_names(result: Result) -> list[str]:
    """What each trial of a result is called. Of those to warm up only the ones that failed are kept."""
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
        return f"{name}: FAILED, {_faults(trial.verdict)}"
    rates = {"append": trial.append.events_per_second}
    rates |= {_reading(read): read.events_per_second for read in trial.reads}
    told = [f"{what} {rate:,.0f}/s" for what, rate in rates.items() if rate is not None]
    return f"{name}: {', '.join(['ok', *told])}"


def _rates(trials: Sequence[Trial], names: Sequence[str]) -> Iterator[str]:
    """What the rates of trials come to together; a line for each rate, and one for what is unlike the others."""
    rates = {"append": [trial.append.events_per_second for trial in trials]}
    for place, read in enumerate(trials[0].reads):
        rates[_reading(read)] = [trial.reads[place].events_per_second for trial in trials]
    wide = max(NAME_WIDTH, *map(len, rates))
    for name, found in rates.items():
        values = [rate for rate in found if rate is not None]
        if len(values) < len(found):
            lacking = f"no rate in {len(found) - len(values)} of {plural(len(found), 'trial')}"
            yield f"{name:<{wide}}  {screen.HANG}no median: {lacking}"
            continue
        middle = stats.median(values)
        told = [f"{middle.value:,.0f} events/s, the median of {plural(len(values), 'trial')}"]
        if len(values) >= stats.SMALLEST_SAMPLE:
            told.append(f"{stats.interval_name(len(values))} {middle.low:,.0f} to {middle.high:,.0f}")
        if len(values) > 1:
            told.append(f"range {min(values):,.0f} to {max(values):,.0f}, sigma {stdev(values) / middle.value:.1%}")
        yield f"{name:<{wide}}  {screen.HANG}{'; '.join(told)}"
        odd = [f"{names[place].partition(' of ')[0]} ({values[place]:,.0f})" for place in stats.outliers(values)]
        if odd:
            odd_ones = f"unlike the others: {', '.join(odd)}; was the machine busy with something else?"
            yield f"{'':<{wide}}  {screen.HANG}{odd_ones}"


def verdict(trial: Trial) -> str:
    """The verdict in words, in as many columns as standard output has; when it failed, with the examples."""
    return screen.fit(_verdict(trial), screen.width())


def _verdict(trial: Trial) -> str:
    found = trial.verdict
    if not found.ok:
        lines = [f"verdict: FAILED. {_faults(found)}."] if _has_faults(found) else ["verdict: FAILED."]
        lines += _stranded(found)
        if len(found.by_reader) > 1:
            lines += [f"  {reader}: {_counts(met) or 'ok'}" for reader, met in found.by_reader.items()]
        return "\n".join(
            [
                *lines,
                *_examples(found.examples),
                *_held(found),
                *_lost(found),
                *_untested(found),
                *_gaps(found),
                *_losses(trial),
            ]
        )
    if not found.expected_events:
        return "\n".join(["verdict: ok, and nothing was tested: no event was acknowledged.", *_gaps(found)])
    reads = f"each of {len(trial.reads)} readings" if len(trial.reads) > 1 else "the reading"
    gap = max(read.max_etag_gap for read in trial.reads)
    excused = _counts({kind: getattr(found, kind) for kind in found.excused})
    once = "at least once" if "duplicated" in found.excused else "once"
    order = f"; {excused}, which the log may do" if excused else " and in order"
    return "\n".join(
        [
            f"verdict: ok. {found.expected_events:,} events were acknowledged and {reads} delivered each of them {once}"
            f"{order}. Checksum {found.expected_checksum}, max etag gap {gap}.",
            *_untested(found),
            *_gaps(found),
            *_losses(trial),
        ]
    )


def failure(found: Verdict) -> str:
    """What is wrong by a failed verdict, as one paragraph: what stranded workers, and what became of events."""
    faults = [f"{_faults(found)}."] if _has_faults(found) else []
    return " ".join([*_stranded(found), *faults])


def _has_faults(found: Verdict) -> bool:
    """Whether anything is wrong with events, or with readings, beyond what stranded workers."""
    counted = any(getattr(found, kind) for kind in KINDS)
    return bool(counted or found.wrong_checksums or found.stopped or found.oversized or not found.stranded)


def _stranded(found: Verdict) -> Iterator[str]:
    """What of the log's own doing let workers go no further, and what became of the events until then."""
    if not found.stranded:
        return
    for _, group in groupby(found.stranded, lambda each: (each.call, each.message, each.context)):
        alike = list(group)
        yield f"The log stranded: {some([each.worker for each in alike])}: {_error(alike[0])}."
    told = f"{found.expected_events:,} events were acknowledged"
    if found.expected_events:
        told += f", and {found.lost:,} of them are lost" if found.lost else ", and none of them is lost"
    if found.indeterminate:
        told += f"; {found.indeterminate:,} may be stored or not"
    if found.aborted:
        told += f"; {found.aborted:,} were rolled back"
    if found.unattempted:
        told += f"; {found.unattempted:,} were not attempted"
    yield f"{told}."


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    shown = names if len(names) <= SHOWN_NAMES else names[: SHOWN_NAMES - 1]
    others = len(names) - len(shown)
    return ", ".join(shown) + (f" and {others} others" if others else "")


def _error(met: Stranded) -> str:
    """An error of the log's own in the server's words, with its place in schema.sql as far as that is known."""
    context = met.context.splitlines()
    functions = [line for line in context if line_in_function(line)]
    place = [
        *([] if met.line is None else [f"schema.sql line {met.line}"]),
        *(functions or context)[:1],
    ]
    said = [met.message, *filter(None, (met.detail, met.hint))]
    told = "; ".join(" ".join(words.split()).removesuffix(".") for words in said)
    return f"{met.call}: {told}" + (f" ({', '.join(place)})" if place else "")


def _losses(trial: Trial) -> Iterator[str]:
    """What became of the producers on nodes that were lost."""
    for loss in trial.losses:
        yield (
            f"The node {loss.node} was lost {loss.seconds:.0f} s after the start, with {', '.join(loss.producers)}. "
            f"{loss.acknowledged:,} events that they had reported as acknowledged are among those that were checked; "
            "what they did not report may be there or not."
        )


def _held(found: Verdict) -> Iterator[str]:
    """What held withheld events back, as far as that was seen."""
    if not found.withheld:
        return
    if found.holders:
        yield "Open when readers stopped waiting for the withheld events, and long enough to hold them back:"
        yield from (f"  {_holder(holder)}" for holder in found.holders)
    elif found.holders is not None and not found.stopped:
        yield (
            "The withheld events are in the table, readers asked for them until --idle-timeout was over, and no "
            "transaction was seen that could hold them back. They are due later (raise --idle-timeout), or the log "
            "never delivers them."
        )


def _holder(holder: Holder) -> str:
    """A transaction that was open: whose, for how long, and what it did."""
    if holder.state == "prepared":
        who = f"prepared transaction {holder.application!r}"
    else:
        who = f"pid {holder.pid} ({holder.application or 'no application_name'})"
    what = "prepared" if holder.state == "prepared" else "open"
    since = "" if holder.seconds is None else f", {what} for {holder.seconds:.1f} s"
    state = f", {holder.state}" if holder.state not in {None, "prepared"} else ""
    id_only = "has a transaction id, and wrote to another table or database if to any"
    did = "wrote to this log" if holder.wrote_here else id_only if holder.wrote else "wrote nothing"
    return f"{who} in database {holder.database or 'unknown'}{since}{state}: {did}"


def _lost(found: Verdict) -> Iterator[str]:
    """What is known of lost events."""
    if found.lost_after_delivery:
        yield f"Of the lost events, {found.lost_after_delivery:,} were delivered: they were stored, and removed later."
    if found.lost_and_passed:
        yield (
            f"Of the lost events, {found.lost_and_passed:,} were not delivered to a reader that was given a later "
            "event of their producer: they were never stored, or skipped and then removed."
        )


def _untested(found: Verdict) -> Iterator[str]:
    """What this run could not see of a promise."""
    if found.kept_after_delivery:
        yield (
            f"Untested: {found.kept_after_delivery:,} events that were delivered are still in the table. Whether they "
            "will be delivered a second time, when a lease runs out, was not tried."
        )


def _gaps(found: Verdict) -> Iterator[str]:
    """What became of etags that are missing between others."""
    gaps = found.gaps
    told = [
        f"{count:,} {words}"
        for count, words in (
            (gaps.late_commit, "skipped and committed only after a reader was past them"),
            (gaps.early_commit, "skipped while their commit was under way or over"),
            (gaps.visible, "skipped although they were visible before reading began"),
            (gaps.skipped, "skipped, with nobody having seen when they were committed"),
            (gaps.rolled_back, "rolled back"),
            (gaps.unexplained, "unexplained"),
            (gaps.unknown, "rolled back or lost, which the log's table cannot say without xmin"),
        )
        if count
    ]
    if told:
        examples = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in gaps.examples)
        yield f"Etags that are missing: {', '.join(told)}{f' ({examples})' if examples else ''}."
    if gaps.doubled:
        examples = ", ".join(str(etag) for etag in gaps.doubled_etags)
        yield f"Etags that are there more than once: {gaps.doubled:,} rows have the etag of another ({examples})."


class _Line(NamedTuple):
    """A phase and how it went; or what else there is to say of the phase before."""

    name: str = ""
    seconds: float | None = None
    text: str = ""


def _phases(trial: Trial, spec: Mapping[str, Any]) -> Iterator[str]:
    lines = [line for line in _phase_lines(trial, spec) if line.name or line.text]
    wide = max(NAME_WIDTH, *(len(line.name) for line in lines))
    for name, seconds, text in lines:
        took = f"{seconds:>{SECONDS_WIDTH}.1f} s" if seconds is not None else f"{'':>{SECONDS_WIDTH + 2}}"
        yield f"{name:<{wide}} {took}  {screen.HANG}{text}"
    bound = [_reading(read) for read in trial.reads if read.client_bound]
    if trial.append.client_bound:
        bound.insert(0, "append")
    if bound:
        yield f"* client-bound: a worker, and not Postgres, set the pace of {', '.join(bound)}"


def _phase_lines(trial: Trial, spec: Mapping[str, Any]) -> Iterator[_Line]:
    append, observed = trial.append, trial.telemetry.phases
    first = (
        "" if append.first_event_seconds is None else f"first batch appended after {append.first_event_seconds:.1f} s"
    )
    tails = trial.reads[0].mode == "tail"
    yield _Line("start", trial.phase_seconds["start"], first)
    rate = _rate(append.events_per_second, trial.instead_of_append_rate)
    yield _Line("append", append.seconds, f"{rate}  batch {_latency(append.latency_ms)}")
    yield _Line(text=_said_of_batches(append, spec))
    if tails:
        yield from _readings(trial.reads, trial.instead_of_read_rate)
        yield from _costs("  together", observed.get(f"append + read {trial.reads[0].read_batch}"), append.events)
    else:
        yield from _costs("", observed.get("append"), append.events)
    yield _Line("settle", trial.phase_seconds["settle"], _space(trial))
    if not tails:
        for size, reads in groupby(trial.reads, key=lambda read: read.read_batch):
            read = list(reads)
            yield from _readings(read, trial.instead_of_read_rate)
            yield from _costs("", observed.get(f"read {size}"), sum(each.events for each in read))
    yield _Line("check", trial.phase_seconds["check"])


def _said_of_batches(append: Append, spec: Mapping[str, Any]) -> str:
    """What a reader must know of the batches to understand their latency and their costs."""
    told = []
    if not append.events:
        told.append(runs_report.NOTHING)
    low, high = spec.get("transaction_ms", (0, 0))
    if high:
        told.append(f"batches were held open for {low:.15g}..{high:.15g} ms, which is in their latency")
    if append.rolled_back:
        told.append(
            f"{append.rolled_back:,} events were rolled back; their batches are in no latency, and what they cost is "
            "in CPU, WAL and disk per event"
        )
    return "; ".join(told)


def _space(trial: Trial) -> str:
    """What an event takes; nothing when there is none."""
    events, wal_bytes = trial.append.events, trial.append.wal_bytes
    if not events:
        return ""
    stored_bytes = trial.telemetry.stored_bytes
    told = [
        *([] if stored_bytes is None else [f"{stored_bytes / events:.0f} bytes on disk"]),
        *([] if wal_bytes is None else [f"{wal_bytes / events:.0f} of WAL"]),
    ]
    return f"an event takes {', '.join(told)}" if told else ""


def _costs(name: str, observed: Observed | None, events: int) -> Iterator[_Line]:
    """What a phase waited for, and what it cost."""
    if observed is None or not events:
        return
    if observed.bottleneck:
        yield _Line(name, text=observed.bottleneck)
    cost = f"{observed.workers_cpu_seconds / events * 1e6:.2f} CPU s of workers"
    if observed.postgres_cpu_seconds is not None:
        cost += f" and {observed.postgres_cpu_seconds / events * 1e6:.2f} of Postgres"
    told = [f"a million events cost {cost}"]
    counted = observed.counters
    if counted.get("rows_inserted") and "wal_bytes" in counted:
        told.append(f"{counted['wal_bytes'] / events:.0f} bytes of WAL an event")
    checkpoints = counted.get("checkpoints_timed", 0) + counted.get("checkpoints_requested", 0)
    if checkpoints:
        told.append(plural(checkpoints, "checkpoint"))
    looked_up = counted.get("blocks_hit", 0) + counted.get("blocks_read", 0)
    if looked_up:
        told.append(f"{counted['blocks_hit'] / looked_up:.1%} of blocks in the cache")
    yield _Line(text="; ".join(told))
    if observed.commits_of_others:
        yield _Line(text=runs_report.others_at_work(observed.commits_of_others))


def _readings(reads: Sequence[Read], otherwise: str) -> Iterator[_Line]:
    for read in reads:
        rate = _rate(read.events_per_second, otherwise)
        yield _Line(_reading(read), read.seconds, f"{rate}  page {_latency(read.latency_ms)}")
        if read.redelivered:
            yield _Line(text=f"{read.redelivered:,} deliveries more, of events delivered before: not in the rate")
        if read.mode == "tail":
            yield _Line(text=f"{_delay(read)}; longest wait {read.longest_wait_seconds:.2f} s")
        if _is_read_in_small_pages(read):
            yield _Line(text=f"no page held more than {read.largest_page:,} events")


def _is_read_in_small_pages(read: Read) -> bool:
    """Whether no page was as large as was asked for, though there were events for many such pages.

    A log may end its pages early. What was measured then is the speed of its own pages.
    """
    enough = read.mode == "drain" and read.events >= MANY_PAGES * read.read_batch * read.members
    return enough and read.largest_page is not None and read.largest_page < read.read_batch


def _delay(read: Read) -> str:
    """The delay from ctime to delivery, or why there is no such figure."""
    if read.end_to_end_ms:
        return f"from ctime to delivery {_latency(read.end_to_end_ms)}"
    if read.impossible_ctimes:
        return f"no delay can be given: {wrong_ctimes(read.impossible_ctimes)}"
    return "no delay can be given: no event came"


def wrong_ctimes(met: ImpossibleCtimes) -> str:
    """What is wrong with ctimes that cannot be when an event was logged."""
    found = (
        (met.infinite, "are infinite"),
        (met.ahead, f"are up to {_span(met.ahead_seconds)} ahead of the database's clock"),
        (met.old, f"lie up to {_span(met.old_seconds)} before the append phase"),
    )
    return ", ".join(f"ctimes {words} ({count:,} event{'s' * (count > 1)})" for count, words in found if count)


def _span(seconds: float) -> str:
    """A time span in the largest unit of which there is about one at least; of zones it is hours."""
    for unit, length, least in (("days", 86_400, 2), ("h", 3600, 0.999), ("min", 60, 0.999), ("s", 1, 0.999)):
        if seconds >= length * least:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds * 1e3:.3g} ms"


def _reading(read: Read) -> str:
    """The name of a reading: its batch, and who read when there are several."""
    who, *number = read.reader.replace(f"-{read.read_batch}", "", 1).split("-")
    several = f" #{number[0]}" if number else ""
    return f"read {read.read_batch}{several}" if who == "consumer" else f"{who} {read.read_batch}"


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return "p50, p99, max: none"
    parts = f"p50 {latency.p50:.2f},", f"p99 {latency.p99:.2f},", f"max {latency.max:.1f} ms"
    return " ".join(part.replace(" ", screen.TIED) for part in parts)


def _rate(events_per_second: float | None, otherwise: str) -> str:
    return f"{otherwise:>11}" if events_per_second is None else f"{events_per_second:>9,.0f}/s"


def _faults(found: Verdict) -> str:
    counts = {kind: getattr(found, kind) for kind in KINDS}
    faults = _counts({kind: count for kind, count in counts.items() if kind not in found.excused})
    told = [faults]
    if found.wrong_checksums:
        readings = plural(found.wrong_checksums, "reading")
        told.append(f"the right events with a wrong checksum in {readings}")
    # Members of a group are stopped one by one, and go by the name of the group.
    told += [words if count == 1 else f"{words} ({count} times)" for words, count in Counter(found.stopped).items()]
    told += found.oversized
    if not any(told):  # what is left is the only fault
        told.append(_numbering(found))
    allowed = _counts({kind: counts[kind] for kind in found.excused})
    if allowed:
        told.append(f"besides {allowed}, which the log may do")
    return f"Of {found.expected_events:,} acknowledged events: {', '.join(filter(None, told))}"


def _numbering(found: Verdict) -> str:
    """What is wrong with the etags of a log that promises them without gaps."""
    gaps = found.gaps
    faults = {
        "have gaps": gaps.rolled_back or gaps.unexplained or gaps.unknown,
        "are there more than once": gaps.doubled,
    }
    return f"etags {' and '.join(words for words, count in faults.items() if count)}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)


def _examples(faults: Sequence[Fault]) -> Iterator[str]:
    """A line for each fault, or for several of one producer that came about together."""
    for _, group in groupby(faults, lambda f: (f.kind, f.reader, f.producer, f.seq is None, f.visible_at, f.passed_at)):
        alike = list(group)
        first = alike[0]
        where = [
            *([f"producer {first.producer}"] if first.producer is not None else []),
            *_numbers("seq", [fault.seq for fault in alike]),
            *_numbers("etag", [fault.etag for fault in alike]),
            *([f"reader {first.reader}"] if first.reader is not None else []),
            *([_nobodys(len(alike))] if first.producer is None and first.reader is None else []),
        ]
        yield f"  {first.kind}: {', '.join(where)}{_story(first)}"


def _nobodys(rows: int) -> str:
    return "a row that is no event of a producer" if rows == 1 else "rows that are no events of a producer"


def _numbers(name: str, numbers: Sequence[int | None]) -> list[str]:
    """The numbers of some faults: one, a run, or a list."""
    known = sorted({number for number in numbers if number is not None})
    if len(known) > 2 and known[-1] - known[0] == len(known) - 1:
        return [f"{name} {known[0]} to {known[-1]}"]
    return [f"{name} {' and '.join(map(str, known))}"] if known else []


def _story(fault: Fault) -> str:
    """How a skipped event came about: when it was logged, passed and visible."""
    story = []
    if fault.logged_at is not None:
        story.append(f"logged at {_clock(fault.logged_at)}")
    if fault.passed_at is not None:
        story.append(f"a reader asked at {_clock(fault.passed_at)} and was given etag {fault.passed_to}")
    if fault.visible_at is not None:
        late = 0 if fault.passed_at is None else fault.visible_at - fault.passed_at
        story.append(f"committed at {_clock(fault.visible_at)}{f', {late * 1e3:.1f} ms too late' if late > 0 else ''}")
    return f"\n    {'; '.join(story)}" if story else ""


def _clock(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%H:%M:%S.%f}"[:-3]
