"""Programs forked from a process that has loaded what they need, because loading takes longer than most tests' runs.

There are two such processes: one of `python -m bench`, and a smaller one of its workers and of the fork server, which a
run asks for its fork server instead of starting one.

`python -m tests.loaded DESCRIPTOR MODULE...` has a socket as its standard input. Over it comes a line of JSON for each
program, [module, arguments, folder, environment], with the descriptors of the program's stdin, stdout and stderr, and a
fourth one that is open while the program lives. [process id] goes back when the program has started and, except for a
fork server, [exit code] when it has ended. Everything else about a program is as if it had been started by itself.
DESCRIPTOR is that of a socket which leads to the other process; -1 is none.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NamedTuple
from unittest import mock

from bench.places.local import workers

BENCH = "bench"
FORKSERVER = "bench.places.local.forkserver"
_OF_BENCH = (
    "bench.cli.app",
    "bench.doctor",
    "bench.places.docker.place",
    "bench.places.swarm.place",
    "pandas",
    "scipy.stats",
)
_OF_WORKERS = ("producers.__main__", "consumer.__main__")
_MOST_BYTES = 1 << 20
_REPOSITORY = Path(__file__).parent.parent


class _Program(NamedTuple):
    """A program that a process is to become."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]


class _Channel:
    """The end of a socket over which programs are asked for."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._answers = connected.makefile("r")

    def ask(self, program: _Program, descriptors: Sequence[int]) -> int:
        """Ask for a process, which gets duplicates of these descriptors; return its id."""
        socket.send_fds(self.socket, [json.dumps(program).encode() + b"\n"], descriptors)
        return self.answer()

    def answer(self) -> int:
        """The next number that comes back."""
        (number,) = json.loads(self._answers.readline())
        return int(number)


class _ForkServer:
    """A fork server that was forked for a run: the part of Popen that a run uses."""

    def __init__(self, process_id: int, life: int, stderr: int) -> None:
        self.stderr: IO[bytes] = open(stderr, "rb", buffering=0)  # noqa: SIM115 - a descriptor
        self.kill = partial(os.kill, process_id, signal.SIGKILL)
        self._life = life
        """The end of a pipe that ends with the process."""

    def wait(self, timeout: float) -> None:
        """Wait for the end of the process."""
        ended, _, _ = select.select([self._life], [], [], timeout)
        if not ended:
            raise subprocess.TimeoutExpired(FORKSERVER, timeout)
        os.close(self._life)


def _subprocess(channel: _Channel) -> Any:
    """The module subprocess, except that a fork server is forked instead of started."""

    def popen(command: Sequence[str], **options: Any) -> Any:
        if list(command[1:3]) != ["-m", FORKSERVER]:
            return subprocess.Popen(command, **options)
        program = _Program(FORKSERVER, list(command[3:]), str(Path.cwd()), dict(options["env"]))
        (life, theirs_life), (stderr, theirs_stderr) = os.pipe(), os.pipe()
        nothing = os.open(os.devnull, os.O_WRONLY)
        process_id = channel.ask(program, [options["stdin"], nothing, theirs_stderr, theirs_life])
        for descriptor in (nothing, theirs_stderr, theirs_life):
            os.close(descriptor)
        return _ForkServer(process_id, life, stderr)

    return SimpleNamespace(**{**vars(subprocess), "Popen": popen})


class Loaded:
    """A process that has loaded what some programs need, and forks them."""

    def __init__(self, channel: _Channel) -> None:
        self.channel = channel
        self.subprocess = _subprocess(channel)
        """To be used as the module subprocess of `bench.places.local.workers`, by runs in the tests' own process."""

    def run(
        self, module: str, words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end, like subprocess.run.

        Raises:
            TimeoutError: it took longer, and was killed.
        """
        (stdout, theirs_out), (stderr, theirs_err) = os.pipe(), os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        program = _Program(module, list(words), str(folder), dict(environment))
        process_id = self.channel.ask(program, [nothing, theirs_out, theirs_err])
        for descriptor in (nothing, theirs_out, theirs_err):
            os.close(descriptor)
        with open(stdout) as out, open(stderr) as err, ThreadPoolExecutor(2) as pool:  # noqa: PTH123 - descriptors
            try:
                printed, complaint = pool.map(lambda pipe: pipe.read(), (out, err), timeout=timeout)
            except TimeoutError:
                os.kill(process_id, signal.SIGKILL)
                raise
            finally:
                exit_code = self.channel.answer()
        return subprocess.CompletedProcess([module, *words], exit_code, printed, complaint)


@cache
def of_workers() -> Loaded:
    """The process that has loaded the workers' programs. It ends with the process that runs the tests."""
    return Loaded(_started(_OF_WORKERS, None))


@cache
def of_bench() -> Loaded:
    """The process that has loaded the program. It ends with the process that runs the tests."""
    return Loaded(_started(_OF_BENCH, of_workers().channel.socket.fileno()))


def _started(modules: Sequence[str], workers_socket: int | None) -> _Channel:
    ours, theirs = socket.socketpair()
    inherited = [] if workers_socket is None else [workers_socket]
    subprocess.Popen(
        [sys.executable, "-m", "tests.loaded", *map(str, inherited or [-1]), *modules],
        cwd=_REPOSITORY,
        # What has threads must not fork, and numpy would start some.
        env={**os.environ, "PYTHONPATH": str(_REPOSITORY), "OPENBLAS_NUM_THREADS": "1"},
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        pass_fds=inherited,
    )
    theirs.close()
    return _Channel(ours)


def _await_program() -> _Program:
    """Fork a process for each program that is asked for; return, in each such process, the program that it is to be."""
    asking = socket.socket(fileno=os.dup(0))
    while True:
        request, descriptors, _, _ = socket.recv_fds(asking, _MOST_BYTES, 4)
        while request and not request.endswith(b"\n"):
            request += asking.recv(_MOST_BYTES)
        if not request:
            sys.exit()
        program = _Program(*json.loads(request))
        process_id = os.fork()
        if not process_id:
            asking.close()
            for number, descriptor in enumerate(descriptors[:3]):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return program
        for descriptor in descriptors:
            os.close(descriptor)
        asking.sendall(json.dumps([process_id]).encode() + b"\n")
        if program.module != FORKSERVER:
            _, status = os.waitpid(process_id, 0)
            asking.sendall(json.dumps([os.waitstatus_to_exitcode(status)]).encode() + b"\n")
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # a fork server that has ended


def _become(program: _Program) -> None:
    """Run a program in this process, as if it had been started by itself."""
    if program.module == FORKSERVER:
        os.setsid()
    os.chdir(program.folder)
    os.environ.clear()
    os.environ.update(program.environment)
    sys.argv = [program.module, *program.arguments]
    sys.modules.pop(f"{program.module}.__main__", None)  # it runs as __main__ and must not be imported already
    exit_code = 0

    def leave() -> None:
        # Without taking all objects apart: they would first be copied from the process that loaded them.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code)

    atexit.register(leave)
    try:
        runpy.run_module(program.module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        exit_code = 1
        raise


if __name__ == "__main__":
    workers_descriptor, *modules = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    asked_for = _await_program()
    if int(workers_descriptor) >= 0:
        to_workers = _Channel(socket.socket(fileno=int(workers_descriptor)))
        mock.patch.object(workers, "subprocess", _subprocess(to_workers)).start()
    _become(asked_for)
