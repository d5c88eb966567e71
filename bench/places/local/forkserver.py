"""A process that has loaded what workers need, and forks them: loading takes them longer than all else.

Started as `python -m bench.places.local.forkserver PROGRAM...` with a stream socket as its standard input. It is
asked for a worker with a line of JSON, [program, variables], that comes with the worker's stdout and stderr as
descriptors; or to kill workers, with a line of their process ids. It answers each request with a line: [process id] of
a new worker, [] when workers were killed. One more line reports a worker's end: [process id, exit code]. It ends when
the socket is closed.
"""

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

_MOST_BYTES = 1 << 20
_MOST_DESCRIPTORS = 64
"""More than this process ever has open."""


def main(programs: list[str]) -> None:
    """Fork workers until the socket is closed."""
    for program in programs:
        importlib.import_module(f"{program}.__main__")
    gc.freeze()
    channel = socket.socket(fileno=os.dup(0))
    ended, signals = socket.socketpair()
    os.set_blocking(signals.fileno(), False)
    signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is ended:
                    ended.recv(4096)
                    _report_ends(channel)
                elif not _serve(channel):
                    return


def _serve(channel: socket.socket) -> bool:
    """Answer one request; False when the socket is closed."""
    request, descriptors, _, _ = socket.recv_fds(channel, _MOST_BYTES, 2)
    while request and not request.endswith(b"\n"):
        request += channel.recv(_MOST_BYTES)
    if not request:
        return False
    if not descriptors:
        for worker in json.loads(request):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        channel.sendall(b"[]\n")
        return True
    program, variables = json.loads(request)
    worker = os.fork()
    if not worker:
        _become(program, variables, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    channel.sendall(json.dumps([worker]).encode() + b"\n")
    return True


def _become(program: str, variables: dict[str, str], descriptors: list[int]) -> NoReturn:
    """Run a worker's program in this process, as if it had been started alone."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()  # Ctrl-C is for the orchestrator, which ends its workers itself
        for number, descriptor in enumerate([os.open(os.devnull, os.O_RDONLY), *descriptors]):
            os.dup2(descriptor, number)
        os.closerange(3, _MOST_DESCRIPTORS)
        os.environ.clear()
        os.environ.update(variables)
        sys.argv = [program]
        sys.modules.pop(f"{program}.__main__")  # it runs as __main__ and must not be imported already
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter itself would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _report_ends(channel: socket.socket) -> None:
    while True:
        try:
            worker, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not worker:
            return
        channel.sendall(json.dumps([worker, os.waitstatus_to_exitcode(status)]).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
