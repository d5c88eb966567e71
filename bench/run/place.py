"""Chooses the place that a spec asks for and opens it: the only module that knows both specs and places."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from bench.errors import SettingRefusedError, UsageError
from bench.eventlog import Log
from bench.places import dsn
from bench.places.api import Database, Host, Place
from bench.places.local import place as local
from bench.places.rundir import RunFolder
from bench.spec import Spec

SPARE_CONNECTIONS = 20
"""For the orchestrator, a person who looks, and Postgres's own reserve."""
MAX_PREPARED = "10"
DEFAULT_MAX_CONNECTIONS = 100


PlaceName = Literal["local", "docker", "swarm"]


@dataclass(frozen=True)
class ChosenPlace:
    """The place of a run, before it is opened."""

    name: PlaceName
    why: str
    """The reason for the choice."""
    instead_of: str = ""
    """Why an engine that the user named cannot be used, and what to do: a warning. Empty where there was none."""


def choose(spec: Spec) -> ChosenPlace:
    """Choose the place that the spec names; for `auto` Docker when an engine answers, else local.

    Raises:
        InfrastructureError: the spec names docker and no engine answers, or swarm and the engine is no manager of one.
    """
    if spec.place == "local":
        return ChosenPlace("local", "requested with --place")
    if spec.place == "auto" and spec.dsn:
        return ChosenPlace("local", "Postgres is given by --dsn; --place docker would run the workers in containers")
    if spec.place == "auto" and spec.pg_bin:
        return ChosenPlace("local", "--pg-bin is given")
    from bench.places.docker import address  # noqa: PLC0415 - so that the local place does not wait for Docker's client to load

    try:
        client = address.connect()
        version = client.version()["Version"]
    except address.NoEngineError as error:
        if spec.place != "auto":
            raise
        return ChosenPlace("local", error.reason, f"not in Docker: {error}" if error.is_named else "")
    if spec.place == "swarm":
        from bench.places.swarm import cluster  # noqa: PLC0415

        cluster.refuse_unless_manager(client)
        up = [node.name for node in cluster.nodes(client).values() if node.is_up]
        return ChosenPlace(
            "swarm", f"requested with --place; it has {len(up)} nodes that are up: {', '.join(sorted(up))}"
        )
    return ChosenPlace(
        "docker", "requested with --place" if spec.place == "docker" else f"a Docker engine answers, version {version}"
    )


@contextmanager
def open_place(chosen: ChosenPlace, spec: Spec, log: Log, folder: RunFolder) -> Iterator[Place]:
    """Open a place: a Postgres that answers, started here or named by --dsn, and a way to start workers next to it.

    All that was started is gone at the end of the `with`.

    Raises:
        UsageError: Postgres does not start with a setting, and the message says where that was given; or workers
            cannot use the address in --dsn.
        BenchError: the place cannot be opened.
    """
    existing = None if spec.dsn is None else _existing_database(spec.dsn, chosen.name)
    with ExitStack() as stack:
        if existing is None:
            stack.enter_context(_hidden_libpq_variables())
        stack.enter_context(_blamed_settings(spec, log))
        host = stack.enter_context(_host(chosen.name, spec, folder, existing))
        database = existing or stack.enter_context(host.postgres(_settings(spec, log)))
        workers = stack.enter_context(host.workers(database))
        yield Place(database, workers)


def _existing_database(address: str, name: PlaceName) -> Database:
    if name != "local":
        dsn.refuse_for_containers(address)
    return dsn.existing_database(address)


@contextmanager
def _hidden_libpq_variables() -> Iterator[None]:
    """Hide libpq's variables, also from workers: where Postgres is ours, the user's must not lead to another one."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextmanager
def _blamed_settings(spec: Spec, log: Log) -> Iterator[None]:
    """Add to the refusal of a setting where the setting was given."""
    try:
        yield
    except SettingRefusedError as error:
        raise UsageError(f"{_source(error.reason, spec, log)}: {error}") from error


def _source(reason: str, spec: Spec, log: Log) -> str:
    """Return where the setting comes from that Postgres does not start with.

    That is the setting which Postgres names in `reason`, if it names one; --set goes before what the log asks for.
    """
    sources = {"--set": spec.set, f"the log {log.name}: log.toml: settings": log.settings}
    named = {name.lower() for name in re.findall(r"[\w.]+", reason)}
    for source, settings in sources.items():
        if named & {name.lower() for name in settings}:
            return source
    return " or ".join(source for source, settings in sources.items() if settings) or "a setting of this run"


def _host(name: PlaceName, spec: Spec, folder: RunFolder, existing: Database | None) -> AbstractContextManager[Host]:
    if name == "local":
        return local.opened(folder, spec.pg_bin, existing)
    from bench.places.docker import place as docker  # noqa: PLC0415 - as above
    from bench.places.docker.options import POSTGRES_IMAGE, ContainerOptions, Limits  # noqa: PLC0415

    options = ContainerOptions(
        spec.postgres_image or POSTGRES_IMAGE,
        spec.worker_image,
        Limits(spec.postgres_memory, spec.postgres_cpus),
        Limits(spec.worker_memory, spec.worker_cpus),
    )
    if name == "docker":
        return docker.opened(folder, options, existing)
    from bench.places.swarm import place as swarm  # noqa: PLC0415
    from bench.places.swarm.services import Placement  # noqa: PLC0415

    placement = Placement(spec.postgres_node, spec.constraint, spec.max_per_node)
    return swarm.opened(folder, options, placement, existing)


def _settings(spec: Spec, log: Log) -> dict[str, str]:
    """Return the settings of --set, those that the log needs, and more connections where the default is too low.

    A tailing run has the server keep commit times, to report when a skipped event became visible. A phase with a
    prepared transaction has the server allow some.
    """
    connections = spec.workers + SPARE_CONNECTIONS
    more_connections = {"max_connections": str(connections)} if connections > DEFAULT_MAX_CONNECTIONS else {}
    commit_times = {"track_commit_timestamp": "on"} if spec.mode == "tail" else {}
    prepares = any(phase.open_transaction == "prepared" for phase in spec.phase)
    prepared = {"max_prepared_transactions": MAX_PREPARED} if prepares else {}
    return {**more_connections, **commit_times, **prepared, **log.settings, **spec.set}
