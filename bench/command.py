"""The command of a stored run: its spec as values for another run, and as a text to be pasted into a shell."""

import shlex
from collections.abc import Mapping
from typing import Any

from bench import phases
from bench.flags import flag_name
from bench.spec import DEFAULT_LOOPS, Spec
from bench.values import FIND, offered_events, range_text, wait_text


def as_given(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the spec in a result back into values for a spec: a result has both the transactions per producer and the
    events that they add up to. Fields that this version does not know are dropped.
    """
    given = {name: stored[name] for name in Spec.model_fields if name in stored}
    batch, loops, limit = (given.get(name) for name in ("insert_batch", "insert_loops", "limit"))
    rate, duration = given.get("rate"), given.get("duration")
    is_timed = duration is not None or rate == FIND or bool(given.get("phase"))
    is_timed = is_timed or (rate is not None and offered_events(str(rate), None) is not None)
    if is_timed or (batch is not None and limit == batch * (loops or DEFAULT_LOOPS)):
        given.pop("limit", None)
    elif loops:
        given.pop("insert_loops")
    return given


_RUN = ("python", "-m", "bench", "run")
_FIRST = ("scale", "insert_batch", "insert_loops", "limit", "read_batch", "place")
"""Fields that a command begins with."""


def run_command(given: Mapping[str, Any]) -> str:
    """The command that gives these fields of a spec, with values as a result stores them, to be pasted into a shell.

    Phases have no flag: the command writes them to a file in the present folder first.
    """
    first = [name for name in _FIRST if name in given]
    rest = [name for name in Spec.model_fields if name in given and name not in _FIRST]
    arguments = [text for name in (*first, *rest) for text in _arguments(name, given[name])]
    if not given.get("phase"):
        return shlex.join([*_RUN, *arguments])
    written = shlex.join(["printf", "%s\\n", phases.file_text(given["phase"])])
    return f"{written} > {phases.FILE} && {shlex.join([*_RUN, '--spec', phases.FILE, *arguments])}"


def _arguments(name: str, value: object) -> list[str]:
    """The arguments that give a field; none for a value that no flag gives because it is the default."""
    flag = flag_name(name)
    match value:
        case bool() | None:
            return [flag] if value else []
        case list() if name == "phase":
            return []
        case dict():
            texts = [f"{key}={setting}" for key, setting in value.items()]
        case list() if name in {"transaction_ms", "pause"}:
            texts = [range_text(value) + ("ms" if name == "pause" else "")]
        case list() if name in {"poll_interval", "consumer_think"}:
            texts = [wait_text(value)]
        case float() if name == "duration":
            texts = [f"{value:.15g}s"]
        case list() if name == "read_batch":
            texts = [",".join(map(str, value))]
        case list():
            texts = [str(each) for each in value]
        case _:
            texts = [str(value)]
    return [argument for text in texts for argument in (flag, text)]
