"""The commands that build the worker image and bring it to the nodes of a swarm. No logic."""

import click

from bench.cli import console
from bench.cli.codes import CODES
from bench.cli.options import Command


@click.group(epilog=CODES, short_help="Build the worker image, bring it to swarm nodes.")
def image() -> None:
    """Build the worker image, and bring it to the nodes of a swarm."""


@image.command(cls=Command, epilog=CODES)
def build() -> None:
    """Build the worker image in the current Docker engine, unless it exists; print its name and id."""
    from bench.places.docker import address, engine, image  # noqa: PLC0415 - Docker's client is slow to load

    console.listen()
    with engine.failures():
        print(image.described(image.built(address.connect())))


@image.command(cls=Command, epilog=CODES)
@click.argument("name", metavar="REGISTRY/NAME[:TAG]")
def push(name: str) -> None:
    """Push the worker image to a registry; print its name with digest, for --worker-image."""
    from bench.places.docker import address, engine, image  # noqa: PLC0415
    from bench.places.swarm import images  # noqa: PLC0415

    console.listen()
    with engine.failures():
        client = address.connect()
        print(images.push(client, image.built(client), name))


@image.command(cls=Command, epilog=CODES)
def load() -> None:
    """Load the worker image onto each swarm node that has a Docker context; name the nodes that have none.

    The current Docker engine must be a manager of the swarm.
    """
    from bench.places.docker import address, engine  # noqa: PLC0415
    from bench.places.swarm import cluster, images  # noqa: PLC0415

    console.listen()
    with engine.failures():
        manager = address.connect()
        cluster.refuse_unless_manager(manager)
        reached = address.contexts()
        engines = images.engines(manager, reached)
        loaded = images.load(images.worker_image(manager, reached), engines)
        for node in sorted(cluster.nodes(manager).values(), key=lambda node: node.name):
            if node.name in engines:
                print(f"{node.name}: {'loaded' if node.name in loaded else 'already there'}")
            else:
                print(f"{node.name}: not reached, because no Docker context leads to it; it needs --worker-image")
