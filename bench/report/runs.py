"""The throughput table, made from results alone: for a terminal, a markdown file, or between the markers of a page."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.command import as_given, run_command
from bench.eventlog import short_names
from bench.places.dsn import without_password
from bench.report import bottleneck, screen, search
from bench.report.tabular import Form, Rows, markdown, narrow
from bench.results.costs import Others
from bench.results.environment import Environment
from bench.results.models import Append, Read, Result, Trial
from bench.results.tracks import APPEND
from bench.spec import LIMITS, Spec
from bench.text import plural
from bench.values import payload_sizes_of, wait_text

if TYPE_CHECKING:
    import pandas as pd

SEED = ("scale", "insert_batch", "insert_loops", "tot_rows", "read_batch", "lapsed_time", "Throughput")
DURABLE = ("fsync", "synchronous_commit")
OFF = {"off", "false", "no", "0"}
NOTHING = "no event was acknowledged: nothing was measured"
TAILED = ("appended/s", "wake", "delay p50 ms", "delay p99 ms")
"""The columns that the table of a tailed run has besides the seed's: the delay next to what it costs the writers."""
ELSEWHERE = ("insert_batch", "insert_loops", "tot_rows", "lapsed_time")
"""The seed's columns that the command above the table has, or the figures below it."""
WORDS = {"wake", "place", "log", "append", "mode", "verdict", "node", "bounded by"}


def rows(results: Sequence[Result]) -> pd.DataFrame:
    """One row per read: the seed's seven columns, then ours.

    `lapsed_time` is in milliseconds and Throughput in events/s, both of the read; an event that was delivered again is
    not in it. A trial whose verdict is not ok has FAILED where its throughput would be. A log from a folder is called
    by the end of its path that tells it from the others. Where a reader tailed, three more columns have its way of
    waiting and its delay.
    """
    import pandas as pd  # noqa: PLC0415 - a third of a second that every command would wait for

    tailed = any(read.mode == "tail" for result in results for trial in result.trials for read in trial.reads)
    logs = short_names(result.spec["log"] for result in results)
    return pd.DataFrame(
        [
            {
                **_row(result, trial, read, logs[result.spec["log"]]),
                **(_tailing(read) if tailed else {}),
                "verdict": "ok" if trial.verdict.ok else "FAILED",
            }
            for result in results
            for trial in result.trials
            for read in trial.reads
        ]
    )


def heading(spec: Mapping[str, Any], environment: Environment, command: str) -> str:
    """The heading of a run: PostgreSQL and the machine, the log, the settings, and the command. `spec` is as a result
    stores it. As wide as standard output is.
    """
    lines = [
        _machines(spec, environment),
        f"log {spec['log']}, append by {spec['append']}, payloads {_payloads(spec)}, mode {spec.get('mode', 'drain')}",
        _settings(spec, environment).replace("`", ""),
        command,
    ]
    return screen.shown("\n".join(lines))


def _payloads(spec: Mapping[str, Any]) -> str:
    """A clause about the payloads of a run; `spec` is as a result stores it."""
    if spec.get("payload_file"):
        return f"from {spec['payload_file']}"
    if not spec["payload_bytes"]:
        return "not padded"
    sizes = payload_sizes_of(str(spec["payload_bytes"]))
    shares = [f"{size:,} bytes" + (f" ({share:g} %)" if len(sizes) > 1 else "") for size, share in sizes]
    bits = spec.get("payload_entropy")
    return f"padded to {' or '.join(shares)}" + ("" if bits is None else f" with {bits} random bits per character")


def not_durable(environment: Environment) -> list[str]:
    """The settings with which an acknowledged event may be gone after a crash."""
    return [f"{name}={environment.settings[name]}" for name in DURABLE if environment.settings.get(name) in OFF]


