"""The phases of an offered load: parts of one tailing run, each a table [[phase]] in a spec file.

A phase has a rate of its own, which makes a step of the schedule, and states what else is so while it lasts: whether
consumers read, and which kind of transaction is left open.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from bench.flags import Switch, flag_name
from bench.values import LONGEST_SECONDS, MOST_PER_SECOND, parse_time

OpenTransaction = Literal["in this log", "in another table", "in another database", "read-only", "prepared"]
"""The kinds of transactions that can be left open: one that appended to the log, wrote to another table, wrote in
another database, holds a snapshot, or appended to the log and is prepared for a commit in two phases."""

MOST_PHASES = 100
LONGEST_NAME = 40

FILE = "bench-phases.toml"
"""The file that the command of a stored run with phases writes."""


class LoadPhase(BaseModel):
    """A phase of an offered load. The fields are the keys of [[phase]]."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] | None = None
    """Its name in results, which no other phase has; without one, its number."""
    rate: Annotated[float, Field(ge=0, le=MOST_PER_SECOND, allow_inf_nan=False)]
    """Offered load in events per second of all producers together."""
    duration: Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False), BeforeValidator(parse_time)]
    """The seconds that the phase lasts, or a time like 90s, 10m or 2h."""
    open_transaction: OpenTransaction | None = None
    """The kind of transaction that is left open from the phase's begin to its end."""
    read: Switch = True
    """Whether consumers read meanwhile."""

    @model_validator(mode="before")
    @classmethod
    def _keys_are_written_like_flags_or_fields(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {str(key).replace("-", "_"): item for key, item in value.items()}

    @field_validator("name")
    @classmethod
    def _name_can_be_printed(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("give letters, digits and other characters that can be printed in a line")
        return value


def refuse_misfits(phases: Sequence[LoadPhase], spec: Mapping[str, object]) -> None:
    """Refuse phases that do not fit together, or do not fit the other fields of their spec.

    Raises:
        ValueError: the message names the flag or the key.
    """
    for field in ("rate", "duration", "limit", "insert_loops"):
        if spec[field] is not None:
            raise ValueError(f"{flag_name(field)} and [[phase]] both say how much is offered: give one of them")
    if spec["pause"]:
        raise ValueError("[[phase]] measures how a load is borne, and a run with --pause has no speed: drop one")
    if spec["mode"] != "tail":
        raise ValueError("[[phase]] is for consumers that read while events are appended: give --mode tail too")
    if not phases[-1].rate:
        raise ValueError(f"phase {len(phases)} rate: the rate of the last phase must be above 0")
    first: dict[str, int] = {}
    for number, phase in enumerate(phases, 1):
        earlier = first.setdefault(name(phase, number), number)
        if earlier != number:
            raise ValueError(
                f"phase {number} name {name(phase, number)!r}: phase {earlier} has this name too; give each its own"
            )


def _checked_tables(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError("write each phase as a table [[phase]]")  # noqa: TRY004 - pydantic takes a ValueError
    return value


Phases = Annotated[tuple[LoadPhase, ...], Field(max_length=MOST_PHASES), BeforeValidator(_checked_tables)]


class Span(NamedTuple):
    """When a phase begins and ends, in seconds after the start of the schedule."""

    begin: float
    end: float


def spans(phases: Sequence[LoadPhase]) -> list[Span]:
    """When each phase begins and ends."""
    return [Span(*pair) for pair in pairwise(accumulate((phase.duration for phase in phases), initial=0.0))]


def steps(phases: Iterable[LoadPhase]) -> list[tuple[float, float | None]]:
    """The steps of the offered load, as `bench.values.steps_of` returns them."""
    return [(phase.rate, phase.duration) for phase in phases]


def offered_events(phases: Iterable[LoadPhase]) -> float:
    """The events that all phases offer."""
    return sum(phase.rate * phase.duration for phase in phases)


def name(phase: LoadPhase, number: int) -> str:
    """The name of a phase for people; `number` counts from 1."""
    return phase.name or f"phase {number}"


def file_text(stored: Iterable[Mapping[str, Any]]) -> str:
    """Phases, as a result stores them, as a line of a spec file."""
    defaults = {name: field.default for name, field in LoadPhase.model_fields.items() if not field.is_required()}
    tables = [
        ", ".join(
            f"{key.replace('_', '-')} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in phase.items()
            if key not in defaults or value != defaults[key]
        )
        for phase in stored
    ]
    return f"phase = [{', '.join(f'{{ {table} }}' for table in tables)}]"


def clauses(stored: Iterable[Mapping[str, Any]]) -> str:
    """Phases, as a result stores them, for people: a clause per phase. Phases that differ have different texts."""
    return "; ".join(
        ", ".join(
            [
                json.dumps(phase["name"], ensure_ascii=False) if phase.get("name") else f"phase {number}",
                f"{phase['rate']:.15g}/s for {phase['duration']:.15g} s",
                *([f"open transaction {phase['open_transaction']}"] if phase.get("open_transaction") else []),
                *([] if phase.get("read", True) else ["no reading"]),
            ]
        )
        for number, phase in enumerate(stored, 1)
    )
