"""Which Docker engine is meant, and a client for it: DOCKER_HOST, contexts, ssh."""

import atexit
import json
import logging
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import DockerException
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env
from requests.exceptions import RequestException

from bench.errors import OutsideError

_news = logging.getLogger("bench")

_CONNECTIONS = 256
_SOCKET = "/var/run/docker.sock"


def connect() -> docker.DockerClient:
    """Connect to the engine that the docker command would use: by DOCKER_HOST, DOCKER_CONTEXT or the current context.

    Raises:
        OutsideError: none answers.
    """
    try:
        given = kwargs_from_env()
        return _client({**given} if "base_url" in given else {**_current_context(), **given})
    except (DockerException, RequestException) as error:
        raise OutsideError(
            f"no Docker engine answers ({error}): install Docker Engine or Docker Desktop and start it, "
            "name another one with DOCKER_HOST or `docker context use`, or use --place local"
        ) from error


def contexts() -> dict[str, docker.DockerClient]:
    """A client for each Docker context whose engine answers, by the context's name; `default` is this machine's."""
    found = {}
    for name, parameters in {"default": {}, **_kept_contexts()}.items():
        try:
            found[name] = _client(parameters)
        except (DockerException, RequestException, OutsideError) as error:
            _news.debug("the context %s does not answer: %s", name, error)
    return found


def is_here(client: docker.DockerClient) -> bool:
    """Whether the engine is on this machine, so that its files are: not when it is reached through a network."""
    return str(client.api.base_url).startswith("http+docker://local") and client not in _far


_far: set[docker.DockerClient] = set()


def _current_context() -> dict[str, Any]:
    """How to reach the engine of the current context: nothing for the default one.

    Raises:
        OutsideError: there is no context of that name, or the Docker command's files are broken.
    """
    name = os.environ.get("DOCKER_CONTEXT") or ""
    config = _configuration() / "config.json"
    if not name and config.is_file():
        name = str(_read(config).get("currentContext") or "")
    if name in {"", "default"}:
        return {}
    kept = _kept_contexts()
    if name not in kept:
        raise OutsideError(f"there is no Docker context {name}: `docker context ls` shows those that there are")
    return kept[name]


def _kept_contexts() -> dict[str, dict[str, Any]]:
    """The contexts that `docker context create` made, as it keeps them; docker-py finds none without a config.json."""
    folder = _configuration() / "contexts"
    found = {}
    for file in folder.glob("meta/*/meta.json"):
        kept = _read(file)
        endpoint = kept.get("Endpoints", {}).get("docker", {})
        if not endpoint.get("Host"):
            continue
        found[str(kept["Name"])] = parameters = {"base_url": endpoint["Host"]}
        keys = folder / "tls" / file.parent.name / "docker"
        if keys.is_dir():
            parameters["tls"] = TLSConfig(
                client_cert=(str(keys / "cert.pem"), str(keys / "key.pem")) if (keys / "cert.pem").is_file() else None,
                ca_cert=str(keys / "ca.pem") if (keys / "ca.pem").is_file() else None,
                verify=not endpoint.get("SkipTLSVerify"),
            )
    return found


def _read(file: Path) -> dict[str, Any]:
    """A file that the Docker command wrote.

    Raises:
        OutsideError: it cannot be read.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutsideError(f"{file} cannot be read ({error}): mend it, or name an engine with DOCKER_HOST") from error
    if not isinstance(found, dict):
        raise OutsideError(f"{file} holds no JSON object: mend it, or name an engine with DOCKER_HOST")
    return found


def _configuration() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _client(parameters: dict[str, Any]) -> docker.DockerClient:
    url = str(parameters.get("base_url") or "")
    if url.startswith("ssh://"):
        parameters = {"base_url": f"unix://{_forwarded(url)}"}
    client = docker.DockerClient(max_pool_size=_CONNECTIONS, **parameters)
    client.ping()
    if url.startswith("ssh://"):
        _far.add(client)
    return client


@cache
def _forwarded(url: str) -> Path:
    """A socket here that is the engine's socket there. OpenSSH forwards it, by the user's own configuration and keys.

    It ends with this process, however that ends: what runs at the other end reads until we are gone.

    Raises:
        OutsideError: ssh does not get there.
    """
    where = urlsplit(url)
    folder = Path(tempfile.mkdtemp(prefix="bench-ssh-"))
    ours = folder / "docker.sock"
    words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"]
    words += ["-p", str(where.port)] if where.port else []
    words += ["-l", where.username] if where.username else []
    words += ["-L", f"{ours}:{where.path if where.path.strip('/') else _SOCKET}", str(where.hostname)]
    try:
        process = subprocess.Popen(
            [*words, "echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise OutsideError(f"there is no ssh program, which {url} needs: install OpenSSH's client") from error
    atexit.register(_end, process, folder)
    if process.stdout and process.stdout.readline().strip() != b"ready":
        complaint = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
        raise OutsideError(f"ssh does not get to {url}: {complaint}")
    return ours


def _end(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    process.terminate()
    process.wait()
    (folder / "docker.sock").unlink(missing_ok=True)
    folder.rmdir()
