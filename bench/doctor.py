"""Looks at everything that a run may need, for `bench doctor`: what is here, and what is missing."""

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench import eventlog
from bench.errors import BenchError
from bench.places import rundir
from bench.places.docker import address, engine, image, leftovers
from bench.places.docker.options import POSTGRES_IMAGE
from bench.places.local import postgres as embedded
from bench.places.swarm import cluster, images
from bench.quota import processors
from bench.results.environment import machine
from bench.run import environment
from bench.run.preflight import FILES_PER_WORKER, SPARE_FILES
from bench.spec import MAX_SCALE

LEAST_BYTES = 1 << 20
ROOM_BYTES = 1 << 30
"""With less free disk even a small run may not fit: a new data folder alone takes 40 MB, its WAL more."""


@dataclass(frozen=True)
class Finding:
    """The state of one thing that a run may need."""

    about: str
    state: Literal["ok", "missing", "note"]
    text: str
    place: str | None = None
    """The place that does not work without this thing."""


def examine() -> list[Finding]:
    """Look at everything that a run may need."""
    return [
        Finding("machine", "ok", _machine()),
        Finding(
            "bench",
            "ok",
            f"{environment.bench_version()}, Python {environment.python()}, logs: {', '.join(eventlog.shipped())}",
        ),
        _attempt("local place", _embedded, "local"),
        _attempt("docker place", _docker, "docker"),
        *_swarm(),
        *_images(),
        _disk(_existing(rundir.root())),
        _open_files(),
        _leftovers(),
        _by_hand(),
    ]


def some_place_works(findings: Sequence[Finding]) -> bool:
    """Whether a run could start in some place."""
    broken = {finding.place for finding in findings if finding.state == "missing"}
    return bool({finding.place for finding in findings if finding.place} - broken)


def _attempt(about: str, look: Callable[[], str], place: str) -> Finding:
    try:
        return Finding(about, "ok", look(), place)
    except BenchError as error:
        return Finding(about, "missing", str(error), place)


def _machine() -> str:
    limits = environment.control_group_limits()
    size = machine(processors(), environment.memory_bytes(), limits)
    return f"{environment.cpu()}, {size}, {environment.kernel()}"


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
    """Report the swarm that the engine manages; nothing of an engine that manages none."""
    try:
        with engine.failures():
            client = address.connect()
            cluster.refuse_unless_manager(client)
            up = sorted(node.name for node in cluster.nodes(client).values() if node.is_up)
            reached = sorted(images.engines(client, address.contexts()))
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
        for name in (POSTGRES_IMAGE, image.BASE)
    ]


def _disk(path: Path) -> Finding:
    about, place = "disk, local", "local"
    free = shutil.disk_usage(path).free
    text = f"{free / 2**30:.1f} GiB free in {path}; TMPDIR names another"
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(LEAST_BYTES))
            file.flush()
    except OSError as error:
        return Finding(
            about, "missing", f"{path} takes no files ({error.strerror}); TMPDIR names another folder", place
        )
    return Finding(about, "ok" if free > ROOM_BYTES else "note", text, place)


def _open_files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    scale = max(0, (hard - SPARE_FILES) // FILES_PER_WORKER) if hard != resource.RLIM_INFINITY else MAX_SCALE
    return Finding(
        "open files",
        "ok" if scale >= 100 else "note",
        f"{hard}: enough for --scale {min(scale, MAX_SCALE)}; ulimit -n raises it",
    )


def _leftovers() -> Finding:
    dead = {path.name for path in rundir.dead()}
    looked_at = "on this machine"
    with suppress(BenchError), engine.failures():
        dead |= {each.run_id for each in leftovers.find([address.connect()], sorted(dead)).dead}
        looked_at = "on this machine and in its Docker engine"
    if dead:
        runs = "1 dead run" if len(dead) == 1 else f"{len(dead)} dead runs"
        return Finding("left by runs", "note", f"{runs} left something {looked_at}; `bench clean` removes it")
    return Finding("left by runs", "ok", f"nothing {looked_at}")


def _by_hand() -> Finding:
    data = rundir.by_hand() / "data"
    if not data.exists():
        return Finding("bench start", "ok", "no server")
    state = "runs" if rundir.running_postgres(data) else "is stopped; its data stays until `bench stop --drop`"
    return Finding("bench start", "note", f"the server {state}")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path if os.access(path, os.R_OK) else path.parent
