"""The commands about stored results, and their flags. No logic."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.logs import RUNS
from bench.errors import BadInputError
from bench.output import STDOUT, write
from bench.report import export
from bench.results import store

_news = logging.getLogger("bench")


def export_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help=f"One of {', '.join(export.FORMATS)}")],
    result: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RESULT]", help="A result.json or its folder [default: the latest run]", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it here [default: print it]", show_default=False)
    ] = None,
) -> None:
    """Write a stored result in the format of another tool.

    Markdown is added to the page of a GitHub job, too, where there is one (GITHUB_STEP_SUMMARY).
    """
    if format_ not in export.FORMATS:
        raise BadInputError(f"there is no format {format_!r}: give one of {', '.join(export.FORMATS)}")
    text = export.FORMATS[format_](store.latest(RUNS) if result is None else store.load(result))
    if format_ == "markdown":
        to_summary(text)
    if output in {None, STDOUT}:
        print(text, end="")
    else:
        write(output, text)


def to_summary(markdown: str) -> None:
    """Add a text to the page of a GitHub job, where there is one. That it cannot be written changes no exit code."""
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        try:
            with Path(page).open("a", encoding="utf-8") as file:
                file.write(markdown)
        except OSError as error:
            _news.warning("GITHUB_STEP_SUMMARY %s cannot be written: %s", page, error.strerror)
