"""Postgres and workers as services of a swarm: each replica runs once, and is neither restarted nor replaced."""

import gzip
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from docker.types import Mount, NetworkAttachmentConfig, Resources, SecretReference, ServiceMode
from docker.utils import parse_bytes

from bench.errors import InfrastructureError, NotStartedError
from bench.job import Job, ProducerJob, encode_job
from bench.places.api import Messages, Program
from bench.places.docker import postgres as containers
from bench.places.docker.engine import WORKER
from bench.places.docker.options import Limits
from bench.places.last_words import end_of_log, reason
from bench.places.listener import OutputListener
from bench.places.swarm.cluster import Cluster, Node, nodes, tasks_of
from bench.places.swarm.tasks import LOOK_SECONDS, OVER, Task, TaskWatcher

SECRETS = "/run/secrets"
_JOBS = "/jobs.gz"
_TAKE_JOB = f'BENCH_JOB=$(zcat {_JOBS} | sed -n "${{BENCH_SLOT}}p") exec python -m "$0"'
"""All replicas of a service get one config with all jobs; each takes the line of its slot."""
ASSIGN_SECONDS = 5
"""A swarm takes a moment to decide which nodes a service runs on."""
TRY_SECONDS = 120
"""A node may have to pull the image."""


@dataclass(frozen=True)
class Placement:
    """Where Postgres and workers may run."""

    postgres_node: str | None = None
    """The name or the id of Postgres's node; None for the one whose engine we talk to."""
    constraints: Sequence[str] = ()
    """Of workers, as `docker service create --constraint` takes them."""
    max_per_node: int | None = None
    """Workers of one program per node; None is no limit."""


@dataclass(frozen=True)
class SwarmDeployment:
    """What the workers of one run have in common: where they run, their image, and how they reach Postgres."""

    cluster: Cluster
    watcher: TaskWatcher
    image: str
    network: str
    variables: Mapping[str, str]
    pgpass: SecretReference
    limits: Limits
    placement: Placement


@contextmanager
def start_workers(deployment: SwarmDeployment, jobs: Sequence[Job]) -> Iterator[Messages]:
    """Start one replica per job: of one service for producers, of another one for consumers."""
    listener = OutputListener()
    with ExitStack() as stack:
        for program in ("producers", "consumer"):
            its_jobs = [job for job in jobs if isinstance(job, ProducerJob) == (program == "producers")]
            if its_jobs:
                for task in _replicas(stack, deployment, program, its_jobs):
                    listener.listen(task.name, task.chunks(), task.wait)
        yield listener.messages()


def _replicas(stack: ExitStack, deployment: SwarmDeployment, program: str, jobs: Sequence[Job]) -> list[Task]:
    lines = gzip.compress(b"".join(encode_job(job) + b"\n" for job in jobs))
    service = deployment.cluster.service(
        stack,
        program,
        deployment.image,
        mode=ServiceMode("replicated", len(jobs)),
        command=["sh", "-c", _TAKE_JOB],
        args=[program],
        user=WORKER,
        env={**deployment.variables, "PGPASSFILE": f"{SECRETS}/pgpass", "BENCH_SLOT": "{{.Task.Slot}}"},
        networks=[deployment.network],
        secrets=[deployment.pgpass],
        configs=[deployment.cluster.config(stack, program, lines, _JOBS)],
        resources=_resources(deployment.limits),
        constraints=list(deployment.placement.constraints),
        maxreplicas=deployment.placement.max_per_node,
    )
    tasks = deployment.watcher.tasks(service, [job.name for job in jobs])
    stack.callback(deployment.watcher.forget, service)
    return tasks


