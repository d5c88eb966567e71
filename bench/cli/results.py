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
from bench.report import export, markers, percentiles, plot, published
from bench.results import latency_log, store
from bench.results.timeline import histogram
from bench.results.tracks import APPEND
from bench.text import plural
from bench.values import parse_whole_seconds

_news = logging.getLogger("bench")


@click.command("export", cls=Command, epilog=CODES, short_help="Write a stored result in the format of another tool.")
@click.argument("format_", metavar="FORMAT", shell_complete=completing(lambda: [*export.FORMATS, HDR]))
@click.argument("result", metavar="[RESULT]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write to this file [default: standard output]"
)
@click.option("--metric", metavar="NAME", help="hdr: latency, like append or read_1000_delay [default: append]")
@click.option("--from", "first", metavar="TIME", help="hdr: begin of the window in its phase, like 10s [default: 0s]")
@click.option("--to", "end", metavar="TIME", help="hdr: end of the window, like 1m [default: end of the phase]")
@click.option("--trial", metavar="N", type=click.IntRange(1), help="hdr: trial, from 1 [default: all together]")
def export_(
    format_: str,
    result: Path | None,
    output: Path | None,
    metric: str | None,
    first: str | None,
    end: str | None,
    trial: int | None,
) -> None:
    """Write a stored result in the format of another tool.

    FORMAT is one of github-bigger, github-smaller, bencher, junit, go, csv, series, markdown, hdr. RESULT is a
    result.json or its directory [default: the latest run]. csv has a row per read; series is CSV too, with a row per
    value that was sampled over time: progress, lag, rows, sizes, WAL, wait events, memory. hdr is the percentile
    distribution of a latency in milliseconds, which HdrHistogram's plotter reads.

    In a GitHub job, markdown is also appended to the job's summary (GITHUB_STEP_SUMMARY).
    """
    if format_ != HDR and format_ not in export.FORMATS:
        raise UsageError(f"FORMAT {format_!r}: unknown; give one of {', '.join([*export.FORMATS, HDR])}")
    file = store.latest_file(RESULTS) if result is None else result
    if format_ == HDR:
        text = _distribution(file if file.is_dir() else file.parent, metric or APPEND.key, first, end, trial)
    else:
        for flag, value in {"--metric": metric, "--from": first, "--to": end, "--trial": trial}.items():
            if value is not None:
                raise UsageError(f"{flag} chooses latencies: it is for FORMAT {HDR}, not for {format_}")
        text = export.FORMATS[format_](store.load(file))
    if format_ == "markdown":
        to_summary(text)
    if output in {None, STDOUT}:
        print(text, end="")
    else:
        write(output, text)


HDR = "hdr"


def _distribution(folder: Path, metric: str, first: str | None, end: str | None, trial: int | None) -> str:
    """The distribution of one latency of the run in this folder, over a window of its phase."""
    first_second, end_second = _seconds("--from", first) or 0, _seconds("--to", end)
    if end_second is not None and end_second <= first_second:
        raise UsageError(f"--from {first or '0s'} --to {end}: the window ends before it begins; give a later --to")
    files = [latency_log.latency_file(folder, trial)] if trial else latency_log.files(folder)
    if not files or not all(file.is_file() for file in files):
        of = f"trial {trial}" if trial else "the run"
        raise UsageError(f"there are no latencies of {of} in {folder}: `bench run` stores them next to result.json")
    collected = histogram([])
    for file in files:
        known = latency_log.tags(file)
        if metric not in known:
            raise UsageError(f"--metric {metric!r}: {file} has {', '.join(known) or 'none'}")
        latency_log.add_window(file, metric, first_second, end_second, collected)
    if not collected.get_total_count():
        longest = max(latency_log.tags(file)[metric] for file in files)
        raise UsageError(
            f"--from {first or '0s'} --to {end or 'the end'}: no value of {metric} is in this window; it has values "
            f"from 0s to {longest}s"
        )
    return percentiles.distribution(collected)


def _seconds(flag: str, time: str | None) -> int | None:
    try:
        seconds = parse_whole_seconds(time)
    except ValueError as error:
        raise UsageError(f"{flag} {time!r}: {error}") from error
    return int(seconds) if isinstance(seconds, float) else None


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
