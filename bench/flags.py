"""Flags as fields of a model: what a field's type does not say of its flag, types that several models share, and
errors that name the flag.
"""

import re
from collections.abc import Collection, Sequence
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
    in_file_only: bool = False
    """The field is a key of a spec file, and no flag gives it."""


_MESSAGES = {
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "give one of {expected}",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "string_type": "give text",
    "string_too_short": "must not be empty",
    "path_type": "give a path",
    "dict_type": "give names with values",
    "model_type": "give a table with keys",
    "missing": "give this key too",
    "tuple_type": "give a list",
    "too_short": "give at least {min_length}",
    "too_long": "give at most {max_length}",
}
"""Messages by pydantic's type of error, filled with its context."""


_A_KEY = "[key]"
"""The end of pydantic's path to a key that cannot be used; the key itself is the error's input."""


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

Switch = Annotated[bool, Field(strict=True)]
"""A flag without a value; in a file true or false, and not 1 or "yes"."""


def sizes(value: object) -> object:
    """Split a text of numbers with commas between them, like 10,100; other values are returned as they are.

    Raises:
        ValueError: there is nothing before, between or after commas.
    """
    if not isinstance(value, str):
        return value
    numbers = value.split(",")
    if not all(number.strip() for number in numbers):
        raise ValueError("give numbers with one comma between them, like 10,100")
    return numbers


OneMachine = Annotated[
    Literal["auto", "local", "docker"],
    Field(description="Where Postgres and the workers run; auto takes Docker when an engine answers."),
]
"""The place of a command that runs on one machine only."""


def flag_name(field: str) -> str:
    """The flag of a field."""
    return f"--{field.replace('_', '-')}"


def flag_of(model: type[BaseModel], name: str) -> Flag:
    """What a field's type does not say of its flag."""
    return next((each for each in model.model_fields[name].metadata if isinstance(each, Flag)), Flag())


def validated(
    model: type[M], values: dict[str, Any], file: Path | None = None, keys_of_file: Collection[str] = ()
) -> M:
    """Make a model of values that came from flags or, those of `keys_of_file`, from a file.

    Raises:
        UsageError: a value cannot be used; the message has a line per field, with its flag, or with the file and its
            key.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems: dict[str, str] = {}  # one per field: a list with a bad item is also complained of as too short
        for problem in error.errors():
            key = str(problem["loc"][0]) if problem["loc"] else ""
            typed = values.get(key) if len(problem["loc"]) == 1 else problem["input"]
            problem["input"] = problem["input"] if typed is None else typed  # as typed, before any validator
            if key in keys_of_file or (not key and keys_of_file):
                sentence = f"--spec {file}: {_sentence(key, dict(problem))}"
            else:
                sentence = _sentence(_flag_names(model, key), dict(problem))
            problems.setdefault(key, sentence)
        raise UsageError("\n".join(problems.values())) from error


def _flag_names(model: type[BaseModel], key: str) -> str:
    """The flag of a field with its alias, because either may have been typed; empty for an empty key."""
    if key not in model.model_fields:
        return flag_name(key) if key else ""
    return "/".join(filter(None, [flag_name(key), flag_of(model, key).alias]))


def _sentence(name: str, problem: dict[str, Any]) -> str:
    """One of pydantic's errors as a sentence about a flag, or a key of a file."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    names = " ".join([name, *_inside(problem["loc"])])
    if problem["type"] == "extra_forbidden":
        return f"{names}: unknown key"
    own = _MESSAGES.get(problem["type"])
    context = {name: _without_point(value) for name, value in problem.get("ctx", {}).items()}
    message = own.format(**context) if own else f"{message[0].lower()}{message[1:]}"
    if problem["loc"][0] == "dsn" or problem["type"] == "missing":  # the value may hold a password, or there is none
        return f"{names}: {message}"
    return f"{names} {problem['input']!r}: {message}"


def _without_point(value: object) -> object:
    """A whole number as one: 0 for 0.0. Other values are returned as they are."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _inside(place: Sequence[int | str]) -> list[str]:
    """The place of a value inside its field: the key of a dict, or the number (from 1) and the key of a table."""
    match place:
        case (_, str(key)):
            return [key]
        case (_, int(index), str(key)) if key != _A_KEY:
            return [str(index + 1), key.replace("_", "-")]
        case _:
            return []
