"""How far a reader was behind, against a count by brute force, and from reports of progress."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.eventlog import load
from bench.job import ProducerJob
from bench.judge.ranges import normal
from bench.records import CallTimes, LedgerPart, PageTimes, Progress, Report
from bench.results.series import Unseen
from bench.results.tracks import Reading
from bench.run.appends import events_per_batch
from bench.run.jobs import consumers, producers
from bench.run.outcome import MOST_REMEMBERED, Outcome, Reader, TrackOutcome
from bench.run.unseen import MOST_SAMPLES, Counter, samples, unseen
from bench.specfile import make

INFINITE = float("inf")
STEPS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 5)), min_size=1, max_size=20)


def counter(steps: list[tuple[int, int]]) -> Counter:
    at, events = np.array(sorted(steps)).reshape(-1, 2).T
    return Counter(at.astype(float), events, INFINITE, [])


@given(STEPS, STEPS, st.data())
def test_samples_have_the_most_that_a_count_by_brute_force_finds(
    acknowledged: list[tuple[int, int]], deliveries: list[tuple[int, int]], data: st.DataObject
) -> None:
    acknowledged = sorted(acknowledged)
    never = [data.draw(st.integers(0, events)) for _, events in acknowledged]
    # One entry per event that the reader was given at some time, and one per other event, by its acknowledgement.
    given_later = [at for (at, events), missed in zip(acknowledged, never, strict=True) for _ in range(events - missed)]
    missed_at = [at for (at, _), missed in zip(acknowledged, never, strict=True) for _ in range(missed)]

    def behind(moment: float) -> tuple[int, float]:
        """Just before the events that are delivered at this moment."""
        given_by_now = sum(events for at, events in deliveries if at < moment)
        due = [at for at in given_later if at <= moment][given_by_now:] + [at for at in missed_at if at <= moment]
        return len(due), moment - min(due, default=moment)

    made = samples(counter(acknowledged), counter(deliveries), np.array(never))
    moments = sorted({*(at for at, _ in [*acknowledged, *deliveries]), *(each.seconds for each in made)})
    before = -1.0
    for sample in made:
        at_moments = [behind(moment) for moment in moments if before < moment <= sample.seconds]
        assert sample.events == max(events for events, _ in at_moments)
        assert sample.lag_seconds == pytest.approx(max(lag for _, lag in at_moments))
        before = sample.seconds
    assert len(made) <= MOST_SAMPLES


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9))), st.integers(1, 7), st.integers(0, 9))
def test_events_are_counted_by_batch(parts: list[tuple[int, int]], batch: int, batches: int) -> None:
    ranges = normal([(0, first, first + more) for first, more in parts])
    seqs = {seq for _, first, last in ranges for seq in range(first, last + 1)}
    expected = [sum(seq // batch == number for seq in seqs) for number in range(batches)]
    assert events_per_batch(ranges, batch, batches).tolist() == expected


SPEC = make({"scale": 2, "limit": 40, "insert_batch": 10, "read_batch": 20, "mode": "tail"}, None)
LOG = load("bigserial")


def report(events: int, untimed: int = 0) -> Report:
    return Report(events, 0, started_at=1000.0, seconds=4, cpu_seconds=0, untimed_calls=untimed)


def appending(calls: int, untimed: int = 0) -> list[Outcome]:
    """Two producers of four batches, of which one is acknowledged per second; `calls` of them are timed."""
    outcomes = [Outcome(job) for job in producers(SPEC, LOG)]
    for outcome in outcomes:
        assert isinstance(outcome.job, ProducerJob)
        for seconds in range(1, 5):
            outcome.note(LedgerPart("acknowledged", [(int(outcome.job.producer), 10 * seconds - 10, 10 * seconds - 1)]))
            outcome.history.append((500.0 + seconds, outcome.acknowledged))
        outcome.note(CallTimes(1000.0, 0, [(n * 1_000_000, (n + 1) * 1_000_000) for n in range(calls)]))
        outcome.report_record = report(40, untimed)
    return outcomes


def reading(pages: list[tuple[int, int]], untimed: int = 0) -> Reader:
    (outcome,) = [Outcome(job) for job in consumers(SPEC, LOG, 20)]
    outcome.note(LedgerPart("delivered", [(0, 0, 39), (1, 0, 29)]))
    outcome.note(PageTimes(1000.0, 0, pages))
    outcome.history += [(500.0 + seconds, 20 * seconds - 20) for seconds in range(1, 5)]
    outcome.report_record = report(70, untimed)
    return Reader(Reading(20), [outcome])


def test_an_event_that_is_never_given_is_unseen_to_the_end() -> None:
    pages = [(500_000, 0), (1_500_000, 20), (2_500_000, 40), (3_500_000, 60), (4_500_000, 70), (6_000_000, 70)]
    (made,) = unseen(TrackOutcome(appending(4), [], 500.0), [reading(pages)]).values()
    assert max(each.events for each in made) == 20
    assert (made[-1].seconds, made[-1].events) == (6.0, 10)
    assert made[-1].lag_seconds == pytest.approx(2.0)
    first = next(each for each in made if each.seconds > 1.2)
    assert first.events == 20
    assert first.lag_seconds == pytest.approx(first.seconds - 1)


EXACT = [(500_000, 0), (1_500_000, 20)]


def late(calls: int, untimed: int, pages: list[tuple[int, int]]) -> list[Unseen]:
    """Samples of a time for which the reader, which is a second behind, reported no pages."""
    track = TrackOutcome(appending(calls, untimed), [], 500.0)
    (made,) = unseen(track, [reading(pages, untimed=9)]).values()
    chosen = [each for each in made if 2.1 < each.seconds < 3.9]
    assert chosen
    return chosen


@pytest.mark.parametrize(("calls", "untimed", "pages"), [(1, 3, EXACT), (0, 4, [])])
def test_beyond_the_timed_calls_progress_counts(calls: int, untimed: int, pages: list[tuple[int, int]]) -> None:
    for each in late(calls, untimed, pages):
        assert each.events == pytest.approx(20, abs=2)
        assert each.lag_seconds == pytest.approx(1, abs=0.1)


def test_producers_that_timed_all_are_exact_though_a_reader_did_not() -> None:
    assert all(each.events <= 20 and each.lag_seconds < 1.1 for each in late(4, 0, EXACT))


def test_the_remembered_progress_of_a_worker_is_bounded() -> None:
    outcome = Outcome(consumers(SPEC, LOG, 20)[0])
    for events in range(3 * MOST_REMEMBERED):
        outcome.note(Progress(events))
    assert MOST_REMEMBERED / 2 <= len(outcome.history) <= MOST_REMEMBERED
    assert [events for _, events in outcome.history] == sorted(events for _, events in outcome.history)
    assert outcome.history[-1][1] == 3 * MOST_REMEMBERED - 1
