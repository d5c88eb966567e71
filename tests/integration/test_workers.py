"""The two programs by themselves: a job in the environment, records on stdout, words for people on stderr."""

import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from bench import eventlog
from bench.job import Job, encode_job
from bench.judge.ranges import normal
from bench.places.dsn import variables
from bench.postgres.barrier import announced_start
from bench.postgres.connection import Connection
from bench.records import (
    Example,
    Fate,
    Interval,
    LedgerPart,
    LogError,
    Range,
    Record,
    Report,
    ReturnedEtags,
    decode_record,
)
from bench.run.jobs import consumers, producers
from bench.specfile import make
from tests import loaded
from tests.conftest import REPOSITORY

BIGSERIAL = eventlog.load("bigserial")


def environment(connection: Connection, job: Job | bytes) -> dict[str, str]:
    """The environment of a program that does a job on a connection's database."""
    address, _ = variables(connection.info.dsn)
    text = job if isinstance(job, bytes) else encode_job(job)
    return {**os.environ, **address, "BENCH_JOB": text.decode()}


def work(program: str, connection: Connection, job: Job | bytes) -> tuple[int, list[Record], str]:
    ran = loaded.of_workers().run(program, [], REPOSITORY, environment(connection, job), timeout=60)
    return ran.returncode, [decode_record(line) for line in ran.stdout.encode().splitlines()], ran.stderr


def told(records: list[Record], fate: Fate) -> list[Range]:
    """The events of one fate, of which a producer tells as it goes."""
    ledgers = [record for record in records if isinstance(record, LedgerPart) and record.fate == fate]
    return normal([part for ledger in ledgers for part in ledger.ranges])


def producer(**flags: Any) -> Any:
    return producers(make({"scale": 1, "limit": 100, "insert_batch": 30, **flags}, None), BIGSERIAL)[0]


def test_a_producer_by_time_finishes_the_batch_under_way_and_reports_how_many_events_it_sent(log: Connection) -> None:
    job = msgspec.structs.replace(producer(insert_batch=10), limit=10**12, seconds=0.3, transaction_ms=(50, 50))
    with announced_start(log, 0.1):
        code, records, stderr = work("producers", log, job)
    assert (code, stderr) == (0, "")
    report = records[-1]
    assert isinstance(report, Report)
    assert report.events == report.attempted
    assert report.events % 10 == 0
    assert told(records, "acknowledged") == [(0, 0, report.events - 1)]
    assert log.execute("SELECT count(*) FROM events_log").fetchone() == (report.events,)
    assert report.seconds < 30


def test_producers_by_time_stop_at_one_moment_however_late_they_come(log: Connection) -> None:
    """One that comes after the end still appends a batch, so that its part has a time."""
    job = msgspec.structs.replace(producer(insert_batch=10), limit=10**12, seconds=0.3)
    with announced_start(log, -60):
        code, records, _ = work("producers", log, job)
    assert code == 0
    assert isinstance(records[-1], Report)
    assert records[-1].attempted == 10


@pytest.mark.parametrize("append", ["generate", "log_event", "copy"])
def test_a_producer_appends_its_events_in_batches_of_one_transaction(log: Connection, append: str) -> None:
    code, records, stderr = work("producers", log, producer(append=append))
    assert (code, stderr) == (0, "")
    assert told(records, "acknowledged") == [(0, 0, 99)]
    assert isinstance(records[-1], Report)
    assert (records[-1].events, records[-1].checksum) == (100, 4950)
    sizes = log.execute("SELECT count(*) FROM events_log GROUP BY xmin::text::bigint ORDER BY xmin::text::bigint")
    assert sizes.fetchall() == [(30,), (30,), (30,), (10,)]
    seqs = log.execute("SELECT (payload ->> 'seq')::int FROM events_log ORDER BY etag").fetchall()
    assert seqs == [(seq,) for seq in range(100)]


def test_only_batches_that_were_committed_are_timed(log: Connection) -> None:
    code, records, stderr = work("producers", log, producer(limit=200, insert_batch=5, abort_rate=0.5, seed=1))
    assert (code, stderr) == (0, "")
    report = records[-1]
    assert isinstance(report, Report)
    calls = sum(number for record in records if isinstance(record, Interval) for _, number in record.buckets)
    assert told(records, "aborted")
    assert 0 < calls == report.events / 5


@pytest.mark.parametrize("append", ["generate", "log_event", "copy"])
def test_payloads_are_padded_to_the_byte(log: Connection, append: str) -> None:
    code, _, stderr = work("producers", log, producer(append=append, payload_bytes=123))
    assert (code, stderr) == (0, "")
    assert log.execute("SELECT DISTINCT octet_length(payload::text) FROM events_log").fetchall() == [(123,)]


