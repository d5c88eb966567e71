"""Images on a Docker engine: the worker image, built from `compose/` when its sources have changed, and all others."""

import hashlib
import io
import logging
import socket
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError, BuildError, ImageNotFound
from docker.models.images import Image

from bench.errors import InfrastructureError
from bench.paths import COMPOSE, PACKAGES
from bench.places.docker.address import cause_of, credentials_complaint

REPOSITORY = "eventlog-bench-worker"
CHECKOUT_LABEL = "bench.checkout"
"""Its value is the host and the folder of the sources that an image was built from."""
COMPOSE_TAG = f"{REPOSITORY}:compose"
"""The tag of the image that compose.yml builds."""

_news = logging.getLogger("bench")
BASE = "python:3.13-slim"
"""The image that the worker image is built on."""
_DOCKERFILE = "compose/worker.Dockerfile"


@dataclass(frozen=True)
class File:
    """A file to put into an image or a volume."""

    content: bytes
    owner: int = 0
    mode: int = 0o644


def sources() -> dict[str, Path]:
    """Return the build context: where each file is on this machine, by its path in the context."""
    files = {f"compose/{name}": COMPOSE / name for name in ("worker.Dockerfile", "worker-requirements.txt")}
    for name in (
        "__init__.py",
        "attribution.py",
        "histograms.py",
        "job.py",
        "meter.py",
        "padding.py",
        "pairing.py",
        "quota.py",
        "records.py",
        "schedule.py",
        "shapes.py",
        "statement.py",
        "wire.py",
        "wire_grammar.py",
        "worker.py",
    ):
        files[f"bench/{name}"] = PACKAGES / "bench" / name
    for package in ("producers", "consumer"):
        files.update({f"{package}/{file.name}": file for file in (PACKAGES / package).glob("*.py")})
    return dict(sorted(files.items()))


def built(client: docker.DockerClient) -> Image:
    """Return the worker image of these sources, building it if the engine does not have it.

    Raises:
        InfrastructureError: the build failed; the message ends with the last of its output.
    """
    image = present(client)
    if image:
        return image
    contents = _contents()
    ensure(client, BASE)
    _news.info("building the worker image, because its sources are new to this engine")
    try:
        image, _ = client.images.build(
            fileobj=io.BytesIO(tarred(contents)),
            custom_context=True,
            dockerfile=_DOCKERFILE,
            tag=_tag(contents),
            labels={CHECKOUT_LABEL: checkout()},
            rm=True,
            forcerm=True,
        )
    except BuildError as error:
        printed = "".join(str(line.get("stream", "")) for line in error.build_log)
        raise InfrastructureError(
            f"the worker image could not be built: {error.msg}\n{printed[-800:].strip()}"
        ) from error
    except Exception as error:
        raise InfrastructureError(f"the worker image could not be built: {cause_of(error)}") from error
    return image


def present(client: docker.DockerClient) -> Image | None:
    """Return the worker image of these sources; None when the engine does not have it."""
    with suppress(ImageNotFound):
        return client.images.get(_tag(_contents()))
    return None


def ensure_worker(client: docker.DockerClient, name: str | None) -> Image:
    """Return the worker image of this name, or the one that is built from these sources when there is no name."""
    return ensure(client, name) if name else built(client)


def ensure(client: docker.DockerClient, name: str) -> Image:
    """Return an image, pulling it when the engine does not have it.

    Raises:
        InfrastructureError: the image cannot be pulled.
    """
    try:
        return client.images.get(name)
    except ImageNotFound:
        pass
    _news.info("pulling the image %s", name)
    try:
        return client.images.pull(name)
    except Exception as error:
        complaint = credentials_complaint(client)
        raise InfrastructureError(
            f"image {name} is not present and cannot be pulled: {cause_of(error)}{complaint}"
        ) from error


def described(image: Image) -> str:
    """Return an image's first tag and its id, for the result."""
    return f"{image.tags[0] if image.tags else 'untagged'} {image.id}"


def remove_old(client: docker.DockerClient) -> list[str]:
    """Remove worker images of other sources that no container uses; return their tags.

    Only images are removed that this checkout built, or one that is no longer on this machine: other checkouts use the
    same engine and still need theirs. Only our own tags are removed: a user may have given an image another one.
    """
    needed = {_tag(_contents()), COMPOSE_TAG}
    removed = []
    for image in client.images.list(name=REPOSITORY, filters={"label": CHECKOUT_LABEL}):
        for tag in image.tags:
            if tag.startswith(f"{REPOSITORY}:") and tag not in needed and _is_unneeded(image.labels[CHECKOUT_LABEL]):
                with suppress(APIError):
                    client.images.remove(tag)
                    removed.append(tag)
    return removed


def checkout() -> str:
    """Return the label of images that are built here: this machine and the folder of the sources."""
    return f"{socket.gethostname()}:{PACKAGES}"


def _is_unneeded(built_by: str) -> bool:
    host, _, folder = built_by.partition(":")
    if built_by == checkout():
        return True
    try:
        return host == socket.gethostname() and not Path(folder).exists()
    except OSError:  # in a folder that only another user may see
        return False


def _contents() -> dict[str, File]:
    return {name: File(file.read_bytes()) for name, file in sources().items()}


def _tag(contents: Mapping[str, File]) -> str:
    return f"{REPOSITORY}:{hashlib.sha256(repr(contents).encode()).hexdigest()[:12]}"


def tarred(files: Mapping[str, File]) -> bytes:
    """A tar archive of files by their paths."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, file in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(file.content), file.mode, file.owner, file.owner
            tar.addfile(entry, io.BytesIO(file.content))
    return archive.getvalue()
