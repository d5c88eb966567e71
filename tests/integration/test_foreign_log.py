"""Somebody else's log under our contract: Message DB as it is published on npm. See docs/bring-your-own-log.md."""

import subprocess
from pathlib import Path

import pytest

from bench.postgres.connection import Connection
from bench.results import store
from tests.conftest import REPOSITORY, Bench

OVERLAPPING = (
    "--scale",
    "8",
    "--limit",
    "200",
    "--insert-batch",
    "5",
    "--transaction-ms",
    "0..10",
    "--abort-rate",
    "0.1",
)


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory, npm: str) -> Path:
    assert npm
    folder = tmp_path_factory.mktemp("logs")
    made = subprocess.run(
        [REPOSITORY / "docs" / "message-db" / "assemble", folder], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder


def test_one_category_is_safe(bench: Bench, connection: Connection, assembled: Path) -> None:
    server = ("--dsn", connection.info.dsn)
    assert bench("logs", "check", str(assembled / "message-db"), *server).returncode == 0
    ran = bench("run", *server, "--mode", "tail", "--log", str(assembled / "message-db"), *OVERLAPPING)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_all_categories_read_by_one_position_are_not(bench: Bench, connection: Connection, assembled: Path) -> None:
    server = ("--dsn", connection.info.dsn)
    checked = bench("logs", "check", str(assembled / "message-db-all"), *server)
    assert checked.returncode == 2
    assert "an event that commits after a later one" in checked.stderr
    words = ("--log", str(assembled / "message-db-all"), "--idle-timeout", "1", "--export-json", "result.json")
    assert bench("run", *server, "--mode", "tail", *words, *OVERLAPPING).returncode == 1
    verdict = store.load(bench.folder / "result.json").trials[0].verdict
    assert verdict.skipped
    assert not verdict.lost
