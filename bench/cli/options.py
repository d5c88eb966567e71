"""Options of commands: generated from the fields of a model, and read back as the values of one."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bench import eventlog
from bench.errors import UsageError
from bench.flags import M, flag_name, flag_of, validated
from bench.places.dsn import without_password
from bench.spec import Spec
from bench.specfile import OutputOptions

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
            debug = _option(OutputOptions, "debug", "Options")
            debug.expose_value, debug.callback = False, _note_debug
            self.params.append(debug)

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
    return _with_options([_option(model, name, "Options")])


def _with_options(options: list[click.Option]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        # click lists the options of a function last to first.
        command.__dict__.setdefault("__click_params__", []).extend(reversed(options))
        return command

    return decorate


def _options(model: type[BaseModel]) -> Iterator[click.Option]:
    headings = {first: name for name, first in getattr(model, "groups", {}).items()}
    heading = "Options"
    for name in model.model_fields:
        heading = headings.get(name, heading)
        if not flag_of(model, name).in_file_only:
            yield _option(model, name, heading)


def _option(model: type[BaseModel], name: str, heading: str) -> click.Option:
    field, flag = model.model_fields[name], flag_of(model, name)
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
        shell_complete=completing(lambda: eventlog.shipped() if name in {"log", "logs"} else _choices(field)),
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
    kinds = (field.annotation, *get_args(field.annotation))
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())


Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem | str]]


def completing(values: Callable[[], Sequence[str]], *, files: bool = False) -> Completion:
    """Make the completion of a flag or an argument from its possible values; with `files`, it may be a path as well."""

    def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem | str]:
        matching: list[CompletionItem | str] = [value for value in values() if value.startswith(typed)]
        return [*matching, CompletionItem(typed, type="file")] if files else matching

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


def parsed(texts: Mapping[str, str]) -> tuple[dict[str, Any], Path | None]:
    """As `run_flags`, for texts that each hold flags of `bench run` or the name of a spec file, by the flag that each
    was given with.

    Raises:
        UsageError: a text is neither; the message names its flag.
    """
    arguments: list[str] = []
    for flag, text in texts.items():
        try:
            own = ["--spec", text] if _is_file(text) else shlex.split(text)
            _run_flags_of(own)
        except (ValueError, click.UsageError) as error:
            reason = error.format_message() if isinstance(error, click.UsageError) else error
            raise UsageError(f"{flag} {text!r}: {reason}") from error
        arguments += own
    return _run_flags_of(arguments)


def _run_flags_of(arguments: list[str]) -> tuple[dict[str, Any], Path | None]:
    with _spec_alone.make_context("run", [*arguments]) as context:  # click empties the list that it parses
        return run_flags(context.params)


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
