"""A Docker engine and what a run makes in it: every container, network and volume is labelled, and gone in the end."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.models.images import Image
from docker.models.networks import Network
from docker.types import Mount
from requests.exceptions import RequestException

from bench.errors import OutsideError
from bench.interrupts import held
from bench.places.address import is_here
from bench.places.folder import RunFolder, is_held
from bench.places.image import File, tarred

LABEL = "bench.run"
LOCK_LABEL = "bench.lock"
SECRETS = "/run/bench-secrets"
REMOVE_SECONDS = 10


class Engine:
    """A Docker engine, and what one run makes in it: every container, network and volume carries the run's label."""

    def __init__(self, client: docker.DockerClient, folder: RunFolder) -> None:
        self.client = client
        self.name = f"bench-{folder.run_id}"
        self.labels = {LABEL: folder.run_id, LOCK_LABEL: f"{socket.gethostname()}:{folder.lock}"}

    def create(self, stack: ExitStack, image: Image | str, name: str, **arguments: Any) -> Container:
        """Create a container that may do nothing that it does not need to, and that goes with the stack."""
        with held():
            container = self.client.containers.create(
                image,
                name=f"{self.name}-{name}",
                labels=self.labels,
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                **arguments,
            )
            stack.callback(gone, partial(container.remove, force=True, v=True))
        return container

    def secrets(self, stack: ExitStack, image: Image, files: Mapping[str, File]) -> Mount:
        """Make a volume with files in it that goes with the stack; return its read-only mount.

        The files are put there through a container that is never started.
        """
        volume = self.volume(stack, "secrets")
        with ExitStack() as filling:
            filler = self.create(filling, image, "secrets", mounts=[Mount(SECRETS, volume)])
            filler.put_archive(SECRETS, tarred(files))
        return Mount(SECRETS, volume, read_only=True)

    def volume(self, stack: ExitStack, name: str) -> str:
        """Make a named volume that goes with the stack; return its name."""
        with held():
            volume = self.client.volumes.create(f"{self.name}-{name}", labels=self.labels)
            stack.callback(gone, volume.remove)
        return str(volume.name)

    def network(self, stack: ExitStack, driver: str) -> str:
        """Make a network that goes with the stack, and that containers can join; return its name."""
        with held():
            # On a bridge they always can.
            attachable = driver == "overlay"
            network = self.client.networks.create(self.name, driver=driver, attachable=attachable, labels=self.labels)
            stack.callback(_network_gone, self.client, network)
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
        raise OutsideError(f"Docker refused: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:
        raise OutsideError(
            f"the Docker engine broke off ({error}); when it is back, `bench clean` removes what is left"
        ) from error


def sweep(client: docker.DockerClient) -> list[str]:
    """Remove what dead runs of this machine left in the engine; return their ids.

    A run of another machine that uses the same engine cannot be told dead from alive: its things stay.
    """
    swept: set[str] = set()
    only: dict[str, str | list[str] | bool] = {"label": LABEL}
    for container in client.containers.list(all=True, filters=only, ignore_removed=True):
        if is_dead(container.labels):
            swept.add(container.labels[LABEL])
            gone(partial(container.remove, force=True, v=True))
    for network in client.networks.list(filters={"label": LABEL}):
        labels = network.attrs.get("Labels") or {}
        if is_dead(labels):
            swept.add(labels[LABEL])
            _network_gone(client, network)
    for volume in client.volumes.list(filters={"label": LABEL}):
        labels = volume.attrs.get("Labels") or {}
        if is_dead(labels):
            swept.add(labels[LABEL])
            gone(volume.remove)
    return sorted(swept)


def is_dead(labels: Mapping[str, str]) -> bool:
    """Whether what has these labels was left by a run of this machine whose orchestrator is dead."""
    host, _, path = labels.get(LOCK_LABEL, "").partition(":")
    return host == socket.gethostname() and not is_held(Path(path))


def gone(remove: Callable[[], object]) -> None:
    """Remove something that may be gone already, or that the engine says is in use while it lets go of it."""
    deadline = time.monotonic() + REMOVE_SECONDS
    with held():
        while True:
            try:
                remove()
            except NotFound:
                return
            except APIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return


def _network_gone(client: docker.DockerClient, network: Network) -> None:
    """Remove a network and wait until it is not listed any more: a swarm's nodes let go of their ends of it later."""
    gone(network.remove)
    deadline = time.monotonic() + REMOVE_SECONDS
    with held():
        while client.networks.list(ids=[str(network.id)]) and time.monotonic() < deadline:
            time.sleep(0.1)
