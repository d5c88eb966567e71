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
    """The engines of a swarm's nodes, by the nodes' names: the manager's own, and of those that are reached."""
    names = {node.id: node.name for node in cluster.nodes(manager).values()}
    found: dict[str, docker.DockerClient] = {}
    for client in [manager, *reached.values()]:
        node = str(client.info().get("Swarm", {}).get("NodeID"))
        if node in names:
            found.setdefault(names[node], client)
    return found


def worker_image(manager: docker.DockerClient, reached: Mapping[str, docker.DockerClient]) -> Image:
    """The worker image of these sources, from whichever engine has it, else built by the first that is reached."""
    builders = [*reached.values(), manager]
    return next((found for client in [manager, *builders] if (found := image.present(client))), None) or image.built(
        builders[0]
    )


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


def load(which: Image, nodes: Mapping[str, docker.DockerClient]) -> list[str]:
    """Load an image into the engines of those nodes that lack it; return the names of these.

    Raises:
        InfrastructureError: an engine does not take it.
    """
    loaded = []
    for node, client in nodes.items():
        try:
            client.images.get(str(which.id))
        except ImageNotFound:
            _news.info("loading %s to %s", image.described(which), node)
            try:
                client.images.load(which.save(named=bool(which.tags)))  # type: ignore[arg-type]
            except APIError as error:
                raise InfrastructureError(f"{node} does not take the image: {error.explanation}") from error
            loaded.append(node)
    return loaded


def push(client: docker.DockerClient, which: Image, reference: str) -> str:
    """Push an image to a registry as REGISTRY/NAME or REGISTRY/NAME:TAG; return its name there with its digest.

    Raises:
        InfrastructureError: the registry does not take it.
    """
    repository, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = reference, str(which.id).partition(":")[2][:12]
    which.tag(repository, tag)
    try:
        said = list(client.api.push(repository, tag=tag, stream=True, decode=True))
    except Exception as error:  # noqa: BLE001 - whatever Docker's client raises
        said = [{"error": address.words(error)}]
    refused = next((line["error"] for line in said if "error" in line), None)
    if refused is not None:
        complaint = address.credentials_complaint(client)
        raise InfrastructureError(f"{repository}:{tag} cannot be pushed: {refused}{complaint}")
    which.reload()
    digests = [str(digest) for digest in which.attrs["RepoDigests"] if str(digest).startswith(f"{repository}@")]
    if not digests:
        raise InfrastructureError(f"{repository}:{tag} was pushed, and the registry gave it no digest")
    return digests[0]
