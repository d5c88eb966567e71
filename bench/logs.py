"""A log: one design of an event log, loaded from `sql/NAME/` or from a user's own folder.

Knows the folder's contract. Does not know where or how the log will be run.
"""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BadInputError
from bench.files import SQL
from bench.records import Way

_Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=63)]


class Log(BaseModel):
    """What `log.toml` says, and the SQL beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, Field(min_length=1, description="what people call it")]
    about: Annotated[str, Field(min_length=1, description="one paragraph")]
    guarantees: Annotated[list[str], Field(description="what a reader can rely on")]
    table: Annotated[_Identifier, Field(description="the table with the events, and a column `payload`")]
    cursor: Annotated[
        list[_Identifier], Field(min_length=1, max_length=1, description="the column that a reader remembers")
    ]
    append: Annotated[list[Way], Field(min_length=1, description="the ways to append that it supports")]
    postgres: Annotated[int, Field(ge=14, description="the oldest major version that it needs")]

    name: Annotated[str, Field(description="the folder's name")]
    schema_sql: Annotated[str, Field(description="the contents of schema.sql")]


def load(name_or_folder: str) -> Log:
    """Load a log by the name of one that ships, or from a folder of the user's own.

    A name with a path separator in it, or one that does not ship but is a folder, is taken for a folder.

    Raises:
        BadInputError: there is no such log, or a file of it is missing or wrong; the message names the file.
    """
    folder = _find(name_or_folder)
    description = folder / "log.toml"
    schema = folder / "schema.sql"
    for file in (description, schema):
        if not file.is_file():
            raise BadInputError(f"{file} is missing: a log is a folder with log.toml and schema.sql")
    try:
        written = tomllib.loads(description.read_text(encoding="utf-8"))
        return Log.model_validate(
            {**written, "name": folder.resolve().name, "schema_sql": schema.read_text(encoding="utf-8")}
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"{description}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"{description}: {key}: {first['msg']}") from error


def shipped() -> list[str]:
    """The names of the logs that ship, sorted."""
    return sorted(file.parent.name for file in SQL.glob("*/log.toml"))


def _find(name_or_folder: str) -> Path:
    if name_or_folder in shipped():
        return SQL / name_or_folder
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    raise BadInputError(
        f"there is no log {name_or_folder!r}: it is neither a folder nor one that ships ({', '.join(shipped())})"
    )
