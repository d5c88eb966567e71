"""The orchestrator's way to Postgres: through the engine, and so wherever the engine is.

A port that a container publishes is on the engine's machine, which may be anywhere. So a container beside Postgres
passes on what the engine's own `exec` brings to its standard input, one exec a connection. Nothing that is timed goes
this way.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import docker
from docker.errors import DockerException
from docker.utils.socket import frames_iter
from requests.exceptions import RequestException

PATIENCE_SECONDS = 10
_BYTES = 65536
_STDOUT = 1

IDLE = ["python", "-c", "import signal; signal.pause()"]
"""What the container does by itself."""

_RELAY = """
import os, socket, sys, threading, time
deadline = time.monotonic() + float(sys.argv[3])
while True:
    try:
        line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.02)
line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def there():
    while data := os.read(0, 65536):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=there, daemon=True).start()
while data := line.recv(65536):
    while data:
        data = data[os.write(1, data):]
"""


class Tunnel:
    """A port of 127.0.0.1 that leads through a container to a port that the container reaches."""

    def __init__(self, client: docker.DockerClient, container_id: str, host: str, port: int) -> None:
        self._api = client.api
        self._container_id = container_id
        self._words = ["python", "-c", _RELAY, host, str(port), str(PATIENCE_SECONDS)]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lines: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, name="tunnel", daemon=True).start()

    def close(self) -> None:
        """Break off all connections, and take no more. May be called more than once, and from any thread."""
        self._closed = True
        # A thread that waits in accept() is not woken by close().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._lines):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(ours,), name="tunnel", daemon=True).start()

    def _pass_on(self, ours: socket.socket) -> None:
        with ours, suppress(OSError, DockerException, RequestException):
            ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            running = self._api.exec_create(self._container_id, self._words, stdin=True)["Id"]
            hijacked: Any = self._api.exec_start(running, socket=True)
            theirs: socket.socket = getattr(hijacked, "_sock", hijacked)
            theirs.settimeout(None)
            with closing(hijacked), self._noted(theirs):
                threading.Thread(target=_pump, args=(ours, theirs), name="tunnel", daemon=True).start()
                for stream, data in frames_iter(hijacked, tty=False):  # type: ignore[no-untyped-call]
                    if stream == _STDOUT:
                        ours.sendall(data)

    @contextmanager
    def _noted(self, line: socket.socket) -> Iterator[None]:
        """A line that `close` breaks off while the `with` lasts."""
        self._lines.add(line)
        try:
            if self._closed:
                raise OSError
            yield
        finally:
            self._lines.discard(line)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def through(client: docker.DockerClient, container_id: str, host: str, port: int) -> Iterator[Tunnel]:
    """A tunnel through a container that runs, for as long as the `with` lasts."""
    tunnel = Tunnel(client, container_id, host, port)
    try:
        yield tunnel
    finally:
        tunnel.close()
