"""Workers as processes of this machine."""

import json
import os
import queue
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from bench.errors import InfrastructureError
from bench.interrupts import held, killed_at_once
from bench.job import Job, ProducerJob, encode_job
from bench.paths import PACKAGES
from bench.places.api import End, Messages, Program, Usage
from bench.places.listener import MAX_LAST_WORDS_BYTES, Chunks, OutputListener

KILL_SECONDS = 5
START_SECONDS = 60
"""For the first worker, which comes when the forkserver has loaded what workers load."""
_SCANS = 20
"""Most scans of a process tree: a scan during which a process ended is repeated, and clients may always end."""


class _Worker:
    """A worker that the forkserver forked."""

    def __init__(self, process_id: int) -> None:
        self.process_id = process_id
        self.ended = threading.Event()
        self.exit_code = 0
        self.stdout = self.stderr = -1

    def wait(self) -> End:
        """Wait for the worker's end, and return how it ended."""
        self.ended.wait()
        return End(self.exit_code, f"ended by signal {-self.exit_code}" if self.exit_code < 0 else "")

    def chunks(self) -> Chunks:
        """Yield the worker's output as it comes."""
        with selectors.DefaultSelector() as selector:
            for output in (self.stdout, self.stderr):
                selector.register(output, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fd)
                        os.close(key.fd)
                    elif key.fd == self.stdout:
                        yield chunk, None
                    else:
                        yield None, chunk


class ForkServer:
    """Starts workers by forking them from a process that has loaded all that they need."""

    def __init__(self, channel: socket.socket, process: "subprocess.Popen[bytes]") -> None:
        self._channel = channel
        self._process = process
        self._workers: dict[int, _Worker] = {}
        self._answers: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        """One answer per question: a new worker; None when workers were killed, or when the forkserver is gone."""
        self._complaint = b""
        """The end of the forkserver's stderr."""
        threading.Thread(target=self._listen, name="forkserver", daemon=True).start()
        self._drain = threading.Thread(target=self._read_complaint, name="forkserver", daemon=True)
        self._drain.start()

    def start(self, program: str, variables: Mapping[str, str]) -> _Worker:
        """Start a worker.

        Raises:
            InfrastructureError: the forkserver did not start it.
        """
        outputs = [os.pipe(), os.pipe()]
        asked = json.dumps([program, dict(variables)]).encode() + b"\n"
        with suppress(OSError):  # the listener notices that the forkserver is gone
            socket.send_fds(self._channel, [asked], [writes for _, writes in outputs])
        for _, writes in outputs:
            os.close(writes)
        worker = self._answer(START_SECONDS)
        if worker is None:
            self._drain.join(KILL_SECONDS)
            complaint = self._complaint.decode(errors="replace").strip()
            raise InfrastructureError(
                f"workers cannot be started: {complaint or f'the forkserver did not answer within {START_SECONDS} s'}"
            )
        (worker.stdout, _), (worker.stderr, _) = outputs
        return worker

    def kill(self, workers: Sequence[_Worker]) -> None:
        """Kill the workers that still run, and wait for their end."""
        living = [worker for worker in workers if not worker.ended.is_set()]
        if not living:
            return
        with suppress(OSError):
            self._channel.sendall(json.dumps([worker.process_id for worker in living]).encode() + b"\n")
        self._answer(KILL_SECONDS)  # one question at a time, or two would be read as one
        for worker in living:
            worker.ended.wait(KILL_SECONDS)

    def _answer(self, seconds: float) -> _Worker | None:
        with suppress(queue.Empty):
            return self._answers.get(timeout=seconds)
        return None

    def _read_complaint(self) -> None:
        """Read the forkserver's stderr all the time: a full pipe would stop the forkserver."""
        if self._process.stderr is None:
            return
        with self._process.stderr as printed, suppress(OSError, ValueError):
            while chunk := os.read(printed.fileno(), 65536):
                self._complaint = (self._complaint + chunk)[-MAX_LAST_WORDS_BYTES:]

    def _listen(self) -> None:
        with self._channel.makefile("r", encoding="utf-8") as lines, suppress(OSError):
            for line in lines:
                match json.loads(line):
                    case [process_id, exit_code]:
                        worker = self._workers.pop(process_id)
                        worker.exit_code = exit_code
                        worker.ended.set()
                    case [process_id]:
                        self._workers[process_id] = _Worker(process_id)
                        self._answers.put(self._workers[process_id])
                    case _:
                        self._answers.put(None)
        for worker in self._workers.values():
            worker.exit_code = -signal.SIGKILL
            worker.ended.set()
        self._answers.put(None)


