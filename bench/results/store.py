"""Results in files: written whole, and refused when they are not of the schema that they name."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from bench.errors import UsageError
from bench.output import write
from bench.results.base import StoredModel
from bench.results.models import SCHEMA_NAME, M, Result

READABLE = ("bench.result/1", SCHEMA_NAME)
"""The schemas of results that this version reads."""


def new_run_id() -> str:
    """A name for a run that sorts by time: it ends with the part of the second, in 65,536ths."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{(now.microsecond << 16) // 1_000_000:04x}"


def json_text(result: Result) -> str:
    """The text of result.json."""
    return result.model_dump_json(by_alias=True, indent=2) + "\n"


def store(result: Result, folder: Path) -> Path:
    """Store a result as folder/RUN_ID/result.json; it is there whole or not at all.

    Raises:
        InfrastructureError: it cannot be written.
    """
    return write(folder / result.run_id / "result.json", json_text(result))


def load(path: Path) -> Result:
    """Read a result.json, given itself or by the folder that it is in.

    Raises:
        UsageError: the file cannot be read, or is not a result of a schema that this version reads.
    """
    file = path / "result.json" if path.is_dir() else path
    try:
        return Result.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        named = _named_schema(file)
        if named and named not in READABLE:
            raise UsageError(f"{file} was made by a later bench: {named}, this one reads {SCHEMA_NAME}") from error
        raise UsageError(
            f"{file} is not a valid {named or SCHEMA_NAME} file{_first_problem(error)}; `bench run` makes one"
        ) from error


def _named_schema(file: Path) -> str:
    """The schema that a file names, if it names one of results; else nothing."""
    try:
        named = json.loads(file.read_text(encoding="utf-8"))["schema"]
    except (ValueError, KeyError, TypeError):
        return ""
    return named if isinstance(named, str) and re.fullmatch(r"bench\.result/[0-9]+", named) else ""


def _first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    """The first problem in a file, behind a colon; empty for a file that is not text."""
    if isinstance(error, UnicodeDecodeError):
        return ""
    problem = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, problem["loc"]))
    return f": {where}{': ' if where else ''}{problem['msg'][0].lower()}{problem['msg'][1:]}"


def latest(runs: Path) -> Result:
    """The newest result of a folder.

    Raises:
        UsageError: the folder has no result, or the newest one cannot be read.
    """
    return load(latest_file(runs))


def latest_file(runs: Path) -> Path:
    """The file of the newest result of a folder.

    Raises:
        UsageError: the folder has no result.
    """
    files = sorted(runs.glob("*/result.json"))
    if not files:
        raise UsageError(f"there is no result in {runs}; `bench run` puts one there, or give the path of one")
    return files[-1]


def load_all(folder: Path) -> list[Result]:
    """Read the results that are stored in a folder, oldest first.

    Raises:
        UsageError: one cannot be read.
    """
    return [load(file) for file in sorted(folder.glob("*/result.json"))]


def store_record(record: StoredModel, file: Path) -> Path:
    """Store a record of another kind; it is there whole or not at all.

    Raises:
        InfrastructureError: it cannot be written.
    """
    return write(file, record.model_dump_json(by_alias=True, indent=1) + "\n")


def load_records(model: type[M], folder: Path, name: str) -> list[M]:
    """Read the records of another kind that are stored in a folder as RUN_ID/NAME, oldest first.

    Raises:
        UsageError: a file is not a record of the model.
    """
    records = []
    for file in sorted(folder.glob(f"*/{name}")):
        try:
            records.append(model.model_validate_json(file.read_text(encoding="utf-8")))
        except (ValidationError, UnicodeDecodeError) as error:
            kind = Path(name).stem
            raise UsageError(f"{file} is not a valid bench.{kind}/1 file{_first_problem(error)}") from error
    return records
