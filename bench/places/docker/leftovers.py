"""Finds and removes what dead runs left in Docker engines and their swarm.

Whether a run lives is seen in the engine, from any machine: its keeper is a container that runs exactly as long as the
orchestrator's connection to it lives. Host names, files and clocks of machines prove nothing: machines are renamed and
cloned, and several use one engine.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import docker
from docker.errors import APIError, NotFound
from requests.exceptions import RequestException

from bench.interrupts import held

LABEL = "bench.run"
"""Its value is the id of the run that made the thing."""
ENGINE_LABEL = "bench.engine"
"""Its value is the id of the engine that holds the run's keeper."""
ORIGIN_LABEL = "bench.origin"
"""Its value is the host and the folder of the orchestrator, for people."""
KEEPER_LABEL = "bench.keeper"

GRACE = timedelta(minutes=2)
"""A thing that is younger than this, and whose run has no keeper, may belong to a run that is being started."""
REMOVE_SECONDS = 10
NOTICE_SECONDS = 5
"""An engine may take this long to notice that an orchestrator died, and to end its keeper."""
LEAVE_SECONDS = 15
"""A node may take this long to remove a container."""

_REMOVAL_ORDER = ("service", "container", "volume", "keeper", "network", "secret", "config")
"""Kinds of things: users of a thing before it, and keepers after services, containers and volumes that they judge."""
_ONLY_OURS = {"label": LABEL}
_STARTING = "created"
_RUNNING = {"running", "paused", "restarting"}

_news = logging.getLogger("bench")


@dataclass(frozen=True)
class Leftover:
    """One thing of a dead run."""

    run_id: str
    location: str
    name: str
    remove: Callable[[], object]


@dataclass(frozen=True)
class Unseen:
    """A run that left things in this swarm and has its keeper on an engine that was not looked at."""

    run_id: str
    engine: str
    origin: str


@dataclass(frozen=True)
class Found:
    """Things of dead runs, in an order in which they can be removed, and runs that cannot be judged from here."""

    dead: Sequence[Leftover]
    unseen: Sequence[Unseen]


@dataclass(frozen=True)
class _Keepers:
    """The keepers that an engine holds, by the ids of their runs."""

    running: frozenset[str]
    ended: frozenset[str]


@dataclass(frozen=True)
class _Thing:
    """Something with a run's labels."""

    kind: str
    """One of `_REMOVAL_ORDER`."""
    location: str
    name: str
    labels: Mapping[str, str]
    age: timedelta
    remove: Callable[[], object]


def find(clients: Sequence[docker.DockerClient], known_dead: Sequence[str] = ()) -> Found:
    """Find what dead runs left in these engines, and in the swarms that they manage.

    `known_dead` are ids of runs that are known to be dead, even if they ended before they started a keeper.
    """
    keepers: dict[str, _Keepers] = {}
    things: list[_Thing] = []
    for client in clients:
        info = client.info()
        keepers[str(info["ID"])] = _keepers(client)
        things += _things(client, info)
    dead: list[_Thing] = []
    unseen: dict[str, Unseen] = {}
    for thing in things:
        run_id, engine = thing.labels[LABEL], thing.labels.get(ENGINE_LABEL, "")
        if engine not in keepers:
            if engine:
                unseen[run_id] = Unseen(run_id, engine, thing.labels.get(ORIGIN_LABEL, ""))
        elif _is_dead(keepers[engine], run_id, thing.age, known_dead):
            dead.append(thing)
    dead.sort(key=lambda thing: _REMOVAL_ORDER.index(thing.kind))
    return Found(
        [
            Leftover(thing.labels[LABEL], thing.location, f"the {thing.kind} {thing.name}", thing.remove)
            for thing in dead
        ],
        [unseen[run_id] for run_id in sorted(unseen)],
    )


def sweep(clients: Sequence[docker.DockerClient], known_dead: Sequence[str] = ()) -> Found:
    """Remove what dead runs left; return what was found.

    When an engine does not remove something, that is a warning only: another run can start.
    """
    for client in clients if known_dead else ():
        _await_noticed(client, known_dead)
    found = find(clients, known_dead)
    for leftover in found.dead:
        try:
            remove_with_retry(leftover.remove)
        except APIError as error:
            _news.warning(
                "%s, which the dead run %s left, could not be removed (%s): try `bench clean` later",
                leftover.name,
                leftover.run_id,
                error.explanation or error,
            )
    return found


