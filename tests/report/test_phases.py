"""The table of the phases of an offered load."""

from functools import partial

import pytest

from bench.report import export, phases
from bench.report.screen import WIDEST
from bench.report.tabular import narrow
from bench.results.models import Latency, LoadPhase
from tests.conftest import golden
from tests.report.test_table import result

_LATENCY = Latency(p50=14_352.4, p90=5, p99=34_340.9, p99_9=20_000, max=40_000)
HELD = LoadPhase(
    name="held snapshot",
    begin_seconds=30,
    end_seconds=120,
    open_transaction="read-only",
    offered_per_second=4000,
    achieved_per_second=3999.6,
    delivered_per_second=2186,
    append_ms=_LATENCY,
    end_to_end_ms=_LATENCY,
    largest_unseen=140_244,
    largest_lag_seconds=34.6,
)


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
    heading, row, *_ = phases.table([HELD], partial(narrow, columns=WIDEST)).splitlines()
    assert heading.startswith("phase ")
    assert row.startswith("held snapshot ")
    assert row.endswith("34.6")


def named(name: str) -> LoadPhase:
    return LoadPhase(
        name=name,
        begin_seconds=0,
        end_seconds=30,
        offered_per_second=4000,
        achieved_per_second=4000,
        delivered_per_second=3998,
        append_ms=None,
        end_to_end_ms=None,
        largest_unseen=None,
        largest_lag_seconds=None,
    )


def cells(line: str) -> list[str]:
    """The cells of a row of a markdown table; a backslash escapes the character after it."""
    texts = [""]
    characters = iter(line.strip().removeprefix("|").removesuffix("|"))
    for character in characters:
        if character == "|":
            texts.append("")
        else:
            texts[-1] += next(characters) if character == "\\" else character
    return [text.strip() for text in texts]


@pytest.mark.parametrize("name", ["a|b", "|", "a\\|b", "a\\\\|b"])
def test_a_name_with_a_bar_stays_in_its_cell(name: str) -> None:
    heading, _, row, *_ = phases.table([named(name)]).splitlines()
    assert len(cells(row)) == len(cells(heading))
    assert cells(row)[0] == name


def test_an_export_in_markdown_has_a_row_for_each_phase_of_each_trial() -> None:
    of = result()
    trial = of.trials[0].model_copy(update={"load_phases": [named("clean"), named("held")]})
    one, two = (of.model_copy(update={"trials": [trial] * count}) for count in (1, 2))
    for text in (export.tables(one), export.markdown(one)):
        assert text.count("| clean ") == text.count("| held ") == 1
        assert "Trial 1 of" not in text
    text = export.tables(two)
    assert text.count("| clean ") == text.count("| held ") == 2
    assert text.index("Trial 1 of 2:") < text.index("| clean ") < text.index("Trial 2 of 2:")
