"""`bench table-size`: one log at several sizes."""

from pathlib import Path

import pytest

from bench.table_size import FILE, TableSizes
from tests.conftest import Bench, broken_log

SMALL = ("--scale", "2", "--insert-batch", "10", "--limit", "200", "--read-batch", "100,10", "--place", "local")


def stored(bench: Bench) -> TableSizes:
    (file,) = (bench.folder / "results" / "runs").glob(f"*/{FILE}")
    return TableSizes.model_validate_json(file.read_text())


def test_each_size_has_a_row_with_its_ratio_to_the_empty_log(bench: Bench, address: str) -> None:
    ran = bench("table-size", "--sizes", "2k,500", "--rounds", "2", *SMALL, "--dsn", address)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("| ")]
    heads, *values = [[cell.strip() for cell in row] for row in rows]
    assert heads == [
        "events before", "MB before", "appended/s", "append p99 ms", "read 100/s", "read 100 p99 ms", "read 10/s",
        "read 10 p99 ms", "verdict",
    ]  # fmt: skip
    assert [row[0] for row in values] == ["0", "500", "2,000"]
    assert {row[-1] for row in values} == {"ok"}
    assert all("(1.00, 1.00..1.00)" in cell for cell in (values[0][2], values[0][4], values[0][6]))
    record = stored(bench)
    assert [result.spec["preload"] for result in record.sizes] == [0, 500, 2000]
    assert [len(result.trials) for result in record.sizes] == [2, 2, 2]
    assert "table-size --sizes 2k,500" in record.command


def test_a_failed_verdict_ends_it_and_is_shown(bench: Bench, address: str, tmp_path: Path) -> None:
    spoil = """
        CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            DELETE FROM events_log WHERE etag = 7 AND EXISTS (SELECT FROM events_log WHERE etag > 500);
            RETURN NULL;
        END $$;
        CREATE TRIGGER spoil AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION spoil();"""
    log = broken_log(tmp_path / "spoiling", spoil)
    ran = bench("table-size", "--sizes", "500,1k", "--log", str(log), *SMALL, "--dsn", address)
    assert ran.returncode == 1, ran.stderr
    assert "FAILED" in ran.stdout
    assert "1 lost" in ran.stdout
    assert [len(result.trials) for result in stored(bench).sizes] == [1, 1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--trials", "2"], "--trials: not a flag of `bench table-size`"),
        (["--preload", "5"], "--preload"),
        (["--rate", "find", "--slo", "append p99 < 50ms"], "--slo: not a flag of `bench table-size`"),
        (["--sizes", "many"], "--sizes"),
        (["--sizes", "1,,2"], "--sizes"),
        (["--rounds", "0"], "--rounds"),
        (["--log", "skip-locked", "--sizes", "10"], "--preload: the log skip-locked"),
    ],
)
def test_flags_that_make_no_sense_are_refused(bench: Bench, flags: list[str], says: str) -> None:
    ran = bench("table-size", *flags)
    assert ran.returncode == 2
    assert says in ran.stderr
