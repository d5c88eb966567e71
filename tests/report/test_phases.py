"""The table of the phases of an offered load."""

from functools import partial

from bench.report import phases
from bench.report.screen import WIDEST
from bench.report.tabular import narrow
from bench.results.models import Latency, LoadPhase
from tests.conftest import golden


def test_a_phase_is_a_row_and_what_is_unknown_is_empty() -> None:
    latency = Latency(p50=1.23, p90=5, p99=12_345.6, p99_9=20_000, max=30_000)
    clean = LoadPhase(
        name="clean",
        begin_seconds=0,
        end_seconds=30,
        offered_per_second=4000,
        achieved_per_second=3999.6,
        delivered_per_second=3998,
        append_ms=latency,
        end_to_end_ms=latency,
        largest_unseen=1234,
        largest_lag_seconds=0.04,
    )
    unknown = {"achieved_per_second": None, "delivered_per_second": None, "append_ms": None, "end_to_end_ms": None}
    off = {"name": "held", "begin_seconds": 30, "end_seconds": 120.5, "open_transaction": "read-only", "read": False}
    golden("phases.md", phases.table([clean, clean.model_copy(update={**off, **unknown, "largest_lag_seconds": None})]))


def test_a_phase_is_a_row_on_a_terminal_too() -> None:
    latency = Latency(p50=14_352.4, p90=5, p99=34_340.9, p99_9=20_000, max=40_000)
    phase = LoadPhase(
        name="held snapshot",
        begin_seconds=30,
        end_seconds=120,
        open_transaction="read-only",
        offered_per_second=4000,
        achieved_per_second=3999.6,
        delivered_per_second=2186,
        append_ms=latency,
        end_to_end_ms=latency,
        largest_unseen=140_244,
        largest_lag_seconds=34.6,
    )
    heading, row, *_ = phases.table([phase], partial(narrow, columns=WIDEST)).splitlines()
    assert heading.startswith("phase ")
    assert row.startswith("held snapshot ")
    assert row.endswith("34.6")
