"""Who may import whom."""

import ast
import re
from pathlib import Path

import pytest

from bench.paths import COMPOSE
from bench.places.docker.image import sources
from tests.conftest import REPOSITORY

FILES = sorted(file for package in ("bench", "producers", "consumer") for file in (REPOSITORY / package).rglob("*.py"))
I_O = {"os", "sys", "socket", "subprocess", "pathlib", "psycopg", "time", "docker", "rich", "shutil", "io", "requests"}
FOR_WORKERS = tuple(name[:-3].replace("/", ".") for name in sources() if re.fullmatch(r"bench/[a-z]\w*\.py", name))
"""The modules of `bench` in a worker's image."""
LAYERS = (
    {
        "attribution",
        "errors",
        "flags",
        "histograms",
        "interrupts",
        "job",
        "keepalive",
        "kinds",
        "meter",
        "objectives",
        "output",
        "padding",
        "pairing",
        "paths",
        "phases",
        "quota",
        "records",
        "schedule",
        "shapes",
        "statement",
        "stats",
        "text",
        "values",
        "wire",
    }
    | {"wire_grammar"},
    {"worker", "spec", "eventlog", "judge"},
    {"command", "specfile", "statements", "results", "places"},
    {"postgres"},
    {"run"},
    {"gate", "logs", "explore", "overhead", "selftest", "server", "doctor", "cleanup", "table_size"},
    {"report"},
    {"cli"},
    {"__main__"},
)
"""What may import what: a module its own package, and what stands in a lower layer. Those of the lowest one may import
each other."""
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
DOCKER = ("bench/places/docker/", "bench/places/swarm/")


def test_the_table_of_layers_is_that_of_the_docs() -> None:
    table = (REPOSITORY / "docs" / "architecture.md").read_text().partition("| layer: ")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    listed = [{name.removesuffix(".py").rstrip("/") for name in re.findall(r"`([^`]*)`", row)} for row in rows]
    assert listed == [set(layer) for layer in reversed(LAYERS)]


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it; `from a import b` counts as a and as a.b."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return imported


def path(file: Path) -> str:
    return file.relative_to(REPOSITORY).as_posix()


def room(module: str) -> str:
    """The package of `bench`, or the module next to the packages, that a module belongs to; "" outside of bench."""
    return module.split(".")[1] if module.startswith("bench.") else ""


@pytest.mark.parametrize("file", [file for file in FILES if path(file).startswith("bench/")], ids=path)
def test_a_module_imports_its_own_package_or_a_lower_layer(file: Path) -> None:
    who = path(file)[:-3].replace("/", ".")
    for whom in imports(file):
        if room(whom) and room(whom) != room(who):
            assert LEVEL[room(whom)] < LEVEL[room(who)] or LEVEL[room(who)] == 0, f"{who} imports {whom}"


@pytest.mark.parametrize("file", FILES, ids=path)
def test_what_only_some_may_import(file: Path) -> None:
    who, whom = path(file), imports(file)
    tops = {name.partition(".")[0] for name in whom}
    # An audit takes the rows of a table apart as a consumer takes apart the pages of a log, and an exploration keeps
    # account of the events of a reader as a consumer does.
    if who.startswith("bench/") and who not in {"bench/postgres/stored.py", "bench/explore/judging.py"}:
        assert not tops & {"producers", "consumer"}
    if not who.startswith(DOCKER):
        assert "docker" not in tops
    if not who.startswith("bench/report/") and who != "bench/gate/compare.py":
        assert "pandas" not in tops
    if who.startswith("bench/judge/"):
        assert not tops & I_O
    if not who.startswith("bench/") or who[:-3].replace("/", ".") in FOR_WORKERS:
        assert all(name.startswith(FOR_WORKERS) for name in whom if name.startswith("bench"))


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
