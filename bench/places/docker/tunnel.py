"""The orchestrator's way to Postgres: through the engine, wherever that is.

A port that a container publishes is on the engine's machine, which may be anywhere. So a container next to Postgres
relays what the engine's own `exec` brings to its standard input, one exec per connection. Nothing that is timed takes
this way.
"""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import docker

from bench.places.docker.stream import STDOUT, Stream

PATIENCE_SECONDS = 10
_BYTES = 65536

_news = logging.getLogger("bench")

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
        self._client = client
        self._container_id = container_id
        self._command = ["python", "-c", _RELAY, host, str(port), str(PATIENCE_SECONDS)]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lines: set[Stream] = set()
        self._closed = False
        threading.Thread(target=self._accept, name="tunnel", daemon=True).start()

    def close(self) -> None:
        """Break off all connections, and accept no more. May be called more than once, and from any thread."""
        self._closed = True
        # close() alone does not wake a thread that waits in accept().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._lines):
            each.break_off()

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(local,), name="tunnel", daemon=True).start()

    def _pass_on(self, local: socket.socket) -> None:
        with local:
            try:
                self._through_exec(local)
            except Exception as error:  # noqa: BLE001 - whatever the engine's client raises, this connection has ended
                _news.debug("a connection to Postgres ended: %s", error)
            finally:
                # close() alone would not end the connection: the kernel keeps it for the thread that waits in recv().
                with suppress(OSError):
                    local.shutdown(socket.SHUT_RDWR)

    def _through_exec(self, local: socket.socket) -> None:
        local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        running = self._client.api.exec_create(self._container_id, self._command, stdin=True)["Id"]
        remote = Stream(self._client, f"/exec/{running}/start", {}, {"Tty": False, "Detach": False})
        with closing(remote), self._noted(remote):
            threading.Thread(target=_pump, args=(local, remote), name="tunnel", daemon=True).start()
            for stream, data in remote.frames():
                if stream == STDOUT:
                    local.sendall(data)

    @contextmanager
    def _noted(self, line: Stream) -> Iterator[None]:
        """Have `close` break this connection off while the `with` lasts."""
        self._lines.add(line)
        try:
            if self._closed:
                raise OSError("the tunnel is closed")
            yield
        finally:
            self._lines.discard(line)


def _pump(source: socket.socket, sink: Stream) -> None:
    with suppress(OSError):
        while data := source.recv(_BYTES):
            sink.send(data)
        sink.end_input()


@contextmanager
def through(client: docker.DockerClient, container_id: str, host: str, port: int) -> Iterator[Tunnel]:
    """Open a tunnel through a running container, and close it at the end of the `with`."""
    tunnel = Tunnel(client, container_id, host, port)
    try:
        yield tunnel
    finally:
        tunnel.close()
