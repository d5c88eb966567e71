"""Phases of an offered load: what a file may say, and what schedule they make."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import phases
from bench.errors import UsageError
from bench.job import Load
from bench.schedule import due_seconds
from bench.spec import Spec
from bench.specfile import make
from tests.conftest import REPOSITORY

ONE = "[[phase]]\nrate = 100\nduration = '5s'\n"
TAIL = "mode = 'tail'\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[phase]]\nrate = 100\n", "phase 1 duration: give this key too"),
        (ONE + "[[phase]]\nrates = 100\nrate = 1\nduration = 1", "phase 2 rates: unknown key"),
        ("[[phase]]\nrate = 100\nduration = 0", "phase 1 duration 0: must be more than 0"),
        ("[[phase]]\nrate = 100\nduration = '0s'", "phase 1 duration"),
        ("[[phase]]\nrate = 100\nduration = 'soon'", "phase 1 duration 'soon': give a time like 90s"),
        (ONE + "open_transaction = 'readonly'", "phase 1 open-transaction 'readonly': give one of 'in this log'"),
        (ONE + "read = 1", "phase 1 read 1: give true or false"),
        (ONE + "name = ''", "phase 1 name ''"),
        (ONE + 'name = "a\\tb"', "phase 1 name"),
        ("[[phase]]\nrate = -1\nduration = 1", "phase 1 rate -1"),
        (TAIL + ONE + "[[phase]]\nrate = 0\nduration = 1", "phase 2 rate: the rate of the last phase must be above 0"),
        ("[phase]\nrate = 1\nduration = 1", "write each phase as a table \\[\\[phase\\]\\]"),
        (ONE * 101, "phase .*: give at most 100"),
        (ONE, "--mode tail"),
        (
            TAIL + ONE + "name = 'a'\n" + ONE + ONE + "name = 'a'",
            "phase 3 name 'a': phase 1 has this name too",
        ),
        (TAIL + ONE + "name = 'phase 2'\n" + ONE, "phase 2 name 'phase 2': phase 1 has this name too"),
        (TAIL + "rate = 5000\n" + ONE, r"--rate and \[\[phase\]\]"),
        (TAIL + "duration = '5s'\n" + ONE, r"--duration and \[\[phase\]\]"),
        (TAIL + "limit = 5\n" + ONE, r"--limit and \[\[phase\]\]"),
        (TAIL + "insert-loops = 5\n" + ONE, r"--insert-loops and \[\[phase\]\]"),
        (TAIL + "pause = '1ms'\n" + ONE, "--pause"),
    ],
)
def test_a_bad_file_is_refused_by_its_name_and_the_key(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "phases.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=f"--spec .*phases.toml: .*{says}"):
        make({}, file)


def test_phases_of_a_file_exclude_a_rate_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "phases.toml"
    file.write_text(TAIL + ONE)
    with pytest.raises(UsageError, match=r"--rate and \[\[phase\]\]"):
        make({"rate": "100"}, file)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("held-snapshot.toml", [30, 90, 30]), ("held-snapshot-long.toml", [600, 1800, 600])],
)
def test_a_file_in_the_docs_can_be_used(name: str, seconds: list[int]) -> None:
    spec = make({"log": "skip-locked"}, REPOSITORY / "docs" / name)
    assert [phase.open_transaction for phase in spec.phase] == [None, "read-only", None]
    assert [phase.duration for phase in spec.phase] == seconds
    assert spec.mode == "tail"


PHASES = st.lists(
    st.builds(
        phases.LoadPhase,
        rate=st.just(0.0) | st.floats(1, 2000),
        duration=st.floats(0.1, 20),
        read=st.booleans(),
    ),
    min_size=1,
    max_size=5,
).filter(lambda made: made[-1].rate > 0 and phases.offered_events(made) >= 4)


@given(PHASES, st.integers(1, 4), st.integers(1, 50))
def test_each_phase_is_a_step_of_the_schedule(made: list[phases.LoadPhase], producers: int, batch: int) -> None:
    spec = Spec.model_validate({"mode": "tail", "scale": producers, "insert_batch": batch, "phase": made})
    assert spec.events == pytest.approx(phases.offered_events(made), abs=producers)
    load = Load(spec.steps, "fixed", producers)
    due = [
        seconds
        for producer in range(producers)
        for seconds in due_seconds(load, producer, spec.seq_limit, batch, random.Random(1))
    ]
    spans = phases.spans(made)
    assert [span.begin for span in spans] == [0.0, *(span.end for span in spans[:-1])]
    for phase, span in zip(made, spans, strict=True):
        inside = sum(span.begin <= seconds < span.end for seconds in due)
        assert inside * batch == pytest.approx(phase.rate * phase.duration, abs=2 * producers * batch)
        assert phase.rate or not inside
