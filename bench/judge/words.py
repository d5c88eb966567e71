"""What is wrong by a verdict, in a sentence or two. All else about it is for those who show it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby

from bench.judge.checker import KINDS, Stranded, Verdict, line_in_function
from bench.text import plural, some


def failure(found: Verdict) -> str:
    """What is wrong by a failed verdict, as one paragraph: what stranded workers, and what became of events."""
    return " ".join([*stranded(found), *([f"{faults(found)}."] if has_faults(found) else [])])


def has_faults(found: Verdict) -> bool:
    """Whether anything is wrong with events, or with readings, beyond what stranded workers."""
    counted = any(getattr(found, kind) for kind in KINDS)
    return bool(counted or found.wrong_checksums or found.stopped or found.oversized or not found.stranded)


def stranded(found: Verdict) -> Iterator[str]:
    """What of the log's own doing let workers go no further, and what became of the events until then."""
    if not found.stranded:
        return
    for _, group in groupby(found.stranded, lambda each: (each.call, each.message, each.context)):
        alike = list(group)
        yield f"The log stranded: {some([each.worker for each in alike])}: {_error(alike[0])}."
    told = f"{plural(found.expected_events, 'event was', 'events were')} acknowledged"
    if found.expected_events:
        told += f", and of them {_were(found.lost)} lost" if found.lost else ", and none of them is lost"
    if found.indeterminate:
        told += f"; {found.indeterminate:,} may be stored or not"
    if found.aborted:
        told += f"; {_were(found.aborted)} rolled back"
    if found.unattempted:
        told += f"; {_were(found.unattempted)} not attempted"
    yield f"{told}."


def _were(count: int) -> str:
    return f"{count:,} {'was' if count == 1 else 'were'}"


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


def faults(found: Verdict) -> str:
    """What was found wrong with events and readings, with counts."""
    met = {kind: getattr(found, kind) for kind in KINDS}
    told = [counts({kind: count for kind, count in met.items() if kind not in found.excused})]
    if found.wrong_checksums:
        readings = plural(found.wrong_checksums, "reading")
        told.append(f"the right events with a wrong checksum in {readings}")
    # Members of a group are stopped one by one, and go by the name of the group.
    told += [words if count == 1 else f"{words} ({count} times)" for words, count in Counter(found.stopped).items()]
    told += found.oversized
    if not any(told):  # what is left is the only fault
        told.append(_numbering(found))
    allowed = counts({kind: met[kind] for kind in found.excused})
    if allowed:
        told.append(f"besides {allowed}, which the log may do")
    return f"Of {plural(found.expected_events, 'acknowledged event')}: {', '.join(filter(None, told))}"


def _numbering(found: Verdict) -> str:
    """What is wrong with the etags of a log that promises them without gaps."""
    gaps = found.gaps
    faults = {
        "have gaps": gaps.rolled_back or gaps.unexplained or gaps.unknown,
        "are there more than once": gaps.doubled,
    }
    return f"etags {' and '.join(words for words, count in faults.items() if count)}"


def counts(by_kind: Mapping[str, int]) -> str:
    """The kinds of which there are some, with their numbers."""
    return ", ".join(f"{count:,} {kind}" for kind, count in by_kind.items() if count)
