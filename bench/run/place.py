"""Chooses the place that a spec asks for and opens it. Where a place's own words and a spec's meet."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

from bench.errors import SettingRefusedError, UsageError
from bench.eventlog import Log
from bench.places.api import Site
from bench.places.local import place as local
from bench.places.rundir import RunFolder
from bench.spec import Spec

SPARE_CONNECTIONS = 20
"""For the orchestrator, a person who looks, and Postgres' own reserve."""
DEFAULT_MAX_CONNECTIONS = 100


@dataclass(frozen=True)
class Choice:
    """A place, and in one line why it was taken."""

    name: Literal["local", "docker", "swarm"]
    why: str
    instead_of: str = ""
    """Where somebody meant to run and cannot, why, and what to do: to be said even when nothing else is."""


def choose(spec: Spec) -> Choice:
    """Take the place that was asked for; for `auto` Docker when an engine answers, else local.

    Raises:
        InfrastructureError: Docker was asked for and no engine answers, or a swarm and the engine is no manager of one.
    """
    if spec.place == "local":
        return Choice("local", "asked for")
    if spec.place == "auto" and spec.dsn:
        return Choice("local", "Postgres is given by --dsn; --place docker would run the workers in containers")
    if spec.place == "auto" and spec.pg_bin:
        return Choice("local", "--pg-bin is given")
    from bench.places.docker import address  # noqa: PLC0415 - so that the local place does not wait for Docker's client to load

    try:
        client = address.connect()
        version = client.version()["Version"]
    except address.NoEngineError as error:
        if spec.place != "auto":
            raise
        return Choice("local", error.reason, f"not in Docker: {error}" if error.is_named else "")
    if spec.place == "swarm":
        from bench.places.swarm import cluster  # noqa: PLC0415

        cluster.refuse_worker(client)
        up = [node.name for node in cluster.nodes(client).values() if node.is_up]
        return Choice("swarm", f"asked for; it has {len(up)} nodes that are up: {', '.join(sorted(up))}")
    return Choice("docker", "asked for" if spec.place == "docker" else f"a Docker engine answers ({version})")


@contextmanager
def open_site(choice: Choice, spec: Spec, log: Log, folder: RunFolder) -> Iterator[Site]:
    """Open the place: a Postgres that answers and a way to start workers beside it, both gone at the end.

    Raises:
        UsageError: Postgres does not take a setting; the message says where it was given.
        BenchError: the place cannot be opened.
    """
    try:
        with _site(choice, spec, log, folder) as site:
            yield site
    except SettingRefusedError as error:
        raise UsageError(f"{_where_given(error.reason, spec, log)}: {error}") from error


def _where_given(reason: str, spec: Spec, log: Log) -> str:
    """Where the setting comes from that Postgres does not start with.

    It is one that Postgres's words name, which they do not always; --set goes before what the log asks for.
    """
    sources = {"--set": spec.set, f"the log {log.name}: log.toml: settings": log.settings}
    named = {name.lower() for name in re.findall(r"[\w.]+", reason)}
    for where, settings in sources.items():
        if named & {name.lower() for name in settings}:
            return where
    return " or ".join(where for where, settings in sources.items() if settings) or "a setting of this run"


def _site(choice: Choice, spec: Spec, log: Log, folder: RunFolder) -> AbstractContextManager[Site]:
    if spec.dsn is None:
        # Where Postgres is ours, so is the way to it: nothing of the user's environment may lead elsewhere.
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]
    if choice.name != "local":
        return _containers_site(choice, spec, log, folder)
    if spec.dsn is not None:
        return local.site_on(spec.dsn, folder)
    return local.site(folder, spec.pg_bin, _settings(spec, log))


def _containers_site(choice: Choice, spec: Spec, log: Log, folder: RunFolder) -> AbstractContextManager[Site]:
    from bench.places.docker import place as docker_place  # noqa: PLC0415
    from bench.places.docker.containers import ContainerOptions, Limits  # noqa: PLC0415
    from bench.places.swarm import place as swarm  # noqa: PLC0415
    from bench.places.swarm.services import Placement  # noqa: PLC0415

    wishes = ContainerOptions(
        spec.postgres_image,
        spec.worker_image,
        Limits(spec.postgres_memory, spec.postgres_cpus),
        Limits(spec.worker_memory, spec.worker_cpus),
    )
    if choice.name == "swarm":
        placement = Placement(spec.constraint, spec.max_per_node)
        if spec.dsn is not None:
            return swarm.site_on(spec.dsn, folder, wishes, placement)
        return swarm.site(folder, wishes, placement, spec.postgres_node, _settings(spec, log))
    if spec.dsn is not None:
        return docker_place.site_on(spec.dsn, folder, wishes)
    return docker_place.site(folder, wishes, _settings(spec, log))


def _settings(spec: Spec, log: Log) -> dict[str, str]:
    """The settings asked for, those that the log needs, and what a default has too little of.

    A tailing run has the server keep commit times, to tell when a skipped event became visible.
    """
    connections = spec.workers + SPARE_CONNECTIONS
    room = {"max_connections": str(connections)} if connections > DEFAULT_MAX_CONNECTIONS else {}
    story = {"track_commit_timestamp": "on"} if spec.mode == "tail" else {}
    return {**room, **story, **log.settings, **spec.set}
