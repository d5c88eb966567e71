"""When batches of an offered load are due, and what is measured of a producer that keeps its schedule, or cannot."""

import random
from itertools import pairwise
from statistics import mean

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from bench.job import Load
from bench.records import Offered
from bench.results.models import Latency
from bench.schedule import due_seconds, ends_of, span_seconds
from producers import pace as program
from producers.pace import Pace

RATES = st.floats(0.5, 1e6)
STEPS = st.lists(st.tuples(st.just(0.0) | RATES, st.floats(0.1, 100)), max_size=3).flatmap(
    lambda steps: st.tuples(st.just(steps), RATES).map(lambda pair: [*pair[0], (pair[1], None)])
)


def dues(load: Load, producer: int, batch: int, number: int) -> list[float]:
    return list(due_seconds(load, producer, number * batch, batch, random.Random(1)))


@given(STEPS, st.integers(1, 5), st.integers(1, 1000))
def test_producers_together_offer_the_steps(
    steps: list[tuple[float, float | None]], producers: int, batch: int
) -> None:
    load = Load(steps, "fixed", producers)
    together = sorted(due for producer in range(producers) for due in dues(load, producer, batch, 20))
    began = 0.0
    for rate, seconds in steps:
        ends = began + seconds if seconds is not None else float("inf")
        inside = [due for due in together if began <= due < ends]
        assert rate or not inside
        for earlier, later in pairwise(inside):
            assert later - earlier == pytest.approx(batch / rate, rel=1e-6, abs=1e-9 * max(1.0, later))
        began = ends
    assert together[-1] < span_seconds(steps, 20 * producers * batch)


@given(STEPS, st.floats(0, 1e6))
def test_a_span_offers_its_events(steps: list[tuple[float, float | None]], events: float) -> None:
    left = span_seconds(steps, round(events))
    offered = 0.0
    for rate, seconds in steps:
        lasts = left if seconds is None else min(left, seconds)
        offered, left = offered + rate * lasts, left - lasts
    assert offered == pytest.approx(round(events), rel=1e-6, abs=1e-6)


@given(STEPS, st.integers(1, 5), st.integers(1, 1000), st.integers(1, 3000))
def test_all_batches_are_due_within_the_time_that_offers_all_events(
    steps: list[tuple[float, float | None]], producers: int, batch: int, limit: int
) -> None:
    load = Load(steps, "fixed", producers)
    of_each = [list(due_seconds(load, each, limit, batch, random.Random(1))) for each in range(producers)]
    assert {len(times) for times in of_each} == {-(-limit // batch)}
    assert max(times[-1] for times in of_each) < span_seconds(steps, producers * limit)


def test_random_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    load = Load([(1000, None)], "poisson", 4)
    times = dues(load, 0, 5, 20_000)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert mean(gaps) == pytest.approx(0.02, rel=0.03)
    assert mean(gap > 0.04 for gap in gaps) == pytest.approx(0.1353, abs=0.01)
    assert times == dues(load, 0, 5, 20_000)


class Simulated:
    """A clock that moves only when somebody sleeps or the server works."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    simulated = Simulated()
    monkeypatch.setattr(program, "time", simulated)
    return simulated


def latency(encoded: str) -> Latency:
    merged = Latency.from_histograms([encoded])
    assert merged
    return merged


def offered(clock: Simulated, rate: float, batches: int, answer: "dict[str, float]") -> tuple[Offered, list[float]]:
    """Send batches of one event to a server that stands still for the first `stall` of each second, and takes `work`
    else; also returns the times from sending each to its answer."""
    pace = Pace(due_seconds(Load([(rate, None)], "fixed", 1), 0, batches, 1, random.Random(1)), batches, 1)
    start = clock.now
    pace.start(start)
    service = []
    for _ in range(batches):
        assert pace.wait(until=0)
        sent = clock.now
        into_second = (clock.now - start + 1e-9) % 1
        clock.now += max(0.0, answer["stall"] - into_second) + answer["work"]
        service.append(clock.now - sent)
        pace.answered(clock.now)
    return pace.report(), service


def test_a_stall_shows_in_the_latency_from_the_due_time_and_hides_in_the_other(clock: Simulated) -> None:
    report, service = offered(clock, rate=1000, batches=20_000, answer={"stall": 0.2, "work": 1e-6})
    from_due = latency(report.latency)
    # A fifth of the batches is due while the server stands still, and waits for 0 to 200 ms: 1 % waits over 190 ms.
    assert from_due.p99 == pytest.approx(190, rel=0.1)
    assert from_due.max == pytest.approx(200, rel=0.02)
    assert sorted(service)[int(0.99 * len(service))] < 0.001
    assert report.largest_backlog == pytest.approx(200, abs=2)
    assert report.most_behind_seconds == pytest.approx(0.2, rel=0.02)


def test_a_producer_that_falls_behind_skips_nothing_and_keeps_its_due_times(clock: Simulated) -> None:
    report, _ = offered(clock, rate=1000, batches=5000, answer={"stall": 0, "work": 0.002})
    assert report.last_due_seconds == pytest.approx(4.999)
    assert report.ended_seconds == pytest.approx(10.0)
    assert latency(report.latency).max == pytest.approx(5001, rel=0.02)
    assert Latency.from_histograms([report.lateness]) is None or latency(report.lateness).max < 0.1


def test_waiting_ends_when_progress_is_due(clock: Simulated) -> None:
    pace = Pace(iter([5.0, 6.0]), 2, 1)
    pace.start(clock.now)
    assert not pace.wait(until=clock.now + 0.5)
    assert clock.now == 100.5
    assert pace.wait(until=clock.now - 1)
    assert clock.now == 105.0
    pace.answered(clock.now)
    assert pace.wait(until=110)
    assert pace.report().largest_backlog == 0


def test_a_batch_counts_in_the_step_in_which_it_was_due_and_its_answer_where_it_came(clock: Simulated) -> None:
    steps: list[tuple[float, float | None]] = [(10, 1), (10, 1), (10, 1)]
    load = Load(steps, "fixed", 1)
    pace = Pace(due_seconds(load, 0, 60, 2, random.Random(1)), 60, 2, ends_of(steps))
    start = clock.now
    pace.start(start)
    for number in range(30):
        assert pace.wait(until=0)
        # The server stands still from the middle of the second step to the middle of the third one.
        clock.now = start + 2.5 if 7 <= number < 8 else clock.now
        pace.answered(clock.now)
    first, second, third = pace.steps()
    assert [step.step for step in (first, second, third)] == [0, 1, 2]
    assert [HdrHistogram.decode(step.latency).get_total_count() for step in (first, second, third)] == [5, 5, 20]
    assert [step.done for step in (first, second, third)] == [10, 4, 46]
    assert latency(first.latency).max < 1
    assert latency(second.latency).max == pytest.approx(1100, rel=0.02)
    total = HdrHistogram.decode(pace.report().latency)
    assert total.get_total_count() == 30
    assert total.get_max_value() / 1000 == pytest.approx(1100, rel=0.02)
