"""Makes the spec of a run and its output options from flags and from a TOML file with the same keys."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bench.errors import UsageError
from bench.flags import RESULTS, Flag, ResultsFolder, Switch, flag_of, validated
from bench.output import STDOUT
from bench.spec import Spec
from bench.values import LONGEST_SECONDS, parse_time

_EXTENTS = {"limit", "insert_loops", "duration"}
"""The fields that say how much each producer appends."""
_PATHS = {"payload_file", "pg_bin", "output", "export_json", "export_markdown"}


class OutputOptions(BaseModel):
    """The flags of `bench run` that change only what is printed and stored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)
    groups: ClassVar = {"Output": "output"}
    """As in `Spec`."""

    output: ResultsFolder = RESULTS
    export_json: Annotated[Path | None, Flag("FILE")] = None
    """Write result.json here too; - is standard output."""
    export_markdown: Annotated[Path | None, Flag("FILE")] = None
    """Write the table here too; - is standard output."""
    percentiles: Switch = False
    """Print p50, p90, p99, p99.9, p99.99 and the largest value of each latency."""
    time_limit: Annotated[
        float | None,
        Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False),
        BeforeValidator(parse_time),
        Flag("TIME"),
    ] = None
    """End the run after this time, like 90s, 10m or 2h."""
    quiet: Switch = False
    """Print only the table."""
    debug: Switch = False
    """Show tracebacks of errors."""


def make(flags: dict[str, Any], file: Path | None) -> Spec:
    """Make a spec from flags and, for fields without a flag, from a TOML file if there is one.

    `limit`, `insert_loops` and `duration` exclude each other: a flag for one also overrules the others in the file.

    Raises:
        UsageError: a value cannot be used; the message names its flag, or the file and the key.
    """
    values = _read(file)
    if not flags.keys().isdisjoint(_EXTENTS):
        for name in _EXTENTS - flags.keys():
            values.pop(name, None)
    of_file = values.keys() - flags.keys() - OutputOptions.model_fields.keys()
    values.update(flags)
    asked = {key: value for key, value in values.items() if key not in OutputOptions.model_fields}
    return validated(Spec, asked, file, of_file)


def make_output_options(flags: dict[str, Any], file: Path | None) -> OutputOptions:
    """Make the output options from flags and a TOML file, as `make` does.

    Raises:
        UsageError: a value cannot be used; the message names its flag, or the file and the key.
    """
    values = _read(file)
    of_file = OutputOptions.model_fields.keys() & (values.keys() - flags.keys())
    values.update(flags)
    asked = {key: value for key, value in values.items() if key in OutputOptions.model_fields}
    return validated(OutputOptions, asked, file, of_file)


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--spec {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--spec {file}: {error}") from error
    aliases = {flag_of(Spec, name).alias.removeprefix("--"): name for name in Spec.model_fields}
    named: dict[str, Any] = {}
    for key, value in values.items():
        name = aliases.get(key, key).replace("-", "_")
        if name in named:
            raise UsageError(f"--spec {file}: {key}: another key sets {name} too; drop one")
        named[name] = _relative_to(file, name, value)
    return named


def _relative_to(file: Path, key: str, value: object) -> object:
    """A value of a spec file: paths in it are relative to its folder. A log's name is no path."""
    is_path = (key in _PATHS and value != str(STDOUT)) or (key == "log" and "/" in str(value))
    return str(file.parent / value) if is_path and isinstance(value, str) else value
