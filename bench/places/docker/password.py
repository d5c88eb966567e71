"""The password of a run's Postgres, and the volume in which it reaches containers.

It is on no command line and in no environment.
"""

import secrets
from contextlib import ExitStack

from docker.models.images import Image
from docker.types import Mount

from bench.places.docker.engine import WORKER_USER, Engine
from bench.places.docker.image import File, tarred
from bench.places.dsn import pgpass

SECRETS = "/run/bench-secrets"
"""Where the volume is mounted."""


def new_password() -> str:
    """Make a password for one run."""
    return secrets.token_urlsafe(24)


def password_volume(engine: Engine, stack: ExitStack, image: Image, password: str) -> Mount:
    """Make a volume that goes with the stack, and return its read-only mount.

    It holds `password` for the Postgres image and `pgpass` for the libpq of workers, which insists on its mode.
    The files are put there through a container of `image` that is never started.
    """
    files = {
        "password": File(password.encode(), mode=0o444),
        "pgpass": File(pgpass(password).encode(), owner=WORKER_USER, mode=0o600),
    }
    volume = engine.volume(stack, "secrets")
    with ExitStack() as filling:
        filler = engine.create(filling, image, "secrets", mounts=[Mount(SECRETS, volume)])
        filler.put_archive(SECRETS, tarred(files))
    return Mount(SECRETS, volume, read_only=True)
