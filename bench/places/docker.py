"""The docker place: workers are containers, beside a Postgres container or a Postgres that is there."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from docker.models.images import Image

from bench.places import container, dsn, engine, image
from bench.places.container import Database, Limits
from bench.places.engine import Engine
from bench.places.folder import RunFolder
from bench.places.site import Site


@dataclass(frozen=True)
class Wishes:
    """Images and limits; an image that is None is the usual one."""

    postgres_image: str | None
    worker_image: str | None
    postgres_limits: Limits
    worker_limits: Limits


@contextmanager
def site(folder: RunFolder, wishes: Wishes, settings: Mapping[str, str]) -> Iterator[Site]:
    """Start a Postgres container."""
    password = container.new_password()
    with engine.failures(), ExitStack() as stack:
        here = _engine(folder)
        postgres_image = here.image(wishes.postgres_image or container.POSTGRES_IMAGE)
        worker_image = _worker_image(here, wishes)
        secret = here.secrets(stack, worker_image, container.password_files(password))
        database = container.postgres(here, stack, postgres_image, settings, wishes.postgres_limits, secret, password)
        yield Site(
            conninfo=database.conninfo,
            start_workers=partial(container.start_workers, here, worker_image, database, secret, wishes.worker_limits),
            run_program=partial(
                container.run_program, here, wishes.postgres_image or container.POSTGRES_IMAGE, database, secret
            ),
            usage=database.usage,
            about={
                "postgres_image": _identity(postgres_image),
                "worker_image": _identity(worker_image),
                "disk": engine.disk(here.client),
            },
        )


@contextmanager
def site_on(address: str, folder: RunFolder, wishes: Wishes) -> Iterator[Site]:
    """Use the Postgres at `address`, a connection string of libpq that must mean the same inside a container."""
    dsn.refuse_for_containers(address)
    variables, password = dsn.variables(address)
    with engine.failures(), ExitStack() as stack:
        here = _engine(folder)
        worker_image = _worker_image(here, wishes)
        secret = here.secrets(stack, worker_image, container.password_files(password or ""))
        database = Database(dsn.with_password(address, password), variables, network="host", usage=lambda: None)
        yield Site(
            conninfo=database.conninfo,
            start_workers=partial(container.start_workers, here, worker_image, database, secret, wishes.worker_limits),
            run_program=partial(container.run_program, here, container.POSTGRES_IMAGE, database, secret),
            usage=database.usage,
            about={"worker_image": _identity(worker_image)},
        )


def _engine(folder: RunFolder) -> Engine:
    """The engine, rid of what dead runs left in it."""
    client = engine.connect()
    engine.sweep(client)
    return Engine(client, folder)


def _worker_image(here: Engine, wishes: Wishes) -> Image:
    return here.image(wishes.worker_image) if wishes.worker_image else image.built(here.client)


def _identity(which: Image) -> str:
    """The name that people gave an image, with its id."""
    return f"{which.tags[0] if which.tags else 'untagged'} {which.id}"
