"""Postgres and workers as containers of a Docker engine, on a network of their own.

Everything that is timed runs inside, and no port is published.
The password reaches Postgres and the workers in a volume, so it is on no command line and in no environment.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import docker
import psycopg
from docker.errors import DockerException
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import Mount
from docker.utils import parse_bytes
from psycopg.conninfo import make_conninfo
from psycopg.pq import Ping
from requests.exceptions import RequestException

from bench.errors import InfrastructureError, NotStartedError
from bench.interrupts import held
from bench.places.api import Chunks, End, Messages, OutputListener, Program, Usage
from bench.places.docker.engine import SECRETS, WORKER, WORKER_USER, Engine
from bench.places.docker.image import File, had
from bench.places.docker.leftovers import moment
from bench.places.docker.stream import Stream
from bench.places.docker.tunnel import Tunnel, through
from bench.places.dsn import pgpass
from bench.places.last_words import ANSWER_SECONDS, END_SECONDS, answers, crashed, end_of_log, reason
from bench.records import Job, ProducerJob, encode_job

POSTGRES_IMAGE = "postgres:18"
POSTGRES_HOME = "/var/lib/postgresql"
"""Owned by the user postgres in every official image; a new volume mounted here is, too."""
SHARED_MEMORY_BYTES = 1 << 30
NANO = 1_000_000_000
DEFAULT_PERIOD_US = 100_000
"""Of a CPU quota, in Linux."""

START_SECONDS = 120
LOG_LINES = 1000
"""More than a server prints when it ends: its sessions speak, too."""
_OVER_MEMORY = "went over the memory limit of its container, and processes of it were killed"
THREADS = 4
"""Two a core of a small machine: more containers at once start no sooner."""


@dataclass(frozen=True)
class Limits:
    """Memory (like 512m) and CPUs of one container; None is no limit."""

    memory: str | None = None
    cpus: float | None = None

    @property
    def nano_cpus(self) -> int | None:
        """Billionths of a CPU."""
        return None if self.cpus is None else round(self.cpus * NANO)

    def arguments(self) -> dict[str, Any]:
        """The limits as docker-py's arguments."""
        return {"mem_limit": self.memory, "nano_cpus": self.nano_cpus}

    def refuse_others(self, made: Mapping[str, Any]) -> None:
        """Refuse what an engine made of these limits, as its HostConfig says, unless they are all there.

        Raises:
            InfrastructureError: one is not; an engine drops the limits that its kernel does not know.
        """
        # An engine may keep a limit of CPUs as a quota of microseconds per period.
        quota = max(0, made.get("CpuQuota", 0)) * NANO // (made.get("CpuPeriod") or DEFAULT_PERIOD_US)
        for name, asked, has in (
            ("NanoCpus", self.nano_cpus, made.get("NanoCpus") or quota),
            ("Memory", parse_bytes(self.memory) if self.memory else None, made.get("Memory")),
        ):
            if asked is not None and has != asked:
                raise InfrastructureError(
                    f"the Docker engine did not limit a container as asked: {name} is {has}, not {asked}; "
                    "`docker info` warns of limits that its kernel does not know"
                )


@dataclass(frozen=True)
class ContainerOptions:
    """Images and limits; an image that is None is the usual one."""

    postgres_image: str | None
    worker_image: str | None
    postgres_limits: Limits
    worker_limits: Limits


VARIABLES = {"PGHOST": "postgres", "PGPORT": "5432", "PGUSER": "postgres", "PGDATABASE": "postgres"}
"""How libpq finds our Postgres from beside it."""


@dataclass(frozen=True)
class Database:
    """How to reach a Postgres: the orchestrator by a conninfo, containers by libpq's variables and a network."""

    conninfo: str
    variables: Mapping[str, str]
    network: str
    usage: Callable[[], Usage | None]
    trouble: Callable[[], str]
    """What became of a Postgres that crashed or ended in the middle of a run, with the end of its log; else nothing."""


