"""Images on the nodes of a swarm: which engines are reached, and what brings an image to them."""

import logging
from collections.abc import Mapping
from typing import NamedTuple

import docker
from docker.errors import APIError, ImageNotFound
from docker.models.images import Image

from bench.errors import InfrastructureError
from bench.places.docker import address, image
from bench.places.swarm import cluster

_news = logging.getLogger("bench")


class NodeImage(NamedTuple):
    """An image that nodes can run."""

    reference: str
    """How services name it: by its digest, or by its id when no registry has it."""
    image: Image
    """The image on the manager's engine."""


def engines(manager: docker.DockerClient, reached: Mapping[str, docker.DockerClient]) -> dict[str, docker.DockerClient]:
    """Return the engines of a swarm's nodes by the nodes' names: the manager's, and those among `reached`."""
    names = {node.id: node.name for node in cluster.nodes(manager).values()}
    clients: dict[str, docker.DockerClient] = {}
    for client in [manager, *reached.values()]:
        node = str(client.info().get("Swarm", {}).get("NodeID"))
        if node in names:
            clients.setdefault(names[node], client)
    return clients


def worker_image(manager: docker.DockerClient, reached: Mapping[str, docker.DockerClient]) -> Image:
    """Return the worker image of these sources from an engine that has it; else the first that is reached builds it."""
    builders = [*reached.values(), manager]
    for client in [manager, *builders]:
        if image_ := image.present(client):
            return image_
    return image.built(builders[0])


def bring(image_: Image, engines: Mapping[str, docker.DockerClient]) -> NodeImage:
    """Have an image of the manager on nodes: they pull one that a registry has, and are loaded with any other."""
    digest = cluster.digest(image_)
    if not digest:
        load(image_, engines)
    return NodeImage(digest or str(image_.id), image_)


def bring_worker(
    manager: docker.DockerClient,
    name: str | None,
    contexts: Mapping[str, docker.DockerClient],
    engines: Mapping[str, docker.DockerClient],
) -> NodeImage:
    """Have the worker image of this name, or the one of these sources when there is no name, on nodes.

    `contexts` are engines by context, `engines` those of nodes by node.
    """
    if name:
        return bring(image.ensure(manager, name), engines)
    built = worker_image(manager, contexts)
    load(built, engines)
    return NodeImage(str(built.id), manager.images.get(str(built.id)))


def load(image_: Image, nodes: Mapping[str, docker.DockerClient]) -> list[str]:
    """Load an image into the engines of nodes that lack it; return the names of these nodes.

    Raises:
        InfrastructureError: an engine refuses the image.
    """
    loaded = []
    for node, client in nodes.items():
        try:
            client.images.get(str(image_.id))
        except ImageNotFound:
            _news.info("loading %s to %s", image.described(image_), node)
            try:
                client.images.load(image_.save(named=bool(image_.tags)))  # type: ignore[arg-type]
            except APIError as error:
                raise InfrastructureError(f"{node} does not take the image: {error.explanation}") from error
            loaded.append(node)
    return loaded


def push(client: docker.DockerClient, image_: Image, reference: str) -> str:
    """Push an image to a registry as REGISTRY/NAME or REGISTRY/NAME:TAG; return its name there with its digest.

    Raises:
        InfrastructureError: the registry refuses the image.
    """
    repository, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = reference, str(image_.id).partition(":")[2][:12]
    image_.tag(repository, tag)
    try:
        progress = list(client.api.push(repository, tag=tag, stream=True, decode=True))
    except Exception as error:  # noqa: BLE001 - whatever Docker's client raises
        progress = [{"error": address.cause_of(error)}]
    refused = next((line["error"] for line in progress if "error" in line), None)
    if refused is not None:
        complaint = address.credentials_complaint(client)
        raise InfrastructureError(f"{repository}:{tag} cannot be pushed: {refused}{complaint}")
    image_.reload()
    digests = [str(digest) for digest in image_.attrs["RepoDigests"] if str(digest).startswith(f"{repository}@")]
    if not digests:
        raise InfrastructureError(f"{repository}:{tag} was pushed, but the registry reported no digest for it")
    return digests[0]
