"""Padded payloads cost what they say: they do not compress, however they were appended, and the disk that a run needs
is estimated well."""

from pathlib import Path

import psycopg
import pytest

from bench.postgres.connection import Connection
from bench.results import store
from bench.results.models import Trial
from bench.run.disk import event_bytes
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
