"""The gate: compare a result with a baseline. The conditions must match before the speed is judged."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bench import phases
from bench.errors import NoComparisonError, UsageError
from bench.eventlog import short_names
from bench.flags import Flag
from bench.gate import regression
from bench.gate.regression import Change, Lack, Rules, Word
from bench.output import write
from bench.results import metrics, store
from bench.results.models import Result

BASELINES = Path("results/baselines")
_FREE = {
    "trials",
    "warm_up",
    "fresh",
    "seed",
    "idle_timeout",
    "dsn",
    "log",
    "pg_bin",
    "worker_image",
    "set",
    "place",
    "insert_loops",
    "postgres_image",
}
"""Keys of a spec that may differ: they do not change the work, or another key of `alike` stands for them."""
_SAME_MEMORY = 0.1
"""Machines of one kind differ in memory by less than this share, because firmware reserves some."""

EXIT_CODES: dict[str, int] = {
    "no worse": 0,
    "failed verdict": 1,
    "regressed": 4,
    "inconclusive": 5,
    "not comparable": 5,
}


MarkdownFile = Annotated[
    Path | None, Flag("FILE"), Field(description="Write the comparison here too, in markdown; - is standard output.")
]


class Options(BaseModel):
    """The flags of `bench compare` but for its rules."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    allow: Annotated[tuple[str, ...], Flag("KEY", repeated=True)] = ()
    """Compare even though KEY differs."""
    baselines: Annotated[Path, Flag("DIR")] = BASELINES
    """Directory of the baselines."""
    export_markdown: MarkdownFile = None


class Compared(NamedTuple):
    """The outcome of a comparison, and what it rests on."""

    word: Word | Literal["failed verdict", "not comparable"]
    changes: list[Change]
    trials: int
    """Number of trials on the smaller side."""
    differences: dict[str, tuple[str, str]]
    """The conditions that must match and do not, by key: before, after."""
    allowed: dict[str, tuple[str, str]]
    """The conditions that differ and were allowed to, by key: before, after."""
    visible: dict[str, float]
    """The smallest slowdown of each metric that this number of trials detects here, as a share."""
    lacks: dict[str, Lack]
    """The metrics that cannot be compared, and why."""
    undecided: list[str]
    """The metrics in `lacks` that decide: with one of them the outcome cannot be 'no worse'."""


def compare(before: Result, after: Result, rules: Rules, allow: Iterable[str] = ()) -> Compared:
    """Compare two results.

    Raises:
        UsageError: an unknown metric in `rules`, an unknown key in `allow`, a result without speeds or that of a
            search.
    """
    for result in (before, after):
        _refuse_unlike_others(result)
    refuse_unknown_metrics(rules, before)
    keys, allow = {*alike(before), *alike(after)}, set(allow)
    for key in allow - keys:
        raise UsageError(f"--allow {key}: unknown key; give one of {', '.join(sorted(keys))}")
    unlike = differences(before, after)
    allowed = {key: both for key, both in unlike.items() if key in allow}
    refused = {key: both for key, both in unlike.items() if key not in allow}
    if refused and before.ok and after.ok:
        trials = min(len(before.trials), len(after.trials))
        return Compared("not comparable", [], trials, refused, allowed, {}, {}, [])
    return judged(before, after, rules, allowed)


def refuse_unknown_metrics(rules: Rules, result: Result) -> None:
    """Refuse a rule for a metric that a result does not have, so that no typing error disables a rule.

    Raises:
        UsageError: a rule names such a metric.
    """
    known = [metric.name for metric in metrics.of_result(result)]
    for name in rules.per_metric:
        if name not in known:
            raise UsageError(f"--per-metric {name}: unknown metric; give one of {', '.join(known)}")


def judged(before: Result, after: Result, rules: Rules, allowed: dict[str, tuple[str, str]]) -> Compared:
    """Judge two results whatever their differences; `allowed` has the differences to report."""
    trials = min(len(before.trials), len(after.trials))
    if not (before.ok and after.ok):
        return Compared("failed verdict", [], trials, {}, allowed, {}, {}, [])
    old, new = metrics.of_result(before), metrics.of_result(after)
    changes = regression.judge(old, new, rules)
    visible = regression.visible(old, new, trials) if trials >= regression.MIN_TRIALS else {}
    undecided = regression.undecided(old, new, rules)
    word = regression.outcome(changes, trials, undecided)
    return Compared(word, changes, trials, {}, allowed, visible, regression.lacks(old, new), undecided)


