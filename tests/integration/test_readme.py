"""The README's commands, in its order, in a checkout whose .venv is there: what `make bench` leaves."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Bench

README = (REPOSITORY / "README.md").read_text()
SMALL = "--place local --scale 1 --limit 100"
SMALLER = {
    "make bench": f'args="{SMALL}"',
    "make stress": 'args="--help"',
    "python -m bench run --mode tail": "--idle-timeout 1 || test $? = 1",
    "python -m bench run --trials": f"{SMALL} --trials 2 --warm-up 0",
    "python -m bench run": f"{SMALL} --idle-timeout 1",
    "python -m bench logs check db/events": "",
    "python -m bench explore db/events": "--seconds 2",
    "python -m bench ab": "--max-trials 6 || test $? -ge 4",
    "python -m bench compare": "|| test $? -ge 4",
}
"""What makes of a command, by how it begins, one that takes seconds. The README's tailed run fails, as it says,
and a gate that sees so little may come to anything."""
ELSEWHERE = {
    "make test": "it would run this test",
    "make stress scale=10": "40 million events; it is `bench run` with a scale, in the Makefile",
    "python -m bench compare-logs": "test_log_commands.py",
    "python -m bench selftest": "test_log_commands.py",
    "python -m bench limits": "test_limits.py",
    'python -m bench ab --both "--log db/events" --a-rev main --b-rev HEAD': "test_gate.py",
    "python -m bench run --scale 9 --insert-batch 10000 --read-batch 1000 --place swarm": "test_swarm.py",
}
"""Why a command is not run here, or where it is."""


def commands() -> list[str]:
    """What stands in the README to be typed, without comments."""
    typed = re.findall(r"^    (?:\$ )?((?:make|python -m bench|docker|\. \.venv)\b.*)$", README, flags=re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for line in typed]


def small(command: str) -> str:
    """A command with so few events that it takes no time."""
    parts = []
    for part in command.split(" && "):
        fitting = [words for start, words in SMALLER.items() if re.match(rf"{start}\b", part)]
        quoted = part.replace("--scale 4 --limit 500000", SMALL)
        quoted = quoted.replace("--log db/events", f"{SMALL} --log db/events") if " ab " in part else quoted
        parts.append(f"{quoted} {fitting[0] if fitting else ''}")
    return " && ".join(parts)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files of this checkout as a repository of its own, with this .venv."""
    folder = tmp_path / "eventlog-bench"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def test_what_is_not_run_here_is_in_the_readme() -> None:
    assert ELSEWHERE.keys() <= set(commands())


def test_commands_work_in_the_order_in_which_they_stand(bench: Bench, checkout: Path) -> None:
    git = "git -c user.name=x -c user.email=x@example.org"
    script = ["set -eu", "git init --quiet --initial-branch main ."]
    for command in commands():
        if command not in ELSEWHERE:
            script += [f"echo {shlex.quote('> ' + command)} >&2", f"{small(command)} < /dev/null"]
        if " logs new " in command:
            script.append(f"git add db && {git} commit --quiet --message log")
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    ran = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=checkout,
        env={**environment, "TMPDIR": str(bench.home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "Traceback" not in ran.stderr
    assert bench.processes() == []


def test_the_sql_that_is_to_be_typed_yields_what_its_comments_say(bench: Bench) -> None:
    page = (REPOSITORY / "docs" / "by-hand.md").read_text()
    statements = re.findall(r"^SELECT.*?;", page.partition("```sql")[2], flags=re.MULTILINE)
    assert len(statements) > 5
    try:
        assert bench("start").returncode == 0
        assert bench("seed").returncode == 0
        for statement in statements:
            typed = bench("psql", "--", "-Atc", statement)
            assert typed.stdout.count("\n") == (3 if "[" in statement else 10 if ", 10)" in statement else 1), statement
    finally:
        bench("stop", "--drop")
