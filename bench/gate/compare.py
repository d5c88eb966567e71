"""The gate: compares a result with a baseline. First whether the two may be compared, then whether one is slower."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.errors import NoComparisonError, UsageError
from bench.eventlog import short_names
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
"""Keys of a spec that may differ: they do not change what is done, or another key of `alike` stands for them."""
_SAME_MEMORY = 0.1
"""The share by which the memory of two machines of one kind may differ: their firmware keeps some."""

EXIT_CODES: dict[str, int] = {
    "no worse": 0,
    "failed verdict": 1,
    "regressed": 4,
    "inconclusive": 5,
    "not comparable": 5,
}


class Compared(NamedTuple):
    """The outcome of a comparison."""

    word: Word | Literal["failed verdict", "not comparable"]
    changes: list[Change]
    trials: int
    """On the smaller side."""
    differences: dict[str, tuple[str, str]]
    """The keys that differ though they must be alike, each with its values before and after."""
    allowed: dict[str, tuple[str, str]]
    """The keys that differ and are allowed to."""
    visible: dict[str, float]
    """The smallest slowdown of each metric that this number of trials can detect here, as a share."""
    lacks: dict[str, Lack]
    """The metrics that cannot be compared, and why."""
    undecided: list[str]
    """The metrics of `lacks` that decide. With one of them the outcome is never `no worse`."""


def compare(before: Result, after: Result, rules: Rules, allow: Iterable[str] = ()) -> Compared:
    """Compare two results.

    Raises:
        UsageError: an unknown metric in `rules`, or an unknown key in `allow`.
    """
    refuse_unknown_metrics(rules, before)
    keys, allow = {*alike(before), *alike(after)}, set(allow)
    for key in allow - keys:
        raise UsageError(f"--allow {key}: there is no such key; give one of {', '.join(sorted(keys))}")
    trials = min(len(before.trials), len(after.trials))
    differing = differences(before, after)
    allowed = {key: both for key, both in differing.items() if key in allow}
    refused = {key: both for key, both in differing.items() if key not in allow}
    if not after.ok or not before.ok:
        return Compared("failed verdict", [], trials, refused, allowed, {}, {}, [])
    if refused:
        return Compared("not comparable", [], trials, refused, allowed, {}, {}, [])
    return judged(before, after, rules, allowed)


def refuse_unknown_metrics(rules: Rules, result: Result) -> None:
    """Refuse a rule for a metric that a result does not have, so that no typing error turns a rule off.

    Raises:
        UsageError: a rule is for such a metric.
    """
    known = [metric.name for metric in metrics.of_result(result)]
    for name in rules.per_metric:
        if name not in known:
            raise UsageError(f"--per-metric {name}: there is no such metric; give one of {', '.join(known)}")


def judged(before: Result, after: Result, rules: Rules, allowed: dict[str, tuple[str, str]]) -> Compared:
    """Judge two results whose verdicts are ok, whatever differs between them."""
    trials = min(len(before.trials), len(after.trials))
    old, new = metrics.of_result(before), metrics.of_result(after)
    changes = regression.judge(old, new, rules)
    seen = regression.visible(old, new, trials) if trials >= regression.MIN_TRIALS else {}
    undecided = regression.undecided(old, new, rules)
    word = regression.outcome(changes, trials, undecided)
    return Compared(word, changes, trials, {}, allowed, seen, regression.lacks(old, new), undecided)


def alike(result: Result) -> dict[str, str]:
    """The facts that must be alike in two results before their numbers may be compared, by key."""
    environment = result.environment
    facts = {
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
    facts |= {f"limits.{name}": text for name, text in environment.limits.items()}
    facts |= {f"set.{name}": text for name, text in environment.settings.items()}
    facts |= {f"sql.{name}": text for name, text in result.sql.items()}
    spec = {key: value for key, value in result.spec.items() if key not in _FREE}
    return facts | {f"spec.{key.replace('_', '-')}": _text(value) for key, value in spec.items()}


def differences(before: Result, after: Result) -> dict[str, tuple[str, str]]:
    """The keys of `alike` that differ, each with its values before and after."""
    old, new = alike(before), alike(after)
    both_of = {key: (old.get(key, ""), new.get(key, "")) for key in {**old, **new}}
    less, more = sorted(result.environment.memory_bytes for result in (before, after))
    if more - less < _SAME_MEMORY * more:
        del both_of["memory"]
    if old["log"] != new["log"]:
        both_of["log"] = _logs_apart(before, after)
    return {key: both for key, both in both_of.items() if both[0] != both[1]}


def _logs_apart(before: Result, after: Result) -> tuple[str, str]:
    """The logs of two results, by names that differ."""
    old, new = (str(result.spec["log"]) for result in (before, after))
    names = short_names([old, new])
    return f"{names[old]} {before.log_sha256[:12]}", f"{names[new]} {after.log_sha256[:12]}"


def save(name: str, result: Result, folder: Path = BASELINES) -> Path:
    """Store a result as a baseline, in place of the one that had the name.

    Raises:
        UsageError: `name` is not a valid name of a folder, or a verdict of the result failed.
        InfrastructureError: it cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"{name!r} is not a valid name of a baseline: give letters, digits, dots, dashes and underscores, "
            "a letter or a digit first"
        )
    if not result.ok:
        raise UsageError(f"{result.run_id} cannot be a baseline: its verdict failed; give a result whose verdict is ok")
    return write(folder / name / "result.json", store.json_text(result))


def baseline(name: str, folder: Path = BASELINES) -> Result:
    """The baseline of a name, or the result at a path.

    Raises:
        NoComparisonError: there is no such baseline and no such file.
    """
    for file in (folder / name / "result.json", Path(name) / "result.json", Path(name)):
        if file.is_file():
            return store.load(file)
    names = ", ".join(sorted(file.parent.name for file in folder.glob("*/result.json")))
    raise NoComparisonError(
        f"there is no baseline {name!r} in {folder} ({names or 'it is empty'}): bench baseline save {name} stores one"
    )


def thresholds(general: str, per_metric: Mapping[str, str]) -> Rules:
    """Make rules of texts like 5%.

    Raises:
        UsageError: a text is not a share.
    """
    shares = {name: share(f"--per-metric {name}", text) for name, text in per_metric.items()}
    return Rules(share("--threshold", general), shares)


def share(flag: str, text: str) -> float:
    """Read a share between 0 and 1, like 5% or 0.05.

    Raises:
        UsageError: the text is not such a share; the message names the flag.
    """
    number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)", text.strip())
    value = float(number[1]) / (100 if number[2] else 1) if number else 0
    if not 0 < value < 1:
        raise UsageError(f"{flag} {text!r}: give a share between 0 and 100 %, like 5%")
    return value


def _major(version: str) -> str:
    return version.partition(".")[0]


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
