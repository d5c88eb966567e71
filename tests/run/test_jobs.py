"""Jobs, and the copies of them that compose.yml and stack.yml hold."""

import re
from typing import Any

import msgspec
import pytest
import yaml

from bench import eventlog
from bench.job import ConsumerJob, ProducerJob, decode_job, encode_job
from bench.run import disk_watch
from bench.run.disk import RESERVE_BYTES, disk_bytes
from bench.run.jobs import bounded, consumers, producers
from bench.spec import MAX_LIMIT, MAX_SCALE, Spec
from bench.specfile import make
from tests.conftest import REPOSITORY

BIGSERIAL = eventlog.load("bigserial")


def test_each_producer_has_its_number_and_all_else_in_common() -> None:
    jobs = producers(make({"scale": 3}, None), BIGSERIAL)
    assert [job.producer for job in jobs] == [0, 1, 2]
    assert len({encode_job(msgspec.structs.replace(job, name="", producer=0)) for job in jobs}) == 1


def jobs(spec: Spec) -> list[ProducerJob | ConsumerJob]:
    return [*producers(spec, BIGSERIAL), *consumers(spec, BIGSERIAL, 10)]


def test_workers_pause_by_the_seed_and_their_own_name() -> None:
    spec, other = (make({"scale": 2, "consumers": 2, "pause": "0..5ms", "seed": seed}, None) for seed in (1, 2))
    first = {job.name: job.session_sql for job in jobs(spec)}
    assert first == {job.name: job.session_sql for job in jobs(spec)}
    assert len({*first.values(), *(job.session_sql for job in jobs(other))}) == 8
    assert {job.session_sql for job in jobs(make({}, None))} == {""}


def test_a_job_fits_into_an_environment_variable() -> None:
    jobs = producers(make({"scale": MAX_SCALE, "payload_bytes": 1000, "append": "generate"}, None), BIGSERIAL)
    assert max(len(encode_job(job)) for job in jobs) < 128 * 1024


def test_readers_after_a_run_by_time_know_how_many_events_there_are() -> None:
    spec = make({"scale": 2, "duration": "5s"}, None)
    assert {(job.seconds, job.limit) for job in producers(spec, BIGSERIAL)} == {(5, MAX_LIMIT)}
    reading = consumers(spec, BIGSERIAL, 10)
    assert {job.limit for job in reading} == {MAX_LIMIT}
    assert {(job.limit, job.most_events) for job in bounded(spec, reading, [70, 30])} == {(70, 1200)}
    counted = make({"scale": 2, "limit": 70}, None)
    assert bounded(counted, consumers(counted, BIGSERIAL, 10), [70, 70]) == consumers(counted, BIGSERIAL, 10)
    assert {job.seconds for job in producers(counted, BIGSERIAL)} == {None}
    filled = make({"scale": 2, "duration": "5s", "preload": 301}, None)
    after = bounded(filled, consumers(filled, BIGSERIAL, 10), [70, 30])
    assert {(job.limit, job.preloaded, job.most_events) for job in after} == {(70, (2, 151), 1802)}


def test_a_run_by_time_needs_disk_for_an_empty_log_and_a_reserve() -> None:
    assert disk_bytes(make({"duration": "5s"}, None)) > disk_bytes(make({"limit": 1, "scale": 1}, None))


def test_the_disk_is_nearly_full_once_less_than_the_reserve_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_watch, "LOOK_SECONDS", 0)
    free = [None, RESERVE_BYTES, RESERVE_BYTES - 1]
    watched = disk_watch.DiskWatch(lambda: free.pop(0))
    assert [watched.is_nearly_full() for _ in range(4)] == [False, False, True, True]
    assert "1.0 GiB" in watched.note
    monkeypatch.setattr(disk_watch, "LOOK_SECONDS", 3600)
    seldom = disk_watch.DiskWatch(iter([RESERVE_BYTES]).__next__)
    assert [seldom.is_nearly_full() for _ in range(9)] == [False] * 9
    assert not seldom.note


def test_the_estimate_of_disk_grows_with_events_and_payloads() -> None:
    sizes = [
        disk_bytes(make(flags, None))
        for flags in ({"limit": 1}, {"limit": 10**6}, {"limit": 10**7}, {"limit": 10**7, "payload_bytes": 500})
    ]
    assert sizes == sorted(set(sizes))
    assert sizes[2] > 10**8 * 100


@pytest.mark.parametrize("file", ["compose.yml", "stack.yml"])
def test_the_jobs_by_hand_are_those_of_bench_run(file: str) -> None:
    text = (REPOSITORY / "compose" / file).read_text()
    defaults = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")
    services: dict[str, Any] = yaml.safe_load(defaults)["services"]
    producer = decode_job(services["producer"]["environment"]["BENCH_JOB"])
    consumer = decode_job(services["consumer"]["environment"]["BENCH_JOB"])
    spec = make({"limit": 100_000}, None)
    assert isinstance(producer, ProducerJob)
    assert isinstance(consumer, ConsumerJob)
    expected = producers(spec, BIGSERIAL)[0]
    assert producer == msgspec.structs.replace(expected, name="producer", producer=producer.producer, returned=None)
    assert consumer == msgspec.structs.replace(
        consumers(spec, BIGSERIAL, 1000)[0], name="consumer", most_events=consumer.most_events, stop=None
    )


def test_the_workers_packages_are_among_the_projects() -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    for line in (REPOSITORY / "compose" / "worker-requirements.txt").read_text().split():
        assert f'"{line}"' in pyproject
