"""A page is never larger than was asked for, or the log is at fault; one that is always smaller is said to be."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import eventlog
from bench.job import ConsumerJob
from bench.postgres.connection import Connection
from bench.records import Report
from bench.run.jobs import consumers
from bench.specfile import make
from consumer import reader
from tests.conftest import Bench, broken_log
from tests.integration.test_workers import work

BIGSERIAL = eventlog.load("bigserial")
EVENTS = 100

LIMITED = """
    CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE sql STABLE AS
    $$SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag LIMIT {limit}$$;"""
CLIENT_LIMITED = """
    CREATE TABLE read_up_to (etag bigint);
    INSERT INTO read_up_to VALUES (0);
    CREATE OR REPLACE FUNCTION get_event(client text, max_events bigint DEFAULT 1)
    RETURNS SETOF events_log LANGUAGE sql AS
    $$WITH page AS (SELECT * FROM events_log WHERE etag > (SELECT etag FROM read_up_to) ORDER BY etag LIMIT {limit}),
           moved AS (UPDATE read_up_to SET etag = (SELECT max(etag) FROM page) WHERE EXISTS (SELECT FROM page))
      SELECT * FROM page$$;"""


def filled(log: Connection, schema_sql: str) -> None:
    log.execute(schema_sql.encode())
    log.execute(
        "SELECT count(*) FROM log_event((SELECT json_agg(json_build_object('producer', 0, 'seq', i, 'value', i))"
        f" FROM generate_series(0, {EVENTS - 1}) AS i))".encode()
    )


def job(**flags: Any) -> ConsumerJob:
    spec = make({"scale": 1, "limit": EVENTS, "read_batch": [10], **flags}, None)
    return consumers(spec, BIGSERIAL, 10)[0]


CLIENT = {"cursor": "client"}
SEVERAL = {"cursor": "client", "depth": 3}
GROUP = {"group": 2, "rejoin": 1}


@pytest.mark.parametrize(
    ("flags", "schema_sql", "limit", "largest", "oversized"),
    [
        ({}, LIMITED, "max_events", 10, 0),
        ({}, LIMITED, "max_events * 5", 50, 2),
        ({}, LIMITED, "CASE WHEN last_etag = 30 THEN 11 ELSE 10 END", 11, 1),
        ({}, LIMITED, "CASE WHEN max_events > 2 THEN 100000000 ELSE max_events END", 100, 1),
        ({}, LIMITED, "least(max_events, 4)", 4, 0),
        (CLIENT, CLIENT_LIMITED, "max_events * 5", 50, 2),
        (SEVERAL, CLIENT_LIMITED, "max_events", 10, 0),
        # Of the reads that were sent together the first has more, and together they have no more than was asked for.
        (SEVERAL, CLIENT_LIMITED, "CASE WHEN (SELECT etag FROM read_up_to) % 30 = 0 THEN 28 ELSE 1 END", 28, 3),
        (GROUP, CLIENT_LIMITED, "max_events * 5", 50, 2),
    ],
)
def test_a_reader_notes_pages_that_are_larger_than_it_asked_for(
    log: Connection, flags: dict[str, Any], schema_sql: str, limit: str, largest: int, oversized: int
) -> None:
    filled(log, schema_sql.format(limit=limit))
    code, records, stderr = work("consumer", log, job(**flags))
    assert (code, stderr) == (0, "")
    report = records[-1]
    assert isinstance(report, Report)
    assert (report.events, report.largest_page, report.oversized_pages) == (EVENTS, largest, oversized)


def test_what_libpq_reads_is_counted_alike(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(log, LIMITED.format(limit="max_events * 5"))
    monkeypatch.setattr(reader, "is_unencrypted", lambda _: False)
    source = reader.source(log, job())
    source.ask()
    assert source.wait() == 50
    assert source.page().largest == 50


def test_a_log_whose_pages_are_larger_than_asked_for_fails_and_has_no_rate(bench: Bench, address: str) -> None:
    folder = broken_log(bench.folder / "over", LIMITED.format(limit="max_events * 5"))
    words = ("--log", str(folder), "--scale", "2", "--limit", "500", "--insert-batch", "100", "--read-batch", "10,7")
    ran = bench("run", "--place", "local", "--dsn", address, *words, "--export-json", "result.json")
    assert ran.returncode == 1, ran.stderr
    said = " ".join(ran.stdout.split())
    assert (
        "verdict: FAILED. Of 1,000 acknowledged events: "
        "consumer-10: pages of 10 held up to 50 events: get_event ignores its limit, "
        "consumer-7: pages of 7 held up to 35 events: get_event ignores its limit."
    ) in said
    assert "consumer-10: 20 oversized pages" in said
    (trial,) = json.loads((bench.folder / "result.json").read_text())["trials"]
    assert [read["events_per_second"] for read in trial["reads"]] == [None, None]
    assert [read["largest_page"] for read in trial["reads"]] == [50, 35]


def test_a_log_whose_pages_are_smaller_than_asked_for_is_right_and_said_to_have_them(
    bench: Bench, address: str, tmp_path: Path
) -> None:
    folder = broken_log(tmp_path / "under", LIMITED.format(limit="least(max_events, 10)"))
    words = ("--log", str(folder), "--scale", "2", "--limit", "500", "--insert-batch", "100", "--read-batch", "100,10")
    ran = bench("run", "--place", "local", "--dsn", address, *words)
    assert ran.returncode == 0, ran.stderr
    assert len(re.findall("no page held more than", ran.stdout)) == 1
    assert re.search(r"^read 100 .*\n +no page held more than 10 events$", ran.stdout, re.MULTILINE)