def postgres(
    engine: Engine,
    stack: ExitStack,
    image: Image,
    keeper: Container,
    network: str,
    settings: Mapping[str, str],
    limits: Limits,
    secret: Mount,
    password: str,
) -> Database:
    """Start Postgres with a volume of its own, all of which goes with the stack, and wait until it answers.

    `secret` holds the password in a file named password. The way to Postgres leads through the keeper, which is in the
    same network.
    """
    container = engine.create(
        stack,
        image,
        "postgres",
        hostname="postgres",
        network=network,
        command=postgres_command(settings),
        user="postgres",
        environment=postgres_environment(SECRETS),
        mounts=[Mount(POSTGRES_HOME, engine.volume(stack, "data")), secret],
        tmpfs={"/tmp": "", "/var/run/postgresql": "mode=1777"},  # noqa: S108
        shm_size=SHARED_MEMORY_BYTES,
        **limits.arguments(),
    )
    limits.refuse_others(container.attrs["HostConfig"])
    container.start()

    def refuse_if_ended() -> None:
        container.reload()
        if container.status not in {"exited", "dead"}:
            return
        printed, code = container.logs(tail=LOG_LINES).decode(errors="replace"), container.attrs["State"]["ExitCode"]
        if not printed.strip():
            raise InfrastructureError(
                f"the Postgres container ended at once with exit code {code} and said nothing: "
                "does the entrypoint of its image start postgres?"
            )
        raise NotStartedError(f"it {_OVER_MEMORY}" if _went_out_of_memory(container) else reason(printed, code))

    way = way_to_postgres(engine, stack, keeper)
    conninfo = await_answer(way, password, refuse_if_ended)
    return Database(
        conninfo,
        VARIABLES,
        network,
        partial(usage, engine.client, str(container.id)),
        partial(trouble, container, conninfo),
    )


def postgres_command(settings: Mapping[str, str]) -> list[str]:
    """What a Postgres image is to run."""
    return ["postgres", *(f"--{name}={value}" for name, value in settings.items())]


def postgres_environment(secrets: str) -> dict[str, str]:
    """What a Postgres image is told; the folder of secrets has a file named password."""
    return {
        "POSTGRES_PASSWORD_FILE": f"{secrets}/password",
        # An image may have others, and refuses to start with two passwords.
        "POSTGRES_PASSWORD": "",
        "POSTGRES_USER": VARIABLES["PGUSER"],
        "POSTGRES_DB": VARIABLES["PGDATABASE"],
        # Images from 18 on have another PGDATA than those before; this one is inside our volume in both.
        "PGDATA": f"{POSTGRES_HOME}/bench/pgdata",
    }


def way_to_postgres(engine: Engine, stack: ExitStack, keeper: Container) -> Tunnel:
    """A tunnel to our Postgres through the keeper, which is in its network; gone with the stack."""
    return stack.enter_context(through(engine.client, str(keeper.id), VARIABLES["PGHOST"], int(VARIABLES["PGPORT"])))


@contextmanager
def start_workers(
    engine: Engine, image: Image, database: Database, secret: Mount, limits: Limits, jobs: Sequence[Job]
) -> Iterator[Messages]:
    """Start one container a job, all together."""
    ears = OutputListener()

    def start(job: Job, stack: ExitStack) -> tuple[str, Chunks, Callable[[], End]]:
        container = engine.create(
            stack,
            image,
            job.name,
            command=["producers" if isinstance(job, ProducerJob) else "consumer"],
            user=WORKER,
            environment={
                **database.variables,
                "PGPASSFILE": f"{SECRETS}/pgpass",
                "BENCH_JOB": encode_job(job).decode(),
            },
            network=database.network,
            mounts=[secret],
            **limits.arguments(),
        )
        limits.refuse_others(container.attrs["HostConfig"])
        everything = {"logs": "1", "stream": "1", "stdout": "1", "stderr": "1"}
        printed = Stream(engine.client, f"/containers/{container.id}/attach", everything)
        stack.callback(printed.break_off)
        container.start()
        return job.name, printed.chunks(), _waiter(container)

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


def reaches(engine: Engine, image: Image, database: Database, secret: Mount) -> bool:
    """Whether a container in a worker's place gets an answer from Postgres, be it a refusal."""
    with ExitStack() as stack:
        container = engine.create(
            stack,
            image,
            "reaches",
            entrypoint=["python", "-c", f"from psycopg import pq; exit(pq.PGconn.ping(b'') >= {Ping.NO_RESPONSE:d})"],
            user=WORKER,
            environment={
                **database.variables,
                "PGPASSFILE": f"{SECRETS}/pgpass",
                "PGCONNECT_TIMEOUT": str(ANSWER_SECONDS),
            },
            network=database.network,
            mounts=[secret],
        )
        container.start()
        return bool(container.wait()["StatusCode"] == 0)