def alike(result: Result) -> dict[str, str]:
    """The conditions that must match before two results may be compared, by key."""
    environment = result.environment
    conditions = {
        "postgres": _major(environment.postgres),
        "place": environment.place,
        "cpu": environment.cpu,
        "cores": str(environment.cores),
        "memory": f"{environment.memory_bytes / 2**30:.1f} GiB",
        "disk": environment.about.get("disk", ""),
        "nodes": environment.about.get("nodes", ""),
        "postgres-node": environment.about.get("postgres_node", ""),
        "lost-nodes": ", ".join(loss.node for trial in result.trials for loss in trial.losses),
        "transport": "libpq" if result.through_libpq else "",
        "governor": environment.governor or "",
        "log": f"{Path(str(result.spec['log'])).name} {result.log_sha256[:12]}",
    }
    conditions |= {f"limits.{name}": text for name, text in environment.limits.items()}
    conditions |= {f"set.{name}": text for name, text in environment.settings.items()}
    conditions |= {f"sql.{name}": text for name, text in result.sql.items()}
    spec = {key: value for key, value in result.spec.items() if key not in _FREE}
    return conditions | {f"spec.{key.replace('_', '-')}": _text(key, value) for key, value in spec.items()}


def differences(before: Result, after: Result) -> dict[str, tuple[str, str]]:
    """The conditions of `alike` that differ, by key, with both values."""
    old, new = alike(before), alike(after)
    both_values = {key: (old.get(key, ""), new.get(key, "")) for key in {**old, **new}}
    less, more = sorted(result.environment.memory_bytes for result in (before, after))
    if more - less < _SAME_MEMORY * more:
        del both_values["memory"]
    if both_values["log"][0] != both_values["log"][1]:
        both_values["log"] = _logs_apart(before, after)
    return {key: both for key, both in both_values.items() if both[0] != both[1]}


def _logs_apart(before: Result, after: Result) -> tuple[str, str]:
    """Two logs under names that distinguish them, with their checksums."""
    old, new = (str(result.spec["log"]) for result in (before, after))
    names = short_names([old, new])
    return f"{names[old]} {before.log_sha256[:12]}", f"{names[new]} {after.log_sha256[:12]}"


def save(name: str, result: Result, folder: Path = BASELINES) -> Path:
    """Store a result as a baseline, replacing one of that name; returns its file.

    Raises:
        UsageError: `name` is not a valid directory name, a verdict of the result failed, the result has no speeds, or
            it is that of a search.
        InfrastructureError: the file cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(f"NAME {name!r}: not a baseline name; use letters, digits, dots, dashes and underscores")
    if not result.ok:
        raise UsageError(f"{result.run_id} cannot be a baseline: its verdict failed")
    _refuse_unlike_others(result)
    return write(folder / name / "result.json", store.json_text(result))


def _refuse_unlike_others(result: Result) -> None:
    """Refuse a result whose speed cannot be compared with that of others."""
    if result.search:
        raise UsageError(
            f"{result.run_id} cannot be compared: each search with --rate find offers another load; run it at a --rate"
        )
    if result.paused:
        raise UsageError(
            f"{result.run_id} cannot be compared: it ran with --pause, so it has no speed; run it without that flag"
        )


def names(folder: Path = BASELINES) -> list[str]:
    """The names of the stored baselines."""
    return sorted(file.parent.name for file in folder.glob("*/result.json"))


def baseline(name: str, folder: Path = BASELINES) -> Result:
    """Read the baseline of a name, or the result at a path.

    Raises:
        NoComparisonError: there is neither.
    """
    for file in (folder / name / "result.json", Path(name) / "result.json", Path(name)):
        if file.is_file():
            return store.load(file)
    stored = ", ".join(names(folder))
    raise NoComparisonError(
        f"BASELINE {name!r}: not found in {folder}, which {f'has {stored}' if stored else 'is empty'}; "
        f"store one with `bench baseline save {name}`"
    )


def _major(version: str) -> str:
    return version.partition(".")[0]


def _text(key: str, value: Any) -> str:
    if key == "phase":
        return phases.clauses(value)
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
