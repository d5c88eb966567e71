"""Workers, and PostgreSQL's own programs, as containers of a Docker engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from docker.models.containers import Container
from docker.models.images import Image
from docker.types import Mount
from psycopg.pq import Ping

from bench.errors import InfrastructureError
from bench.interrupts import held
from bench.job import Job, ProducerJob, encode_job
from bench.places.api import End, Messages, Program
from bench.places.docker.engine import WORKER, Engine
from bench.places.docker.options import Limits
from bench.places.docker.password import SECRETS
from bench.places.docker.stream import Stream
from bench.places.last_words import ANSWER_SECONDS
from bench.places.listener import Chunks, OutputListener

THREADS = 4
"""Two per core of a small machine: more containers at once start no sooner."""


@dataclass(frozen=True)
class Deployment:
    """What the containers of one run have in common that reach its Postgres."""

    engine: Engine
    network: str
    secrets: Mount
    variables: Mapping[str, str]
    """How libpq finds Postgres from this network."""

    def create(
        self, stack: ExitStack, image: Image, name: str, environment: Mapping[str, str], **arguments: Any
    ) -> Container:
        """Create a container that reaches Postgres and goes with the stack."""
        return self.engine.create(
            stack,
            image,
            name,
            user=WORKER,
            environment={**self.variables, "PGPASSFILE": f"{SECRETS}/pgpass", **environment},
            network=self.network,
            mounts=[self.secrets],
            **arguments,
        )


@contextmanager
def start_workers(deployment: Deployment, image: Image, limits: Limits, jobs: Sequence[Job]) -> Iterator[Messages]:
    """Start one container per job, several at a time."""
    listener = OutputListener()

    def start(job: Job, stack: ExitStack) -> tuple[str, Chunks, Callable[[], End]]:
        container = deployment.create(
            stack,
            image,
            job.name,
            {"BENCH_JOB": encode_job(job).decode()},
            command=["producers" if isinstance(job, ProducerJob) else "consumer"],
            **limits.arguments(),
        )
        limits.refuse_dropped(container.attrs["HostConfig"])
        everything = {"logs": "1", "stream": "1", "stdout": "1", "stderr": "1"}
        output = Stream(deployment.engine.client, f"/containers/{container.id}/attach", everything)
        stack.callback(output.break_off)
        container.start()
        return job.name, output.chunks(), _waiter(container)

    stacks = [ExitStack() for _ in jobs]
    pool = ThreadPoolExecutor(THREADS)
    try:
        with held():  # a pool does not wait for a thread whose start was interrupted
            starting = [pool.submit(start, job, stack) for job, stack in zip(jobs, stacks, strict=True)]
        for started in starting:
            listener.listen(*started.result())
        yield listener.messages()
    finally:
        pool.shutdown(cancel_futures=True)
        with held(), ThreadPoolExecutor(THREADS) as removers:
            removals = [removers.submit(stack.close) for stack in stacks]
        for removal in removals:
            removal.result()


def reach_postgres(deployment: Deployment, image: Image) -> bool:
    """Start a container as a worker's, and return whether Postgres answers it, be it with a refusal."""
    with ExitStack() as stack:
        container = deployment.create(
            stack,
            image,
            "reaches",
            {"PGCONNECT_TIMEOUT": str(ANSWER_SECONDS)},
            entrypoint=["python", "-c", f"from psycopg import pq; exit(pq.PGconn.ping(b'') >= {Ping.NO_RESPONSE:d})"],
        )
        container.start()
        return bool(container.wait()["StatusCode"] == 0)


def run_program(deployment: Deployment, image: Image, program: Program) -> str:
    """Run one of the programs in a Postgres image; its working folder is /tmp, which is in memory.

    Raises:
        InfrastructureError: the program failed.
    """
    with ExitStack() as stack:
        container = deployment.create(
            stack,
            image,
            program.command[0],
            {**program.variables, "SCRIPT": program.script, "FILES": program.files},
            entrypoint=["sh", "-c", 'printf %s "$SCRIPT" | "$@" && { [ -z "$FILES" ] || cat $FILES; }', "sh"],
            command=list(program.command),
            working_dir="/tmp",  # noqa: S108
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108
        )
        container.start()
        if container.wait()["StatusCode"]:
            complaint = container.logs(stdout=False, stderr=True).decode(errors="replace")
            raise InfrastructureError(f"{program.command[0]} failed: {complaint.strip()}")
        return str(container.logs(stdout=True, stderr=False).decode())


def _waiter(container: Container) -> Callable[[], End]:
    def wait() -> End:
        code = int(container.wait(timeout=30)["StatusCode"])
        if not code:
            return End(0)
        container.reload()
        out_of_memory = container.attrs["State"]["OOMKilled"]
        return End(code, "killed because it went over its memory limit" if out_of_memory else "")

    return wait
