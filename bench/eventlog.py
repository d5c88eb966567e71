"""A log: one design of an event log, loaded from `sql/NAME/` or from a user's own folder.

This module knows the folder's contract, but not where or how the log will be run.
"""

import re
import shutil
import tomllib
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from bench.errors import UsageError
from bench.job import Way
from bench.output import write
from bench.paths import SQL

_Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*$", max_length=63)]
_Type = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_ ]*(\[\])?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)


class Promises(_Part):
    """The properties that a reader can rely on. A run is judged by them."""

    tail: bool
    """A reader that reads while writers append is given every event; else only a reader that reads after them is."""
    order: Literal["etag", "producer", "none"]
    """The order of delivery: by etag, which is each producer's own order too; each producer's own; or any."""
    once: bool
    """No event is delivered twice."""
    gap_free: bool
    """Etags follow one another without gaps, also after a rollback."""
    replay: bool
    """It can be read again from the start, by any number of readers; else reading takes the events away."""

    one_etag: bool = True
    """An event has one etag: every reader is given the etag that the table holds."""
    returns_etags: bool = False
    """log_event returns each event with the etag that it has from then on, in columns `etag` and `payload`."""
    forward: bool = True
    """In a log whose order is by etag, the position of a reader or a named client never goes back."""
    one_order: bool = False
    """All readers are given the events in one order, whatever that is. Where the order is by etag, this follows from
    it."""
    whole_batches: bool = False
    """The events of a transaction are delivered in one piece, with no other event between them."""
    real_time: bool = False
    """An append that begins after another one was acknowledged gets higher etags. Where the order is by etag, readers
    are given its events later, too."""

    def words(self) -> str:
        """The promises in a few words, for people."""
        order = {"etag": "in etag order", "producer": "in each producer's order", "none": "in any order"}[self.order]
        return ", ".join(
            [
                f"complete when {'tailed' if self.tail else 'drained'}",
                order,
                "once" if self.once else "at least once",
                *(["no gaps"] if self.gap_free else []),
                *(["one order for all"] if self.one_order and self.order != "etag" else []),
                *(["whole batches"] if self.whole_batches else []),
                *(["etags in real-time order"] if self.real_time else []),
                *([] if self.one_etag else ["several etags per event"]),
                *([] if self.forward else ["positions may go back"]),
                *([] if self.replay else ["read once only"]),
            ]
        )


class Log(_Part):
    """A log: the keys of `log.toml`, and the SQL next to it."""

    title: Annotated[str, Field(min_length=1)]
    """Its name for people."""
    about: Annotated[str, Field(min_length=1)]
    """One paragraph about it."""
    table: _Identifier
    """The table with the events, and a column `payload`."""
    etag: _Identifier = "etag"
    """The column of the table that numbers the events."""
    cursor: dict[_Identifier, _Type]
    """A reader's position: the columns that `get_event` returns and takes back, with their types. Empty when the server
    keeps the position."""
    group: Literal["turns", "partitions", "competing", "no"] = "no"
    """How several sessions share one named client's events: they take turns, each has partitions, each takes events
    that no other has (and needs no name), or they cannot share."""
    append: Annotated[list[Way], Field(min_length=1)]
    """The ways to append that it supports."""
    postgres: Annotated[int, Field(ge=14)]
    """The oldest major version of PostgreSQL that it works with."""
    notify: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The channel on which the log's own SQL notifies readers when there are events to read."""
    settings: dict[str, str] = {}
    """The settings that it needs."""
    passed: str = ""
    """The condition for a row of the table that a reader with the cursor $1, $2, ... (the columns of `cursor`, in their
    order) has passed, so that the row may be deleted; empty when rows must stay."""
    promises: Promises

    name: str
    """The folder's name; among several logs, the shortest end of its path that distinguishes it."""
    schema_sql: str
    """The contents of schema.sql."""

    @property
    def sha256(self) -> str:
        """The hash of schema.sql: logs with different hashes are different logs."""
        return sha256(self.schema_sql.encode()).hexdigest()

    @field_validator("cursor")
    @classmethod
    def _refuse_taken_names(cls, value: dict[str, str]) -> dict[str, str]:
        for taken in ("ctime", "payload"):
            if taken in value:
                raise ValueError(f"{taken} cannot be a part of the cursor")
        return value

    @field_validator("passed")
    @classmethod
    def _refuse_unknown_parameters(cls, value: str, info: ValidationInfo) -> str:
        cursor = info.data.get("cursor", {})
        for name, place in re.findall(r"(\$([0-9]+))", value):
            if not 1 <= int(place) <= len(cursor):
                known = ", ".join(f"${number} ({column})" for number, column in enumerate(cursor, 1))
                allowed = f"its parameters are the columns of cursor: {known}" if known else "the cursor has no columns"
                raise ValueError(f"{name} in {value!r} is not a parameter; {allowed}")
        return value


def load(name_or_folder: str) -> Log:
    """Load a log by the name of one that ships, or from a folder of the user's own.

    A name with a path separator in it, or one that does not ship but is a folder, is taken for a folder.

    Raises:
        UsageError: there is no such log, or one of its files is missing or wrong; the message names the file.
    """
    folder = _find(name_or_folder)
    description = folder / "log.toml"
    schema = folder / "schema.sql"
    for file in (description, schema):
        if not file.is_file():
            raise UsageError(f"{file} is missing: a log is a folder with log.toml and schema.sql")
    keys = _read(description)
    try:
        schema_sql = schema.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{schema}: {error}") from error
    try:
        return Log.model_validate({**keys, "name": folder.resolve().name, "schema_sql": schema_sql})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{description}: {key}: {first['msg'].removeprefix('Value error, ')}") from error


def load_side_by_side(names_or_folders: Sequence[str]) -> dict[str, Log]:
    """Load logs that are shown together, each with its short name, by the text that it was given as. A log that is
    given twice is loaded once.

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
    """A short name for each of several logs: the shortest end of its path that is not the end of another's path, so
    that a log that ships keeps its name.
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
    """Write a log to start from: the bigserial log, with each key of its log.toml explained.

    Raises:
        UsageError: the folder exists already, or cannot be made.
        InfrastructureError: the files cannot be written.
    """
    lines = []
    fields = {**Log.model_fields, **Promises.model_fields}
    for line in (SQL / "bigserial" / "log.toml").read_text(encoding="utf-8").splitlines():
        field = fields.get(line.partition(" = ")[0])
        if field is not None and field.description:
            lines += [f"# {text}" for text in field.description.splitlines()]
        lines.append(line)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}; name another folder") from error
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
        f"there is no log {name_or_folder!r}: it is neither a folder nor one of the logs that ship "
        f"({', '.join(shipped())})"
    )
