"""What is remembered of the reports of a worker."""

from itertools import pairwise

import pytest

from bench.job import ConsumerJob
from bench.records import Progress
from bench.run import outcome as program
from bench.run.outcome import MOST_REMEMBERED, Outcome


class Simulated:
    """A clock that is set."""

    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize("silent_at", [100, 30_000, 49_000])
def test_the_progress_of_a_long_run_is_known_evenly(monkeypatch: pytest.MonkeyPatch, silent_at: int) -> None:
    clock = Simulated()
    monkeypatch.setattr(program, "time", clock)
    reader = Outcome(ConsumerJob("consumer-1", "bench", 1, "", [], 1, 10, 10))
    for number in range(50_000):
        clock.now += 60 if number == silent_at else 0.02
        reader.note(Progress(number))
    assert len(reader.history) <= MOST_REMEMBERED
    assert reader.history[-1] == (clock.now, 49_999)
    times = [at for at, _ in reader.history]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    # One silence of a minute in more than a thousand seconds, and else a thousandth of the time or two.
    assert gaps[-1] == pytest.approx(60, abs=3)
    assert gaps[-2] < 3
    ((before, events),) = [pair for pair, then in zip(reader.history, times[1:], strict=False) if then - pair[0] > 30]
    assert abs(events - silent_at) < 150
    assert before == pytest.approx(1000 + 0.02 * silent_at, abs=3)
