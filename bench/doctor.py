"""What is here and what is missing: for `bench doctor`; and the removal of what dead runs left: for `bench clean`."""

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
from bench.postgres import install
from bench.postgres.connection import connected
from bench.quota import processors
from bench.results.models import machine
from bench.run import environment
from bench.run.preflight import FILES_A_WORKER, SPARE_FILES
from bench.spec import MAX_SCALE
from bench.statements import SCHEMA

LEAST_BYTES = 1 << 20
ROOM_BYTES = 1 << 30
"""With less free than this even a small run may not fit: a new data folder alone takes 40 MB, its WAL more."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    state: Literal["ok", "missing", "note"]
    text: str
    place: str | None = None
    """The place that does not work when this is missing."""


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
    """Whether a run could start at all."""
    lacking = {finding.place for finding in findings if finding.state == "missing"}
    return bool({finding.place for finding in findings if finding.place} - lacking)


def clean(*, swarm: bool, dsn: str | None) -> list[str]:
    """Remove what dead runs left on this machine and in its Docker engine; say what was done, a line each.

    In a swarm and in a database too, if one is meant.

    Raises:
        InfrastructureError: the engine is no manager of a swarm, and one is meant; or the database cannot be cleaned.
    """
    dead = rundir.sweep()
    done = [f"removed what run {run_id} left on this machine" for run_id in dead]
    try:
        with engine.failures():
            client = address.connect()
            if swarm:
                cluster.manager_id(client)
            engines = list(images.engines(client, address.contexts()).values()) if swarm else [client]
            done += _swept(leftovers.sweep(engines, dead))
            done += [f"removed {tag}, a worker image of other sources" for tag in image.remove_old(client)]
    except BenchError as error:
        if swarm:
            raise
        done.append(f"Docker was not looked at: {error}")
    if dsn is not None:
        with connected(dsn) as connection:
            if install.clear_left(connection):
                done.append(f"removed the schema {SCHEMA} that a run left in that database")
    copies = sorted(rundir.root().glob("binaries-*"))
    if copies and rundir.somebody_lives():
        done.append("copies of Postgres' programs stay, because a run or the server of `bench start` may use them")
    else:
        for copy in copies:
            shutil.rmtree(copy, ignore_errors=True)
            done.append(f"removed {copy}, a copy of Postgres' programs")
    return done or ["there was nothing to remove"]


def _swept(found: leftovers.Found) -> list[str]:
    removed = sorted({(each.run_id, each.where) for each in found.dead})
    return [
        *(f"removed what run {run_id} left in {where}" for run_id, where in removed),
        *(
            f"left alone what run {each.run_id} has here: {each.origin} started it through another engine of this "
            "swarm, which alone knows whether it lives: run `bench clean` there, or `bench clean --place swarm` where "
            "a Docker context leads to it"
            for each in found.unseen
        ),
    ]


def _attempt(about: str, look: Callable[[], str], place: str) -> Finding:
    try:
        return Finding(about, "ok", look(), place)
    except BenchError as error:
        return Finding(about, "missing", str(error), place)


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
            cluster.manager_id(client)
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
    scale = max(0, (hard - SPARE_FILES) // FILES_A_WORKER) if hard != resource.RLIM_INFINITY else MAX_SCALE
    return Finding(
        "open files",
        "ok" if scale >= 100 else "note",
        f"{hard}: enough for --scale {min(scale, MAX_SCALE)}; ulimit -n raises it",
    )


def _leftovers() -> Finding:
    here = {path.name for path in rundir.dead()}
    looked_at = "on this machine"
    in_docker: set[str] = set()
    with suppress(BenchError), engine.failures():
        in_docker = {each.run_id for each in leftovers.find([address.connect()], sorted(here)).dead}
        looked_at = "on this machine and in its Docker engine"
    if dead := here | in_docker:
        runs = "1 dead run" if len(dead) == 1 else f"{len(dead)} dead runs"
        return Finding("left by runs", "note", f"{runs} left something {looked_at}; `bench clean` removes it")
    return Finding("left by runs", "ok", f"nothing {looked_at}")


def _by_hand() -> Finding:
    data = rundir.by_hand() / "data"
    if not data.exists():
        return Finding("make start", "ok", "no server by hand")
    state = "runs" if rundir.running_postgres(data) else "is stopped; its data stays until `bench stop --drop`"
    return Finding("make start", "note", f"the server by hand {state}")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path if os.access(path, os.R_OK) else path.parent
