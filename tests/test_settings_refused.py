"""A setting that Postgres does not take is blamed on where it was given."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import logs, place
from bench.errors import BadInputError, SettingRefusedError
from bench.places import embedded, local
from bench.places.folder import opened
from bench.spec import make
from tests.conftest import broken_log

UNKNOWN = '2026-01-02 FATAL:  unrecognized configuration parameter "no_such"'
WRONG = '2026-01-02 FATAL:  invalid value for parameter "shared_buffers": "x"'


@pytest.mark.parametrize(
    ("words", "given", "asked", "says"),
    [
        (UNKNOWN, {"no_such": "1"}, "", '--set: Postgres says: unrecognized configuration parameter "no_such"'),
        (UNKNOWN, {"jit": "on"}, 'no_such = "1"', "the log mine: log.toml: settings: Postgres says: unrecognized"),
        (WRONG, {}, 'Shared_Buffers = "x"', "the log mine: log.toml: settings: Postgres says: invalid value"),
        (WRONG, {"shared_buffers": "x"}, 'shared_buffers = "1MB"', "--set: Postgres says: invalid value"),
        (WRONG, {}, "", "a setting of this run: Postgres says: invalid value"),
    ],
)
def test_a_setting_is_blamed_on_where_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, given: dict[str, str], asked: str, says: str
) -> None:
    @contextmanager
    def refused(*_: object) -> Iterator[None]:
        raise embedded.refusal(words)
        yield

    monkeypatch.setattr(local, "site", refused)
    folder = broken_log(tmp_path / "mine", "")
    toml = (folder / "log.toml").read_text()
    (folder / "log.toml").write_text(f"settings = {{ {asked} }}\n{toml}")
    spec = make({"place": "local", "set": given}, None)
    with (
        opened("r") as run_folder,
        pytest.raises(BadInputError, match=f"^{says}"),
        place.open_site(place.choose(spec), spec, logs.load(str(folder)), run_folder),
    ):
        pass


def test_the_name_of_a_setting_is_found_where_postgres_gives_it() -> None:
    error = embedded.refusal(WRONG)
    assert isinstance(error, SettingRefusedError)
    assert error.setting == "shared_buffers"
