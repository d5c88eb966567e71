"""Ten bugs that real logs had. Each is planted in a log that ships, and a run must catch it."""

import re
from pathlib import Path

import psycopg
import pytest

from bench.kinds import KINDS
from bench.paths import SQL
from bench.results import store
from tests.conftest import REPOSITORY, Bench, read_until, wait_until

BUGS = REPOSITORY / "tests" / "logs" / "bugs"

TAILING = ("--mode", "tail", "--scale", "8", "--limit", "1000", "--insert-batch", "5", "--transaction-ms", "0..10")
WAITING = (*TAILING, "--limit", "250")
"""Where appends wait for one another or long transactions are open, the same number of events would take long."""
ALONE = ("--scale", "1", "--limit", "200", "--insert-batch", "10", "--group", "1", "--rejoin", "2")


def planted(folder: Path, bug: str) -> Path:
    """Write the log that a bug is planted in, with the bug; its first line names that log and its cursor."""
    sql = (BUGS / f"{bug}.sql").read_text()
    base = re.match(r"-- on ([a-z-]+)", sql)
    assert base
    log_toml = (SQL / base[1] / "log.toml").read_text()
    if cursor := re.match(r".*?(cursor = \{.*?\})", sql):
        log_toml = re.sub(r"^cursor = .*$", cursor[1], log_toml, flags=re.MULTILINE)
        log_toml = re.sub(r"^passed = .*\n", "", log_toml, flags=re.MULTILINE)  # it is of the other cursor
        log_toml = log_toml.replace('"partitions"', '"no"')
    folder.mkdir()
    (folder / "log.toml").write_text(log_toml)
    (folder / "schema.sql").write_text((SQL / base[1] / "schema.sql").read_text() + sql)
    return folder


@pytest.mark.parametrize(
    ("bug", "kinds", "flags"),
    [
        ("row-trigger", {"skipped"}, WAITING),
        ("cache", {"skipped"}, WAITING),
        ("etag-cursor", {"skipped"}, TAILING),
        ("horizon-second", {"skipped"}, TAILING),
        # A new cluster's transaction ids begin below 1000, where texts and numbers come to have different orders.
        (
            "text-order",
            {"skipped", "duplicated", "reordered"},
            (*TAILING, "--mode", "drain", "--limit", "500", "--transaction-ms", "0"),
        ),
        ("system-xmin", {"reordered"}, TAILING),
        ("category-lock", {"skipped"}, WAITING),
        ("gap-timeout", {"skipped"}, (*WAITING, "--transaction-ms", "0..50")),
        ("backwards", {"duplicated"}, ALONE),
    ],
)
def test_a_bug_is_caught(bench: Bench, address: str, bug: str, kinds: set[str], flags: tuple[str, ...]) -> None:
    folder = planted(bench.folder / bug, bug)
    where = () if bug == "text-order" else ("--dsn", address)
    words = ("--place", "local", *where, "--log", str(folder), "--read-batch", "50", "--idle-timeout", "0.5", *flags)
    ran = bench("run", *words, "--export-json", "result.json")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    verdict = store.load(bench.folder / "result.json").trials[0].verdict
    assert {kind for kind in KINDS if getattr(verdict, kind)} & kinds, verdict


@pytest.mark.parametrize("wake", ["poll", "both"])
def test_a_log_that_only_a_commit_wakes_is_caught(bench: Bench, address: str, wake: str) -> None:
    """The transaction that holds the horizon is rolled back when all others are done: nothing wakes the log's own
    get_event, however often a reader asks."""
    folder = planted(bench.folder / "notify-only", "notify-only")
    words = (
        "run",
        "--place",
        "local",
        "--log",
        str(folder),
        "--dsn",
        address,
        "--mode",
        "tail",
        "--wake",
        wake,
        "--idle-timeout",
        "2",
    )
    all_heard = "SELECT n = (SELECT count(*) FROM bench.wakeups) FROM bench.heard"
    with psycopg.connect(address) as older, psycopg.connect(address, autocommit=True) as looking:
        running = bench.start(*words, "--scale", "2", "--limit", "50", "--insert-batch", "5")
        read_until(running, "append: starting")
        older.execute("SELECT pg_current_xact_id()")
        read_until(running, "append: 100 of 100 events")
        wait_until(lambda: looking.execute(all_heard).fetchone() == (True,), running)
        older.rollback()
        stdout, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert re.search(r"[1-9]\d* withheld", stdout), stdout
