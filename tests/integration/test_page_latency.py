"""A page's latency is the server's: it ends when the page is there, before the consumer looks at anything."""

import time
from collections.abc import Iterator

import psycopg
import pytest

from bench import eventlog, meter
from bench.postgres.connection import Connection
from bench.records import Interval, Record, Report
from bench.results.models import Latency
from bench.results.timeline import Timeline
from bench.run.jobs import consumers
from bench.specfile import make
from bench.statements import SCHEMA
from consumer import __main__ as consumer
from consumer.ledger import MANY, MANY_BYTES, Ledger
from consumer.rows import Page

LOOK_SECONDS = 1000.0


@pytest.fixture
def slow_looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each look at what was read takes a quarter of an hour, by the clock that the consumer goes by."""
    looks: list[float] = []
    clock, look = time.perf_counter, Ledger.look

    def slow_look(self: Ledger, at: float = 0) -> Iterator[None]:
        looks.append(at)
        return look(self, at)

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + LOOK_SECONDS * len(looks))
    monkeypatch.setattr(Ledger, "look", slow_look)
    return looks


@pytest.mark.parametrize("mode", ["drain", "tail"])
def test_looking_is_not_in_the_latency_of_the_page_that_is_looked_at(
    log: Connection, slow_looks: list[float], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    log.execute(
        """INSERT INTO events_log (payload)
           SELECT json_build_object('producer', 0, 'seq', i, 'value', i) FROM generate_series(0, 49) AS i"""
    )
    said: list[Record] = []
    for module in (consumer, meter):
        monkeypatch.setattr(module, "say", said.append)
    (job,) = consumers(make({"limit": 50, "mode": mode}, None), eventlog.load("bigserial"), 100)
    with psycopg.connect(log.info.dsn, autocommit=True, options=f"-c search_path={SCHEMA}") as session:
        session.pgconn.nonblocking = 0
        consumer.consume(session, job)
    report = said[-1]
    assert isinstance(report, Report)
    assert report.events == 50
    assert slow_looks
    timeline = Timeline()
    for record in said:
        if isinstance(record, Interval) and record.metric == "read":
            timeline.add(record.second, record.buckets)
    latency = Latency.from_buckets(timeline.total())
    assert latency
    assert latency.max < LOOK_SECONDS * 1e3


@pytest.mark.parametrize(("events", "size"), [(MANY, 40), (20, MANY_BYTES)])
def test_what_is_put_aside_is_looked_at_while_it_is_little(events: int, size: int) -> None:
    assert Ledger(limit=1).take(Page(bytes(size), events))
    assert not Ledger(limit=1).take(Page(bytes(size - 1), min(events, MANY - 1)))