def test_a_connection_that_dies_in_a_batch_leaves_that_batch_in_doubt(log: Connection) -> None:
    log.execute(
        """CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
               IF (SELECT count(*) FROM events_log) > 60 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
               RETURN NULL;
           END $$;
           CREATE TRIGGER cut AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION cut()"""
    )
    code, records, stderr = work("producers", log, producer())
    assert code == 1
    assert told(records, "acknowledged") == [(0, 0, 59)]
    assert told(records, "indeterminate") == [(0, 60, 89)]
    assert "connection" in stderr


def test_a_producer_that_draws_its_number(log: Connection) -> None:
    log.execute("CREATE SEQUENCE producer_number MINVALUE 0 START 5")
    job = msgspec.structs.replace(producer(), producer="SELECT nextval('producer_number')")
    _, records, _ = work("producers", log, job)
    assert told(records, "acknowledged") == [(5, 0, 99)]


def test_a_log_that_takes_less_than_it_is_given_ends_the_producer(log: Connection) -> None:
    log.execute(
        """CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RETURN CASE WHEN NEW.payload ->> 'seq' = '7' THEN NULL ELSE NEW END; END $$;
           CREATE TRIGGER skip BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION skip()"""
    )
    for append in ("generate", "log_event", "copy"):
        code, records, stderr = work("producers", log, producer(append=append))
        assert (code, stderr) == (0, "")
        error, report = records[-2:]
        assert isinstance(error, LogError)
        assert error.message == "it took 29 of the 30 events of a batch and reported no error"
        assert error.events == (0, 29)
        assert isinstance(report, Report)
        assert told(records, "acknowledged") == [(0, 0, 29)]
        assert (report.events, told(records, "indeterminate")) == (30, [])


def test_a_producer_reports_the_etags_that_a_committed_batch_was_returned_with(log: Connection) -> None:
    log.execute("SELECT setval('events_log_etag_seq', 100)")
    _, records, _ = work("producers", log, producer(limit=6, insert_batch=3))
    (returned,) = [record for record in records if isinstance(record, ReturnedEtags)]
    assert returned.events == [Example(0, seq, 101 + seq) for seq in range(3)]
    assert told(records, "acknowledged") == [(0, 0, 5)]
    _, records, _ = work("producers", log, producer(limit=3, insert_batch=3, abort_rate=0.9))
    assert told(records, "aborted") == [(0, 0, 2)]
    assert not [record for record in records if isinstance(record, ReturnedEtags)]


def test_a_consumer_reports_what_it_was_given(log: Connection) -> None:
    work("producers", log, producer())
    log.execute("DELETE FROM events_log WHERE (payload ->> 'seq')::int IN (10, 11, 50)")
    code, records, _ = work("consumer", log, consumers(make({"limit": 100}, None), BIGSERIAL, 7)[0])
    assert code == 0
    assert records[-2] == LedgerPart("delivered", [(0, 0, 9), (0, 12, 49), (0, 51, 99)])
    assert isinstance(records[-1], Report)
    assert (records[-1].events, records[-1].checksum) == (97, 4950 - 10 - 11 - 50)
    assert records[-1].max_etag_gap == 3


def test_an_empty_log_is_read_to_its_end(log: Connection) -> None:
    code, records, _ = work("consumer", log, consumers(make({}, None), BIGSERIAL, 10)[0])
    assert code == 0
    assert isinstance(records[-1], Report)
    assert (records[-1].events, records[-1].max_etag_gap) == (0, 0)


@pytest.mark.parametrize(
    ("program", "job", "says"),
    [
        ("producers", b"", "BENCH_JOB holds no job"),
        ("producers", b'{"job": "producer", "turbo": true}', "BENCH_JOB holds no job"),
        ("consumer", encode_job(producer()), "BENCH_JOB holds a ProducerJob"),
        ("producers", encode_job(producer()).replace(b"log_event(", b"no_such_function("), "no_such_function"),
    ],
)
def test_a_job_that_cannot_be_done_is_told_in_a_sentence(log: Connection, program: str, job: bytes, says: str) -> None:
    code, records, stderr = work(program, log, job)
    assert code == 1
    assert records == []
    assert says in stderr
    assert "Traceback" not in stderr


def test_a_worker_whose_orchestrator_is_gone_ends(log: Connection) -> None:
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "producers"],
        env=environment(log, producer(insert_batch=1, limit=100_000_000)),
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert os.read(read, 1)
    os.close(read)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.decode().strip() == "the orchestrator is gone"


def test_a_server_that_is_not_there(log: Connection) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "producers"],
        env={**os.environ, "PGHOST": "127.0.0.1", "PGPORT": "1", "BENCH_JOB": encode_job(producer()).decode()},
        capture_output=True,
        check=False,
    )
    assert process.returncode == 1
    assert b"connection failed" in process.stderr
