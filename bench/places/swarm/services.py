"""Postgres and workers as services of a swarm: each replica runs once, and is neither restarted nor replaced."""

import gzip
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from docker.types import Mount, NetworkAttachmentConfig, Resources, SecretReference, ServiceMode
from docker.utils import parse_bytes

from bench.errors import InfrastructureError, NotStartedError
from bench.places.api import Messages, OutputListener, Program
from bench.places.docker.containers import (
    POSTGRES_HOME,
    SHARED_MEMORY_BYTES,
    VARIABLES,
    Limits,
    postgres_command,
    postgres_environment,
)
from bench.places.docker.engine import WORKER
from bench.places.last_words import end_of_log, reason
from bench.places.swarm.cluster import Cluster, Node, nodes, tasks_of
from bench.places.swarm.tasks import LOOK_SECONDS, OVER, Task, TaskWatcher
from bench.records import Job, ProducerJob, encode_job

SECRETS = "/run/secrets"
_JOBS = "/jobs.gz"
_TAKE_JOB = f'BENCH_JOB=$(zcat {_JOBS} | sed -n "${{BENCH_SLOT}}p") exec python -m "$0"'
"""All replicas of a service are told the same; each takes the line of its slot."""
ASSIGN_SECONDS = 5
"""To tell which nodes a service is for takes a swarm a moment."""
TRY_SECONDS = 120
"""A node may have to pull the image."""


@dataclass(frozen=True)
class Placement:
    """Where workers may run."""

    constraints: Sequence[str]
    max_per_node: int | None
    """None is no limit."""


@dataclass(frozen=True)
class SwarmDeployment:
    """What is needed to start workers: where, of which image, and how they find Postgres."""

    cluster: Cluster
    lookout: TaskWatcher
    image: str
    network: str
    variables: Mapping[str, str]
    pgpass: SecretReference
    limits: Limits
    placement: Placement


@contextmanager
def start_workers(post: SwarmDeployment, jobs: Sequence[Job]) -> Iterator[Messages]:
    """Start one replica a job: of one service for producers, of another one for consumers."""
    ears = OutputListener()
    with ExitStack() as stack:
        for program in ("producers", "consumer"):
            ours = [job for job in jobs if isinstance(job, ProducerJob) == (program == "producers")]
            if ours:
                for task in _replicas(stack, post, program, ours):
                    ears.listen(task.name, task.chunks(), task.wait)
        yield ears.messages()


def _replicas(stack: ExitStack, post: SwarmDeployment, program: str, jobs: Sequence[Job]) -> list[Task]:
    lines = gzip.compress(b"".join(encode_job(job) + b"\n" for job in jobs))
    service = post.cluster.service(
        stack,
        program,
        post.image,
        mode=ServiceMode("replicated", len(jobs)),
        command=["sh", "-c", _TAKE_JOB],
        args=[program],
        user=WORKER,
        env={**post.variables, "PGPASSFILE": f"{SECRETS}/pgpass", "BENCH_SLOT": "{{.Task.Slot}}"},
        networks=[post.network],
        secrets=[post.pgpass],
        configs=[post.cluster.config(stack, program, lines, _JOBS)],
        resources=_resources(post.limits),
        constraints=list(post.placement.constraints),
        maxreplicas=post.placement.max_per_node,
    )
    tasks = post.lookout.tasks(service, [job.name for job in jobs])
    stack.callback(post.lookout.forget, service)
    return tasks


def postgres(
    cluster: Cluster,
    stack: ExitStack,
    lookout: TaskWatcher,
    image: str,
    node: Node,
    network: str,
    settings: Mapping[str, str],
    limits: Limits,
    password: SecretReference,
) -> Task:
    """Start Postgres on a node, with a volume there that goes with its container."""
    service = cluster.service(
        stack,
        "postgres",
        image,
        args=postgres_command(settings),
        hostname="postgres",
        user="postgres",
        env=postgres_environment(SECRETS),
        mounts=[
            # Without a name it belongs to the container: the node removes both together, even one that comes back.
            Mount(POSTGRES_HOME, None, labels=cluster.engine.labels),
            Mount("/dev/shm", None, type="tmpfs", tmpfs_size=SHARED_MEMORY_BYTES, tmpfs_mode=0o1777),  # noqa: S108
            Mount("/tmp", None, type="tmpfs", tmpfs_mode=0o1777),  # noqa: S108
            Mount("/var/run/postgresql", None, type="tmpfs", tmpfs_mode=0o1777),
        ],
        networks=[NetworkAttachmentConfig(network, aliases=[VARIABLES["PGHOST"]])],
        secrets=[password],
        resources=_resources(limits),
        constraints=[f"node.id=={node.id}"],
    )
    (task,) = lookout.tasks(service, ["postgres"])
    stack.callback(lookout.forget, service)
    return task


def refuse_if_ended(task: Task) -> None:
    """Raise what is to be said of a Postgres that has ended while it was being started."""
    if task.end is None:
        return
    printed = _printed(task)
    raise NotStartedError(reason(printed, task.end.exit_code) if printed.strip() else task.end.words)


def last_words(task: Task) -> str:
    """How the log of a Postgres ends that has ended, to be put behind a sentence; nothing where its node is lost."""
    if task.end is None or task.end.lost_with:
        return ""
    return f"; {end_of_log(_printed(task))}"


def _printed(task: Task) -> str:
    return b"".join((stdout or b"") + (stderr or b"") for stdout, stderr in task.chunks()).decode(errors="replace")


def run_program(program: Program) -> str:
    """There is no place beside Postgres here: workers are spread, and a program would be compared across the network.

    Raises:
        InfrastructureError: always.
    """
    raise InfrastructureError(
        f"{program.words[0]} is run beside Postgres on one machine only: use --place local or docker"
    )


def try_nodes(cluster: Cluster, image: str, placement: Placement) -> list[Node]:
    """Start a container of the worker image on every node that workers may run on; return these nodes, by name.

    Raises:
        InfrastructureError: there is no such node, or some of them have not got the image, and these are named.
    """
    with ExitStack() as stack:
        service = cluster.service(
            stack,
            "try",
            image,
            mode=ServiceMode("global"),
            command=["python", "-c", ""],
            user=WORKER,
            constraints=list(placement.constraints),
        )
        began = time.monotonic()
        tasks: list[dict[str, Any]] = []
        while not tasks or any(task["Status"]["State"] not in OVER for task in tasks):
            if time.monotonic() - began > (TRY_SECONDS if tasks else ASSIGN_SECONDS):
                break
            time.sleep(LOOK_SECONDS)
            tasks = tasks_of(cluster.client, service)
    known = nodes(cluster.client)
    if not tasks:
        raise InfrastructureError(
            f"no node of the swarm that is up fits {' and '.join(placement.constraints) or 'workers'}"
        )
    lacking = {
        known[task["NodeID"]].name: task["Status"].get("Err") or f"it is still {task['Status']['State']}"
        for task in tasks
        if task["Status"]["State"] != "complete"
    }
    if lacking:
        told = "; ".join(f"{node}: {why}" for node, why in sorted(lacking.items()))
        raise InfrastructureError(
            f"not every node can run the worker image. {told}. `bench image load` brings it to the nodes that a Docker "
            "context leads to, `bench image push` to a registry"
        )
    return sorted((known[task["NodeID"]] for task in tasks), key=lambda node: node.name)


def _resources(limits: Limits) -> Resources:
    return Resources(
        cpu_limit=limits.nano_cpus,
        mem_limit=None if limits.memory is None else int(parse_bytes(limits.memory)),
    )
