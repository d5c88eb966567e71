"""Postgres and workers as containers of a Docker engine, on a network of their own.

Everything that is timed runs inside. The one published port, on 127.0.0.1, is for the orchestrator's own connection.
The password reaches Postgres and the workers in a volume, so it is on no command line and in no environment.
"""

import io
import secrets
import shutil
import socket
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker
import psycopg
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import Mount
from requests.exceptions import RequestException

from bench.errors import OutsideError
from bench.interrupts import held
from bench.places.dsn import pgpass
from bench.places.embedded import refusal
from bench.places.folder import RunFolder, is_held
from bench.places.site import Chunks, Ears, Messages
from bench.records import Job, ProducerJob, encode_job

LABEL = "bench.run"
LOCK_LABEL = "bench.lock"

POSTGRES_IMAGE = "postgres:18"
POSTGRES_HOME = "/var/lib/postgresql"
"""Owned by the user postgres in every official image; a new volume mounted here is, too."""
SECRETS = "/run/bench-secrets"
WORKER_USER = 10001

START_SECONDS = 120
REMOVE_SECONDS = 10
THREADS = 4
"""Two a core of a small machine: more containers at once start no sooner."""


@dataclass(frozen=True)
class Limits:
    """Memory (like 512m) and CPUs of one container; None is no limit."""

    memory: str | None = None
    cpus: float | None = None

    def arguments(self) -> dict[str, Any]:
        """The same as docker-py's arguments."""
        return {
            "mem_limit": self.memory,
            "nano_cpus": None if self.cpus is None else int(self.cpus * 1_000_000_000),
        }


class Engine:
    """A Docker engine, and what one run makes in it: every container, network and volume carries the run's label."""

    def __init__(self, client: docker.DockerClient, folder: RunFolder) -> None:
        self.client = client
        self.name = f"bench-{folder.run_id}"
        self.labels = {LABEL: folder.run_id, LOCK_LABEL: f"{socket.gethostname()}:{folder.lock}"}

    def image(self, name: str) -> Image:
        """Get an image, pulling it when the engine does not have it."""
        try:
            return self.client.images.get(name)
        except ImageNotFound:
            pass
        try:
            return (
                self.client.images.pull(name) if "@" in name or ":" in name else self.client.images.pull(name, "latest")
            )
        except APIError as error:
            raise OutsideError(f"the image {name} is not here and cannot be pulled: {error.explanation}") from error

    def create(self, stack: ExitStack, image: Image, name: str, **arguments: Any) -> Container:
        """Create a container that may do nothing that it does not need to, and that goes with the stack."""
        with held():
            container = self.client.containers.create(
                image,
                name=f"{self.name}-{name}",
                labels=self.labels,
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                **arguments,
            )
            stack.callback(_gone, partial(container.remove, force=True, v=True))
        return container

    def secrets(self, stack: ExitStack, image: Image, files: Mapping[str, tuple[str, int, int]]) -> Mount:
        """Make a volume with files, each of (text, owner, mode), that goes with the stack; return its read-only mount.

        The files are put there through a container that is never started.
        """
        volume = self.volume(stack, "secrets")
        with ExitStack() as filling:
            filler = self.create(filling, image, "secrets", mounts=[Mount(SECRETS, volume)])
            filler.put_archive(SECRETS, _tar(files))
        return Mount(SECRETS, volume, read_only=True)

    def volume(self, stack: ExitStack, name: str) -> str:
        """Make a named volume that goes with the stack; return its name."""
        with held():
            volume = self.client.volumes.create(f"{self.name}-{name}", labels=self.labels)
            stack.callback(_gone, volume.remove)
        return str(volume.name)

    def network(self, stack: ExitStack) -> str:
        """Make a bridge network that goes with the stack; return its name."""
        with held():
            network = self.client.networks.create(self.name, driver="bridge", labels=self.labels)
            stack.callback(_gone, network.remove)
        return str(network.name)


def connect() -> docker.DockerClient:
    """Connect to the engine that Docker's environment names.

    Raises:
        OutsideError: none answers.
    """
    try:
        client = docker.from_env(max_pool_size=256)
        client.ping()
    except (DockerException, RequestException) as error:
        raise OutsideError(f"no Docker engine answers ({error}): start one, or use --place local") from error
    return client


def free_bytes(client: docker.DockerClient) -> int | None:
    """Free disk where the engine keeps volumes; None when that is not this machine's to see."""
    with suppress(OSError):
        return shutil.disk_usage(str(client.info()["DockerRootDir"])).free
    return None


