"""Postgres in a container of the official image, or of one like it.

What a swarm's Postgres needs as well stands here: its command, its environment, the way to it, and the wait for it.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import NamedTuple

import docker
import psycopg
from docker.errors import DockerException
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import Mount
from psycopg.conninfo import make_conninfo
from requests.exceptions import RequestException

from bench.errors import InfrastructureError, NotStartedError
from bench.places.api import Usage
from bench.places.docker.engine import Engine
from bench.places.docker.leftovers import moment
from bench.places.docker.options import Limits
from bench.places.docker.password import SECRETS
from bench.places.docker.tunnel import Tunnel, through
from bench.places.last_words import END_SECONDS, answers, crashed, end_of_log, reason

HOME = "/var/lib/postgresql"
"""Owned by the user postgres in every official image; a new volume mounted here is, too."""
SHARED_MEMORY_BYTES = 1 << 30
VARIABLES = {"PGHOST": "postgres", "PGPORT": "5432", "PGUSER": "postgres", "PGDATABASE": "postgres"}
"""How libpq finds this Postgres from a container in its network."""

START_SECONDS = 120
LOG_LINES = 1000
"""More than a server prints when it ends: its sessions print lines, too."""
_OVER_MEMORY = "went over the memory limit of its container, and processes of it were killed"


class Running(NamedTuple):
    """A Postgres container that answers, and how the orchestrator connects to it."""

    container: Container
    conninfo: str


def start(
    engine: Engine,
    image: Image,
    keeper: Container,
    network: str,
    secrets: Mount,
    password: str,
    limits: Limits,
    stack: ExitStack,
    settings: Mapping[str, str],
) -> Running:
    """Start Postgres with a volume of its own, both of which go with the stack, and wait until it answers.

    `secrets` holds the password in a file named password. The way to Postgres leads through the keeper, which is in the
    same network.

    Raises:
        NotStartedError: Postgres ended.
        InfrastructureError: Postgres does not answer, or the engine dropped a limit.
    """
    container = engine.create(
        stack,
        image,
        "postgres",
        hostname="postgres",
        network=network,
        command=command(settings),
        user="postgres",
        environment=environment(SECRETS),
        mounts=[Mount(HOME, engine.volume(stack, "data")), secrets],
        tmpfs={"/tmp": "", "/var/run/postgresql": "mode=1777"},  # noqa: S108
        shm_size=SHARED_MEMORY_BYTES,
        **limits.arguments(),
    )
    limits.refuse_dropped(container.attrs["HostConfig"])
    container.start()

    def refuse_if_ended() -> None:
        container.reload()
        if container.status not in {"exited", "dead"}:
            return
        log, code = container.logs(tail=LOG_LINES).decode(errors="replace"), container.attrs["State"]["ExitCode"]
        if not log.strip():
            raise InfrastructureError(
                f"the Postgres container ended at once with exit code {code} and printed nothing: "
                "does the entrypoint of its image start postgres?"
            )
        raise NotStartedError(f"it {_OVER_MEMORY}" if _went_out_of_memory(container) else reason(log, code))

    tunnel = tunnel_through(engine, stack, keeper)
    return Running(container, await_answer(tunnel, password, refuse_if_ended))


def command(settings: Mapping[str, str]) -> list[str]:
    """Return the command of a Postgres container."""
    return ["postgres", *(f"--{name}={value}" for name, value in settings.items())]


def environment(secrets: str) -> dict[str, str]:
    """Return the environment of a Postgres container; `secrets` is the folder with a file named password."""
    return {
        "POSTGRES_PASSWORD_FILE": f"{secrets}/password",
        # An image may set others, and refuses to start with two passwords.
        "POSTGRES_PASSWORD": "",
        "POSTGRES_USER": VARIABLES["PGUSER"],
        "POSTGRES_DB": VARIABLES["PGDATABASE"],
        # PGDATA of images differs before 18 and from 18 on; this folder is inside our volume in both.
        "PGDATA": f"{HOME}/bench/pgdata",
    }


def tunnel_through(engine: Engine, stack: ExitStack, keeper: Container) -> Tunnel:
    """Open a tunnel to our Postgres through the keeper, which is in its network; closed with the stack."""
    return stack.enter_context(through(engine.client, str(keeper.id), VARIABLES["PGHOST"], int(VARIABLES["PGPORT"])))


def await_answer(tunnel: Tunnel, password: str, refuse_if_ended: Callable[[], None]) -> str:
    """Wait until Postgres answers over TCP, and return the conninfo that leads to it.

    The server that an image starts first, to set the data up, listens on a unix socket only. `refuse_if_ended` raises
    an error when Postgres will never answer.

    Raises:
        InfrastructureError: Postgres does not answer in time, or refuses the password.
    """
    conninfo = make_conninfo(host="127.0.0.1", port=tunnel.port, user="postgres", dbname="postgres", password=password)
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


def usage(client: docker.DockerClient, container_id: str) -> Usage | None:
    """Return what a container has used; None when its engine does not report it."""
    try:
        stats = client.api.stats(container_id, stream=False, one_shot=True)
        memory = stats["memory_stats"]
        # What files left in the cache is not Postgres's, and is freed when it is needed.
        cached = memory["stats"].get("inactive_file", memory["stats"].get("total_inactive_file", 0))
        return Usage(stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9, memory["usage"] - cached)
    except (DockerException, RequestException, KeyError):
        return None


def trouble(running: Running) -> str:
    """Return, in a sentence, how a Postgres that was running ended or crashed, with the end of its log; else ""."""
    container = running.container
    with suppress(DockerException, RequestException):
        container.reload()
        if container.attrs["State"]["Running"] and not answers(running.conninfo):
            with suppress(RequestException):  # it goes on
                container.wait(timeout=END_SECONDS)
            container.reload()
        state = container.attrs["State"]
        log = container.logs(tail=LOG_LINES).decode(errors="replace")
        if state["Running"] and not crashed(log):
            return ""
        if _went_out_of_memory(container):
            event = f"Postgres {_OVER_MEMORY}"
        else:
            event = "Postgres crashed" if state["Running"] else f"Postgres ended with exit code {state['ExitCode']}"
        return f"{event}; {end_of_log(log)}"
    return ""


def _went_out_of_memory(container: Container) -> bool:
    """Whether the kernel killed a process in a container for its memory, also when the container survived that."""
    if container.attrs["State"]["OOMKilled"]:
        return True
    client = container.client
    if client is None:
        return False
    # Engines round both moments down to whole seconds.
    until = moment(client.info()["SystemTime"]) + timedelta(seconds=1)
    started_at = moment(container.attrs["State"]["StartedAt"])
    filters = {"container": str(container.id), "event": "oom"}
    return bool(list(client.events(since=started_at, until=until, filters=filters, decode=True)))
