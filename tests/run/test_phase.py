"""What the orchestrator makes of what workers say."""

import pytest

from bench.job import ProducerJob
from bench.records import Ready
from bench.run.outcome import Outcome
from bench.run.phase import _refuse_differences


def test_a_worker_that_took_another_job_than_it_was_given_fails_the_run() -> None:
    job = ProducerJob("producer-0", "bench", 1, "copy", "COPY", 0, 10, 5)
    other = ProducerJob("producer-0", "bench", 1, "copy", "COPY", 0, 10, 7)
    session = {"schema": "bench", "synchronous_commit": "on"}
    _refuse_differences([Outcome(job, Ready(0, 0, job, session))], {"synchronous_commit": "on"})
    with pytest.raises(Exception, match="insert_batch is 7, not 5"):
        _refuse_differences([Outcome(job, Ready(0, 0, other, session))], {"synchronous_commit": "on"})
    with pytest.raises(Exception, match="synchronous_commit = 'on', not 'off'"):
        _refuse_differences([Outcome(job, Ready(0, 0, job, session))], {"synchronous_commit": "off"})
