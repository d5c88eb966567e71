"""A setting that Postgres does not start with is blamed on where it was given, whatever Postgres says."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench import eventlog
from bench.errors import NotStartedError, SettingRefusedError, UsageError
from bench.places.last_words import reason
from bench.places.local import place as local
from bench.places.rundir import opened
from bench.places.starting import with_settings
from bench.run import place
from bench.specfile import make
from tests.conftest import broken_log

UNKNOWN = "paramètre de configuration « no_such » non reconnu"
WRONG = 'invalid value for parameter "shared_buffers": "x"'
NAMELESS = 'could not access file "nosuch": No such file or directory'


@pytest.mark.parametrize(
    ("words", "given", "asked", "says"),
    [
        (UNKNOWN, {"no_such": "1"}, "", "--set: Postgres says: paramètre"),
        (UNKNOWN, {"jit": "on"}, 'no_such = "1"', "the log mine: log.toml: settings: Postgres says: paramètre"),
        (WRONG, {}, 'Shared_Buffers = "x"', "the log mine: log.toml: settings: Postgres says: invalid value"),
        (WRONG, {"shared_buffers": "x"}, 'shared_buffers = "1MB"', "--set: Postgres says: invalid value"),
        (NAMELESS, {"jit": "on"}, "", "--set: Postgres says: could not access"),
        (NAMELESS, {"jit": "on"}, 'work_mem = "1MB"', "--set or the log mine: log.toml: settings: Postgres says: "),
        (WRONG, {}, "", "a setting of this run: Postgres says: invalid value"),
    ],
)
def test_a_setting_is_blamed_on_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, given: dict[str, str], asked: str, says: str
) -> None:
    @contextmanager
    def refused(*_: object) -> Iterator[None]:
        raise SettingRefusedError(words)
        yield

    monkeypatch.setattr(local, "opened", refused)
    folder = broken_log(tmp_path / "mine", "")
    toml = (folder / "log.toml").read_text()
    (folder / "log.toml").write_text(f"settings = {{ {asked} }}\n{toml}")
    spec = make({"place": "local", "set": given}, None)
    with (
        opened("r") as run_folder,
        pytest.raises(UsageError, match=f"^{says}"),
        place.open_place(place.choose(spec), spec, eventlog.load(str(folder)), run_folder),
    ):
        pass


@pytest.mark.parametrize("broken", [{"a"}, {"a", ""}])
def test_settings_are_the_reason_when_postgres_starts_without_them(broken: set[str]) -> None:
    stopped: list[str] = []

    def start(own: ExitStack, settings: Mapping[str, str]) -> str:
        name = "".join(settings)
        own.callback(stopped.append, name)
        if name in broken:
            raise NotStartedError("no")
        return name

    with ExitStack() as stack:
        with pytest.raises(NotStartedError if "" in broken else SettingRefusedError):
            with_settings(stack, {"a": "1"}, start)
        assert stopped == ["a", ""]
        assert with_settings(stack, {"b": "1"}, start) == "b"
        assert stopped == ["a", ""]
    assert stopped == ["a", "", "b"]


def test_the_reason_is_the_first_complaint_with_its_hint() -> None:
    log = """LOG:  starting
FATAL:  the database system is starting up
FATAL:  could not map memory
DETAIL:  The call was mmap.
HINT:  Reduce shared_buffers.
LOG:  database system is shut down
"""
    assert reason(log, 1) == "could not map memory. The call was mmap. Reduce shared_buffers"
    assert reason("waiting....postgres: too few\n stopped waiting\n", 1) == "too few"
    assert reason("FATALE:  no\n", 1) == "it ended with exit code 1; the last lines of its log:\nFATALE:  no"
