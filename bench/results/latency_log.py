"""The latencies of a trial as a file: HdrHistogram's log of interval histograms, version 1.3, one line per second and
metric, with the metric as its tag. Gil Tene's HistogramLogProcessor and HdrHistogram's other tools read it.

The format is that of HdrHistogram's HistogramLogWriter: comments, a legend, and lines of tag, begin in seconds since
the base time, length in seconds, largest value, and the histogram in base64 of the compressed encoding V2.
"""

import binascii
import re
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

from bench.errors import UsageError
from bench.output import write
from bench.results.timeline import Timeline, histogram

_LINE = re.compile(r"Tag=([^,]+),([0-9.]+),([0-9.]+),([0-9.]+),(\S+)")
_BROKEN = (ValueError, binascii.Error, zlib.error, HdrCookieException, HdrLengthException)


class Measured(NamedTuple):
    """The latencies of one metric, and when their first second began: Unix time on the database's clock."""

    opened_at: float
    timeline: Timeline


def latency_file(folder: Path, trial: int) -> Path:
    """The file with the latencies of a trial of a result, by the result's folder and the trial's number, from 1."""
    return folder / ("latency.hlog" if trial == 1 else f"latency-{trial}.hlog")


def files(folder: Path) -> list[Path]:
    """The files with the latencies of a result's trials, in their order."""
    numbered = [file for file in folder.glob("latency-*.hlog") if file.stem.partition("-")[2].isdecimal()]
    first = [file for file in [latency_file(folder, 1)] if file.is_file()]
    return [*first, *sorted(numbered, key=lambda file: int(file.stem.partition("-")[2]))]


def store(measured: Mapping[str, Measured], file: Path) -> Path:
    """Store the latencies of a trial by metric; the file is there whole or not at all.

    Raises:
        InfrastructureError: it cannot be written.
    """
    return write(file, "\n".join([*_heading(measured), *_lines(measured)]) + "\n")


def _heading(measured: Mapping[str, Measured]) -> Iterator[str]:
    began_at = _began_at(measured)
    yield "#[Latencies of eventlog-bench: values in microseconds, Interval_Max in milliseconds]"
    yield "#[Histogram log format version 1.3]"
    yield f"#[StartTime: {began_at:.3f} (seconds since epoch), {datetime.fromtimestamp(began_at, UTC).isoformat(' ')}]"
    yield f"#[BaseTime: {began_at:.3f} (seconds since epoch)]"
    yield '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'


def _lines(measured: Mapping[str, Measured]) -> Iterator[str]:
    """The lines of all seconds in the order of their begins, which readers of a range of time rely on. A second without
    a latency has an empty histogram, so the first line of a tag is that of its first second.
    """
    began_at = _began_at(measured)
    order = sorted(
        (opened_at - began_at + second, tag, second)
        for tag, (opened_at, timeline) in measured.items()
        for second in range(timeline.seconds)
    )
    for begin, tag, second in order:
        interval = histogram(measured[tag].timeline.buckets(second))
        largest_ms = interval.get_max_value() / 1e3
        yield f"Tag={tag},{begin:.3f},1.000,{largest_ms:.3f},{interval.encode().decode()}"


def _began_at(measured: Mapping[str, Measured]) -> float:
    return min((each.opened_at for each in measured.values()), default=0.0)


def tags(file: Path) -> dict[str, int]:
    """The metrics in a file, each with its number of seconds.

    Raises:
        UsageError: the file cannot be read, or is not of this format.
    """
    seconds: dict[str, int] = {}
    for tag, _ in _read(file):
        seconds[tag] = seconds.get(tag, 0) + 1
    return seconds


def add_window(file: Path, metric: str, first: int, end: int | None, into: HdrHistogram) -> None:
    """Add the latencies of a metric to a histogram: those of the seconds from `first` to `end`, which is not included,
    counted from the opening of the metric's phase; None is the end of the phase.

    Raises:
        UsageError: the file cannot be read, or is not of this format.
    """
    for second, payload in enumerate(payload for tag, payload in _read(file) if tag == metric):
        if second >= first and (end is None or second < end):
            try:
                into.decode_and_add(payload)
            except _BROKEN as error:
                raise _invalid(file) from error


def _read(file: Path) -> Iterator[tuple[str, str]]:
    """Yield tag and encoded histogram of each line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _invalid(file) from error
    for line in lines:
        if line.startswith(("#", '"')):
            continue
        parts = _LINE.fullmatch(line)
        if not parts:
            raise _invalid(file)
        yield parts[1], parts[5]


def _invalid(file: Path) -> UsageError:
    return UsageError(f"{file} is not a valid log of histograms by `bench run`; run again to make one")