def terminal(result: Result) -> str:
    """The seed's columns and the verdict of one run, with the warnings that belong to them.

    A pipe gets markdown with a row for each reading of each trial. A terminal gets columns as narrow as they can be, or
    a line for each value where those do not fit, and one row for all trials: their medians.
    """
    frame = rows([result])
    if not_durable(result.environment):
        frame["Throughput"] = [rate if rate.isalpha() else f"{rate}!" for rate in frame["Throughput"]]
    tailed = "wake" in frame
    frame = frame[[*SEED, *(TAILED if tailed else ()), "verdict"]]
    on_pipe = not sys.stdout.isatty()
    shown = _texts(frame) if on_pipe else _of_all_trials(frame)
    # The verdict is printed below, too, and Throughput has FAILED in it.
    dispensable = {"verdict", *(ELSEWHERE if tailed else ())}
    parts = [_table(shown) if on_pipe else narrow(shown, shown[0], columns=screen.width(), dispensable=dispensable)]
    if not_durable(result.environment):
        parts.append(screen.shown(f"! not durable: {', '.join(not_durable(result.environment))}"))
    if _measured_nothing(result):
        parts.append(NOTHING)
    return "\n\n".join(parts)


def _texts(frame: pd.DataFrame) -> list[dict[str, str]]:
    return [{str(name): str(text) for name, text in row.items()} for row in frame.to_dict(orient="records")]