@contextmanager
def failures() -> Iterator[None]:
    """Turn what docker-py and its transport raise into one sentence."""
    try:
        yield
    except APIError as error:
        raise OutsideError(f"Docker refused: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:
        raise OutsideError(f"the Docker engine broke off: {error}") from error


@dataclass(frozen=True)
class Database:
    """How to reach a Postgres: the orchestrator by a conninfo, containers by libpq's variables and a network."""

    conninfo: str
    variables: Mapping[str, str]
    network: str


def postgres(
    engine: Engine,
    stack: ExitStack,
    image: Image,
    settings: Mapping[str, str],
    limits: Limits,
    secret: Mount,
    password: str,
) -> Database:
    """Start Postgres with a volume of its own, all of which goes with the stack, and wait until it answers.

    `secret` holds the password in a file named password.
    """
    network = engine.network(stack)
    container = engine.create(
        stack,
        image,
        "postgres",
        hostname="postgres",
        network=network,
        command=["postgres", *(f"--{name}={value}" for name, value in settings.items())],
        user="postgres",
        environment={
            "POSTGRES_PASSWORD_FILE": f"{SECRETS}/password",
            # Images from 18 on have another PGDATA than those before; this one is inside our volume in both.
            "PGDATA": f"{POSTGRES_HOME}/bench/pgdata",
        },
        mounts=[Mount(POSTGRES_HOME, engine.volume(stack, "data")), secret],
        tmpfs={"/tmp": "", "/var/run/postgresql": "mode=1777"},  # noqa: S108
        shm_size="1g",
        ports={"5432/tcp": ("127.0.0.1", None)},
        **limits.arguments(),
    )
    container.start()
    conninfo = _await_answer(container, password)
    variables = {"PGHOST": "postgres", "PGPORT": "5432", "PGUSER": "postgres", "PGDATABASE": "postgres"}
    return Database(conninfo, variables, network)


@contextmanager
def start_workers(
    engine: Engine, image: Image, database: Database, secret: Mount, limits: Limits, jobs: Sequence[Job]
) -> Iterator[Messages]:
    """Start one container a job, all together."""
    ears = Ears()

    def start(job: Job, stack: ExitStack) -> tuple[str, Chunks, Callable[[], tuple[int, str]]]:
        container = engine.create(
            stack,
            image,
            job.name,
            command=["producers" if isinstance(job, ProducerJob) else "consumer"],
            user=f"{WORKER_USER}:{WORKER_USER}",
            environment={
                **database.variables,
                "PGPASSFILE": f"{SECRETS}/pgpass",
                "BENCH_JOB": encode_job(job).decode(),
            },
            network=database.network,
            mounts=[secret],
            **limits.arguments(),
        )
        chunks = container.attach(stdout=True, stderr=True, stream=True, logs=True, demux=True)
        container.start()
        return job.name, chunks, _waiter(container)

    stacks = [ExitStack() for _ in jobs]
    pool = ThreadPoolExecutor(THREADS)
    try:
        with held():  # a pool does not wait for a thread that it was interrupted in starting
            starting = [pool.submit(start, job, stack) for job, stack in zip(jobs, stacks, strict=True)]
        for started in starting:
            ears.listen(*started.result())
        yield ears.messages()
    finally:
        pool.shutdown(cancel_futures=True)
        with held(), ThreadPoolExecutor(THREADS) as removers:
            removals = [removers.submit(stack.close) for stack in stacks]
        for removal in removals:
            removal.result()


def password_files(password: str) -> dict[str, tuple[str, int, int]]:
    """The files of the secrets volume: for the postgres image, and for libpq, which insists on its mode."""
    return {
        "password": (password, 0, 0o444),
        "pgpass": (pgpass(password), WORKER_USER, 0o600),
    }


def new_password() -> str:
    """A password for one run."""
    return secrets.token_urlsafe(24)


def sweep(client: docker.DockerClient) -> list[str]:
    """Remove what dead runs of this machine left in the engine; return their ids.

    A run of another machine that uses the same engine cannot be told dead from alive: its things stay.
    """
    swept: set[str] = set()
    only: dict[str, str | list[str] | bool] = {"label": LABEL}
    for container in client.containers.list(all=True, filters=only, ignore_removed=True):
        if _is_dead(container.labels):
            swept.add(container.labels[LABEL])
            _gone(partial(container.remove, force=True, v=True))
    for network in client.networks.list(filters={"label": LABEL}):
        labels = network.attrs.get("Labels") or {}
        if _is_dead(labels):
            swept.add(labels[LABEL])
            _gone(network.remove)
    for volume in client.volumes.list(filters={"label": LABEL}):
        labels = volume.attrs.get("Labels") or {}
        if _is_dead(labels):
            swept.add(labels[LABEL])
            _gone(volume.remove)
    return sorted(swept)


def _is_dead(labels: Mapping[str, str]) -> bool:
    host, _, path = labels.get(LOCK_LABEL, "").partition(":")
    return host == socket.gethostname() and not is_held(Path(path))


def _gone(remove: Callable[[], object]) -> None:
    """Remove something that may be gone already, or that the engine says is in use while it lets go of it."""
    deadline = time.monotonic() + REMOVE_SECONDS
    with held():
        while True:
            try:
                remove()
            except NotFound:
                return
            except APIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def _waiter(container: Container) -> Callable[[], tuple[int, str]]:
    def wait() -> tuple[int, str]:
        code = int(container.wait(timeout=30)["StatusCode"])
        if not code:
            return 0, ""
        container.reload()
        out_of_memory = container.attrs["State"]["OOMKilled"]
        return code, "killed because it went over its memory limit" if out_of_memory else ""

    return wait


def _await_answer(container: Container, password: str) -> str:
    """Wait until the server answers over TCP: the one that only sets the data up listens on a socket alone."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        container.reload()
        if container.status in {"exited", "dead"}:
            raise refusal(container.logs(tail=50).decode(errors="replace"))
        bindings = container.ports.get("5432/tcp")
        if bindings:
            conninfo = psycopg.conninfo.make_conninfo(
                host="127.0.0.1",
                port=bindings[0]["HostPort"],
                user="postgres",
                dbname="postgres",
                password=password,
            )
            try:
                psycopg.connect(conninfo, connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise OutsideError(f"Postgres did not answer within {START_SECONDS} s: {error}") from error
            else:
                return conninfo
        time.sleep(0.05)


def _tar(files: Mapping[str, tuple[str, int, int]]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, (text, owner, mode) in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid, entry.mode = len(content), owner, owner, mode
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()
