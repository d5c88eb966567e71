"""The newest Python on this machine: what it newly complains about is nothing that a user sees."""

import os
import re
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from tests.conftest import REPOSITORY, Bench
from tests.integration import ours

pytestmark = pytest.mark.docker

NEW = 13
"""Of Python 3: since then exceptions in finalizers are shown that were silent before."""


def _minor(python: Path) -> int:
    """The N of a program called python3.N; 0 of any other, but for the one that runs the tests."""
    if python == Path(sys.executable):
        return sys.version_info.minor
    named = re.fullmatch(r"python3\.(\d+)", python.name)
    return int(named[1]) if named else 0


@pytest.fixture
def newest_python() -> str:
    """The newest Python 3 on the PATH, of pyenv's, or the one that runs the tests."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*map(Path, os.get_exec_path()), *pyenv.glob("versions/*/bin")]
    programs = [program for folder in folders for program in folder.glob("python3.*") if _minor(program)]
    for program in sorted([Path(sys.executable), *programs], key=_minor, reverse=True):
        # pyenv's own commands are on the PATH for each version, and do not run all of them.
        if _minor(program) >= NEW and subprocess.run([program, "-m", "venv", "-h"], check=False).returncode == 0:
            return str(program)
    pytest.skip(f"no Python 3.{NEW} or later")


def test_a_run_in_docker_prints_nothing_that_it_should_not(
    engine: docker.DockerClient, bench: Bench, newest_python: str
) -> None:
    environment = {name: value for name, value in bench.environment().items() if name != "PYTHONPATH"}

    def run(*command: str) -> str:
        ran = subprocess.run(command, cwd=bench.folder, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stderr

    python = str(bench.home / "venv" / "bin" / "python")
    run(newest_python, "-m", "venv", str(bench.home / "venv"))
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", str(REPOSITORY))
    said = run(python, "-X", "dev", "-m", "bench", "run", "--place", "docker", "--scale", "2", "--limit", "100")
    for complaint in ("Exception ignored", "Traceback", "ResourceWarning"):
        assert complaint not in said
    assert ours.left(engine, bench) == []
