"""Flags as they were given on a command line, in the words of a spec."""

import shlex
from pathlib import Path
from typing import Any, Protocol

import typer
from typer.core import TyperGroup

from bench.errors import BadInputError

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Of the parser that typer brings, which has no name of its own there."""
_EXAMPLES = {"--set": "shared_buffers=2GB", "--per-metric": "read_1000=3%"}


class Parsed(Protocol):
    """What a parser made of a command line."""

    params: dict[str, Any]

    def get_parameter_source(self, name: str) -> Any:
        """Where the value of a parameter came from."""


def given(context: Parsed) -> tuple[dict[str, Any], Path | None]:
    """The flags of `bench run` that were given, by the keys of a spec, and the file that --spec names.

    Raises:
        BadInputError: one cannot be read.
    """
    found = {name: value for name, value in context.params.items() if _is_given(context, name)}
    _refuse_undecodable(found)
    if "read_batch" in found:
        found["read_batch"] = numbers("--read-batch", found["read_batch"])
    settings = found.pop("settings", None)
    if settings:
        found["set"] = {name.lower(): value for name, value in named("--set", settings).items()}
    return found, found.pop("spec_file", None)


def parsed(context: typer.Context, flag: str, *texts: str) -> tuple[dict[str, Any], Path | None]:
    """The same for flags of `bench run` in texts, each of which may be the name of a spec's file instead.

    Raises:
        BadInputError: they are none.
    """
    try:
        words = [word for text in texts for word in (["--spec", text] if _is_file(text) else shlex.split(text))]
    except ValueError as error:
        raise BadInputError(f"{flag} {' '.join(texts)!r}: {error}") from error
    group = context.find_root().command
    command = group.get_command(context, "run") if isinstance(group, TyperGroup) else None
    if command is None:
        raise AssertionError("there is a command `run`")
    try:
        return given(command.make_context("run", words, parent=context.find_root()))
    except _UsageError as error:
        raise BadInputError(f"{flag} {' '.join(texts).strip()!r}: {error}") from error


def _is_file(text: str) -> bool:
    return text.endswith(".toml") and not text.startswith("-")


def numbers(flag: str, text: str) -> list[int]:
    """Read numbers with commas between them.

    Raises:
        BadInputError: they are none.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise BadInputError(f"{flag} {text!r}: give numbers with commas between them, like 1000,100,10") from error


def named(flag: str, texts: list[str]) -> dict[str, str]:
    """Read texts like NAME=VALUE.

    Raises:
        BadInputError: one is none.
    """
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not name or not equals:
            raise BadInputError(f"{flag} {text!r}: give name=value, like {_EXAMPLES[flag]}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _refuse_undecodable(found: dict[str, Any]) -> None:
    """Refuse what no result could hold: names with bytes that are no UTF-8."""
    for name, value in found.items():
        for text in map(str, value if isinstance(value, list) else [value]):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                flag = f"--{name.replace('_', '-')}"
                raise BadInputError(f"{flag} {text!a}: it has bytes that are no UTF-8") from error


def _is_given(context: Parsed, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in {"COMMANDLINE", "ENVIRONMENT"}
