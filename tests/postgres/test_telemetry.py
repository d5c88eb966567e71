"""Statistics views of PostgreSQL 14 to 18 under names of our own."""

import select
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest

from bench.places.local.workers import usage
from bench.postgres.telemetry import counters

DATABASE = {"datname": "postgres", "xact_commit": 10, "blks_hit": 90, "blks_read": 10, "temp_bytes": 0}
TABLES = [{"n_tup_ins": 5, "seq_scan": 1, "idx_scan": 2, "autovacuum_count": 0}, {"n_tup_ins": 1, "seq_scan": 0,
          "idx_scan": None, "autovacuum_count": 1}]  # fmt: skip
WAL_14 = {"wal_records": 4, "wal_fpi": 1, "wal_bytes": 1000, "wal_buffers_full": 0, "wal_write": 7, "wal_sync": 3}
WAL_18 = {"wal_records": 4, "wal_fpi": 1, "wal_bytes": 1000, "wal_buffers_full": 0}
BGWRITER_16 = {"checkpoints_timed": 1, "checkpoints_req": 2, "buffers_checkpoint": 9}
CHECKPOINTER_17 = {"num_timed": 1, "num_requested": 2}
IO_16 = [
    {"object": "relation", "context": "normal", "reads": 3, "writes": 4, "extends": 5, "fsyncs": 6},
    {"object": "relation", "context": "bulkwrite", "reads": None, "writes": 1, "extends": 1, "fsyncs": None},
    {"object": "temp relation", "context": "normal", "reads": 99, "writes": 99, "extends": 99, "fsyncs": None},
]
IO_18 = [*IO_16, {"object": "wal", "context": "normal", "reads": 0, "writes": 7, "extends": None, "fsyncs": 3}]

VERSIONS: dict[str, dict[str, Any]] = {
    "14": {"wal": WAL_14, "bgwriter": BGWRITER_16},
    "16": {"wal": WAL_14, "bgwriter": BGWRITER_16, "io": IO_16},
    "17": {"wal": WAL_14, "bgwriter": {"buffers_clean": 1}, "checkpointer": CHECKPOINTER_17, "io": IO_16},
    "18": {"wal": WAL_18, "bgwriter": {"buffers_clean": 1}, "checkpointer": CHECKPOINTER_17, "io": IO_18},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_says_the_same_in_its_own_words(version: str) -> None:
    by_name = counters({"database": DATABASE, "tables": TABLES, **VERSIONS[version]})
    assert {name: by_name[name] for name in ("wal_bytes", "wal_fsyncs", "commits", "blocks_hit", "rows_inserted")} == {
        "wal_bytes": 1000, "wal_fsyncs": 3, "commits": 10, "blocks_hit": 90, "rows_inserted": 6,
    }  # fmt: skip
    assert (by_name["checkpoints_timed"], by_name["checkpoints_requested"]) == (1, 2)
    assert by_name["index_scans"] == 2
    if version == "14":
        assert "data_writes" not in by_name
    else:
        assert (by_name["data_reads"], by_name["data_writes"], by_name["data_extends"]) == (3, 5, 6)


def test_what_may_not_be_seen_is_left_out() -> None:
    assert counters({}) == {}
    assert counters({"wal": None, "tables": None, "io": None, "sizes": {"table_bytes": 8, "index_bytes": 16}}) == {
        "table_bytes": 8,
        "index_bytes": 16,
    }


def test_what_ended_processes_used_is_never_lost() -> None:
    program = """
import os, time
for _ in range(10):
    if not os.fork():
        end = time.process_time() + 0.1
        while time.process_time() < end: pass
        os._exit(0)
    os.wait()
print("done", flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = []
        while not select.select([process.stdout], [], [], 0)[0]:
            seen.append(usage(process.pid))
        seen.append(usage(process.pid))
        process.communicate(b"\n")
    known = [each.cpu_seconds for each in seen if each]
    assert len(known) == len(seen)
    # The kernel counts in hundredths of a second, and rounds an ended process's otherwise than a living one's.
    assert all(after > before - 0.05 for before, after in pairwise(known))
    assert known[-1] > 10 * 0.1 - 0.05
