"""The generated sections of published pages, made from the records stored in one directory."""

from pathlib import Path
from typing import NamedTuple

from bench.errors import UsageError
from bench.gate import ab
from bench.gate.ab import Ab
from bench.logs import compare
from bench.logs.comparison import Comparison
from bench.overhead import measure
from bench.overhead.measure import Limits
from bench.report import gate, logs, overhead, runs
from bench.results import store
from bench.results.models import Result
from bench.text import plural


class Published(NamedTuple):
    """The stored records of each kind, oldest first."""

    results: list[Result]
    comparisons: list[Comparison]
    limits: list[Limits]
    abs: list[Ab]


def load(folder: Path) -> Published:
    """Read all records stored in a directory.

    Raises:
        UsageError: a record cannot be read, or its run paused inside statements, so that it has no speed.
    """
    results = store.load_all(folder)
    for result in results:
        if result.paused:
            raise UsageError(f"{result.run_id} cannot be published: it ran with --pause; remove it from {folder}")
    return Published(
        results,
        store.load_records(Comparison, folder, compare.FILE),
        store.load_records(Limits, folder, measure.FILE),
        store.load_records(Ab, folder, ab.FILE),
    )


def sections(stored: Published) -> dict[str, str]:
    """The text of each section that these records can fill, by the name in its markers."""
    analyses = [text for text in map(gate.power_analysis, stored.abs) if text]
    tailed = [each for each in stored.comparisons if each.workload.tails]
    texts = {
        "table": runs.published(stored.results) if stored.results else "",
        "saturation": runs.saturation(stored.results),
        "nodes": runs.by_node(stored.results),
        "logs": "\n\n".join(map(logs.whole, tailed)),
        "logs at a glance": logs.glance(tailed) if tailed else "",
        "latency": "\n\n".join(logs.at_rates(each) for each in stored.comparisons if each.workload.rate),
        "limits": "\n\n".join(map(overhead.whole, stored.limits)),
        "calibration": analyses[-1] if analyses else "",
    }
    return {name: text for name, text in texts.items() if text}


def counts(stored: Published) -> str:
    """The number of records of each kind."""
    return ", ".join(
        [
            plural(len(stored.results), "run"),
            plural(len(stored.comparisons), "comparison"),
            plural(len(stored.limits), "record of limits", "records of limits"),
            plural(len(stored.abs), "A/B comparison"),
        ]
    )
