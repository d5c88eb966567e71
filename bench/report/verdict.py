"""Puts a verdict into words: the faults, and how they came about."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

from bench.judge.evidence import Holder
from bench.judge.verdict import Fault, Verdict
from bench.judge.words import counts, faults, has_faults, sleeping, stranded
from bench.report import exposure, screen
from bench.results.models import ImpossibleCtimes, Offered, Trial
from bench.text import number, plural
from bench.values import range_text

MOST_NUMBERS = 5
"""A longer list of seqs or etags ends with the number of the others."""


def verdict_text(trial: Trial) -> str:
    """The verdict in words, in as many columns as standard output has; when it failed, with the examples."""
    return screen.shown(trial_verdict(trial))


def trial_verdict(trial: Trial) -> str:
    """The verdict in words, one line per sentence, however long."""
    verdict = trial.verdict
    if not verdict.ok:
        failed = f"verdict: FAILED{_paused(trial)}."
        lines = [f"{failed} {faults(verdict)}."] if has_faults(verdict) else [failed]
        lines += [*stranded(verdict), *sleeping(verdict)]
        lines += _short(verdict)
        if len(verdict.by_reader) > 1:
            lines += [f"  {reader}: {counts(met) or 'ok'}" for reader, met in verdict.by_reader.items()]
        return "\n".join(
            [
                *lines,
                *_examples(verdict.examples),
                *_of_preloaded(trial),
                *_deleted_too_early(trial),
                *_held(verdict),
                *_lost(verdict),
                *_untested(verdict),
                *_exposed(trial),
                *exposure.real_time(trial),
                *_gaps(verdict),
                *_losses(trial),
            ]
        )
    if not verdict.expected_events:
        return "\n".join(
            [f"verdict: ok{_paused(trial)}, and nothing was tested: no event was acknowledged.", *_gaps(verdict)]
        )
    reads = f"each of {len(trial.reads)} readings" if len(trial.reads) > 1 else "the reading"
    gap = max(read.max_etag_gap for read in trial.reads)
    excused = counts({kind: getattr(verdict, kind) for kind in verdict.excused})
    acknowledged = f"{plural(verdict.expected_events, 'event was', 'events were')} acknowledged"
    them = "it" if verdict.expected_events == 1 else "each of them"
    once = "at least once" if "duplicated" in verdict.excused else "once"
    order = f"; {excused}, which the log permits" if excused else " and in order"
    word = f"ok{_paused(trial)}{exposure.but_untested(trial.exposure)}"
    return "\n".join(
        [
            f"verdict: {word}. {acknowledged} and {reads} delivered {them} {once}{order}. "
            f"Checksum {verdict.expected_checksum}, max etag gap {gap}.{_load(trial)}",
            *_untested(verdict),
            *_exposed(trial),
            *exposure.real_time(trial),
            *_gaps(verdict),
            *_losses(trial),
        ]
    )


def _load(trial: Trial) -> str:
    """A sentence about the load that was offered, after a blank; empty without one."""
    offered = trial.append.offered
    return f" {load_clause(offered)}." if offered else ""


def load_clause(offered: Offered) -> str:
    """The load that was offered and how much of it was achieved."""
    clause = f"Offered {number(offered.events_per_second)}/s"
    if offered.achieved_per_second is not None:
        clause += f", achieved {number(offered.achieved_per_second)}/s{': saturated' * offered.saturated}"
    return clause


def _paused(trial: Trial) -> str:
    """A clause that sessions paused inside statements; empty when they did not."""
    return f", with pauses of {range_text(trial.pause_ms)} ms inside statements" if trial.pause_ms else ""


def _exposed(trial: Trial) -> Iterator[str]:
    """The chances to fail that a tailed log met."""
    if trial.exposure:
        yield exposure.sentence(trial.exposure, ok=trial.verdict.ok)


def _of_preloaded(trial: Trial) -> Iterator[str]:
    """Explains the producers of preloaded events, when a fault is one of theirs."""
    if trial.preload is None:
        return
    first = trial.preload.first_producer
    if any(fault.producer is not None and fault.producer >= first for fault in trial.verdict.examples):
        yield (
            f"Producers from number {first} on are those of the {trial.preload.events:,} events that were in the log "
            "before the run, and that its readers began after."
        )


def _deleted_too_early(trial: Trial) -> Iterator[str]:
    """Explains events that are lost because they were deleted before every reader had them."""
    if trial.retention and trial.retention.too_early:
        yield (
            f"--retention deleted {plural(trial.retention.too_early, 'event')} that a reader had not been given: the "
            "reader skipped them, or `passed` in log.toml holds for rows that it has not passed."
        )


def _short(verdict: Verdict) -> Iterator[str]:
    """The readers that got no event, or stopped before the last one; this explains more than a list of events."""
    for reader in verdict.short:
        if reader.delivered:
            yield (
                f"{reader.reader} stopped short of the tail: after {plural(reader.delivered, 'event')} it was given no "
                f"more rows while {plural(reader.withheld, 'more event is', 'more events are')} stored."
            )
        else:
            starts = " Does a NULL cursor read from the start?" if "NULL" in reader.call and not verdict.holders else ""
            yield (
                f"{reader.reader} never got an event: {reader.call} gave no rows while "
                f"{plural(reader.withheld, 'event is', 'events are')} stored.{starts}"
            )


def _losses(trial: Trial) -> Iterator[str]:
    """The nodes that were lost, and what became of the events of the producers on them."""
    reported = "that they had reported as acknowledged"
    for loss in trial.losses:
        yield (
            f"The node {loss.node} was lost {loss.seconds:.0f} s after the start, with {', '.join(loss.producers)}. "
            f"{plural(loss.acknowledged, f'event {reported} is', f'events {reported} are')} among those checked; "
            "events that they had not reported may or may not be stored."
        )


def _held(verdict: Verdict) -> Iterator[str]:
    """The transactions that held withheld events back, as far as they were seen."""
    if not verdict.withheld:
        return
    if verdict.holders:
        yield "Open when readers stopped waiting for the withheld events, and long enough to hold them back:"
        yield from (f"  {_holder(holder)}" for holder in verdict.holders)
    elif verdict.holders is not None and not verdict.stopped:
        yield (
            "The withheld events are in the table, readers asked for them until --idle-timeout was over, and no "
            "transaction was seen that could hold them back. They are due later (raise --idle-timeout), or the log "
            "never delivers them."
        )


def _holder(holder: Holder) -> str:
    """A transaction that was open: whose, for how long, and what it did."""
    if holder.state == "prepared":
        owner = f"prepared transaction {holder.application!r}"
    else:
        owner = f"pid {holder.pid} ({holder.application or 'no application_name'})"
    state_since = "prepared" if holder.state == "prepared" else "open"
    since = "" if holder.seconds is None else f", {state_since} for {holder.seconds:.1f} s"
    state = f", {holder.state}" if holder.state not in {None, "prepared"} else ""
    id_only = "has a transaction id, and wrote to another table or database if to any"
    did = "wrote to this log" if holder.wrote_here else id_only if holder.wrote else "wrote nothing"
    return f"{owner} in database {holder.database or 'unknown'}{since}{state}: {did}"


def _lost(verdict: Verdict) -> Iterator[str]:
    """Whether lost events had been stored, as far as that is known."""
    if verdict.lost_after_delivery:
        one, several = "was delivered: it was", "were delivered: they were"
        yield f"Of the lost events, {plural(verdict.lost_after_delivery, one, several)} stored, and removed later."
    if verdict.lost_and_passed:
        passed = "not delivered to a reader that was given a later event of the same producer"
        count = plural(verdict.lost_and_passed, f"was {passed}: it was", f"were {passed}: they were")
        yield f"Of the lost events, {count} never stored, or skipped and then removed."


def _untested(verdict: Verdict) -> Iterator[str]:
    """The part of a promise that this run could not test."""
    one, several = "event that was delivered is", "events that were delivered are"
    if verdict.kept_after_delivery:
        yield (
            f"Untested: {plural(verdict.kept_after_delivery, one, several)} still in the table. "
            "Whether delivery comes a second time, when a lease runs out, was not tried."
        )


def _gaps(verdict: Verdict) -> Iterator[str]:
    """The etags that are missing between others, by the fate of their events, and those that several rows have."""
    gaps = verdict.gaps
    clauses = [
        f"{count:,} {fate}"
        for count, fate in (
            (gaps.late_commit, "skipped (committed after a reader had passed)"),
            (gaps.early_commit, "skipped (commit in progress or complete)"),
            (gaps.visible, "skipped (visible before reading began)"),
            (gaps.skipped, "skipped, commit time unknown"),
            (gaps.rolled_back, "rolled back"),
            (gaps.unexplained, "unexplained"),
            (gaps.unknown, "rolled back or lost, which the log's table cannot say without xmin"),
        )
        if count
    ]
    if clauses:
        examples = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in gaps.examples)
        yield f"Missing etags: {', '.join(clauses)}{f' ({examples})' if examples else ''}."
    if gaps.doubled:
        examples = ", ".join(str(etag) for etag in gaps.doubled_etags)
        yield f"Duplicate etags: {gaps.doubled:,} rows have the etag of another row ({examples})."


def wrong_ctimes(met: ImpossibleCtimes) -> str:
    """How ctimes are wrong that cannot be the time at which an event was logged."""
    kinds = (
        (met.infinite, "are infinite"),
        (met.ahead, f"are up to {_span(met.ahead_seconds)} ahead of the database's clock"),
        (met.old, f"lie up to {_span(met.old_seconds)} before the append phase"),
    )
    return ", ".join(f"ctimes {wrong} ({count:,} event{'s' * (count > 1)})" for count, wrong in kinds if count)


def _span(seconds: float) -> str:
    """A time span in the largest unit of which it has about one or more; offsets of time zones come out in hours."""
    for unit, length, least in (("days", 86_400, 2), ("h", 3600, 0.999), ("min", 60, 0.999), ("s", 1, 0.999)):
        if seconds >= length * least:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds * 1e3:.3g} ms"


def _examples(faults: Sequence[Fault]) -> Iterator[str]:
    """A line for each fault, or for several of one producer that came about together."""

    def origin(fault: Fault) -> tuple[object, ...]:
        how = fault.visible_at, fault.jumped_at, fault.earlier_append
        return fault.kind, fault.reader, fault.producer, fault.seq is None, *how

    for _, group in groupby(faults, origin):
        alike = list(group)
        first = alike[0]
        parts = [
            *([f"producer {first.producer}"] if first.producer is not None else []),
            *_numbers("seq", [fault.seq for fault in alike]),
            *_numbers("etag", [fault.etag for fault in alike]),
            *([f"reader {first.reader}"] if first.reader is not None else []),
            *([_nobodys(len(alike))] if first.producer is None and first.reader is None else []),
        ]
        yield f"  {first.kind}: {', '.join(parts)}{_story(first)}"


def _nobodys(rows: int) -> str:
    return "a row that no producer wrote" if rows == 1 else "rows that no producer wrote"


def _numbers(name: str, numbers: Sequence[int | None]) -> list[str]:
    """The numbers of some faults: one, a run, or a list, of which only the first are shown if it is long."""
    known = sorted({number for number in numbers if number is not None})
    if len(known) > 2 and known[-1] - known[0] == len(known) - 1:
        return [f"{name} {known[0]} to {known[-1]}"]
    if len(known) > MOST_NUMBERS:
        shown = known[: MOST_NUMBERS - 1]
        return [f"{name} {', '.join(map(str, shown))} and {len(known) - len(shown)} more"]
    first, last = ", ".join(map(str, known[:-1])), known[-1:]
    return [f"{name} {' and '.join([*([first] if first else []), *map(str, last)])}"] if known else []


def _story(fault: Fault) -> str:
    """How an event was skipped: when it was logged, jumped over and visible; or which append an inverted one came
    after."""
    story = []
    earlier = fault.earlier_append
    if earlier is not None:
        story.append(
            f"it began at least {earlier.seconds * 1e3:.3g} ms after the append of producer {earlier.producer}, seq "
            f"{earlier.seq} was acknowledged, which has etag {earlier.etag}"
        )
    if fault.logged_at is not None:
        story.append(f"logged at {_clock(fault.logged_at)}")
    if fault.jumped_at is not None:
        story.append(f"a reader asked at {_clock(fault.jumped_at)} and was given etag {fault.jumped_to}")
    if fault.visible_at is not None:
        late = 0 if fault.jumped_at is None else fault.visible_at - fault.jumped_at
        story.append(f"committed at {_clock(fault.visible_at)}{f', {late * 1e3:.1f} ms too late' if late > 0 else ''}")
    return f"\n    {'; '.join(story)}" if story else ""


def _clock(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%H:%M:%S.%f}"[:-3]
