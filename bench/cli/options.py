"""Flags: made of the fields of a model, and read back in the words of a spec."""

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bench import eventlog
from bench.cli.codes import RUNS
from bench.errors import UsageError
from bench.places.dsn import without_password
from bench.spec import Flag, OutputOptions, Spec

_EXAMPLES = {"--set": "shared_buffers=2GB", "--per-metric": "read_1000=3%"}
F = TypeVar("F", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option under a heading of its own in the help."""

    def __init__(self, *names: str, heading: str, **attributes: Any) -> None:
        super().__init__(list(names), **attributes)
        self.heading = heading


class Command(click.Command):
    """A command whose help has its options under their headings, and which takes --debug."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        if "debug" not in {parameter.name for parameter in self.params}:
            self.params.append(
                click.Option(
                    ["--debug"],
                    is_flag=True,
                    expose_value=False,
                    callback=_note_debug,
                    help="Show tracebacks of errors.",
                )
            )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                sections.setdefault(getattr(parameter, "heading", "Options"), []).append(record)
        sections["Options"] = sections.pop("Options", [])  # the general ones stand last
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _note_debug(context: click.Context, _parameter: click.Parameter, given: bool) -> None:  # noqa: FBT001 - click's
    if given:
        context.find_root().obj = True


def of_model(*models: type[BaseModel], heading: str = "Options") -> Callable[[F], F]:
    """Give a command an option for each field of these models. What was typed is passed on as text, and None or an
    empty tuple what was not: the model says what is in force then, and what is wrong.
    """

    def decorate(command: F) -> F:
        for option in reversed([option for model in models for option in _options(model, heading)]):
            command.__dict__.setdefault("__click_params__", []).append(option)
        return command

    return decorate


def _options(model: type[BaseModel], heading: str) -> Iterator[click.Option]:
    headings = {first: name for name, first in getattr(model, "groups", {}).items()}
    for name, field in model.model_fields.items():
        heading = headings.get(name, heading)
        yield _option(name, field, heading)


def _option(name: str, field: FieldInfo, heading: str) -> click.Option:
    flag = next((each for each in field.metadata if isinstance(each, Flag)), Flag())
    names = [f"--{name.replace('_', '-')}", *filter(None, [flag.alias]), name]
    described = (field.description or "").removesuffix(".")
    default = flag.default or _shown(field.default)
    described += " (may be repeated)" if flag.repeated else ""
    described += f" [default: {default}]" if default else ""
    if field.annotation is bool:
        return GroupedOption(*names, heading=heading, is_flag=True, default=None, help=described)
    return GroupedOption(
        *names,
        heading=heading,
        type=str,
        multiple=flag.repeated,
        default=None,
        metavar=flag.metavar or _metavar(field),
        help=described,
        envvar=flag.variable or None,
        show_envvar=bool(flag.variable),
        shell_complete=_completions(name, field),
    )


def _shown(default: object) -> str:
    """A default for people; empty when there is nothing to say of it."""
    return str(default) if isinstance(default, str | int | float | Path) and not isinstance(default, bool) else ""


def _metavar(field: FieldInfo) -> str:
    words = _choices(field)
    if words:
        return "|".join(words)
    return "NUMBER" if any(kind in {int, float} for kind in (field.annotation, *get_args(field.annotation))) else "TEXT"


def _choices(field: FieldInfo) -> tuple[str, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _completions(
    name: str, field: FieldInfo
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem | str]]:
    """What a shell proposes for a flag that is half typed."""

    def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem | str]:
        known = eventlog.shipped() if name == "log" else _choices(field)
        return [word for word in known if word.startswith(typed)]

    return complete


def given(flags: dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """Of all flags of `bench run` those that were given, by the keys of a spec, and the file that --spec names.

    Raises:
        UsageError: one cannot be read.
    """
    found = {name: value for name, value in flags.items() if value not in {None, ()}}
    _refuse_undecodable(found)
    if "set" in found:
        found["set"] = {name.lower(): value for name, value in named("--set", found["set"]).items()}
    file = found.pop("spec_file", None)
    return found, None if file is None else Path(file)


def run_options(command: F) -> F:
    """The flags of `bench run`: those of a spec, of what comes out, and --spec."""
    spec_file = click.option(
        "--spec", "spec_file", metavar="FILE", help="A TOML file with the same keys; its paths are relative to it"
    )
    return of_model(Spec)(spec_file(of_model(OutputOptions)(command)))


@click.command()
@run_options
def _spec_alone(**flags: Any) -> dict[str, Any]:
    """The flags of `bench run`, for nothing but to be read."""
    return flags


def parsed(flag: str, *texts: str) -> tuple[dict[str, Any], Path | None]:
    """The same for flags of `bench run` in texts, each of which may be the name of a spec's file instead.

    Raises:
        UsageError: they are none.
    """
    try:
        words = [word for text in texts for word in (["--spec", text] if _is_file(text) else shlex.split(text))]
    except ValueError as error:
        raise UsageError(f"{flag} {' '.join(texts)!r}: {error}") from error
    try:
        with _spec_alone.make_context("run", words) as context:
            return given(context.params)
    except click.UsageError as error:
        raise UsageError(f"{flag} {' '.join(texts).strip()!r}: {error.format_message()}") from error


def _is_file(text: str) -> bool:
    return text.endswith(".toml") and not text.startswith("-")


def of_field(model: type[BaseModel], name: str) -> Callable[[F], F]:
    """Give a command the option of one field of a model, as `of_model` does for all."""

    def decorate(command: F) -> F:
        command.__dict__.setdefault("__click_params__", []).append(_option(name, model.model_fields[name], "Options"))
        return command

    return decorate


def place_option(default: str = "auto") -> Callable[[F], F]:
    """The flag --place of a command for one machine."""
    return click.option("--place", metavar="auto|local|docker", default=default, show_default=True, help="Where to run")


def output_option(described: str) -> Callable[[F], F]:
    """The flag --output of a command that keeps a record."""
    return click.option(
        "--output", metavar="DIR", type=click.Path(path_type=Path), default=RUNS, show_default=True, help=described
    )


def typed() -> str:
    """The command as it was typed, to be pasted into a shell, but for a password and where its record is kept."""
    words: list[str] = []
    given_words = iter(sys.argv[1:])
    for word in given_words:
        flag, equals, value = word.partition("=")
        if flag not in {"--dsn", "--output"}:
            words.append(word)
            continue
        value = value if equals else next(given_words, "")
        if flag == "--dsn":
            words += [flag, without_password(value)]
    return shlex.join(["python", "-m", "bench", *words])


def named(flag: str, texts: tuple[str, ...]) -> dict[str, str]:
    """Read texts like NAME=VALUE.

    Raises:
        UsageError: one is none.
    """
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not name or not equals:
            raise UsageError(f"{flag} {text!r}: give name=value, like {_EXAMPLES[flag]}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _refuse_undecodable(found: dict[str, Any]) -> None:
    """Refuse what no result could hold: names with bytes that are no UTF-8."""
    for name, value in found.items():
        for text in map(str, value if isinstance(value, tuple) else [value]):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag} {text!a}: it has bytes that are no UTF-8") from error
