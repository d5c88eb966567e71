"""Puts into words what grew during a phase: dead rows, the log's tables, the lag of readers."""

from collections.abc import Mapping, Sequence

from bench.results.series import Series, Unseen

FEWEST_DEAD_ROWS = 1000
"""Fewer dead rows than this are not worth a word, and neither are dead rows that are few among the live ones."""
SMALLEST_DEAD_SHARE = 0.05
SHORTEST_LAG_SECONDS = 1.0
MOST_GROWTH = 2.0
"""A lag has grown when it is more than this many times as large in the last third of a phase as in the first third."""


def growth(series: Series | None, unseen: Mapping[str, Sequence[Unseen]]) -> str:
    """A clause about what grew; empty when nothing did that a log should keep small. `unseen` has the samples of the
    readers that tailed in this phase, by name.

    The tables are named with their dead rows: of a log without these, they grow by the events that are appended.
    """
    clauses = []
    if series is not None:
        dead, live = _ends(series, "dead_rows"), _ends(series, "live_rows")
        if dead and live and dead[1] - dead[0] >= max(FEWEST_DEAD_ROWS, SMALLEST_DEAD_SHARE * live[1]):
            clauses.append(f"dead rows from {dead[0]:,} to {dead[1]:,}")
            tables, indexes = _ends(series, "table_bytes"), _ends(series, "index_bytes")
            if tables and indexes:
                before, after = (_megabytes(table + index) for table, index in zip(tables, indexes, strict=True))
                clauses.append(f"tables and indexes from {before} to {after}")
    for reader, samples in unseen.items():
        first, last = _lags(samples)
        if last >= SHORTEST_LAG_SECONDS and last > MOST_GROWTH * first:
            whose = f" of {reader}" if len(unseen) > 1 else ""
            clauses.append(f"lag{whose} from {first:.1f} to {last:.1f} s")
    return f"grew: {'; '.join(clauses)}" if clauses else ""


def _ends(series: Series, name: str) -> tuple[int, int] | None:
    """The first and the last known value of a figure; None when it is unknown."""
    figure = series.figures.get(name)
    values = [int(value) for value in figure.values if value is not None] if figure else []
    return (values[0], values[-1]) if values else None


def _lags(samples: Sequence[Unseen]) -> tuple[float, float]:
    """The largest lag in the first third of a phase and in the last third."""
    third = max(1, len(samples) // 3)
    first, last = (
        max((each.lag_seconds for each in part), default=0.0) for part in (samples[:third], samples[-third:])
    )
    return first, last


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
