"""The swarm place: Postgres and workers are services of a Docker Swarm."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import docker
from docker.models.containers import Container
from docker.types import SecretReference

from bench.errors import InfrastructureError
from bench.places import dsn
from bench.places.api import Database, End, Usage, Workers
from bench.places.docker import address, engine, image, leftovers
from bench.places.docker import postgres as containers
from bench.places.docker.engine import WORKER_USER, Engine
from bench.places.docker.options import ContainerOptions
from bench.places.docker.password import new_password
from bench.places.docker.tunnel import Tunnel
from bench.places.last_words import answers
from bench.places.rundir import RunFolder
from bench.places.starting import with_settings
from bench.places.swarm import cluster, images, services
from bench.places.swarm.cluster import Cluster, Node
from bench.places.swarm.images import NodeImage
from bench.places.swarm.services import Placement, SwarmDeployment
from bench.places.swarm.tasks import Task, TaskWatcher

LOSS_SECONDS = 30
"""A swarm calls a node down after three silent heartbeats, by default after 15 s."""


@dataclass(frozen=True)
class SwarmHost:
    """A swarm, and what the Postgres and the workers of one run share in it."""

    cluster: Cluster
    watcher: TaskWatcher
    engines: Mapping[str, docker.DockerClient]
    """The engines that are reached, by the names of their nodes."""
    options: ContainerOptions
    placement: Placement
    worker_image: NodeImage
    network: str
    """Of workers: the run's own, which a Postgres that is started here joins; their nodes' own for another."""
    keeper: Container
    password: str = field(repr=False)
    pgpass: SecretReference
    tried_nodes: Callable[[], Sequence[Node]]
    """Waits until each node that workers may run on has run the worker image, and returns these nodes."""

    @contextmanager
    def postgres(self, settings: Mapping[str, str]) -> Iterator[Database]:
        """Start Postgres as a service on one node.

        The loss of that node, too, is added to an InfrastructureError that ends the `with`.
        """
        node = _postgres_node(self.cluster, self.placement)
        postgres_image = _postgres_image(self.cluster, self.options, node, self.engines)
        reason: list[str] = []

        def start(own: ExitStack, settings: Mapping[str, str]) -> tuple[Task, Tunnel, str]:
            password = self.cluster.secret(own, "password", self.password, WORKER_USER, 0o444)
            task = services.postgres(
                self.cluster,
                own,
                self.watcher,
                postgres_image.reference,
                node,
                self.network,
                settings,
                self.options.postgres_limits,
                password,
            )
            tunnel = containers.tunnel_through(self.cluster.engine, own, self.keeper)
            conninfo = containers.await_answer(tunnel, self.password, partial(services.refuse_if_ended, task))
            return task, tunnel, conninfo

        with ExitStack() as stack:
            task, tunnel, conninfo = with_settings(stack, settings, start)

            def break_off(end: End) -> None:
                lost = f"the node {node.name} is lost, and Postgres was on it"
                reason.append(lost if end.lost_with else f"Postgres ended: {end.explanation}")
                self.watcher.break_off(reason[0])
                tunnel.close()

            task.call_when_over(break_off)
            try:
                yield Database(
                    conninfo=conninfo,
                    variables=containers.VARIABLES,
                    password=self.password,
                    usage=lambda: _usage(self.engines.get(node.name), task.container),
                    about={"postgres_image": image.described(postgres_image.image), "postgres_node": node.name},
                )
            except InfrastructureError as error:
                # A session notices that Postgres is gone before the swarm reports that its node is.
                if not reason and not answers(conninfo):
                    task.over.wait(LOSS_SECONDS)
                if reason:
                    raise InfrastructureError(f"{reason[0]}{services.last_words(task)}") from error
                raise
            finally:
                task.call_when_over(lambda _: None)

    @contextmanager
    def workers(self, database: Database) -> Iterator[Workers]:
        """Run workers as services.

        Raises:
            InfrastructureError: no node fits, or some of them lack the worker image; the message names these.
        """
        nodes = self.tried_nodes()
        deployment = SwarmDeployment(
            self.cluster,
            self.watcher,
            self.worker_image.reference,
            self.network,
            database.variables,
            self.pgpass,
            self.options.worker_limits,
            self.placement,
        )
        yield Workers(
            start=partial(services.start_workers, deployment),
            run_program=services.run_program,
            about={
                "worker_image": image.described(self.worker_image.image),
                "nodes": "; ".join(f"{node.name}: {node.about}" for node in nodes),
            },
        )


@contextmanager
def opened(
    folder: RunFolder, options: ContainerOptions, placement: Placement, existing: Database | None
) -> Iterator[SwarmHost]:
    """Prepare the swarm for a run, whose Postgres is either started in it or `existing`.

    What dead runs left in the swarm is removed first. At the end of the `with`, after all else, the nodes whose engines
    are reached are waited for.

    Raises:
        UsageError: the swarm has no node of the name that Postgres is to run on, or that node is down.
        InfrastructureError: the engine is no manager of a swarm, an image is missing, or an engine refused something or
            broke, also while the `with` lasts.
    """
    with engine.failures(), ExitStack() as stack:
        client = address.connect()
        swarm = Cluster(Engine(client, folder))
        contexts = address.contexts()
        engines = images.engines(client, contexts)
        leftovers.sweep(list(engines.values()), folder.swept)
        watcher = TaskWatcher(client)
        stack.callback(watcher.close)
        stack.callback(leftovers.await_removed, folder.run_id, list(engines.values()))
        if existing is None:  # a wrong node or image ends the run before the worker image is brought to the nodes
            _postgres_image(swarm, options, _postgres_node(swarm, placement), engines)
        worker_image = images.bring_worker(client, options.worker_image, contexts, engines)
        if existing is None:
            password = new_password()
            network = keepers_network = swarm.engine.network(stack, "overlay")
        else:
            password = existing.password or ""
            network, keepers_network = "host", "none"
        keeper = swarm.engine.keeper(stack, worker_image.image, keepers_network)
        pgpass = swarm.secret(stack, "pgpass", dsn.pgpass(password), WORKER_USER, 0o400)
        tried_nodes = services.try_nodes(swarm, stack, worker_image.reference, placement)
        yield SwarmHost(
            swarm,
            watcher,
            engines,
            options,
            placement,
            worker_image,
            network,
            keeper,
            password,
            pgpass,
            tried_nodes,
        )


def _postgres_node(swarm: Cluster, placement: Placement) -> Node:
    return cluster.named(swarm.client, placement.postgres_node or swarm.manager)


def _postgres_image(
    swarm: Cluster, options: ContainerOptions, node: Node, engines: Mapping[str, docker.DockerClient]
) -> NodeImage:
    """Bring Postgres's image to its node."""
    its_engine = {name: client for name, client in engines.items() if name == node.name}
    return images.bring(image.ensure(swarm.client, options.postgres_image), its_engine)


def _usage(reached: docker.DockerClient | None, container_id: str | None) -> Usage | None:
    return containers.usage(reached, container_id) if reached and container_id else None
