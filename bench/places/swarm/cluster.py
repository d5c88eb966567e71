"""A Docker Swarm and what a run makes in it: labelled services, secrets and configs, all removed in the end."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import docker
from docker.models.images import Image
from docker.types import ConfigReference, EndpointSpec, RestartPolicy, SecretReference

from bench.errors import InfrastructureError, UsageError
from bench.interrupts import held
from bench.places.docker.engine import Engine
from bench.places.docker.leftovers import LABEL, remove_service, remove_with_retry


@dataclass(frozen=True)
class Node:
    """A node of a swarm."""

    id: str
    name: str
    is_up: bool
    about: str
    """Its processors, memory and engine."""


class Cluster:
    """A swarm, through the engine of one of its managers, and what one run makes in it."""

    def __init__(self, engine: Engine) -> None:
        """`engine` is a manager's.

        Raises:
            InfrastructureError: the engine does not manage a swarm.
        """
        refuse_unless_manager(engine.client)
        self.engine = engine
        self.client = engine.client
        self.manager = str(self.client.info()["Swarm"]["NodeID"])
        """The id of the node whose engine we talk to."""
        self._made = 0

    def secret(self, stack: ExitStack, name: str, content: str, owner: int, mode: int) -> SecretReference:
        """Make a secret that goes with the stack; return a reference by which a service has it in /run/secrets."""
        full_name = self._new_name(name)
        with held():
            made = self.client.secrets.create(name=full_name, data=content.encode(), labels=self.engine.labels)
            stack.callback(remove_with_retry, made.remove)
        return SecretReference(str(made.id), full_name, name, str(owner), str(owner), mode)

    def config(self, stack: ExitStack, name: str, content: bytes, path: str) -> ConfigReference:
        """Make a config that goes with the stack; return a reference by which a service has it at a path."""
        full_name = self._new_name(name)
        with held():
            made = self.client.configs.create(name=full_name, data=content, labels=self.engine.labels)
            stack.callback(remove_with_retry, made.remove)
        return ConfigReference(str(made.id), full_name, path, mode=0o444)

    def service(self, stack: ExitStack, name: str, image: str, **arguments: Any) -> str:
        """Start a service that goes with the stack, whose tasks run once and without privileges; return its id."""
        with held():
            service = self.client.services.create(  # type: ignore[no-untyped-call]
                image,
                name=self._new_name(name),
                labels=self.engine.labels,
                container_labels=self.engine.labels,
                restart_policy=RestartPolicy("none"),
                # The service's name resolves to its tasks' addresses; virtual ones need IPVS, which some kernels lack.
                endpoint_spec=EndpointSpec(mode="dnsrr"),
                # Whatever a node's default is: the output of tasks is read back.
                log_driver="json-file",
                stop_signal="SIGKILL",
                read_only=True,
                cap_drop=["ALL"],
                **arguments,
            )
            stack.callback(remove_service, self.client, str(service.id))
        return str(service.id)

    def _new_name(self, name: str) -> str:
        self._made += 1
        return f"{self.engine.name}-{name}-{self._made}"


def nodes(client: docker.DockerClient) -> dict[str, Node]:
    """Return the nodes of a swarm by their ids. Nodes that share a name get names that end with their ids."""
    listed = client.api.nodes()
    names = [each["Description"]["Hostname"] for each in listed]
    return {
        each["ID"]: Node(
            each["ID"],
            name if names.count(name) == 1 else f"{name}-{each['ID'][:6]}",
            each["Status"]["State"] == "ready",
            _about(each["Description"]),
        )
        for each, name in zip(listed, names, strict=True)
    }


def tasks_of(client: docker.DockerClient, service: str) -> list[dict[str, Any]]:
    """Return the tasks of a service, even of one that was removed, as the Engine API describes them."""
    return [task for task in all_tasks(client) if task["ServiceID"] == service]


def all_tasks(client: docker.DockerClient) -> list[dict[str, Any]]:
    """Return the tasks of all services of all runs, as the Engine API describes them."""
    tasks: list[dict[str, Any]] = client.api.tasks(filters={"label": LABEL})  # type: ignore[no-untyped-call]
    return tasks


def named(client: docker.DockerClient, name: str) -> Node:
    """Return the node with this name or id.

    Raises:
        UsageError: there is no such node, or it is down.
    """
    every = nodes(client)
    for node in every.values():
        if name in {node.id, node.name}:
            if not node.is_up:
                raise UsageError(f"--postgres-node {name}: this node is down; name another")
            return node
    known = ", ".join(sorted(node.name for node in every.values()))
    raise UsageError(f"--postgres-node {name}: there is no such node in the swarm; its nodes are {known}")


def refuse_unless_manager(client: docker.DockerClient) -> None:
    """Refuse an engine that cannot start services.

    Raises:
        InfrastructureError: the engine is not part of a swarm, or does not manage its swarm.
    """
    swarm = client.info()["Swarm"]
    if swarm["LocalNodeState"] != "active":
        raise InfrastructureError(
            "this Docker engine is not part of a swarm: `docker swarm init` makes one, or use --place docker"
        )
    if not swarm["ControlAvailable"]:
        raise InfrastructureError(
            "this Docker engine is a worker of its swarm: name a manager with DOCKER_HOST or `docker context use`"
        )


def digest(image: Image) -> str | None:
    """Return an image's name in a registry, with its digest; None when no registry has it.

    Services name an image by this or by its id, and never by its tag: for a tag each node would ask a registry first.
    """
    digests = image.attrs.get("RepoDigests") or []
    return str(digests[0]) if digests else None


def _about(description: Mapping[str, Any]) -> str:
    resources = description["Resources"]
    cores, memory = resources["NanoCPUs"] / 1e9, resources["MemoryBytes"] / 2**30
    return f"{cores:.0f} cores, {memory:.0f} GiB, engine {description['Engine']['EngineVersion']}"
