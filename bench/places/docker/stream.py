"""A connection to the standard streams of an exec or a container, which the engine hands over.

docker-py returns the socket of such a connection and drops the response around it, whose destructor then complains
about a closed file (its issue 3345). Here both are held, and closed in order.
"""

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import docker
from docker.errors import create_api_error_from_http_exception
from requests.exceptions import HTTPError

from bench.keepalive import keep_alive

STDOUT, STDERR = 1, 2
_HEADER = struct.Struct(">BxxxL")
_KEEPALIVE_SECONDS = 15
"""Between two probes of an idle connection through a network."""
_KEEPALIVE_PROBES = 4


class Stream:
    """One connection to the standard streams of a process in a container; ends with `close`, or with this process."""

    def __init__(
        self, client: docker.DockerClient, path: str, params: Mapping[str, str], json: Mapping[str, Any] | None = None
    ) -> None:
        """POST to a path of the Engine API that hands over its connection.

        Raises:
            APIError: the engine refuses.
            RequestException: the engine does not answer.
        """
        api = client.api
        self._response = api.post(
            f"{api.base_url}/v{api.api_version}{path}",
            params=dict(params),
            json=json,
            headers={"Connection": "Upgrade", "Upgrade": "tcp"},
            stream=True,
        )
        try:
            self._response.raise_for_status()
        except HTTPError as error:
            create_api_error_from_http_exception(error)
        # The reader may hold bytes that came together with the headers.
        raw_response: Any = self._response.raw
        self._reader: Any = raw_response._fp.fp
        raw = self._reader.raw
        self._socket: socket.socket = getattr(raw, "_sock", raw)
        self._socket.settimeout(None)
        keep_alive(self._socket, _KEEPALIVE_SECONDS, _KEEPALIVE_PROBES)

    def send(self, data: bytes) -> None:
        """Send to the standard input."""
        self._socket.sendall(data)

    def end_input(self) -> None:
        """Send nothing more: the standard input ends."""
        self._socket.shutdown(socket.SHUT_WR)

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield the output as (stream, bytes), to its end. `close` in another thread ends it early."""
        with suppress(OSError, ValueError):  # broken off at either end
            while len(header := self._reader.read(_HEADER.size)) == _HEADER.size:
                stream, size = _HEADER.unpack(header)
                yield stream, self._reader.read(size)

    def chunks(self) -> Iterator[tuple[bytes | None, bytes | None]]:
        """Yield the output as (stdout, stderr), to its end, and close the connection."""
        try:
            for stream, data in self.frames():
                yield (data if stream == STDOUT else None, data if stream == STDERR else None)
        finally:
            self.close()

    def break_off(self) -> None:
        """End both directions, which wakes threads that wait for one. May be called from any thread, and again."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection. May be called more than once."""
        self.break_off()
        self._response.close()
