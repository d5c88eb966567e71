"""What is here and what is missing: for `bench doctor`; and the removal of what dead runs left: for `bench clean`."""

import os
import resource
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench import environment, logs
from bench.errors import BenchError
from bench.place import FILES_A_WORKER, SPARE_FILES
from bench.places import address, cluster, container, embedded, engine, folder, image, registry
from bench.places import swarm as places_swarm
from bench.quota import processors
from bench.results import machine
from bench.spec import MAX_SCALE


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    state: Literal["ok", "missing", "note"]
    text: str
    place: str | None = None
    """The place that works when this is ok."""

    def line(self) -> str:
        """For a person."""
        return f"{self.state:<8} {self.about:<16} {self.text}"


def examine() -> list[Finding]:
    """Look at everything that a run may need."""
    return [
        Finding("machine", "ok", _machine()),
        Finding(
            "bench",
            "ok",
            f"{environment.bench_version()}, Python {environment.python()}, logs: {', '.join(logs.shipped())}",
        ),
        _attempt("local place", _embedded, "local"),
        _attempt("docker place", _docker, "docker"),
        *_swarm(),
        *_images(),
        _disk("disk, local", _existing(folder.root())),
        _open_files(),
        _leftovers(),
        _by_hand(),
    ]


def some_place_works(findings: Sequence[Finding]) -> bool:
    """Whether a run could start at all."""
    return any(finding.state == "ok" and finding.place for finding in findings)


def clean(*, swarm: bool) -> list[str]:
    """Remove what dead runs left on this machine and in its Docker engine; say what was done, a line each.

    In a swarm too, if one is meant.

    Raises:
        OutsideError: the engine is no manager of a swarm, and one is meant.
    """
    done = [f"removed what run {run_id} left on this machine" for run_id in folder.sweep()]
    try:
        with engine.failures():
            client = address.connect()
            done += [f"removed what run {run_id} left in Docker" for run_id in engine.sweep(client)]
            done += [f"removed {tag}, a worker image of other sources" for tag in image.remove_old(client)]
    except BenchError as error:
        done.append(f"Docker was not looked at: {error}")
    if swarm:
        done += [f"removed what run {run_id} left in the swarm" for run_id in places_swarm.clean()]
    for copies in folder.root().glob("binaries-*"):
        shutil.rmtree(copies, ignore_errors=True)
        done.append(f"removed {copies}, a copy of Postgres' programs")
    return done or ["there was nothing to remove"]


def _attempt(about: str, look: Callable[[], str], place: str) -> Finding:
    try:
        return Finding(about, "ok", look(), place)
    except BenchError as error:
        return Finding(about, "missing", str(error))


def _machine() -> str:
    limits = environment.control_group_limits()
    has = machine(processors(), environment.memory_bytes(), limits)
    return f"{environment.cpu()}, {has}, {environment.kernel()}"


def _embedded() -> str:
    programs = embedded.binaries(None)
    return f"PostgreSQL {programs.version} in {programs.folder}, run by {programs.user or 'you'}"


def _docker() -> str:
    with engine.failures():
        client = address.connect()
        free = engine.free_bytes(client)
        version = client.version()
    space = "free disk not visible from here" if free is None else f"{free / 2**30:.0f} GiB free"
    return f"engine {version['Version']}, API {version['ApiVersion']}, {space}"


def _swarm() -> list[Finding]:
    """The swarm that the engine manages; nothing to tell of an engine that is in none."""
    try:
        with engine.failures():
            client = address.connect()
            cluster.refuse_worker(client)
            up = sorted(node.name for node in cluster.nodes(client).values() if node.is_up)
            reached = sorted(registry.engines(client, address.contexts()))
    except BenchError:
        return []
    return [
        Finding("swarm place", "ok", f"nodes {', '.join(up)}; Docker contexts lead to {', '.join(reached)}", "swarm")
    ]


def _images() -> list[Finding]:
    try:
        with engine.failures():
            present = {tag for image in address.connect().images.list() for tag in image.tags}
    except BenchError:
        return []
    return [
        Finding("image", "ok", name)
        if name in present
        else Finding("image", "note", f"{name} is not here yet; the first run pulls it, or: docker pull {name}")
        for name in (container.POSTGRES_IMAGE, "python:3.13-slim")
    ]


def _disk(about: str, path: Path) -> Finding:
    return Finding(about, "ok", f"{shutil.disk_usage(path).free / 2**30:.0f} GiB free in {path}; TMPDIR names another")


def _open_files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    scale = max(0, (hard - SPARE_FILES) // FILES_A_WORKER) if hard != resource.RLIM_INFINITY else MAX_SCALE
    return Finding(
        "open files",
        "ok" if scale >= 100 else "note",
        f"{hard}: enough for --scale {min(scale, MAX_SCALE)}; ulimit -n raises it",
    )


def _leftovers() -> Finding:
    dead = [path.name for path in folder.root().glob("*/lock") if not folder.is_held(path)]
    if dead:
        return Finding("left by runs", "note", f"{len(dead)} dead runs left something here; `bench clean` removes it")
    return Finding("left by runs", "ok", "nothing on this machine")


def _by_hand() -> Finding:
    data = folder.by_hand() / "data"
    if not data.exists():
        return Finding("make start", "ok", "no server by hand")
    state = "runs" if folder.running_postgres(data) else "is stopped; its data stays until `bench stop --drop`"
    return Finding("make start", "note", f"the server by hand {state}")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path if os.access(path, os.R_OK) else path.parent