def run_program(engine: Engine, image: str, database: Database, secret: Mount, program: Program) -> str:
    """Run one of the programs in a Postgres image, beside Postgres; it finds itself in /tmp, which is in memory.

    Raises:
        InfrastructureError: it failed.
    """
    with ExitStack() as stack:
        container = engine.create(
            stack,
            had(engine.client, image),
            program.words[0],
            entrypoint=["sh", "-c", 'printf %s "$SCRIPT" | exec "$@"', "sh"],
            command=list(program.words),
            user=WORKER,
            environment={
                **database.variables,
                **program.variables,
                "PGPASSFILE": f"{SECRETS}/pgpass",
                "SCRIPT": program.script,
            },
            network=database.network,
            working_dir="/tmp",  # noqa: S108
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108
            mounts=[secret],
        )
        container.start()
        failed = container.wait()["StatusCode"]
        if failed:
            complaint = container.logs(stdout=False, stderr=True).decode(errors="replace")
            raise InfrastructureError(f"{program.words[0]} failed: {complaint.strip()}")
        return str(container.logs(stdout=True, stderr=False).decode())


def password_files(password: str) -> dict[str, File]:
    """The files of the secrets volume: for the postgres image, and for libpq, which insists on its mode."""
    return {
        "password": File(password.encode(), mode=0o444),
        "pgpass": File(pgpass(password).encode(), owner=WORKER_USER, mode=0o600),
    }


def new_password() -> str:
    """A password for one run."""
    return secrets.token_urlsafe(24)


def _waiter(container: Container) -> Callable[[], End]:
    def wait() -> End:
        code = int(container.wait(timeout=30)["StatusCode"])
        if not code:
            return End(0)
        container.reload()
        out_of_memory = container.attrs["State"]["OOMKilled"]
        return End(code, "killed because it went over its memory limit" if out_of_memory else "")

    return wait


def usage(client: docker.DockerClient, container_id: str) -> Usage | None:
    """What a container has used; None when its engine does not tell."""
    try:
        stats = client.api.stats(container_id, stream=False, one_shot=True)
        memory = stats["memory_stats"]
        # What files left in the cache is not Postgres's, and goes when it is needed.
        cached = memory["stats"].get("inactive_file", memory["stats"].get("total_inactive_file", 0))
        return Usage(stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, memory["usage"] - cached)
    except (DockerException, RequestException, KeyError):
        return None


def trouble(container: Container, conninfo: str) -> str:
    """What became of a Postgres container that was running: that it ended or crashed, and how its log ends."""
    with suppress(DockerException, RequestException):
        container.reload()
        if container.attrs["State"]["Running"] and not answers(conninfo):
            with suppress(RequestException):  # it goes on
                container.wait(timeout=END_SECONDS)
            container.reload()
        state = container.attrs["State"]
        log = container.logs(tail=LOG_LINES).decode(errors="replace")
        if state["Running"] and not crashed(log):
            return ""
        if _went_out_of_memory(container):
            what = f"Postgres {_OVER_MEMORY}"
        else:
            what = "Postgres crashed" if state["Running"] else f"Postgres ended with exit code {state['ExitCode']}"
        return f"{what}; {end_of_log(log)}"
    return ""


def _went_out_of_memory(container: Container) -> bool:
    """Whether the kernel killed something in a container for memory, also if the container outlived that."""
    if container.attrs["State"]["OOMKilled"]:
        return True
    client = container.client
    if client is None:
        return False
    # Both are cut to whole seconds on their way.
    until = moment(client.info()["SystemTime"]) + timedelta(seconds=1)
    began = moment(container.attrs["State"]["StartedAt"])
    wanted = {"container": str(container.id), "event": "oom"}
    return bool(list(client.events(since=began, until=until, filters=wanted, decode=True)))


def await_answer(way: Tunnel, password: str, refuse_if_ended: Callable[[], None]) -> str:
    """Wait until our Postgres answers over TCP: the one that only sets the data up listens on a socket alone.

    Returns how to connect to it. `refuse_if_ended` raises what is to be said when it never will.
    """
    conninfo = make_conninfo(host="127.0.0.1", port=way.port, user="postgres", dbname="postgres", password=password)
    deadline = time.monotonic() + START_SECONDS
    while True:
        refuse_if_ended()
        try:
            psycopg.connect(conninfo, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            # A server that is still starting refuses before it asks for a password.
            if error.pgconn and error.pgconn.used_password:
                raise InfrastructureError(f"Postgres does not let its superuser in: {error}") from error
            if time.monotonic() > deadline:
                raise InfrastructureError(f"Postgres did not answer within {START_SECONDS} s: {error}") from error
        else:
            return conninfo
        time.sleep(0.05)
