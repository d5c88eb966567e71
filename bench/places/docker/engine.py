"""A Docker engine and what a run makes in it: every container, network and volume is labelled, and gone in the end."""

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
from bench.places.docker.address import is_here, words
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
"""User and group of the programs beside Postgres."""
UNTIL_INPUT_ENDS = ["python", "-c", "import sys; sys.stdin.read()"]


class Engine:
    """A Docker engine, and what one run makes in it: every container, network and volume carries the run's label."""

    def __init__(self, client: docker.DockerClient, folder: RunFolder) -> None:
        self.client = client
        self.name = f"bench-{folder.run_id}"
        self.labels = {
            LABEL: folder.run_id,
            ENGINE_LABEL: str(client.info()["ID"]),
            ORIGIN_LABEL: f"{socket.gethostname()}:{folder.path}",
        }

    def keeper(self, stack: ExitStack, image: Image | str, network: str) -> Container:
        """Start the container by whose life everybody sees that this run lives; it goes with the stack.

        It runs until its standard input ends, and that is a connection of this process. Start it before anything that
        takes its time: without it, the run is only believed to be alive for as long as a start may take.
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
        """Create a container that may do nothing that it does not need to, and that goes with the stack."""
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
            # On a bridge they always can.
            attachable = driver == "overlay"
            network = self.client.networks.create(self.name, driver=driver, attachable=attachable, labels=self.labels)
            stack.callback(remove_network, self.client, str(network.id))
        return str(network.name)


def free_bytes(client: docker.DockerClient) -> int | None:
    """Free disk where the engine keeps volumes; None when that is not this machine's to see."""
    if not is_here(client):
        return None
    with suppress(OSError):
        return shutil.disk_usage(str(client.info()["DockerRootDir"])).free
    return None


def disk(client: docker.DockerClient) -> str:
    """How the engine keeps volumes: its storage driver and the file system below it."""
    known = client.info()
    below = dict(known.get("DriverStatus") or []).get("Backing Filesystem", "")
    return f"{below} under {known['Driver']}"


@contextmanager
def failures() -> Iterator[None]:
    """Turn what docker-py and its transport raise into one sentence."""
    try:
        yield
    except APIError as error:
        raise InfrastructureError(f"Docker refused: {words(error)}") from error
    except (DockerException, RequestException, HTTPError) as error:
        raise InfrastructureError(
            f"the connection to the Docker engine broke ({words(error)}): "
            "when the engine is back, `bench clean` removes what is left"
        ) from error