def postgres(
    cluster: Cluster,
    stack: ExitStack,
    watcher: TaskWatcher,
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
        args=containers.command(settings),
        hostname="postgres",
        user="postgres",
        env=containers.environment(SECRETS),
        mounts=[
            # Without a name it belongs to the container: the node removes both together, even one that comes back.
            Mount(containers.HOME, None, labels=cluster.engine.labels),
            Mount("/dev/shm", None, type="tmpfs", tmpfs_size=containers.SHARED_MEMORY_BYTES, tmpfs_mode=0o1777),  # noqa: S108
            Mount("/tmp", None, type="tmpfs", tmpfs_mode=0o1777),  # noqa: S108
            Mount("/var/run/postgresql", None, type="tmpfs", tmpfs_mode=0o1777),
        ],
        networks=[NetworkAttachmentConfig(network, aliases=[containers.VARIABLES["PGHOST"]])],
        secrets=[password],
        resources=_resources(limits),
        constraints=[f"node.id=={node.id}"],
    )
    (task,) = watcher.tasks(service, ["postgres"])
    stack.callback(watcher.forget, service)
    return task


def refuse_if_ended(task: Task) -> None:
    """Refuse a Postgres that has ended while it was being started.

    Raises:
        NotStartedError: it has.
    """
    if task.end is None:
        return
    log = _log(task)
    raise NotStartedError(reason(log, task.end.exit_code) if log.strip() else task.end.explanation)


def last_words(task: Task) -> str:
    """Return the end of the log of a Postgres that has ended, to follow a sentence; "" when its node is lost."""
    if task.end is None or task.end.lost_with:
        return ""
    return f"; {end_of_log(_log(task))}"


def _log(task: Task) -> str:
    return b"".join((stdout or b"") + (stderr or b"") for stdout, stderr in task.chunks()).decode(errors="replace")


def run_program(program: Program) -> str:
    """Refuse to run a program: workers are spread over nodes, and it would be compared with them across the network.

    Raises:
        InfrastructureError: always.
    """
    raise InfrastructureError(
        f"{program.command[0]} is run next to Postgres on one machine only: use --place local or docker"
    )


def try_nodes(cluster: Cluster, stack: ExitStack, image: str, placement: Placement) -> Callable[[], list[Node]]:
    """Start a container of the worker image on every node that workers may run on.

    Returns a function that waits until all of these containers have ended, removes them, and returns their nodes, by
    name. That function raises InfrastructureError when no node fits, or when some cannot run the image; the message
    names these.
    """
    began = time.monotonic()
    trial = stack.enter_context(ExitStack())
    service = cluster.service(
        trial,
        "try",
        image,
        mode=ServiceMode("global"),
        command=["python", "-c", ""],
        user=WORKER,
        constraints=list(placement.constraints),
    )

    def tried() -> list[Node]:
        with trial:
            return _nodes_of(_ended_tasks(cluster, service, began), cluster, placement)

    return tried


def _ended_tasks(cluster: Cluster, service: str, began: float) -> list[dict[str, Any]]:
    """Wait until all tasks of a service that was made at `began` (monotonic) have ended or their time is over."""
    while True:
        tasks = tasks_of(cluster.client, service)
        if tasks and all(task["Status"]["State"] in OVER for task in tasks):
            return tasks
        if time.monotonic() - began > (TRY_SECONDS if tasks else ASSIGN_SECONDS):
            return tasks
        time.sleep(LOOK_SECONDS)


def _nodes_of(tasks: Sequence[Mapping[str, Any]], cluster: Cluster, placement: Placement) -> list[Node]:
    known = nodes(cluster.client)
    if not tasks:
        raise InfrastructureError(
            f"no node of the swarm that is up fits {' and '.join(placement.constraints) or 'workers'}"
        )
    failures = {
        known[task["NodeID"]].name: task["Status"].get("Err") or f"it is still {task['Status']['State']}"
        for task in tasks
        if task["Status"]["State"] != "complete"
    }
    if failures:
        reasons = "; ".join(f"{node}: {reason}" for node, reason in sorted(failures.items()))
        raise InfrastructureError(
            f"not every node can run the worker image. {reasons}. `bench image load` brings it to the nodes that a "
            "Docker context leads to, `bench image push` to a registry"
        )
    return sorted((known[task["NodeID"]] for task in tasks), key=lambda node: node.name)


def _resources(limits: Limits) -> Resources:
    return Resources(
        cpu_limit=limits.nano_cpus,
        mem_limit=None if limits.memory is None else int(parse_bytes(limits.memory)),
    )
