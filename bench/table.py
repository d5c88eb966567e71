"""The throughput table, made from results alone, for a terminal, a markdown file or between a page's markers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from bench.results import Append, Read, Result, Trial
from bench.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

SEED = ("scale", "insert_batch", "insert_loops", "tot_rows", "read_batch", "lapsed_time", "Throughput")
WORDS = {"place", "log", "append", "mode", "verdict", "node"}


def rows(results: Sequence[Result]) -> pd.DataFrame:
    """One row a read: the seed's seven columns, then ours.

    `lapsed_time` is in milliseconds and Throughput in events/s, both of the read. A trial whose verdict is not ok says
    FAILED where its throughput would be.
    """
    import pandas as pd  # noqa: PLC0415 - a third of a second that every command would wait for

    return pd.DataFrame(
        [_row(result, trial, read) for result in results for trial in result.trials for read in trial.reads]
    )


def terminal(result: Result) -> str:
    """The seed's columns and the verdict of one run, narrow enough for a terminal; the lines under it tell the rest."""
    return _markdown(rows([result])[[*SEED, "verdict"]])


def published(results: Sequence[Result]) -> str:
    """The whole table in markdown, with what a reader must know of each run: the command, the machine, the settings."""
    by_node = [
        f"Run {result.run_id} by node:\n\n{nodes(trial)}"
        for result in results
        for trial in result.trials
        if trial.nodes
    ]
    return "\n\n".join([_markdown(rows(results)), "\n".join(_note(result) for result in results), *by_node])


def nodes(trial: Trial) -> str:
    """What each node of a swarm did, a row each: its share of the rates, its workers' CPU, its clock, its network."""
    import pandas as pd  # noqa: PLC0415

    return _markdown(
        pd.DataFrame(
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
            ]
        )
    )


def _markdown(frame: pd.DataFrame) -> str:
    return tabulate(
        frame.to_dict(orient="list"),
        headers="keys",
        tablefmt="github",
        disable_numparse=True,
        colalign=["left" if column in WORDS else "right" for column in frame.columns],
    )


def _row(result: Result, trial: Trial, read: Read) -> dict[str, str]:
    spec = result.spec
    return {
        "scale": str(spec["scale"]),
        "insert_batch": str(spec["insert_batch"]),
        "insert_loops": str(-(-spec["limit"] // spec["insert_batch"])),
        "tot_rows": str(trial.verdict.expected_events),
        "read_batch": str(read.read_batch),
        "lapsed_time": f"{read.seconds * 1000:.0f}",
        "Throughput": _rate(read, "FAILED"),
        "place": result.environment.place,
        "log": spec["log"],
        "append": spec["append"],
        "mode": read.mode,
        "appended/s": _rate(trial.append, "node lost" if trial.losses and trial.verdict.ok else "FAILED"),
        "max_etag_gap": str(read.max_etag_gap),
        "verdict": "ok" if trial.verdict.ok else "FAILED",
    }


def _rate(phase: Append | Read, otherwise: str) -> str:
    if phase.events_per_second is None:
        return otherwise
    return f"{phase.events_per_second:.0f}{'*' if phase.client_bound else ''}"


def _note(result: Result) -> str:
    where = result.environment
    settings = ", ".join(f"`{name}={value}`" for name, value in where.settings.items())
    bound = any(trial.append.client_bound or any(read.client_bound for read in trial.reads) for trial in result.trials)
    return (
        f"- `{command(result)}`: PostgreSQL {where.postgres}, place {where.place}, {where.cpu}, {where.cores} cores, "
        f"{where.memory_bytes / 2**30:.0f} GiB, {where.kernel}; "
        f"{'settings that differ from the default: ' + settings if settings else 'all settings at their default'}"
        f"{'; * client-bound: a worker, and not Postgres, set the pace' if bound else ''}. Run {result.run_id}."
    )


_OTHERS = (
    "append",
    "payload_bytes",
    "mode",
    "consumers",
    "group",
    "rejoin",
    "cursor",
    "depth",
    "trials",
    "warm_up",
    "fresh",
    "transaction_ms",
    "abort_rate",
    "seed",
    "idle_timeout",
    "log",
    "postgres_image",
    "constraint",
    "max_per_node",
    "postgres_node",
    "on_node_loss",
)
"""Fields of a spec that are worth telling when they are not as usual."""


def _default(name: str) -> object:
    return json.loads(json.dumps(Spec.model_fields[name].default))


def _flag_value(value: object) -> object:
    return f"{value[0]:g}..{value[1]:g}" if isinstance(value, list) else value


def command(result: Result) -> str:
    """The command that makes such a result again."""
    spec = result.spec
    flags = {
        "scale": spec["scale"],
        "insert-batch": spec["insert_batch"],
        **({"insert-loops": spec["insert_loops"]} if spec["insert_loops"] else {}),
        **({} if spec["limit"] == spec["insert_batch"] * (spec["insert_loops"] or 100) else {"limit": spec["limit"]}),
        "read-batch": ",".join(str(size) for size in spec["read_batch"]),
        "place": result.environment.place,
        **{name: _flag_value(spec[name]) for name in _OTHERS if name in spec and spec[name] != _default(name)},
    }
    words = [
        f"--{name.replace('_', '-')}" + (f" {value}" if value is not True else "") for name, value in flags.items()
    ]
    words += [f"--set {name}={value}" for name, value in spec["set"].items()]
    return " ".join(["python -m bench run", *words])