def _await_noticed(client: docker.DockerClient, known_dead: Sequence[str]) -> None:
    """Wait until an engine has ended the keepers of runs that died just now."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while not _keepers(client).running.isdisjoint(known_dead) and time.monotonic() < deadline:
        time.sleep(0.05)


def remove_with_retry(remove: Callable[[], object]) -> None:
    """Remove something, also if it is gone already; retry while the engine still reports it in use.

    Raises:
        APIError: it is still there after REMOVE_SECONDS.
    """
    deadline = time.monotonic() + REMOVE_SECONDS
    with held():
        while True:
            try:
                remove()
            except NotFound:
                return
            except APIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def remove_network(client: docker.DockerClient, network_id: str) -> None:
    """Remove a network and wait until it is no longer listed: a swarm's nodes release it later."""
    remove_with_retry(partial(client.api.remove_network, network_id))
    deadline = time.monotonic() + REMOVE_SECONDS
    with held():
        while client.networks.list(ids=[network_id]) and time.monotonic() < deadline:
            time.sleep(0.1)


def remove_service(client: docker.DockerClient, service_id: str) -> None:
    """Remove a service and wait until no node that is up has a container of it."""
    remove_with_retry(partial(client.api.remove_service, service_id))
    deadline = time.monotonic() + LEAVE_SECONDS
    with held():
        while time.monotonic() < deadline:
            up = {node["ID"] for node in client.api.nodes() if node["Status"]["State"] == "ready"}
            tasks = client.api.tasks(filters=_ONLY_OURS)  # type: ignore[no-untyped-call]
            if not any(task["ServiceID"] == service_id and task.get("NodeID") in up for task in tasks):
                return
            time.sleep(0.1)


def await_removed(run_id: str, clients: Sequence[docker.DockerClient]) -> None:
    """Wait until no engine has a container or volume of a run: a swarm's nodes remove theirs after a moment."""
    deadline = time.monotonic() + LEAVE_SECONDS
    only = {"label": f"{LABEL}={run_id}"}
    for client in clients:
        with suppress(RequestException):  # the node is lost
            while time.monotonic() < deadline and (
                client.api.containers(all=True, filters=only) or client.api.volumes(filters=only)["Volumes"]
            ):
                time.sleep(0.1)


def _is_dead(keepers: _Keepers, run_id: str, age: timedelta, known_dead: Sequence[str]) -> bool:
    if run_id in keepers.running:
        return False
    return run_id in keepers.ended or run_id in known_dead or age > GRACE


def _keepers(client: docker.DockerClient) -> _Keepers:
    states = {
        each["Labels"][LABEL]: each["State"]
        for each in client.api.containers(all=True, filters={"label": [LABEL, KEEPER_LABEL]})
    }
    return _Keepers(
        frozenset(run_id for run_id, state in states.items() if state in _RUNNING),
        frozenset(run_id for run_id, state in states.items() if state not in {*_RUNNING, _STARTING}),
    )


def _things(client: docker.DockerClient, info: Mapping[str, Any]) -> Iterator[_Thing]:
    """Yield everything of any run in an engine, and in the swarm that the engine manages."""
    api, now = client.api, moment(info["SystemTime"])
    manages = bool(info.get("Swarm", {}).get("ControlAvailable"))
    if manages:
        for service in api.services(filters=_ONLY_OURS):  # type: ignore[no-untyped-call]
            yield _in_swarm("service", service, now, partial(remove_service, client, service["ID"]))
        for secret in api.secrets(filters=_ONLY_OURS):
            yield _in_swarm("secret", secret, now, partial(api.remove_secret, secret["ID"]))
        for config in api.configs(filters=_ONLY_OURS):  # type: ignore[no-untyped-call]
            yield _in_swarm("config", config, now, partial(api.remove_config, config["ID"]))
    for container in api.containers(all=True, filters=_ONLY_OURS):
        kind = "keeper" if KEEPER_LABEL in container["Labels"] else "container"
        name = container["Names"][0].lstrip("/") if container["Names"] else container["Id"][:12]
        age = now - datetime.fromtimestamp(container["Created"], now.tzinfo)
        remove = partial(api.remove_container, container["Id"], force=True, v=True)
        yield _Thing(kind, "Docker", name, container["Labels"], age, remove)
    for volume in api.volumes(filters=_ONLY_OURS)["Volumes"] or ():
        age = now - moment(volume["CreatedAt"])
        remove = partial(api.remove_volume, volume["Name"])
        yield _Thing("volume", "Docker", volume["Name"], volume["Labels"], age, remove)
    for network in api.networks(filters=_ONLY_OURS):
        # Nodes list the networks of their swarm, and only a manager can remove them.
        if manages or network["Scope"] != "swarm":
            location = "the swarm" if network["Scope"] == "swarm" else "Docker"
            age = now - moment(network["Created"])
            remove = partial(remove_network, client, network["Id"])
            yield _Thing("network", location, network["Name"], network["Labels"], age, remove)


def _in_swarm(kind: str, described: Mapping[str, Any], now: datetime, remove: Callable[[], object]) -> _Thing:
    spec, age = described["Spec"], now - moment(described["CreatedAt"])
    return _Thing(kind, "the swarm", spec["Name"], spec["Labels"], age, remove)


def moment(text: str) -> datetime:
    """Parse a moment as engines write it, with up to nine digits of a second."""
    return datetime.fromisoformat(text)