@contextmanager
def forkserver() -> Iterator[ForkServer]:
    """Start a forkserver, which loads in the background; at the end of the `with` it ends, and all workers with it."""
    path = os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        with held():
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.places.local.forkserver", "producers", "consumer"],
                # numpy would start threads, and a process with threads must not fork.
                env={**_environment(), "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            stack.callback(_end, process)
            stack.callback(ours.close)
            stack.callback(ours.shutdown, socket.SHUT_RDWR)
            theirs.close()
        with killed_at_once(process.kill):
            yield ForkServer(ours, process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a process that ends by itself, and kill it when it does not."""
    try:
        process.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(KILL_SECONDS)


def _environment() -> dict[str, str]:
    """Return our own environment without a password: workers get theirs in a file."""
    return {name: value for name, value in os.environ.items() if name != "PGPASSWORD"}


@contextmanager
def start_workers(forkserver: ForkServer, database: Mapping[str, str], jobs: Sequence[Job]) -> Iterator[Messages]:
    """Start one process per job; `database` holds libpq's variables."""
    workers: list[_Worker] = []
    listener = OutputListener()
    try:
        for job in jobs:
            with held():
                program = "producers" if isinstance(job, ProducerJob) else "consumer"
                worker = forkserver.start(
                    program, {**_environment(), **database, "BENCH_JOB": encode_job(job).decode()}
                )
                workers.append(worker)
            listener.listen(job.name, worker.chunks(), worker.wait)
        yield listener.messages()
    finally:
        with held():
            forkserver.kill(workers)


def run_program(folder: Path, home: Path, database: Mapping[str, str], program: Program) -> str:
    """Run one of the programs in `folder`, with `home` as its working folder and `database` as libpq's variables.

    Raises:
        InfrastructureError: the program is missing, or it failed.
    """
    name, *arguments = program.command
    if not (folder / name).is_file():
        raise InfrastructureError(f"{folder} has no {name}; name a folder that has one with --pg-bin")
    with subprocess.Popen(
        [folder / name, *arguments],
        cwd=home,
        env={**_environment(), **database, **program.variables},
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
        raise InfrastructureError(f"{name} failed: {complaint.strip()}")
    for file in sorted(home.glob(program.files)) if program.files else []:
        printed += file.read_text()
        file.unlink()
    return printed


def usage(server: int) -> Usage | None:
    """Return what a process and its children, ended ones included, use; None if it ended. Shared memory counts once."""
    try:
        postmaster = psutil.Process(server)
        for _ in range(_SCANS):
            ended = postmaster.cpu_times()
            cpu_seconds = sum(ended[:4])
            own, shared = 0, 0
            for process in [postmaster, *postmaster.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    memory = process.memory_info()
                    mapped = getattr(memory, "shared", 0)  # not on every system
                    own, shared = own + memory.rss - mapped, max(shared, mapped)
                    if process != postmaster:
                        times = process.cpu_times()
                        cpu_seconds += times.user + times.system
            now = postmaster.cpu_times()
            # A process that ended during the scan would be counted twice or not at all.
            if (now.children_user, now.children_system) == (ended.children_user, ended.children_system):
                break
    except psutil.Error:
        return None
    return Usage(cpu_seconds, own + shared)
