"""A verdict in words: what was found, and how it came about."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby

from bench.judge.checker import KINDS, Fault, Holder, Stranded, Verdict, line_in_function
from bench.report import screen
from bench.results.models import ImpossibleCtimes, Trial
from bench.text import plural, some

SHOWN_NAMES = 3


def verdict_text(trial: Trial) -> str:
    """The verdict in words, in as many columns as standard output has; when it failed, with the examples."""
    return screen.fit(trial_verdict(trial), screen.width())


def trial_verdict(trial: Trial) -> str:
    """The same, a sentence to a line."""
    found = trial.verdict
    if not found.ok:
        lines = [f"verdict: FAILED. {faults(found)}."] if _has_faults(found) else ["verdict: FAILED."]
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
    return " ".join([*_stranded(found), *([f"{faults(found)}."] if _has_faults(found) else [])])


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


def faults(found: Verdict) -> str:
    """What was found wrong with events and readings, with counts."""
    counts = {kind: getattr(found, kind) for kind in KINDS}
    told = [_counts({kind: count for kind, count in counts.items() if kind not in found.excused})]
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
