"""Draws how the rate of appending grows with the number of producers."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from bench.errors import InfrastructureError, UsageError
from bench.output import write
from bench.report import runs as runs_report
from bench.results.models import Result

ENDINGS = (".svg", ".png", ".pdf")


def refuse_other_formats(file: Path) -> None:
    """Refuse a file in which no plot can be drawn.

    Raises:
        UsageError: the message names the endings that are allowed.
    """
    if file.suffix not in ENDINGS:
        raise UsageError(f"FILE {file}: cannot be plotted to; give a name that ends in {', '.join(ENDINGS)}")


def saturation(results: Sequence[Result], file: Path) -> None:
    """Draw events/s appended by number of producers, a line for each insert batch, into an SVG, PNG or PDF file.

    Raises:
        UsageError: the file is refused by `refuse_other_formats`, or no two results differ in their number of
            producers.
        InfrastructureError: matplotlib is missing, or the file cannot be written.
    """
    refuse_other_formats(file)
    try:
        import matplotlib as mpl  # noqa: PLC0415 - nothing else needs it
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise InfrastructureError("matplotlib is missing: pip install 'eventlog-bench[plot]'") from error
    # The same picture of the same results is the same file.
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none"})
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    points = runs_report.saturation_points(results)
    scales: set[int] = set()
    for place, batch in sorted({(point.place, point.insert_batch) for point in points}):
        line = [point for point in points if (point.place, point.insert_batch) == (place, batch)]
        if len(line) == 1:
            continue
        scales |= {point.scale for point in line}
        axes.plot(
            [point.scale for point in line],
            [point.appended_per_second for point in line],
            marker="o",
            label=f"{place}, {batch:,} event{'s' * (batch > 1)} per transaction",
        )
    if not scales:
        raise UsageError("all results have the same number of producers; plotting needs at least two")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted(scales), [str(scale) for scale in sorted(scales)])
    axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:,.0f}")
    axes.set_xlabel("producers")
    axes.set_ylabel("events/s appended (median)")
    axes.set_title("How many producers saturate this Postgres")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    drawn = BytesIO()
    figure.savefig(drawn, format=file.suffix[1:], metadata={"Date": None} if file.suffix == ".svg" else None)
    write(file, drawn.getvalue())
