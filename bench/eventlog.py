"""A log: one design of an event log, loaded from `sql/NAME/` or from a user's own folder.

Knows the folder's contract. Does not know where or how the log will be run.
"""

import shutil
import tomllib
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bench.errors import UsageError
from bench.output import write
from bench.paths import SQL
from bench.records import Way

_Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=63)]
_Type = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_ ]*(\[\])?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Promises(_Part):
    """What a reader can rely on. A run is judged by it."""

    tail: bool
    """A reader that reads while writers append is given every event; else only one that reads after them."""
    order: Literal["etag", "producer", "none"]
    """The order of delivery: by etag, which is each producer's own order too; each producer's own; or any."""
    once: bool
    """No event is delivered twice."""
    gap_free: bool
    """Etags follow one another without gaps, also after a rollback."""
    replay: bool
    """It can be read again from the start, by any number of readers; else reading takes the events away."""

    def words(self) -> str:
        """The promises for people, in a few words."""
        order = {"etag": "in etag order", "producer": "in each producer's order", "none": "in any order"}[self.order]
        return ", ".join(
            [
                f"complete when {'tailed' if self.tail else 'drained'}",
                order,
                "once" if self.once else "at least once",
                *(["no gaps"] if self.gap_free else []),
                *([] if self.replay else ["read once only"]),
            ]
        )


class Log(_Part):
    """What `log.toml` says, and the SQL beside it."""

    title: Annotated[str, Field(min_length=1)]
    """What people call it."""
    about: Annotated[str, Field(min_length=1)]
    """One paragraph."""
    table: _Identifier
    """The table with the events, and a column `payload`."""
    etag: _Identifier = "etag"
    """The column of the table that numbers the events."""
    cursor: dict[_Identifier, _Type]
    """What a reader remembers: columns that `get_event` returns and takes back, with their types. Empty when the server
    remembers it."""
    group: Literal["turns", "partitions", "competing", "no"] = "no"
    """How several sessions share one named client's events: they take turns, each has partitions, each takes what no
    other has (and needs no name), or they cannot."""
    append: Annotated[list[Way], Field(min_length=1)]
    """The ways to append that it supports."""
    postgres: Annotated[int, Field(ge=14)]
    """The oldest major version that it needs."""
    settings: dict[str, str] = {}
    """The settings that it needs."""
    promises: Promises

    name: str
    """The folder's name; beside other logs the end of its path that tells it from them."""
    schema_sql: str
    """The contents of schema.sql."""

    @property
    def sha256(self) -> str:
        """A hash of schema.sql: another one is another log."""
        return sha256(self.schema_sql.encode()).hexdigest()

    @field_validator("cursor")
    @classmethod
    def _words_are_taken(cls, value: dict[str, str]) -> dict[str, str]:
        for taken in ("ctime", "payload"):
            if taken in value:
                raise ValueError(f"{taken} cannot be a part of the cursor")
        return value


def load(name_or_folder: str) -> Log:
    """Load a log by the name of one that ships, or from a folder of the user's own.

    A name with a path separator in it, or one that does not ship but is a folder, is taken for a folder.

    Raises:
        UsageError: there is no such log, or a file of it is missing or wrong; the message names the file.
    """
    folder = _find(name_or_folder)
    description = folder / "log.toml"
    schema = folder / "schema.sql"
    for file in (description, schema):
        if not file.is_file():
            raise UsageError(f"{file} is missing: a log is a folder with log.toml and schema.sql")
    written = _read(description)
    try:
        schema_sql = schema.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{schema}: {error}") from error
    try:
        return Log.model_validate({**written, "name": folder.resolve().name, "schema_sql": schema_sql})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{description}: {key}: {first['msg'].removeprefix('Value error, ')}") from error


def load_side_by_side(names_or_folders: Sequence[str]) -> dict[str, Log]:
    """Load logs to be told apart: each as it was given, and called by its short name. Who is given twice is there once.

    Raises:
        UsageError: as `load` does.
    """
    given: dict[str, str] = {}
    for each in names_or_folders:
        folder = _find(each).resolve()
        given.setdefault(folder.name if folder.parent == SQL.resolve() else str(folder), each)
    names = short_names(given)
    return {each: load(each).model_copy(update={"name": names[known]}) for known, each in given.items()}


def short_names(names_or_folders: Iterable[str]) -> dict[str, str]:
    """What to call each of some logs beside the others: the shortest end of its path that is not the end of another's,
    so that one that ships keeps its name.
    """
    parts = {each: PurePath(each).parts for each in names_or_folders}
    return {each: _shortest_end(own, {*parts.values()} - {own}) or each for each, own in parts.items()}


def _shortest_end(own: tuple[str, ...], others: Collection[tuple[str, ...]]) -> str:
    for length in range(1, len(own) + 1):
        if all(other[-length:] != own[-length:] for other in others):
            return str(PurePath(*own[-length:]))
    return ""


def shipped() -> list[str]:
    """The names of the logs that ship, sorted."""
    return sorted(file.parent.name for file in SQL.glob("*/log.toml"))


def write_new(folder: Path) -> None:
    """Write a log to start from: the bigserial log, each key of its log.toml explained.

    Raises:
        UsageError: the folder is there already, or cannot be made.
        InfrastructureError: the files cannot be written.
    """
    lines = []
    fields = {**Log.model_fields, **Promises.model_fields}
    for line in (SQL / "bigserial" / "log.toml").read_text(encoding="utf-8").splitlines():
        field = fields.get(line.partition(" = ")[0])
        if field is not None and field.description:
            lines += [f"# {words}" for words in field.description.splitlines()]
        lines.append(line)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from error
    try:
        write(folder / "log.toml", "\n".join(lines) + "\n")
        write(folder / "schema.sql", (SQL / "bigserial" / "schema.sql").read_bytes())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {error}") from error


def _find(name_or_folder: str) -> Path:
    if name_or_folder in shipped():
        return SQL / name_or_folder
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    raise UsageError(
        f"there is no log {name_or_folder!r}: it is neither a folder nor one that ships ({', '.join(shipped())})"
    )
