"""The commands about stored results. No logic."""

import logging
import os
from pathlib import Path

import click

from bench.cli.codes import CODES
from bench.cli.options import Command, completing
from bench.errors import UsageError
from bench.flags import RESULTS
from bench.output import STDOUT, write
from bench.report import export, markers, plot, published
from bench.results import store
from bench.text import plural

_news = logging.getLogger("bench")


@click.command("export", cls=Command, epilog=CODES, short_help="Write a stored result in the format of another tool.")
@click.argument("format_", metavar="FORMAT", shell_complete=completing(lambda: list(export.FORMATS)))
@click.argument("result", metavar="[RESULT]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write to this file [default: standard output]"
)
def export_(format_: str, result: Path | None, output: Path | None) -> None:
    """Write a stored result in the format of another tool.

    FORMAT is one of github-bigger, github-smaller, bencher, junit, go, csv, series, markdown. RESULT is a result.json
    or its directory [default: the latest run]. csv has a row per read; series is CSV too, with a row per value that
    was sampled over time: progress, lag, rows, sizes, WAL, wait events, memory.

    In a GitHub job, markdown is also appended to the job's summary (GITHUB_STEP_SUMMARY).
    """
    if format_ not in export.FORMATS:
        raise UsageError(f"FORMAT {format_!r}: unknown; give one of {', '.join(export.FORMATS)}")
    text = export.FORMATS[format_](store.latest(RESULTS) if result is None else store.load(result))
    if format_ == "markdown":
        to_summary(text)
    if output in {None, STDOUT}:
        print(text, end="")
    else:
        write(output, text)


def to_summary(markdown: str) -> None:
    """Append a text to the summary of a GitHub job, if there is one. A failure is a warning, not an error."""
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if page:
        try:
            with Path(page).open("a", encoding="utf-8") as file:
                file.write(markdown)
        except OSError as error:
            _news.warning("GITHUB_STEP_SUMMARY %s cannot be written: %s", page, error.strerror)


PUBLISHED = Path("results/published")
NO_RESULTS = "--from {0}: no results in this directory; store one with `bench run --output {0}`"


_source = click.option(
    "--from", "source", metavar="DIR", type=click.Path(path_type=Path), default=PUBLISHED,
    help=f"Directory of the stored results [default: {PUBLISHED}]",
)  # fmt: skip


@click.command("table", cls=Command, epilog=CODES, short_help="Rebuild the published tables from stored results.")
@click.argument("files", metavar="[FILE]...", type=click.Path(path_type=Path), nargs=-1)
@_source
def table_(files: tuple[Path, ...], source: Path) -> None:
    """Rebuild the published tables from stored results, between the markers in each FILE [default:
    results/README.md].
    """
    pages = files or (Path("results/README.md"),)
    for page in pages:
        markers.read(page)
    stored = published.load(source)
    sections = published.sections(stored)
    if not sections:
        raise UsageError(NO_RESULTS.format(source))
    for file in pages:
        changed = markers.rewrite(file, sections)
        print(f"{file}: {'rewritten' if changed else 'up to date'}; read {published.counts(stored)}")


@click.command("plot", cls=Command, epilog=CODES, short_help="Plot the append rate over the number of producers.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_source
def plot_(file: Path, source: Path) -> None:
    """Plot the append rate over the number of producers, from stored results, to FILE."""
    plot.refuse_other_formats(file)
    stored = store.load_all(source)
    if not stored:
        raise UsageError(NO_RESULTS.format(source))
    plot.saturation(stored, file)
    print(f"{file}: {plural(len(stored), 'run')}")
