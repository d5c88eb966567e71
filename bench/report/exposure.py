"""Puts into words what an "ok" of a tailed log was worth: the chances to fail that the log met."""

from collections.abc import Iterator, Sequence

from bench.judge.exposure import Exposure, Unknown, together
from bench.results.models import Result, Trial
from bench.text import plural

_UNKNOWN: dict[Unknown, str] = {
    "no xmin": "the log's table shows no transaction ids in a column xmin",
    "no commit times": "the server keeps no commit times (set track_commit_timestamp=on)",
    "taken away": "reading took events out of the log's table",
    "deleted": "--retention deleted events from the log's table",
}


def word(exposure: Exposure) -> str:
    """Exposed, untested or unknown."""
    return {True: "exposed", False: "untested", None: "unknown"}[exposure.exposed]


def of_results(named: Sequence[tuple[str, Result]]) -> str:
    """A line with the word for each result, all of its trials together; empty when none of them was tailed."""
    words = []
    for name, result in named:
        met = [trial.exposure for trial in result.trials if trial.exposure and not trial.warm_up]
        if met:
            words.append(f"{name} {word(together(met))}")
    return f"exposure of tailed readers to open transactions: {', '.join(words)}" if words else ""


def but_untested(exposure: Exposure | None) -> str:
    """The words after the "ok" of a verdict; empty unless it is known that the log met no chance to fail."""
    return f", but untested: {_why_untested(exposure)}" if exposure and exposure.exposed is False else ""


def _why_untested(exposure: Exposure) -> str:
    if not exposure.overlapped:
        return "no append transactions overlapped; try several producers (--scale) and --transaction-ms 0..20"
    return "no reader was ever ahead of an open transaction; try --transaction-ms 0..20, or more events"


def sentence(exposure: Exposure, *, ok: bool) -> str:
    """The chances to fail that the log met, as a sentence that begins with the word for them."""
    pages = plural(exposure.pages, "page")
    skipped = ", and nothing was skipped" if ok else ""
    if exposure.pages_at_risk:
        at_risk = exposure.pages_at_risk
        met = f"{at_risk:,} of {pages} {_were(at_risk)} asked for past an open lower etag{skipped}"
    elif exposure.unknown and exposure.exposed is None:
        met = _UNKNOWN[exposure.unknown]
    elif not exposure.ordered:
        amid = exposure.pages_amid_overlap
        met = f"{amid:,} of {pages} {_were(amid)} asked for while transactions overlapped{skipped}"
    elif exposure.exposed:
        met = (
            f"the log committed events in the order of their etags, so none of {pages} could be past an open lower etag"
        )
    else:
        met = f"none of {pages} was asked for past an open lower etag"
    return f"{word(exposure).capitalize()}: {met}; {_counts(exposure)}."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def real_time(trial: Trial) -> Iterator[str]:
    """Whether etags kept the real-time order of appends, as a sentence; none where that was neither promised nor tried,
    or where the verdict has the faults."""
    verdict = trial.verdict
    if "real_time" in verdict.untested:
        yield f"Untested: whether etags keep the real-time order of appends, {_why_no_pair(trial)}."
    elif verdict.real_time_pairs and not verdict.inverted:
        yield (
            f"Real-time order: etags kept it in {plural(verdict.real_time_pairs, 'pair')} of appends of which one was "
            "acknowledged before the other began."
        )


def _why_no_pair(trial: Trial) -> str:
    if trial.verdict.real_time_pairs is not None:
        if trial.retention and trial.retention.deleted:
            return (
                "because --retention deleted events, and of the appends that it left none is known to have begun after "
                "another producer's was acknowledged; keep more events (--retention), or leave --retention out"
            )
        return (
            "because none is known to have begun after another producer's was acknowledged; try several producers "
            "(--scale) and more batches (--insert-loops)"
        )
    if any(read.mode == "tail" for read in trial.reads):
        return "because their times or their etags are not known"
    return "because appends are timed with --mode tail only"


def _counts(exposure: Exposure) -> str:
    clauses = [f"{exposure.overlapped:,} of {plural(exposure.transactions, 'append transaction')} overlapped"]
    if exposure.out_of_order is not None:
        clauses.append(f"{plural(exposure.out_of_order, 'commit')} came out of etag order")
    if exposure.rolled_back_between:
        clauses.append(f"{plural(exposure.rolled_back_between, 'rollback')} lay between")
    if exposure.untimed:
        clauses.append(f"{exposure.untimed:,} later pages and transactions are in no count")
    return ", ".join(clauses)
