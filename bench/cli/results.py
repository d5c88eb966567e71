"""The commands about stored results, and their flags. No logic."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.codes import RUNS
from bench.errors import BadInputError
from bench.gate import ab
from bench.logs import compare as log_comparison
from bench.output import STDOUT, write
from bench.overhead import measure as overhead
from bench.report import export, markers, plot
from bench.report import gate as gate_report
from bench.report import logs as logs_report
from bench.report import overhead as overhead_report
from bench.report import runs as runs_report
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


PUBLISHED = Path("results/published")


def table_(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="The pages to rewrite", show_default=False),
    ] = None,
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="Where the published results are")] = PUBLISHED,
) -> None:
    """Rebuild the published table from stored results, between its markers in results/README.md or in other pages."""
    stored = store.load_all(source)
    compared = store.load_kept(log_comparison.Comparison, source, log_comparison.FILE)
    sections = {"table": runs_report.published(stored)} if stored else {}
    made = {"saturation": runs_report.saturation(stored), "nodes": runs_report.by_node(stored)}
    sections |= {name: text for name, text in made.items() if text}
    if compared:
        sections |= {
            "logs": "\n\n".join(logs_report.whole(each) for each in compared),
            "logs short": logs_report.short(compared),
        }
    measured = store.load_kept(overhead.Limits, source, overhead.FILE)
    if measured:
        sections["limits"] = "\n\n".join(overhead_report.whole(each) for each in measured)
    calibrated = [each for each in store.load_kept(ab.Ab, source, ab.FILE) if each.calibration]
    if calibrated and calibrated[-1].calibration:
        sections["calibration"] = gate_report.calibration(calibrated[-1], calibrated[-1].calibration)
    if not sections:
        raise BadInputError(f"{source}: there are no results in it; `bench run --output {source}` puts one there")
    for file in files or [Path("results/README.md")]:
        changed = markers.rewrite(file, sections)
        found = f"{len(stored)} runs, {len(compared)} comparisons, {len(measured)} limits"
        print(f"{file}: {'rewritten' if changed else 'is up to date'}, {found}")


def plot_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The picture to write, .svg or .png")],
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="Where the results are")] = PUBLISHED,
) -> None:
    """Draw how the rate of appending grows with the number of producers, from stored results."""
    stored = store.load_all(source)
    if not stored:
        raise BadInputError(f"{source}: there are no results in it; `bench run --output {source}` puts one there")
    plot.saturation(stored, file)
    print(f"{file}: {len(stored)} runs")
