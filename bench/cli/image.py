"""The commands that make the worker image and bring it to the nodes of a swarm, and their flags. No logic."""

import click

from bench.cli.codes import CODES
from bench.cli.options import Command
from bench.report import progress


@click.group(epilog=CODES)
def image() -> None:
    """Make the worker image, and bring it to the nodes of a swarm."""


@image.command(cls=Command, epilog=CODES)
def build() -> None:
    """Build the worker image in the engine that docker uses, unless it is there; print its name and id."""
    from bench.places.docker import address, engine, image  # noqa: PLC0415 - Docker's client takes its time to load

    progress.listen()
    with engine.failures():
        print(image.described(image.built(address.connect())))


@image.command(cls=Command, epilog=CODES)
@click.argument("name", metavar="REGISTRY/NAME[:TAG]")
def push(name: str) -> None:
    """Push the worker image to a registry, and print what to give as --worker-image: its name with its digest."""
    from bench.places.docker import address, engine, image  # noqa: PLC0415
    from bench.places.swarm import images  # noqa: PLC0415

    progress.listen()
    with engine.failures():
        client = address.connect()
        print(images.push(client, image.built(client), name))


@image.command(cls=Command, epilog=CODES)
def load() -> None:
    """Load the worker image to each node of the swarm that a Docker context leads to; name those that it did not reach.

    The engine that docker uses is a manager of the swarm.
    """
    from bench.places.docker import address, engine  # noqa: PLC0415
    from bench.places.swarm import cluster, images  # noqa: PLC0415

    progress.listen()
    with engine.failures():
        manager = address.connect()
        cluster.refuse_unless_manager(manager)
        reached = address.contexts()
        engines = images.engines(manager, reached)
        loaded = images.load(images.worker_image(manager, reached), engines)
        for node in sorted(cluster.nodes(manager).values(), key=lambda node: node.name):
            if node.name in engines:
                print(f"{node.name}: {'loaded' if node.name in loaded else 'has it'}")
            else:
                print(f"{node.name}: not reached, because no Docker context leads to it; it needs --worker-image")
