"""How a command line is read back."""

import shlex
import sys
from pathlib import Path

import pytest

from bench.cli.options import parsed, typed


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("run --scale 2", "run --scale 2"),
        ("run --output x --scale 2", "run --scale 2"),
        ("run --output=x", "run"),
        ("run --dsn postgresql://me:hush@db/x --quiet", 'run --dsn "user=me dbname=x host=db" --quiet'),
        ("run '--dsn=host=db password=hush'", "run --dsn host=db"),
        ("ab --b '--set x=a b'", "ab --b '--set x=a b'"),
    ],
)
def test_a_command_is_kept_as_it_was_typed_but_for_a_password(
    words: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *shlex.split(words)])
    assert shlex.split(typed()) == ["python", "-m", "bench", *shlex.split(shown)]


def test_the_flags_of_both_sides_and_of_one_are_put_together() -> None:
    flags, file = parsed({"--both": "both.toml", "--a": "--limit 5 --set 'x=a b'"})
    assert (flags["limit"], flags["set"], file) == ("5", {"x": "a b"}, Path("both.toml"))
    assert parsed({"--both": "--limit 5", "--b": "--limit 6"})[0]["limit"] == "6"
