"""Workers as processes of this machine."""

import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from bench.errors import OutsideError
from bench.files import PACKAGES
from bench.interrupts import held
from bench.places.site import Chunks, Ears, Messages, Program, Usage
from bench.records import Job, ProducerJob, encode_job

KILL_SECONDS = 5


@contextmanager
def start_workers(database: Mapping[str, str], jobs: Sequence[Job]) -> Iterator[Messages]:
    """Start one process a job; `database` holds libpq's variables."""
    path = os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **database, "PYTHONPATH": path}
    workers: list[subprocess.Popen[bytes]] = []
    ears = Ears()
    try:
        for job in jobs:
            with held():
                worker = subprocess.Popen(
                    [sys.executable, "-m", "producers" if isinstance(job, ProducerJob) else "consumer"],
                    env={**environment, "BENCH_JOB": encode_job(job).decode()},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # Ctrl-C is for the orchestrator, which ends its workers itself
                )
                workers.append(worker)
            ears.listen(job.name, _chunks(worker), _waiter(worker))
        yield ears.messages()
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait(KILL_SECONDS)


def _waiter(worker: subprocess.Popen[bytes]) -> Callable[[], tuple[int, str]]:
    def wait() -> tuple[int, str]:
        code = worker.wait()
        return code, f"ended by signal {-code}" if code < 0 else ""

    return wait


def _chunks(worker: subprocess.Popen[bytes]) -> Chunks:
    with selectors.DefaultSelector() as selector:
        for stream in (worker.stdout, worker.stderr):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is worker.stdout:
                    yield chunk, None
                else:
                    yield None, chunk


def run_program(folder: Path, home: Path, database: Mapping[str, str], program: Program) -> str:
    """Run one of the programs in `folder`; it finds itself in `home` and reaches `database` by libpq's variables.

    Raises:
        OutsideError: it is not there, or it failed.
    """
    name, *arguments = program.words
    if not (folder / name).is_file():
        raise OutsideError(f"there is no {name} in {folder}: name a folder that has it with --pg-bin")
    with subprocess.Popen(
        [folder / name, *arguments],
        cwd=home,
        env={**os.environ, **database, **program.variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            printed, complaint = running.communicate(program.script)
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        raise OutsideError(f"{name} failed: {complaint.strip()}")
    return printed


def usage(server: int) -> Usage | None:
    """What a process and its children use, those included that have ended. Memory that they share counts once."""
    try:
        postmaster = psutil.Process(server)
        times = postmaster.cpu_times()
        cpu_seconds = times.user + times.system + times.children_user + times.children_system
        own, shared = 0, 0
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_info()
                mapped = getattr(memory, "shared", 0)  # not on every system
                own, shared = own + memory.rss - mapped, max(shared, mapped)
                if process != postmaster:
                    times = process.cpu_times()
                    cpu_seconds += times.user + times.system
    except psutil.Error:
        return None
    return Usage(cpu_seconds, own + shared)
