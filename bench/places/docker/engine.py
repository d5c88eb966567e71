"""A Docker engine and what a run makes in it: labelled containers, networks and volumes, all removed in the end."""

import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.models.containers import Container
from docker.models.images import Image
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from bench.errors import InfrastructureError
from bench.interrupts import held
from bench.places.docker.address import cause_of, is_here
from bench.places.docker.leftovers import (
    ENGINE_LABEL,
    KEEPER_LABEL,
    LABEL,
    ORIGIN_LABEL,
    remove_network,
    remove_with_retry,
)
from bench.places.docker.stream import Stream
from bench.places.rundir import RunFolder

WORKER_USER = 10001
WORKER = f"{WORKER_USER}:{WORKER_USER}"
"""User and group of the programs next to Postgres."""
UNTIL_INPUT_ENDS = ["python", "-c", "import sys; sys.stdin.read()"]


class Engine:
    """A Docker engine, and what one run makes in it, all with the run's labels."""

    def __init__(self, client: docker.DockerClient, folder: RunFolder) -> None:
        self.client = client
        self.name = f"bench-{folder.run_id}"
        self.labels = {
            LABEL: folder.run_id,
            ENGINE_LABEL: str(client.info()["ID"]),
            ORIGIN_LABEL: f"{socket.gethostname()}:{folder.path}",
        }

    def keeper(self, stack: ExitStack, image: Image | str, network: str) -> Container:
        """Start the container that shows to all other users of the engine that this run lives; it goes with the stack.

        It runs until its standard input ends, which is a connection of this process. Start it before anything slow:
        without a keeper, a run counts as alive only for `leftovers.GRACE`.
        """
        with held():
            keeper = self.create(
                stack,
                image,
                "keeper",
                entrypoint=UNTIL_INPUT_ENDS,
                user=WORKER,
                network=network,
                stdin_open=True,
                more_labels={KEEPER_LABEL: "yes"},
            )
            line = Stream(self.client, f"/containers/{keeper.id}/attach", {"stream": "1", "stdin": "1"})
            stack.callback(line.close)
            keeper.start()
        return keeper

    def create(
        self,
        stack: ExitStack,
        image: Image | str,
        name: str,
        *,
        more_labels: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> Container:
        """Create a container without privileges, on a read-only file system, that goes with the stack."""
        with held():
            container = self.client.containers.create(
                image,
                name=f"{self.name}-{name}",
                labels={**self.labels, **(more_labels or {})},
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                **arguments,
            )
            stack.callback(remove_with_retry, partial(container.remove, force=True, v=True))
        return container

    def volume(self, stack: ExitStack, name: str) -> str:
        """Make a named volume that goes with the stack; return its name."""
        with held():
            volume = self.client.volumes.create(f"{self.name}-{name}", labels=self.labels)
            stack.callback(remove_with_retry, volume.remove)
        return str(volume.name)

    def network(self, stack: ExitStack, driver: str) -> str:
        """Make a network that goes with the stack, and that containers can join; return its name."""
        with held():
            # Containers can always join a bridge.
            attachable = driver == "overlay"
            network = self.client.networks.create(self.name, driver=driver, attachable=attachable, labels=self.labels)
            stack.callback(remove_network, self.client, str(network.id))
        return str(network.name)


def free_bytes(client: docker.DockerClient) -> int | None:
    """Return the free disk where the engine keeps volumes; None when that disk is not this machine's."""
    if not is_here(client):
        return None
    with suppress(OSError):
        return shutil.disk_usage(str(client.info()["DockerRootDir"])).free
    return None


def disk(client: docker.DockerClient) -> str:
    """Return how the engine keeps volumes: the file system and the storage driver on it."""
    info = client.info()
    file_system = dict(info.get("DriverStatus") or []).get("Backing Filesystem", "")
    return f"{file_system} under {info['Driver']}"


@contextmanager
def failures() -> Iterator[None]:
    """Turn errors of docker-py and of its transport into an InfrastructureError."""
    try:
        yield
    except APIError as error:
        raise InfrastructureError(f"Docker refused: {cause_of(error)}") from error
    except (DockerException, RequestException, HTTPError) as error:
        raise InfrastructureError(
            f"the connection to the Docker engine broke ({cause_of(error)}): "
            "when the engine is back, `bench clean` removes what is left"
        ) from error
