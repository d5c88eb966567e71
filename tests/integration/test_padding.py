"""Padded payloads cost what they say: they do not compress, however they were appended, and the disk that a run needs
is estimated well."""

import os
from pathlib import Path

import psycopg
import pytest

from bench.command import as_given
from bench.postgres.connection import Connection
from bench.results import store
from bench.results.models import Trial
from bench.run.disk import event_bytes
from bench.run.payloads import payloads_of
from bench.shapes import Shapes
from bench.specfile import make
from tests.conftest import Bench, broken_log
from tests.integration.test_workers import producer, work

SIZES = {0: 4000, 200: 4000, 2100: 1000, 8000: 500, 100_000: 40}
"""Payload bytes, and how many events show what they cost."""


def run(bench: Bench, address: str, *flags: str) -> Trial:
    ran = bench("run", "--place", "local", "--dsn", address, *flags, "--quiet", "--export-json", "result.json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return store.load(bench.folder / "result.json").trials[0]


@pytest.mark.parametrize("payload_bytes", SIZES)
def test_the_estimate_of_disk_is_within_a_fifth_of_what_is_used(bench: Bench, address: str, payload_bytes: int) -> None:
    limit = SIZES[payload_bytes]
    flags = ("--scale", "1", "--limit", str(limit), "--insert-batch", "20", "--read-batch", "100")
    trial = run(bench, address, *flags, "--payload-bytes", str(payload_bytes))
    assert trial.append.wal_bytes is not None
    estimated_bytes, estimated_wal_bytes = event_bytes(payload_bytes)
    stored_bytes = trial.telemetry.stored_bytes or 0
    assert stored_bytes / limit == pytest.approx(estimated_bytes, rel=0.2)
    assert trial.append.wal_bytes / limit == pytest.approx(estimated_wal_bytes, rel=0.2)
    assert stored_bytes >= limit * payload_bytes


@pytest.mark.parametrize("append", ["generate", "log_event", "copy"])
@pytest.mark.parametrize("payload_bytes", [2100, 300_000])
def test_no_way_to_append_writes_a_payload_that_compresses(log: Connection, append: str, payload_bytes: int) -> None:
    settings = ["pglz"]
    has_lz4 = "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
    if log.execute(has_lz4).fetchone() == (True,):
        settings.append("lz4")
    for compression in settings:
        log.execute(f"ALTER TABLE events_log ALTER payload SET COMPRESSION {compression}; TRUNCATE events_log".encode())
        assert (
            work("producers", log, producer(append=append, limit=2, payload_bytes=payload_bytes, read_batch=[1]))[0]
            == 0
        )
        stored = log.execute("SELECT octet_length(payload::text), pg_column_size(payload) FROM events_log").fetchall()
        assert [(size, kept >= size) for size, kept in stored] == [(payload_bytes, True)] * 2


def test_all_ways_to_append_write_the_same_payloads(log: Connection) -> None:
    found = []
    for append in ("generate", "log_event", "copy"):
        log.execute("TRUNCATE events_log")
        work("producers", log, producer(append=append, limit=12, payload_bytes=500))
        found.append(log.execute("SELECT payload::text FROM events_log ORDER BY etag").fetchall())
    assert found[0] == found[1] == found[2]


MIX = "200:70%,900:20%,5000:10%"


def test_all_ways_to_append_write_the_same_mix_of_sizes_to_the_byte(log: Connection) -> None:
    found = []
    for append in ("generate", "log_event", "copy"):
        log.execute("TRUNCATE events_log")
        job = producer(append=append, limit=3000, insert_batch=700, payload_bytes=MIX, payload_entropy=2, seed=4)
        assert work("producers", log, job)[0] == 0
        found.append(log.execute("SELECT payload::text FROM events_log ORDER BY etag").fetchall())
    assert found[0] == found[1] == found[2]
    numbers = Shapes(job.payloads).numbers(0, 0, 2999)
    assert [len(text) for (text,) in found[0]] == [(200, 900, 5000)[number] for number in numbers]


@pytest.mark.parametrize("append", ["generate", "log_event", "copy"])
@pytest.mark.parametrize("mode", ["drain", "tail"])
def test_a_run_with_a_mix_of_sizes(bench: Bench, address: str, append: str, mode: str) -> None:
    flags = ("--scale", "2", "--limit", "3000", "--insert-batch", "50", "--append", append, "--mode", mode)
    log = ("--log", "advisory-lock" if mode == "tail" else "bigserial")
    trial = run(bench, address, *flags, *log, "--payload-bytes", MIX, "--consumers", "2")
    assert trial.verdict.ok
    assert trial.verdict.expected_events == 6000


def test_padding_of_fewer_random_bits_compresses_better(log: Connection) -> None:
    stored = []
    for bits in (6, 4, 2, 0):
        log.execute("TRUNCATE events_log")
        job = producer(limit=5, payload_bytes=8000, payload_entropy=bits, read_batch=[1])
        assert work("producers", log, job)[0] == 0
        rows = log.execute("SELECT max(octet_length(payload::text)), max(pg_column_size(payload)) FROM events_log")
        ((size, compressed),) = rows.fetchall()
        assert size == 8000
        stored.append(compressed)
    assert stored[0] >= 8000
    assert stored == sorted(stored, reverse=True)
    assert stored[-1] < 1000


OBJECTS = """
{"type": "order", "customer": {"name": "A \\"quoted\\" name", "path": "c:\\\\temp"}, "items": [1, 2.50, null]}
{"type":"größe",\t"note": "50 % off, %d", "sum": 12345678901234567890.25}
{}
"""


@pytest.mark.parametrize("append", ["log_event", "copy"])
@pytest.mark.parametrize("mode", ["drain", "tail"])
def test_a_run_with_objects_of_a_file(bench: Bench, address: str, append: str, mode: str) -> None:
    # More than a record of a worker holds.
    many = "".join(f'{{"random": "{os.urandom(20).hex()}"}}\n' for _ in range(1000))
    (bench.folder / "objects.jsonl").write_text(OBJECTS + many, encoding="utf-8")
    flags = ("--scale", "2", "--limit", "2000", "--insert-batch", "50", "--append", append, "--mode", mode)
    log = ("--log", "advisory-lock" if mode == "tail" else "bigserial")
    trial = run(bench, address, *flags, *log, "--payload-file", "objects.jsonl")
    assert trial.verdict.ok
    assert trial.verdict.expected_events == 4000
    spec = store.load(bench.folder / "result.json").spec
    assert spec["payload_file"] == "objects.jsonl"
    assert len(spec["payload_sha256"]) == 64
    assert as_given(spec)["payload_file"] == "objects.jsonl"


def test_both_ways_to_append_objects_write_them_as_they_are_in_the_file(log: Connection, tmp_path: Path) -> None:
    file = tmp_path / "objects.jsonl"
    file.write_text(OBJECTS, encoding="utf-8")
    for append in ("log_event", "copy"):
        log.execute("TRUNCATE events_log")
        job = producer(append=append, limit=300, payload_file=file)
        assert work("producers", log, job)[0] == 0
        numbers = Shapes(job.payloads).numbers(0, 0, 299)
        lines = OBJECTS.strip().splitlines()
        rows = log.execute("SELECT payload::text FROM events_log ORDER BY etag").fetchall()
        for seq, (text,) in enumerate(rows):
            keys = lines[numbers[seq]][1:-1]
            assert text == f'{{"producer":0,"seq":{seq},"value":{seq}{"," if keys else ""}{keys}}}'


def test_a_file_that_cannot_be_used_is_refused_before_anything_starts(bench: Bench) -> None:
    (bench.folder / "objects.jsonl").write_text('{"a": 1}\n{"value": 2}\n')
    ran = bench("run", "--place", "local", "--payload-file", "objects.jsonl")
    assert ran.returncode == 2
    assert "--payload-file objects.jsonl: line 2" in ran.stderr
    assert "starting" not in ran.stderr


def test_a_log_that_cuts_a_payload_to_another_size_of_the_mix_is_caught(bench: Bench, address: str) -> None:
    folder = broken_log(
        bench.folder / "log",
        """
        CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.payload := (left(NEW.payload::text, 198) || '"}')::json;
            RETURN NEW;
        END $$;
        CREATE TRIGGER cut BEFORE INSERT ON events_log FOR EACH ROW
            WHEN (length(NEW.payload::text) = 900) EXECUTE FUNCTION cut();""",
    )
    flags = ("--scale", "1", "--limit", "3000", "--insert-batch", "50", "--payload-bytes", MIX, "--log", str(folder))
    ran = bench("run", "--place", "local", "--dsn", address, *flags, "--export-json", "result.json")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    shapes = Shapes(payloads_of(make({"payload_bytes": MIX}, None)))
    expected = [*shapes.numbers(0, 0, 2999)].count(1)
    assert store.load(bench.folder / "result.json").trials[0].verdict.corrupt == expected


def test_a_log_that_changes_a_letter_of_the_padding_is_caught(bench: Bench, address: str, tmp_path: Path) -> None:
    folder = broken_log(
        tmp_path / "log",
        """
        CREATE FUNCTION smudge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.payload ->> 'seq' = '77' THEN
                NEW.payload := overlay(NEW.payload::text PLACING '?' FROM 90)::json;
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER smudge BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION smudge();""",
    )
    flags = ("--scale", "2", "--limit", "200", "--insert-batch", "10", "--payload-bytes", "300", "--log", str(folder))
    ran = bench("run", "--place", "local", "--dsn", address, *flags, "--export-json", "result.json")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert store.load(bench.folder / "result.json").trials[0].verdict.corrupt == 2
    with psycopg.connect(address) as left:
        assert left.execute("SELECT to_regnamespace('bench')").fetchone() == (None,)
