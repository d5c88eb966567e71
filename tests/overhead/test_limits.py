"""PostgreSQL's own programs as commands, what they print, and the table of limits."""

from datetime import UTC, datetime

import pytest

from bench import stats
from bench.errors import InfrastructureError
from bench.eventlog import load
from bench.overhead import programs
from bench.overhead.measure import Limits, Pairing
from bench.report import overhead as overhead_report
from bench.results.environment import Environment
from bench.spec import Spec
from bench.statements import append_sql, read_sql
from tests.conftest import golden

PRINTED = """
transaction type: -
number of transactions actually processed: 1000/1000
number of failed transactions: 0 (0.000%)
latency average = 0.6 ms
tps = 1634.273000 (without initial connection time)
"""


def test_pgbench_makes_the_calls_that_workers_make() -> None:
    log = load("bigserial")
    reads = programs.pgbench_reads("bench_read", read_sql(log, 100), 100, pages=10, readings=3)
    assert reads.script == (
        "SELECT etag, ctime, payload FROM get_event(:last::bigint, 100);\n\\set last (:last + 100) % 1000\n"
    )
    assert "--transactions=30" in reads.command
    assert reads.variables == {"PGOPTIONS": "-c search_path=bench_read"}
    spec = Spec(append="generate", set={})
    generates = programs.pgbench_generates("bench", append_sql(spec, log), 50, 2, 3, 1)
    assert "generate_series(:first::bigint, :last::bigint)" in generates.script
    assert ":client_id::int" in generates.script
    assert "$" not in generates.script
    appends = programs.pgbench_appends("bench", append_sql(Spec(set={}), log), "[1]", 10, 5)
    assert appends.script == "SELECT count(*)::text FROM log_event(:event::json);\n"


def test_pgbench_that_did_not_do_all_is_no_rival() -> None:
    assert programs.pgbench_rate(PRINTED) == 1634.273
    with pytest.raises(InfrastructureError, match="pgbench did not complete"):
        programs.pgbench_rate(PRINTED.replace("1000/", "999/"))


def test_pgbenchs_latencies_are_those_of_its_log() -> None:
    program = programs.pgbench_offers("bench", append_sql(Spec(set={}), load("bigserial")), "[1]", 10, 1000, 2.5)
    assert {"--rate=1000", "--transactions=250", "--jobs=10", "--log"} <= set(program.command)
    log = "0 1 1500 0 1764277200 123456 40\n9 250 2000000 0 1764277202 1 1999000\n"
    assert programs.pgbench_latencies(PRINTED + log) == [1.5, 2000]
    with pytest.raises(InfrastructureError, match="pgbench did not complete"):
        programs.pgbench_latencies(PRINTED.replace("1000/", "999/") + log)


def test_psqls_time_is_of_all_rows() -> None:
    printed = "COPY 10\nTiming is on.\nCOPY 10\nTime: 2500.000 ms (00:02.500)\n"
    assert programs.psql_seconds(printed, 10) == 2.5
    assert programs.psql_seconds(printed + "COPY 10\nTime: 1500.000 ms (00:01.500)\n", 10) == 2.0
    with pytest.raises(InfrastructureError, match="11 rows"):
        programs.psql_seconds(printed, 11)


def test_the_median_and_its_interval() -> None:
    assert stats.median([2.0]) == (2.0, 2.0, 2.0)
    assert stats.median([1.0, 2.0, 3.0, 4.0, 100.0]) == (3.0, 1.0, 100.0)
    assert stats.interval_name(5) == "range"
    value, low, high = stats.median([1.0, 2.0, 3.0, 4.0, 5.0, 100.0])
    assert value == 3.5
    assert 1.0 <= low <= value <= high <= 100.0
    assert stats.interval_name(6) == "95 % interval"


def test_the_table() -> None:
    where = Environment(
        place="local", cpu="A CPU", cores=2, memory_bytes=2**33, kernel="Linux 6", python="3.13.0", bench="0.1.0",
        git_revision=None, postgres="18.6", settings={"max_wal_size": "4GB"}, about={},
    )  # fmt: skip
    ours, theirs = "consumer", "pgbench, rows thrown away"
    contests = [
        Pairing(name="read 1,000", ours=ours, theirs=theirs, unit="events/s", target=1.0, pairs=[(3e6, 2e6)] * 3),
        Pairing(name="read 10", ours=ours, theirs=theirs, unit="events/s", target=0.95, pairs=[(90.0, 100.0)] * 3),
        Pairing(name="memory", ours="grown", theirs="small", unit="bytes", target=1 / 1.05, pairs=[(2**20, 2**20)] * 3),
        Pairing(name="p99", ours=ours, theirs=theirs, unit="ms", target=0.9, pairs=[(2.5, 2.4)] * 3),
    ]
    limits = Limits(
        run_id="20260102-030405-abcd", started_at=datetime(2026, 1, 2, tzinfo=UTC), rounds=3, events=1000, grown=0,
        environment=where, contests=contests, first_event_seconds=[1.5, 1.6, 2.5], first_event_target=2,
        lateness_p99_ms=[0.2, 0.3, 1.5],
    )  # fmt: skip
    golden("limits.md", overhead_report.whole(limits) + "\n")
    assert not overhead_report.met(limits)
    assert overhead_report.met(limits.model_copy(update={"contests": contests[::2]}))
    late = limits.model_copy(update={"contests": contests[::2], "lateness_p99_ms": [0.2, 1.5, 1.5]})
    assert not overhead_report.met(late)
    once = limits.model_copy(update={"rounds": 1})
    assert overhead_report.met(once)
    assert "MISSED" not in overhead_report.whole(once)
    assert "1 round" in overhead_report.whole(once)
