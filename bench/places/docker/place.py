"""The docker place: workers are containers, beside a Postgres container or a Postgres that is there."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from docker.errors import DockerException
from requests.exceptions import RequestException

from bench.places import dsn, last_words
from bench.places.api import Site
from bench.places.docker import address, containers, engine, image, leftovers
from bench.places.docker.containers import ContainerOptions, Database
from bench.places.docker.engine import Engine
from bench.places.rundir import RunFolder
from bench.places.starting import with_settings

_OUT_OF_REACH = "This machine reaches that Postgres, and containers on the Docker engine do not"
_WHOSE_LOCALHOST = (
    ": localhost there is the engine's machine. Name an address that both machines know, or use --place local"
)


@contextmanager
def site(folder: RunFolder, wishes: ContainerOptions, settings: Mapping[str, str]) -> Iterator[Site]:
    """Start a Postgres container."""
    password = containers.new_password()
    with engine.failures(), ExitStack() as stack:
        here = _engine(folder)
        postgres_image = image.had(here.client, wishes.postgres_image or containers.POSTGRES_IMAGE)
        worker_image = image.wished(here.client, wishes.worker_image)
        network = here.network(stack, "bridge")
        keeper = here.keeper(stack, worker_image, network)
        secret = here.secrets(stack, worker_image, containers.password_files(password))

        def start(own: ExitStack, settings: Mapping[str, str]) -> Database:
            return containers.postgres(
                here, own, postgres_image, keeper, network, settings, wishes.postgres_limits, secret, password
            )

        database = with_settings(stack, settings, start)
        ours = Site(
            conninfo=database.conninfo,
            start_workers=partial(containers.start_workers, here, worker_image, database, secret, wishes.worker_limits),
            run_program=partial(
                containers.run_program, here, wishes.postgres_image or containers.POSTGRES_IMAGE, database, secret
            ),
            usage=database.usage,
            about={
                "postgres_image": image.described(postgres_image),
                "worker_image": image.described(worker_image),
                "disk": engine.disk(here.client),
            },
        )
        with last_words.explained(database.trouble):
            yield ours


@contextmanager
def site_on(address: str, folder: RunFolder, wishes: ContainerOptions) -> Iterator[Site]:
    """Use the Postgres at `address`, a connection string of libpq that must mean the same inside a container."""
    dsn.refuse_for_containers(address)
    variables, password = dsn.variables(address)
    with engine.failures(), ExitStack() as stack:
        here = _engine(folder)
        worker_image = image.wished(here.client, wishes.worker_image)
        here.keeper(stack, worker_image, "none")
        secret = here.secrets(stack, worker_image, containers.password_files(password or ""))
        conninfo = dsn.with_password(address, password)

        def out_of_reach() -> str:
            with suppress(DockerException, RequestException):
                if last_words.answers(conninfo) and not containers.reaches(here, worker_image, database, secret):
                    return _OUT_OF_REACH + (_WHOSE_LOCALHOST if dsn.names_this_machine(address) else "")
            return ""

        database = Database(conninfo, variables, network="host", usage=lambda: None, trouble=out_of_reach)
        with last_words.explained(database.trouble):
            yield Site(
                conninfo=database.conninfo,
                start_workers=partial(
                    containers.start_workers, here, worker_image, database, secret, wishes.worker_limits
                ),
                run_program=partial(containers.run_program, here, containers.POSTGRES_IMAGE, database, secret),
                usage=database.usage,
                about={"worker_image": image.described(worker_image)},
            )


def _engine(folder: RunFolder) -> Engine:
    """The engine, rid of what dead runs left in it."""
    client = address.connect()
    leftovers.sweep([client], folder.swept)
    return Engine(client, folder)
