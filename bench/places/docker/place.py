"""The docker place: Postgres and workers are containers of one engine.

Everything that is timed runs inside, and no port is published.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from docker.errors import DockerException
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import Mount
from requests.exceptions import RequestException

from bench.places import dsn
from bench.places.api import Database, Program, Workers
from bench.places.docker import address, engine, image, leftovers, postgres, workers
from bench.places.docker.engine import Engine
from bench.places.docker.options import ContainerOptions
from bench.places.docker.password import new_password, password_volume
from bench.places.docker.workers import Deployment
from bench.places.last_words import answers, explained
from bench.places.rundir import RunFolder
from bench.places.starting import with_settings

_OUT_OF_REACH = "This machine reaches that Postgres, and containers on the Docker engine do not"
_OTHER_LOCALHOST = (
    ": localhost there is the engine's machine. Name an address that both machines know, or use --place local"
)


@dataclass(frozen=True)
class DockerHost:
    """A Docker engine, and what the Postgres and the workers of one run share in it."""

    engine: Engine
    options: ContainerOptions
    worker_image: Image
    network: str
    """Of workers: the run's own, which a Postgres that is started here joins; the engine's machine's for another."""
    keeper: Container
    secrets: Mount
    password: str = field(repr=False)

    @contextmanager
    def postgres(self, settings: Mapping[str, str]) -> Iterator[Database]:
        """Start a Postgres container."""
        client = self.engine.client
        postgres_image = image.ensure(client, self.options.postgres_image)
        start = partial(
            postgres.start,
            self.engine,
            postgres_image,
            self.keeper,
            self.network,
            self.secrets,
            self.password,
            self.options.postgres_limits,
        )
        with ExitStack() as stack:
            running = with_settings(stack, settings, start)
            with explained(partial(postgres.trouble, running)):
                yield Database(
                    conninfo=running.conninfo,
                    variables=postgres.VARIABLES,
                    password=self.password,
                    usage=partial(postgres.usage, client, str(running.container.id)),
                    about={"postgres_image": image.described(postgres_image), "disk": engine.disk(client)},
                )

    @contextmanager
    def workers(self, database: Database) -> Iterator[Workers]:
        """Run workers as containers.

        An InfrastructureError that ends the `with` is raised again with a sentence when containers do not reach a
        Postgres that this machine reaches.
        """
        deployment = Deployment(self.engine, self.network, self.secrets, database.variables)

        def run_program(program: Program) -> str:
            programs_image = image.ensure(self.engine.client, self.options.postgres_image)
            return workers.run_program(deployment, programs_image, program)

        with explained(partial(self._out_of_reach, database, deployment)):
            yield Workers(
                start=partial(workers.start_workers, deployment, self.worker_image, self.options.worker_limits),
                run_program=run_program,
                about={"worker_image": image.described(self.worker_image)},
            )

    def _out_of_reach(self, database: Database, deployment: Deployment) -> str:
        if database.dsn is None:
            return ""
        with suppress(DockerException, RequestException):
            if answers(database.conninfo) and not workers.reach_postgres(deployment, self.worker_image):
                return _OUT_OF_REACH + (_OTHER_LOCALHOST if dsn.names_this_machine(database.dsn) else "")
        return ""


@contextmanager
def opened(folder: RunFolder, options: ContainerOptions, existing: Database | None) -> Iterator[DockerHost]:
    """Prepare the engine for a run, whose Postgres is either started in it or `existing`.

    What dead runs left in the engine is removed first.

    Raises:
        InfrastructureError: no engine answers, an image is missing, or the engine refused something or broke, also
            while the `with` lasts.
    """
    with engine.failures(), ExitStack() as stack:
        client = address.connect()
        leftovers.sweep([client], folder.swept)
        own = Engine(client, folder)
        if existing is None:
            image.ensure(client, options.postgres_image)  # a wrong name ends the run before the worker image is built
        worker_image = image.ensure_worker(client, options.worker_image)
        if existing is None:
            password = new_password()
            network = keepers_network = own.network(stack, "bridge")
        else:
            password = existing.password or ""
            network, keepers_network = "host", "none"
        keeper = own.keeper(stack, worker_image, keepers_network)
        secrets = password_volume(own, stack, worker_image, password)
        yield DockerHost(own, options, worker_image, network, keeper, secrets, password)
