"""A verdict's faults in a sentence or two. Everything else about a verdict is put into words in `bench.report`."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby

from bench.judge.stranded import Stranded, line_in_function
from bench.judge.verdict import Verdict
from bench.kinds import KINDS
from bench.text import plural, some


def failure(verdict: Verdict) -> str:
    """The faults of a failed verdict as one paragraph: errors that stranded workers, readers that slept, and the fates
    of events."""
    return " ".join([*stranded(verdict), *sleeping(verdict), *([f"{faults(verdict)}."] if has_faults(verdict) else [])])


def has_faults(verdict: Verdict) -> bool:
    """Whether anything is wrong with events or readings, apart from workers that the log stranded."""
    counted = any(getattr(verdict, kind) for kind in KINDS)
    other = verdict.wrong_checksums or verdict.stopped or verdict.oversized
    return bool(counted or other or not (verdict.stranded or verdict.sleeping))


def stranded(verdict: Verdict) -> Iterator[str]:
    """The log's own errors that stopped workers, and what became of the events until then, a sentence at a time."""
    if not verdict.stranded:
        return
    for _, group in groupby(verdict.stranded, lambda each: (each.call, each.message, each.context)):
        alike = list(group)
        yield f"The log stranded: {some([each.worker for each in alike])}: {_error(alike[0])}."
    fates = f"{plural(verdict.expected_events, 'event was', 'events were')} acknowledged"
    if verdict.expected_events:
        fates += f", of which {_were(verdict.lost)} lost" if verdict.lost else ", none of which was lost"
    if verdict.indeterminate:
        fates += f"; {verdict.indeterminate:,} may or may not be stored"
    if verdict.aborted:
        fates += f"; {_were(verdict.aborted)} rolled back"
    if verdict.unattempted:
        fates += f"; {_were(verdict.unattempted)} not attempted"
    yield f"{fates}."


def sleeping(verdict: Verdict) -> Iterator[str]:
    """The readers that slept while there were events to read, and what to do about that."""
    for reader in verdict.sleeping:
        were = plural(reader.events, "committed event was", "committed events were")
        yield f"{reader.reader} was stranded: woken by notifications alone, the reader slept while {were} readable."
    if verdict.sleeping:
        yield (
            "No notification came after these events had become readable: let readers poll as well (--wake both), or "
            "let the log notify whenever events become readable."
        )


def _were(count: int) -> str:
    return f"{count:,} {'was' if count == 1 else 'were'}"


def _error(error: Stranded) -> str:
    """An error of the log's own in the server's words, with its place in schema.sql as far as that is known."""
    context = error.context.splitlines()
    functions = [line for line in context if line_in_function(line)]
    place = [
        *([] if error.line is None else [f"schema.sql line {error.line}"]),
        *(functions or context)[:1],
    ]
    texts = [error.message, *filter(None, (error.detail, error.hint))]
    message = "; ".join(" ".join(text.split()).removesuffix(".") for text in texts)
    return f"{error.call}: {message}" + (f" ({', '.join(place)})" if place else "")


def faults(verdict: Verdict) -> str:
    """The faults of events and readings, with counts, as one sentence without its full stop."""
    by_kind = {kind: getattr(verdict, kind) for kind in KINDS}
    clauses = [counts({kind: count for kind, count in by_kind.items() if kind not in verdict.excused})]
    if verdict.wrong_checksums:
        readings = plural(verdict.wrong_checksums, "reading")
        clauses.append(f"the right events with a wrong checksum in {readings}")
    # Members of a group stop one by one, each under the name of the group.
    clauses += [
        reason if count == 1 else f"{reason} ({count} times)" for reason, count in Counter(verdict.stopped).items()
    ]
    clauses += verdict.oversized
    if not any(clauses):  # the numbering is the only fault left
        clauses.append(_numbering(verdict))
    allowed = counts({kind: by_kind[kind] for kind in verdict.excused})
    if allowed:
        clauses.append(f"besides {allowed}, which the log permits")
    return f"Of {plural(verdict.expected_events, 'acknowledged event')}: {', '.join(filter(None, clauses))}"


def _numbering(verdict: Verdict) -> str:
    """The faults in the etags of a log that promises them without gaps."""
    gaps = verdict.gaps
    faults = {
        "have gaps": gaps.rolled_back or gaps.unexplained or gaps.unknown,
        "occur more than once": gaps.doubled,
    }
    return f"etags {' and '.join(fault for fault, count in faults.items() if count)}"


_UNITS = {"rewound": "page", "disagreeing": "reader", "torn": "piece", "inverted": "append"}
"""The units of the kinds that are not counted in events."""


def counts(by_kind: Mapping[str, int]) -> str:
    """The kinds that occurred, each with its number: `5 lost, 1 rewound page`."""
    return ", ".join(_count(kind, count) for kind, count in by_kind.items() if count)


def _count(kind: str, count: int) -> str:
    unit = _UNITS.get(kind)
    return plural(count, f"{kind} {unit}") if unit else f"{count:,} {kind}"
