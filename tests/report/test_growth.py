"""What grew in a phase, in words and as a long table."""

import csv
import io

from bench.report.export import FORMATS
from bench.report.growth import growth
from bench.results.costs import Observed
from bench.results.models import Result
from bench.results.series import UNITS, Figure, Sample, Series, Unseen, WaitSeries
from tests.report.test_table import result


def series(**values: list[int | float | None]) -> Series:
    figures = {name: Figure(unit=UNITS[name], values=each) for name, each in values.items()}
    waits = [WaitSeries(backend="worker", event="IO:WalSync", counts=[0, 3, 1])]
    return Series(interval_seconds=1, seconds=[0.0, 1.0, 2.0], figures=figures, waits=waits)


def lagging(*lags: float) -> list[Unseen]:
    return [Unseen(seconds=number, events=1, lag_seconds=lag) for number, lag in enumerate(lags)]


def test_dead_rows_are_named_with_the_space_that_they_take() -> None:
    grown = series(
        dead_rows=[0, None, 512_000], live_rows=[0, 10, 1000], table_bytes=[0, 5, 10**8], index_bytes=[0, 5, 10**7]
    )
    words = growth(grown, {})
    assert words == "grew: dead rows from 0 to 512,000; tables and indexes from 0.0 MB to 110.0 MB"


def test_what_does_not_grow_is_not_named() -> None:
    few = series(dead_rows=[0, 0, 1200], live_rows=[0, 0, 10**7], table_bytes=[0, 0, 10**9], index_bytes=[0, 0, 10**8])
    assert growth(few, {"consumer-1000": lagging(0.1, 0.2, 0.5)}) == ""
    assert growth(few, {"consumer-1000": lagging(3, 4, 5)}) == ""
    assert growth(None, {}) == ""


def test_a_lag_that_grows_is_named_with_its_reader() -> None:
    behind = {"consumer-1000-0": lagging(0.1, 0.2, 40), "consumer-1000-1": lagging(0.1, 0.1, 0.1)}
    assert growth(None, behind) == "grew: lag of consumer-1000-0 from 0.1 to 40.0 s"


def with_series() -> Result:
    one = result()
    (trial,) = one.trials
    observed = Observed(
        seconds=2,
        samples=8,
        bottleneck=None,
        waits=[],
        counters={},
        postgres_cpu_seconds=None,
        postgres_memory_bytes=None,
        workers_cpu_seconds=1,
        worker_memory_bytes=1,
        series=series(dead_rows=[0, None, 4]),
    )
    phases = {"append + read 1000": observed}
    trial = trial.model_copy(
        update={
            "phase_seconds": {"start": 1.0, "append + read 1000": 2.0},
            "telemetry": trial.telemetry.model_copy(update={"phases": phases}),
            "series": {"append": [Sample(seconds=0.5, events=10)], "read 1000": [Sample(seconds=0.5, events=9)]},
            "unseen": {"consumer-1000": lagging(0.25)},
        }
    )
    return one.model_copy(update={"trials": [trial, trial]})


def test_the_long_table_has_every_value_with_its_unit() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["series"](with_series()))))
    of_first = [tuple(row.values())[1:] for row in rows if row["trial"] == "1"]
    phase = "append + read 1000"
    assert of_first == [
        (phase, "0.5", "progress", "append", "events", "10"),
        (phase, "0.5", "progress", "read 1000", "events", "9"),
        (phase, "0.0", "unseen", "consumer-1000", "events", "1"),
        (phase, "0.0", "lag", "consumer-1000", "s", "0.25"),
        (phase, "0.0", "dead_rows", "", "rows", "0"),
        (phase, "2.0", "dead_rows", "", "rows", "4"),
        (phase, "0.0", "waits", "worker: IO:WalSync", "samples", "0"),
        (phase, "1.0", "waits", "worker: IO:WalSync", "samples", "3"),
        (phase, "2.0", "waits", "worker: IO:WalSync", "samples", "1"),
    ]
    assert len(rows) == 2 * len(of_first)
