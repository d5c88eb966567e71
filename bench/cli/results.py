"""The commands about stored results, and their flags. No logic."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from bench.cli.codes import CODES, RUNS
from bench.cli.options import Command
from bench.errors import UsageError
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

F = TypeVar("F", bound=Callable[..., Any])
_news = logging.getLogger("bench")


@click.command("export", cls=Command, epilog=CODES, short_help="Write a stored result in the format of another tool.")
@click.argument("format_", metavar="FORMAT")
@click.argument("result", metavar="[RESULT]", type=click.Path(path_type=Path), required=False)
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Write it here [default: print it]")
def export_(format_: str, result: Path | None, output: Path | None) -> None:
    """Write a stored result in the format of another tool. RESULT is a result.json or its folder, else the latest run.

    FORMAT is one of github-bigger, github-smaller, bencher, junit, go, csv, markdown.

    Markdown is added to the page of a GitHub job, too, where there is one (GITHUB_STEP_SUMMARY).
    """
    if format_ not in export.FORMATS:
        raise UsageError(f"there is no format {format_!r}: give one of {', '.join(export.FORMATS)}")
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


def _source(described: str) -> Callable[[F], F]:
    """The flag --from of a command about stored results."""
    return click.option(
        "--from", "source", metavar="DIR", type=click.Path(path_type=Path), default=PUBLISHED, show_default=True,
        help=described,
    )  # fmt: skip


@click.command("table", cls=Command, epilog=CODES, short_help="Rebuild the published tables from stored results.")
@click.argument("files", metavar="[FILE]...", type=click.Path(path_type=Path), nargs=-1)
@_source("Where the published results are")
def table_(files: tuple[Path, ...], source: Path) -> None:
    """Rebuild the published table from stored results, between its markers in results/README.md or in other pages."""
    stored = store.load_all(source)
    compared = store.load_records(log_comparison.Comparison, source, log_comparison.FILE)
    sections = {"table": runs_report.published(stored)} if stored else {}
    made = {"saturation": runs_report.saturation(stored), "nodes": runs_report.by_node(stored)}
    sections |= {name: text for name, text in made.items() if text}
    if compared:
        sections |= {
            "logs": "\n\n".join(logs_report.whole(each) for each in compared),
            "logs at a glance": logs_report.glance(compared),
        }
    measured = store.load_records(overhead.Limits, source, overhead.FILE)
    if measured:
        sections["limits"] = "\n\n".join(overhead_report.whole(each) for each in measured)
    calibrated = [each for each in store.load_records(ab.Ab, source, ab.FILE) if each.calibration]
    if calibrated and calibrated[-1].calibration:
        sections["calibration"] = gate_report.calibration(calibrated[-1], calibrated[-1].calibration)
    if not sections:
        raise UsageError(f"{source}: there are no results in it; `bench run --output {source}` puts one there")
    for file in files or [Path("results/README.md")]:
        changed = markers.rewrite(file, sections)
        found = f"{len(stored)} runs, {len(compared)} comparisons, {len(measured)} limits"
        print(f"{file}: {'rewritten' if changed else 'is up to date'}, {found}")


@click.command("plot", cls=Command, epilog=CODES, short_help="Draw how appending grows with the number of producers.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@_source("Where the results are")
def plot_(file: Path, source: Path) -> None:
    """Draw how the rate of appending grows with the number of producers, from stored results."""
    stored = store.load_all(source)
    if not stored:
        raise UsageError(f"{source}: there are no results in it; `bench run --output {source}` puts one there")
    plot.saturation(stored, file)
    print(f"{file}: {len(stored)} runs")
