"""How a command line is read back."""

import shlex
import sys

import pytest

from bench.cli.options import typed


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
