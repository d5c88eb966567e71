"""Options of commands: generated from the fields of a model, and read back as the values of one."""

import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bench import eventlog
from bench.errors import UsageError
from bench.flags import Flag, M, flag_name, validated
from bench.places.dsn import without_password
from bench.spec import OutputOptions, Spec

F = TypeVar("F", bound=Callable[..., Any])


class GroupedOption(click.Option):
    """An option that the help lists under a heading."""

    def __init__(self, *names: str, heading: str, **attributes: Any) -> None:
        super().__init__(list(names), **attributes)
        self.heading = heading


class Command(click.Command):
    """A command that takes --debug and lists its options under headings in the help."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        if "debug" not in {parameter.name for parameter in self.params}:
            self.params.append(
                click.Option(
                    ["--debug"],
                    is_flag=True,
                    expose_value=False,
                    callback=_note_debug,
                    help="Show tracebacks of errors",
                )
            )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, the general ones last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and record[1]:  # arguments are explained above the options
                sections.setdefault(getattr(parameter, "heading", "Options"), []).append(record)
        sections["Options"] = sections.pop("Options", [])
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _note_debug(context: click.Context, _parameter: click.Parameter, given: bool) -> None:  # noqa: FBT001 - click's
    if given:
        context.find_root().obj = True


def of_model(*models: type[BaseModel]) -> Callable[[F], F]:
    """Give a command an option for each field of these models. The command gets the text that was typed, and None or
    an empty tuple for a flag that was not given: `made` leaves defaults and errors to the model.
    """
    return _with_options([option for model in models for option in _options(model)])


def of_field(model: type[BaseModel], name: str) -> Callable[[F], F]:
    """Give a command the option of one field of a model."""
    return _with_options([_option(name, model.model_fields[name], "Options")])


def _with_options(options: list[click.Option]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        # click lists the options of a function last to first.
        command.__dict__.setdefault("__click_params__", []).extend(reversed(options))
        return command

    return decorate


def _options(model: type[BaseModel]) -> Iterator[click.Option]:
    headings = {first: name for name, first in getattr(model, "groups", {}).items()}
    heading = "Options"
    for name, field in model.model_fields.items():
        heading = headings.get(name, heading)
        yield _option(name, field, heading)


def _option(name: str, field: FieldInfo, heading: str) -> click.Option:
    flag = next((each for each in field.metadata if isinstance(each, Flag)), Flag())
    names = [*filter(None, [flag_name(name), flag.alias]), name]
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
        callback=partial(_read, flag.example),
    )


def _read(example: str, _context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Read what was typed for one flag; NAME=VALUE pairs, which have an example, become a dict.

    Raises:
        UsageError: the text is not UTF-8, which no result could hold, or is not NAME=VALUE.
    """
    flag = parameter.opts[0]
    for text in value if isinstance(value, tuple) else [value or ""]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{flag} {text!a}: not UTF-8; give text in UTF-8") from error
    return _pairs(flag, value, example) if example and value else value


def _pairs(flag: str, texts: tuple[str, ...], example: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, _) in zip(texts, pairs, strict=True):
        if not name or not equals:
            raise UsageError(f"{flag} {text!r}: give name=value, like {example}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _shown(default: object) -> str:
    """A default as the help prints it; empty for None, switches, lists and empty text."""
    return str(default) if isinstance(default, str | int | float | Path) and not isinstance(default, bool) else ""


def _metavar(field: FieldInfo) -> str:
    choices = _choices(field)
    if choices:
        return "|".join(choices)
    return "NUMBER" if any(kind in {int, float} for kind in (field.annotation, *get_args(field.annotation))) else "TEXT"


def _choices(field: FieldInfo) -> tuple[str, ...]:
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _completions(
    name: str, field: FieldInfo
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem | str]]:
    """The values that a shell proposes for a flag."""

    def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem | str]:
        values = eventlog.shipped() if name in {"log", "logs"} else _choices(field)
        return [value for value in values if value.startswith(typed)]

    return complete


def made(model: type[M], flags: dict[str, Any]) -> M:
    """Make a model of those of a command's flags that are its fields.

    Raises:
        UsageError: a value cannot be used; the message names its flag.
    """
    return validated(model, {name: value for name, value in given(flags).items() if name in model.model_fields})


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were typed, of all that click passes to a command."""
    return {name: value for name, value in flags.items() if value is not None and value != ()}


def run_flags(flags: dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """The flags of `bench run` that were typed but --spec, and the file that --spec names."""
    asked = given(flags)
    return asked, asked.pop("spec_file", None)


def run_options(command: F) -> F:
    """Give a command the flags of `bench run`: --spec, and the fields of the spec and of the output options."""
    spec_file = click.option(
        "--spec",
        "spec_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="TOML file with the flags as keys; flags overrule it; its paths are relative to it",
    )
    return of_model(Spec)(spec_file(of_model(OutputOptions)(command)))


@click.command()
@run_options
def _spec_alone(**flags: Any) -> dict[str, Any]:
    """A command that is parsed but never run."""
    return flags


def parsed(flag: str, *texts: str) -> tuple[dict[str, Any], Path | None]:
    """As `run_flags`, for texts that each hold flags of `bench run` or the name of a spec file.

    Raises:
        UsageError: a text is neither; the message names `flag`.
    """
    try:
        arguments = [word for text in texts for word in (["--spec", text] if _is_file(text) else shlex.split(text))]
    except ValueError as error:
        raise UsageError(f"{flag} {' '.join(texts).strip()!r}: {error}") from error
    try:
        with _spec_alone.make_context("run", arguments) as context:
            return run_flags(context.params)
    except click.UsageError as error:
        raise UsageError(f"{flag} {' '.join(texts).strip()!r}: {error.format_message()}") from error


def _is_file(text: str) -> bool:
    return text.endswith(".toml") and not text.startswith("-")


def typed() -> str:
    """The command as it was typed, ready for a shell, without passwords and without --output."""
    shown: list[str] = []
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag not in {"--dsn", "--output"}:
            shown.append(argument)
            continue
        value = value if equals else next(arguments, "")
        if flag == "--dsn":
            shown += [flag, without_password(value)]
    return shlex.join(["python", "-m", "bench", *shown])
