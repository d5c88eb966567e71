"""When batches of an offered load are due, and what is measured of a producer that keeps its schedule, or cannot."""

import random
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.histograms import SecondCounts
from bench.job import Load
from bench.records import Offered, Timed
from bench.results.models import Latency
from bench.results.timeline import Timeline
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


def latencies(seconds: SecondCounts) -> dict[Timed, Latency]:
    """The latencies that were counted, by metric."""
    timelines: dict[Timed, Timeline] = {}
    for record in seconds.rest():
        timelines.setdefault(record.metric, Timeline()).add(record.second, record.buckets)
    found = {metric: Latency.from_buckets(timeline.total()) for metric, timeline in timelines.items()}
    return {metric: latency for metric, latency in found.items() if latency}


def offered(
    clock: Simulated, rate: float, batches: int, answer: "dict[str, float]"
) -> tuple[Offered, dict[Timed, Latency], list[float]]:
    """Send batches of one event to a server that stands still for the first `stall` of each second, and takes `work`
    else; also returns the latencies by metric, and the times from sending each to its answer."""
    due = due_seconds(Load([(rate, None)], "fixed", 1), 0, batches, 1, random.Random(1))
    pace = Pace(due, batches, 1)
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
    seconds = SecondCounts(start)
    return pace.finish(seconds), latencies(seconds), service


def test_a_stall_shows_in_the_latency_from_the_due_time_and_hides_in_the_other(clock: Simulated) -> None:
    report, timed, service = offered(clock, rate=1000, batches=20_000, answer={"stall": 0.2, "work": 1e-6})
    from_due = timed["append"]
    # A fifth of the batches is due while the server stands still, and waits for 0 to 200 ms: 1 % waits over 190 ms.
    assert from_due.p99 == pytest.approx(190, rel=0.1)
    assert from_due.max == pytest.approx(200, rel=0.02)
    assert sorted(service)[int(0.99 * len(service))] < 0.001
    assert report.largest_backlog == pytest.approx(200, abs=2)
    assert report.most_behind_seconds == pytest.approx(0.2, rel=0.02)


def test_a_producer_that_falls_behind_skips_nothing_and_keeps_its_due_times(clock: Simulated) -> None:
    report, timed, _ = offered(clock, rate=1000, batches=5000, answer={"stall": 0, "work": 0.002})
    assert report.last_due_seconds == pytest.approx(4.999)
    assert report.ended_seconds == pytest.approx(10.0)
    assert timed["append"].max == pytest.approx(5001, rel=0.002)
    assert "lateness" not in timed or timed["lateness"].max < 0.1


def test_batches_that_are_due_in_the_warm_up_are_in_no_figure_of_the_schedule(clock: Simulated) -> None:
    def stalled(warm_up: int) -> Offered:
        clock.now = 100.0
        pace = Pace(iter([each / 10 for each in range(100)]), 1000, 10, warm_up_seconds=warm_up)
        pace.start(clock.now)
        for number in range(100):
            assert pace.wait(until=0)
            clock.now += 0.55 if number == 3 else 0.45 if number == 50 else 0.001
            pace.answered(clock.now)
        return pace.finish(SecondCounts(100.0))

    whole, after = stalled(0), stalled(2)
    assert (whole.warm_up_events, whole.largest_backlog) == (0, 50)
    assert whole.most_behind_seconds == pytest.approx(0.45)
    assert (after.warm_up_events, after.largest_backlog) == (200, 40)
    assert after.most_behind_seconds == pytest.approx(0.35)


def test_waiting_ends_when_progress_is_due(clock: Simulated) -> None:
    pace = Pace(iter([5.0, 6.0]), 2, 1)
    pace.start(clock.now)
    assert not pace.wait(until=clock.now + 0.5)
    assert clock.now == 100.5
    assert pace.wait(until=clock.now - 1)
    assert clock.now == 105.0
    pace.answered(clock.now)
    assert pace.wait(until=110)
    assert pace.finish(SecondCounts(100.0)).largest_backlog == 0


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
    seconds = SecondCounts(start)
    pace.finish(seconds)
    first, second, third = pace.steps()
    assert [step.step for step in (first, second, third)] == [0, 1, 2]
    assert [sum(dict(step.buckets).values()) for step in (first, second, third)] == [5, 5, 20]
    assert [step.done for step in (first, second, third)] == [10, 4, 46]
    slowest = Latency.from_buckets(dict(second.buckets))
    assert slowest
    assert slowest.max == pytest.approx(1100, rel=0.002)
    assert max(place for place, _ in first.buckets) <= 1000
    total = latencies(seconds)["append"]
    assert total.max == pytest.approx(1100, rel=0.002)
