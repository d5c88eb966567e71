"""Flags as fields of a model: what a field's type does not say of its flag, types that several models share, and
errors that name the flag.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from bench.errors import UsageError

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Flag:
    """How a field is given on a command line, as far as its type does not say so."""

    metavar: str = ""
    alias: str = ""
    """Another name of the flag."""
    repeated: bool = False
    """The flag may be given several times; each time adds a value."""
    variable: str = ""
    """The environment variable that sets the flag too."""
    default: str = ""
    """The default as the help prints it, where the field's own default does not say it."""
    example: str = ""
    """One NAME=VALUE, for the error about a value of another form."""


def _share(value: object) -> object:
    if not isinstance(value, str):
        return value
    number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)", value.strip())
    share = float(number[1]) / (100 if number[2] else 1) if number else 0
    if not 0 < share < 1:
        raise ValueError("give a share between 0 and 100 %, like 5%")
    return share


Share = Annotated[float, BeforeValidator(_share), Field(gt=0, lt=1)]
"""A share between 0 and 1, given like 5% or 0.05."""

ResultsFolder = Annotated[Path, Flag("DIR"), Field(description="Results directory; each run gets a subdirectory.")]
RESULTS = Path("results/runs")

OneMachine = Annotated[
    Literal["auto", "local", "docker"],
    Field(description="Where Postgres and the workers run; auto takes Docker when an engine answers."),
]
"""The place of a command that runs on one machine only."""


def flag_name(field: str) -> str:
    """The flag of a field."""
    return f"--{field.replace('_', '-')}"


def validated(model: type[M], values: dict[str, Any]) -> M:
    """Make a model of values that came from flags or a file.

    Raises:
        UsageError: a value cannot be used; the message names its flag.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError("\n".join(_sentence(dict(problem)) for problem in error.errors())) from error


def _sentence(problem: dict[str, Any]) -> str:
    """One of pydantic's errors as a sentence about a flag."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    flag = flag_name(str(problem["loc"][0]))
    if problem["type"] == "extra_forbidden":
        return f"{flag}: there is no such key"
    if flag == "--dsn":  # the value may hold a password
        return f"{flag}: {message}"
    names = [flag, *(str(name) for name in problem["loc"][1:2] if isinstance(name, str))]
    return f"{' '.join(names)} {problem['input']!r}: {message[0].lower()}{message[1:]}"
