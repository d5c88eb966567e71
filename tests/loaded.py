"""The program `python -m bench`, forked from a process that has loaded it: loading takes longer than most tests' runs.

`python -m tests.loaded` has a socket as its standard input. Over it comes a line of JSON for each run, [command line,
folder, environment], with the descriptors of the run's stdout and stderr; [process id] goes back when the run has
started, and [exit code] when it has ended. Everything else about a run is as if it had been started by itself.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PRELOADED = (
    "bench.cli.app",
    "bench.doctor",
    "bench.places.docker.place",
    "bench.places.swarm.place",
    "pandas",
    "scipy.stats",
)
_MOST_BYTES = 1 << 20


class Loaded:
    """The process that has loaded the program."""

    def __init__(self, repository: Path) -> None:
        self._channel, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.loaded"],
            cwd=repository,
            # What has threads must not fork, and numpy would start some.
            env={**os.environ, "PYTHONPATH": str(repository), "OPENBLAS_NUM_THREADS": "1"},
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self._answers = self._channel.makefile("r")

    def close(self) -> None:
        """End the process."""
        self._answers.close()
        self._channel.close()
        self._process.wait(60)

    def run(
        self, words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """Run the program to its end, like subprocess.run.

        Raises:
            TimeoutError: it took longer, and was killed.
        """
        (stdout, theirs_out), (stderr, theirs_err) = os.pipe(), os.pipe()
        request = json.dumps([list(words), str(folder), dict(environment)]).encode() + b"\n"
        socket.send_fds(self._channel, [request], [theirs_out, theirs_err])
        for descriptor in (theirs_out, theirs_err):
            os.close(descriptor)
        (process_id,) = json.loads(self._answers.readline())
        with open(stdout) as out, open(stderr) as err, ThreadPoolExecutor(2) as pool:  # noqa: PTH123 - descriptors
            try:
                printed, complaint = pool.map(lambda pipe: pipe.read(), (out, err), timeout=timeout)
            except TimeoutError:
                os.kill(process_id, signal.SIGKILL)
                raise
            finally:
                (exit_code,) = json.loads(self._answers.readline())
        return subprocess.CompletedProcess(["bench", *words], exit_code, printed, complaint)


def _await_run() -> None:
    """Fork a process for each run; return in each such process, which is to be that run."""
    gc.freeze()
    channel = socket.socket(fileno=os.dup(0))
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, _MOST_BYTES, 2)
        while request and not request.endswith(b"\n"):
            request += channel.recv(_MOST_BYTES)
        if not request:
            sys.exit()
        process_id = os.fork()
        if not process_id:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        channel.sendall(json.dumps([process_id]).encode() + b"\n")
        _, status = os.waitpid(process_id, 0)
        channel.sendall(json.dumps([os.waitstatus_to_exitcode(status)]).encode() + b"\n")
    channel.close()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate([nothing, *descriptors]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    words, folder, environment = json.loads(request)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["bench", *words]


if __name__ == "__main__":
    for module in PRELOADED:
        importlib.import_module(module)
    _await_run()
    runpy.run_module("bench", run_name="__main__", alter_sys=True)
