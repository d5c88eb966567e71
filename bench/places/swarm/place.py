"""The swarm place: workers are services of a Docker Swarm, beside a Postgres service or a Postgres that is there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import docker
from docker.models.images import Image

from bench.errors import InfrastructureError
from bench.places import dsn
from bench.places.api import End, Site, Usage
from bench.places.docker import address, containers, engine, image, leftovers
from bench.places.docker.containers import VARIABLES, ContainerOptions
from bench.places.docker.engine import WORKER_USER, Engine
from bench.places.docker.tunnel import Tunnel
from bench.places.last_words import answers
from bench.places.rundir import RunFolder
from bench.places.starting import with_settings
from bench.places.swarm import cluster, images, services
from bench.places.swarm.cluster import Cluster, Node
from bench.places.swarm.services import Placement, SwarmDeployment
from bench.places.swarm.tasks import Task, TaskWatcher

LOSS_SECONDS = 30
"""A swarm calls a node down when it was silent three times as long as it may be; by default that is 15 s."""


@contextmanager
def site(
    folder: RunFolder,
    wishes: ContainerOptions,
    placement: Placement,
    postgres_node: str | None,
    settings: Mapping[str, str],
) -> Iterator[Site]:
    """Start Postgres as a service on one node, by default the one whose engine we talk to."""
    password = containers.new_password()
    with engine.failures(), ExitStack() as stack:
        here, lookout, reached, engines = _open(folder, stack)
        node = cluster.named(here.client, postgres_node or here.home)
        wanted = image.had(here.client, wishes.postgres_image or containers.POSTGRES_IMAGE)
        on_its_node = {name: client for name, client in engines.items() if name == node.name}
        postgres_name, postgres_image = _bring(wanted, on_its_node)
        worker_name, worker_image = _bring_worker_image(here, wishes.worker_image, reached, engines)
        network = here.engine.network(stack, "overlay")
        keeper = here.engine.keeper(stack, worker_image, network)
        secret = here.secret(stack, "password", password, WORKER_USER, 0o444)
        pgpass = here.secret(stack, "pgpass", dsn.pgpass(password), WORKER_USER, 0o400)
        broken: list[str] = []

        def start(own: ExitStack, settings: Mapping[str, str]) -> tuple[Task, list[Node], Tunnel, str]:
            task = services.postgres(
                here, own, lookout, postgres_name, node, network, settings, wishes.postgres_limits, secret
            )
            nodes = services.try_nodes(here, worker_name, placement)  # while it starts
            way = containers.way_to_postgres(here.engine, own, keeper)
            return task, nodes, way, containers.await_answer(way, password, partial(services.refuse_if_ended, task))

        postgres, nodes, way, conninfo = with_settings(stack, settings, start)

        def break_off(end: End) -> None:
            lost = f"the node {node.name} is lost, and Postgres was on it"
            broken.append(lost if end.lost_with else f"Postgres ended: {end.words}")
            lookout.break_off(broken[0])
            way.close()

        postgres.call_when_over(break_off)
        post = SwarmDeployment(here, lookout, worker_name, network, VARIABLES, pgpass, wishes.worker_limits, placement)
        try:
            yield Site(
                conninfo=conninfo,
                start_workers=partial(services.start_workers, post),
                run_program=services.run_program,
                usage=lambda: _usage(engines.get(node.name), postgres.container),
                about={
                    "postgres_image": image.described(postgres_image),
                    "postgres_node": node.name,
                    "worker_image": image.described(worker_image),
                    "nodes": _in_words(nodes),
                },
            )
        except InfrastructureError as error:
            # Whoever was connected notices that Postgres is gone before the swarm says that its node is.
            if not broken and not answers(conninfo):
                postgres.over.wait(LOSS_SECONDS)
            if broken:
                raise InfrastructureError(f"{broken[0]}{services.last_words(postgres)}") from error
            raise
        finally:
            postgres.call_when_over(lambda _: None)


@contextmanager
def site_on(address_: str, folder: RunFolder, wishes: ContainerOptions, placement: Placement) -> Iterator[Site]:
    """Use the Postgres at an address, a connection string of libpq that must mean the same inside a container.

    Workers are on their nodes' own networks.
    """
    dsn.refuse_for_containers(address_)
    variables, password = dsn.variables(address_)
    with engine.failures(), ExitStack() as stack:
        here, lookout, reached, engines = _open(folder, stack)
        worker_name, worker_image = _bring_worker_image(here, wishes.worker_image, reached, engines)
        here.engine.keeper(stack, worker_image, "none")
        nodes = services.try_nodes(here, worker_name, placement)
        pgpass = here.secret(stack, "pgpass", dsn.pgpass(password or ""), WORKER_USER, 0o400)
        post = SwarmDeployment(here, lookout, worker_name, "host", variables, pgpass, wishes.worker_limits, placement)
        yield Site(
            conninfo=dsn.with_password(address_, password),
            start_workers=partial(services.start_workers, post),
            run_program=services.run_program,
            usage=lambda: None,
            about={"worker_image": image.described(worker_image), "nodes": _in_words(nodes)},
        )


def _open(
    folder: RunFolder, stack: ExitStack
) -> tuple[Cluster, TaskWatcher, dict[str, docker.DockerClient], dict[str, docker.DockerClient]]:
    """The swarm, rid of what dead runs left in it, the engines that are reached by context, and its own by node.

    When all else of the stack is gone, those nodes are waited for.
    """
    client = address.connect()
    here = Cluster(Engine(client, folder))
    reached = address.contexts()
    engines = images.engines(client, reached)
    leftovers.sweep(list(engines.values()), folder.swept)
    lookout = TaskWatcher(client)
    stack.callback(lookout.close)
    stack.callback(leftovers.await_removed, folder.run_id, list(engines.values()))
    return here, lookout, reached, engines


def _bring_worker_image(
    here: Cluster,
    name: str | None,
    reached: Mapping[str, docker.DockerClient],
    engines: Mapping[str, docker.DockerClient],
) -> tuple[str, Image]:
    """Have the worker image on all nodes whose engines are reached; return what nodes call it, and it on the manager.

    Ours is loaded to them. One that was asked for comes from its registry if it has one.
    """
    if name:
        return _bring(image.had(here.client, name), engines)
    ours = images.worker_image(here.client, reached)
    images.load(ours, engines)
    return str(ours.id), here.client.images.get(str(ours.id))


def _bring(which: Image, engines: Mapping[str, docker.DockerClient]) -> tuple[str, Image]:
    """Have an image on nodes: by its digest they pull it themselves, and what has none is loaded to them."""
    digest = cluster.digest(which)
    if not digest:
        images.load(which, engines)
    return digest or str(which.id), which


def _in_words(nodes: Sequence[Node]) -> str:
    return "; ".join(f"{node.name}: {node.about}" for node in nodes)


def _usage(reached: docker.DockerClient | None, container_id: str | None) -> Usage | None:
    return containers.usage(reached, container_id) if reached and container_id else None