def _of_all_trials(frame: pd.DataFrame) -> list[dict[str, str]]:
    """One row for the readings of a size: the middle one, or FAILED when one failed."""
    shown = []
    for size in dict.fromkeys(frame["read_batch"]):
        alike = _texts(frame[frame["read_batch"] == size])
        failed = [row for row in alike if row["verdict"] != "ok"]
        of_speed = sorted(alike, key=lambda row: int(row["lapsed_time"]))
        middle = of_speed[(len(alike) - 1) // 2]
        several = {"verdict": f"FAILED {len(failed)} of {len(alike)}"} if len(alike) > 1 else {}
        shown.append({**failed[0], **several} if failed else middle)
    return shown


def published(results: Sequence[Result]) -> str:
    """The whole table in markdown, with a note per run: the command, the machine, the settings."""
    return "\n\n".join([_table(_texts(rows(results))), "\n".join(_note(result) for result in results)])


def by_node(results: Sequence[Result]) -> str:
    """The work of each node, in each trial that had nodes."""
    return "\n\n".join(
        f"{nodes(trial)}\n\nRun {result.run_id}." for result in results for trial in result.trials if trial.nodes
    )


def nodes(trial: Trial, form: Form = markdown) -> str:
    """The work of each node of a swarm, a row each: its share of the rates, its workers' CPU, its clock and network."""
    return _table(
        [
            {
                "node": each.node,
                "producers": str(each.producers),
                "consumers": str(each.consumers),
                "appended/s": "" if each.appended_per_second is None else f"{each.appended_per_second:.0f}",
                "read/s": "" if each.read_per_second is None else f"{each.read_per_second:.0f}",
                "CPU s": f"{each.cpu_seconds:.2f}",
                "clock offset ms": f"{each.clock_offset_ms:.3f}",
                "round trip ms": f"{each.round_trip_ms:.3f}",
            }
            for each in trial.nodes
        ],
        form,
    )


def others_at_work(phases: Sequence[Others]) -> str:
    """A clause that others used the server, in one phase or several, and which of the figures has their work in it."""
    commits, rows = sum(each.commits for each in phases), sum(each.rows for each in phases)
    seen, looks = sum(each.seen for each in phases), sum(each.looks for each in phases)
    did = [
        *([f"{plural(commits, 'commit')} in other databases"] if commits else []),
        *([f"{plural(rows, 'row')} written there"] if rows else []),
        *([f"their sessions were at work in {seen} of {looks} samples"] if seen else []),
    ]
    return f"others were at work on this server: {', '.join(did)}; WAL is the whole server's"


class Point(NamedTuple):
    """The appending of one number of producers; medians of all trials with the same place and insert batch."""

    place: str
    """The place, with the constraint on its nodes."""
    insert_batch: int
    scale: int
    appended_per_second: float
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    round_trip_ms: float
    """The median over producers of the quickest round trip that each had."""
    postgres_cores: float | None
    """CPU that Postgres used, in cores."""
    bottleneck: str
    """The cause that set the pace most often, in a few words."""


def saturation_points(results: Sequence[Result]) -> list[Point]:
    """The rates of appending by place, insert batch and number of producers, in trials that are ok and lost no node."""
    trials_of: dict[tuple[str, int, int], list[Trial]] = {}
    for result in results:
        place = " ".join([result.environment.place, *result.spec.get("constraint", [])])
        kind = place, int(result.spec["insert_batch"]), int(result.spec["scale"])
        trials_of.setdefault(kind, []).extend(trial for trial in result.trials if trial.append.events_per_second)
    return [_point(*kind, trials) for kind, trials in sorted(trials_of.items()) if trials]


def _point(place: str, insert_batch: int, scale: int, trials: Sequence[Trial]) -> Point:
    seen = [observed for trial in trials if (observed := trial.telemetry.phases.get(APPEND.key))]
    cores = [each.postgres_cpu_seconds / each.seconds for each in seen if each.postgres_cpu_seconds and each.seconds]
    latencies = [trial.append.latency_ms for trial in trials if trial.append.latency_ms]
    causes = Counter(cause for each in seen if (cause := bottleneck.main_cause(each)))
    return Point(
        place,
        insert_batch,
        scale,
        median(trial.append.events_per_second or 0 for trial in trials),
        median(latency.p50 for latency in latencies) if latencies else None,
        median(latency.p99 for latency in latencies) if latencies else None,
        median(producer.round_trip_ms for trial in trials for producer in trial.append.producers),
        median(cores) if cores else None,
        causes.most_common(1)[0][0] if causes else "",
    )


def saturation(results: Sequence[Result]) -> str:
    """A table of the rates of appending, each compared with that of the fewest producers of its place and insert batch;
    and the commands. Empty when there are no rates.
    """
    points = saturation_points(results)
    alone = {(point.place, point.insert_batch): point.appended_per_second for point in reversed(points)}
    if not points:
        return ""
    table = [
        {
            "place": point.place,
            "insert batch": f"{point.insert_batch:,}",
            "producers": str(point.scale),
            "appended/s": f"{point.appended_per_second:,.0f}",
            "x of the fewest": f"{point.appended_per_second / alone[point.place, point.insert_batch]:.2f}",
            "batch p50 ms": "" if point.latency_p50_ms is None else f"{point.latency_p50_ms:.2f}",
            "batch p99 ms": "" if point.latency_p99_ms is None else f"{point.latency_p99_ms:.2f}",
            "round trip ms": f"{point.round_trip_ms:.3f}",
            "Postgres's cores": "" if point.postgres_cores is None else f"{point.postgres_cores:.2f}",
            "bounded by": point.bottleneck,
        }
        for point in points
    ]
    return "\n\n".join([_table(table), "\n".join(_note(result) for result in results)])


def _measured_nothing(result: Result) -> bool:
    return any(trial.measured_nothing for trial in result.trials)


def _table(rows: Rows, form: Form = markdown) -> str:
    return form(rows, [name for name in rows[0] if name not in WORDS])


def _row(result: Result, trial: Trial, read: Read, log: str) -> dict[str, str]:
    spec = result.spec
    return {
        "scale": str(spec["scale"]),
        "insert_batch": str(spec["insert_batch"]),
        "insert_loops": "-" if spec["limit"] is None else str(-(-spec["limit"] // spec["insert_batch"])),
        "tot_rows": str(trial.verdict.expected_events),
        "read_batch": str(read.read_batch),
        "lapsed_time": f"{read.seconds * 1000:.0f}",
        "Throughput": _rate(read, trial.instead_of_read_rate),
        "place": result.environment.place,
        "log": log,
        "append": spec["append"],
        "mode": read.mode,
        "appended/s": _rate(trial.append, trial.instead_of_append_rate),
        "max_etag_gap": str(read.max_etag_gap),
    }


def _tailing(read: Read) -> dict[str, str]:
    """What woke a reader that tailed, and its delay from ctime to delivery; empty texts where that is unknown."""
    delay = read.end_to_end_ms
    return {
        "wake": waking(read),
        "delay p50 ms": "" if delay is None else f"{delay.p50:.2f}",
        "delay p99 ms": "" if delay is None else f"{delay.p99:.2f}",
    }


def waking(read: Read) -> str:
    """What made a reader ask again after an empty page, with its poll interval; empty where that is unknown."""
    if read.poll_ms is None:
        return read.wake or ""
    return f"{read.wake} {wait_text(read.poll_ms)}"


def _rate(phase: Append | Read, otherwise: str) -> str:
    if phase.events_per_second is None:
        return otherwise
    return f"{phase.events_per_second:.0f}{'*' if phase.client_bound else ''}"


def _note(result: Result) -> str:
    environment = result.environment
    bound = any(trial.append.client_bound or any(read.client_bound for read in trial.reads) for trial in result.trials)
    phases = [phase for trial in result.trials for phase in trial.telemetry.phases.values()]
    others = [phase.others for phase in phases if phase.others]
    return (
        f"- `{command(result)}`: {_machines(result.spec, environment)}; {_nodes_note(environment)}"
        f"{_settings(result.spec, environment)}"
        f"{'; * client-bound: a worker, and not Postgres, set the pace' if bound else ''}"
        f"{'; connections were encrypted, so clients spoke through libpq' if result.through_libpq else ''}"
        f"{f'; {NOTHING}' if _measured_nothing(result) else ''}"
        f"{f'; the run ended after {result.unfinished}' if result.unfinished else ''}"
        f"{f'; {others_at_work(others)}' if others else ''}"
        f"{f'; {search.sentence(result.search)}' if result.search and result.search.over else ''}. Run {result.run_id}."
    )


def _machines(spec: Mapping[str, Any], environment: Environment) -> str:
    """The machines of Postgres and of the workers; of a Postgres that was given, only its version is known."""
    machine = f"{environment.cpu}, {environment.machine}, {environment.kernel}"
    if spec.get("dsn"):
        return (
            f"PostgreSQL {environment.postgres} from --dsn, on a machine not inspected; "
            f"workers in place {environment.place}, {machine}"
        )
    return f"PostgreSQL {environment.postgres}, place {environment.place}, {machine}"


def _settings(spec: Mapping[str, Any], environment: Environment) -> str:
    settings = ", ".join(f"`{name}={value}`" for name, value in environment.settings.items())
    if settings:
        return f"settings that differ from the default: {settings}"
    limited = environment.limits or any(spec.get(name) for name in ("dsn", *LIMITS))
    return f"all {'PostgreSQL ' if limited else ''}settings at their default"


def _nodes_note(environment: Environment) -> str:
    """The nodes of a swarm that workers could be on, and Postgres's."""
    if not environment.about.get("nodes"):
        return ""
    on = f", Postgres on {environment.about['postgres_node']}" if "postgres_node" in environment.about else ""
    return f"nodes {environment.about['nodes']}{on}; "


_ALWAYS = ("scale", "insert_batch", "insert_loops", "read_batch")
"""Fields that a command has even at their defaults."""


def _default(name: str) -> object:
    """A field's default as a stored spec has it."""
    return json.loads(json.dumps(Spec.model_fields[name].get_default(call_default_factory=True)))


def command(result: Result) -> str:
    """The command of a run, to be pasted into a shell: every flag that was given. A result of a version that did not
    store the command has each field of its spec that is not at its default.
    """
    if result.reproduce:
        return result.reproduce
    stored = {**as_given(result.spec), "place": result.environment.place}
    if stored.get("dsn"):
        stored["dsn"] = without_password(stored["dsn"])
    return run_command({name: value for name, value in stored.items() if name in _ALWAYS or value != _default(name)})
