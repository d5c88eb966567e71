"""Who may import whom."""

import ast
import re
from pathlib import Path

import pytest

from bench.files import COMPOSE
from bench.places.image import sources
from tests.conftest import REPOSITORY

FILES = sorted(file for package in ("bench", "producers", "consumer") for file in (REPOSITORY / package).rglob("*.py"))
I_O = {"os", "sys", "socket", "subprocess", "pathlib", "psycopg", "time", "docker", "rich", "shutil", "io", "requests"}
FOR_WORKERS = tuple(name[:-3].replace("/", ".") for name in sources() if re.fullmatch(r"bench/[a-z]\w*\.py", name))
"""What a worker's image has of `bench`."""
DOCKER_PLACES = {
    "bench/places/address.py",
    "bench/places/credentials.py",
    "bench/places/leftovers.py",
    "bench/places/stream.py",
    "bench/places/container.py",
    "bench/places/docker.py",
    "bench/places/engine.py",
    "bench/places/cluster.py",
    "bench/places/image.py",
    "bench/places/registry.py",
    "bench/places/service.py",
    "bench/places/swarm.py",
    "bench/places/tasks.py",
    "bench/places/tunnel.py",
}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it; `from a import b` counts as a and as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def path(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("file", FILES, ids=path)
def test_imports_run_against_the_arrow_only(file: Path) -> None:
    who, whom = path(file), imports(file)
    tops = {name.partition(".")[0] for name in whom}
    if who != "bench/__main__.py":
        assert "bench.cli" not in whom
    if who != "bench/cli.py":
        assert "bench.run" not in whom
    if who.startswith("bench/"):
        assert not tops & {"producers", "consumer"}
    else:
        ours = {name for name in whom if name.startswith("bench")}
        assert all(name.startswith(FOR_WORKERS) for name in ours)
    if who not in DOCKER_PLACES:
        assert "docker" not in tops
    if who not in {"bench/table.py", "bench/compare.py"}:
        assert "pandas" not in tops
    if who in {"bench/checker.py", "bench/ranges.py"}:
        assert not tops & I_O
    if who[:-3].replace("/", ".") in FOR_WORKERS:
        assert all(name.startswith(FOR_WORKERS) for name in whom if name.startswith("bench"))
    if who.startswith("bench/places/"):
        assert "bench.spec" not in whom


def test_the_worker_image_copies_what_its_build_is_given() -> None:
    (copied,) = re.findall(
        r"^COPY (bench/.*) /worker/bench/$", (COMPOSE / "worker.Dockerfile").read_text(), re.MULTILINE
    )
    assert set(copied.split()) == {name for name in sources() if name.startswith("bench/")}


def test_packages_are_empty_so_that_workers_start_fast() -> None:
    for file in FILES:
        if file.name == "__init__.py":
            assert file.read_text() == ""


def test_modules_say_what_they_are_for() -> None:
    for file in FILES:
        if file.name != "__init__.py":
            assert ast.get_docstring(ast.parse(file.read_text())), path(file)
