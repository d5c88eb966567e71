"""The figures of an offered load, from what producers reported."""

import pytest

from bench import eventlog
from bench.records import Offered, Ready, Report
from bench.results import models
from bench.run import summary
from bench.run.jobs import producers
from bench.run.outcome import Outcome, TrackOutcome
from bench.spec import Spec
from bench.specfile import make

LOG = eventlog.load("bigserial")


def loaded(spec: Spec, last_answer: float) -> models.Offered:
    """The offered load of a run of this spec, whose last batch was answered after this many seconds."""
    outcomes = []
    for job in producers(spec, LOG):
        offered = Offered(last_answer, last_answer, largest_backlog=0, most_behind_seconds=0.0)
        report = Report(job.limit, 0, 0.0, last_answer, 0.0, offered=offered)
        outcomes.append(Outcome(job, Ready(0, 0, job, {}), report))
    made = summary.append(TrackOutcome(outcomes, [], 0.0), None, 0.0, ok=True).offered
    assert made is not None
    return made


def test_the_schedule_lasts_as_long_as_its_steps_say() -> None:
    made = loaded(make({"scale": 2, "rate": "1000:3s,3000:2s,0.5:2s"}, None), last_answer=5.0)
    assert made.events_per_second == pytest.approx(9000 / 7)
    assert made.achieved_per_second == pytest.approx(9000 / 7)
    assert not made.saturated


def test_an_achieved_load_counts_to_the_end_of_the_schedule_or_the_last_answer_after_it() -> None:
    spec = make({"scale": 2, "rate": "2000", "duration": "4s"}, None)
    early, late = loaded(spec, last_answer=3.95), loaded(spec, last_answer=5.0)
    assert (early.events_per_second, early.achieved_per_second) == pytest.approx((2000, 2000))
    assert (late.events_per_second, late.achieved_per_second) == pytest.approx((2000, 1600))
    assert (early.saturated, late.saturated) == (False, True)
