"""Loading a log."""

from pathlib import Path

import pytest

from bench import eventlog
from bench.errors import UsageError
from bench.paths import SQL
from tests.conftest import write_log


def test_every_log_that_ships_can_be_loaded() -> None:
    assert "bigserial" in eventlog.shipped()
    for name in eventlog.shipped():
        assert eventlog.load(name).name == name


def test_a_folder_of_the_users_own(tmp_path: Path) -> None:
    log = eventlog.load(str(write_log(tmp_path / "mine", "SELECT 1", append='["copy"]')))
    assert (log.name, log.append, log.schema_sql) == ("mine", ["copy"], "SELECT 1")


def test_logs_side_by_side_are_called_by_the_end_of_their_path_that_tells_them_apart(tmp_path: Path) -> None:
    paths = ["a/events", "b/events", "b/other", "mine/counter"]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        write_log(tmp_path / path, "SELECT 1")
    again = [str(tmp_path / "b" / "." / "events") + "/", str(SQL / "counter")]
    logs = eventlog.load_side_by_side(["counter", *(str(tmp_path / path) for path in paths), *again])
    assert [log.name for log in logs.values()] == ["counter", "a/events", "b/events", "other", "mine/counter"]
    assert logs["counter"] == eventlog.load("counter")


def test_short_names_of_paths_that_may_be_gone() -> None:
    assert eventlog.short_names(["/x/a/events", "/x/b/events/"]) == {
        "/x/a/events": "a/events",
        "/x/b/events/": "b/events",
    }
    assert eventlog.short_names(["events", "x/events", "."]) == {"events": "events", "x/events": "x/events", ".": "."}
    assert eventlog.short_names(["/x/events", "/x/events/"]) == {"/x/events": "events", "/x/events/": "events"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"table": '"events; DROP"'}, "table: String should match"),
        ({"cursor": "[]"}, "cursor: Input should be a valid dictionary"),
        ({"cursor": '{ payload = "json" }'}, "cursor: payload cannot be a part of the cursor"),
        ({"cursor": '{ etag = "bigint); DROP" }'}, "cursor.etag: String should match"),
        ({"append": '["telepathy"]'}, "append.0: Input should be"),
        ({"passed": '"etag <= $3"'}, r"passed: \$3 .*\$1 \(etag\)"),
        ({"passed": '"etag <= $0"'}, r"passed: \$0 .*\$1 \(etag\)"),
        ({"passed": '"etag <= $1"', "cursor": "{}"}, r"passed: \$1 .*no columns"),
        ({"postgres": "9"}, "postgres: Input should be greater"),
        ({"title": "1"}, "title: Input should be a valid string"),
        ({"title": '"t"\ncolour = "red"'}, "colour: Extra inputs"),
        ({"title": "="}, "log.toml: Invalid value"),
    ],
)
def test_a_log_toml_that_is_wrong_is_named_with_its_key(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    folder = write_log(tmp_path, "", **changes)
    with pytest.raises(UsageError, match=says) as refused:
        eventlog.load(str(folder))
    assert str(folder / "log.toml") in str(refused.value)


@pytest.mark.parametrize("missing", ["log.toml", "schema.sql"])
def test_a_file_that_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    (write_log(tmp_path, "") / missing).unlink()
    with pytest.raises(UsageError, match=f"{missing} is missing"):
        eventlog.load(str(tmp_path))


def test_each_log_has_a_header_that_says_how_it_works_and_when_it_breaks() -> None:
    for name in eventlog.shipped():
        header = (SQL / name / "schema.sql").read_text().partition("\nCREATE")[0]
        for word in ("How it works", "Promises", "Breaks", "Stalls"):
            assert f"-- {word} " in header, name
