"""Finds the Docker engine that the user means, by DOCKER_HOST, contexts and ssh, and connects to it."""

import atexit
import hashlib
import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import APIError
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env

from bench.errors import InfrastructureError
from bench.places.docker.credentials import Credentials

_news = logging.getLogger("bench")

_CONNECTIONS = 256
_SOCKET = "/var/run/docker.sock"


class NoEngineError(InfrastructureError):
    """No engine answers, or the user's configuration of Docker cannot be used."""

    def __init__(self, reason: str, cure: str, *, is_named: bool) -> None:
        """`is_named` is whether the user named an engine, and so did not mean another place."""
        super().__init__(f"{reason}: {cure}")
        self.reason = reason
        self.is_named = is_named


def connect() -> docker.DockerClient:
    """Connect to the engine that the docker command would use: by DOCKER_HOST, DOCKER_CONTEXT or the current context.

    Raises:
        NoEngineError: no engine answers, or a file of the docker command is broken.
    """
    if url := os.environ.get("DOCKER_HOST"):
        return _client(_from_environment(), f"DOCKER_HOST={url}", is_named=True)
    name = _current_context()
    if name:
        return _client({**_stored_context(name), **_from_environment()}, f"the Docker context {name}", is_named=True)
    return _client(_from_environment(), _SOCKET, is_named=False)


def contexts() -> dict[str, docker.DockerClient]:
    """Return a client for each Docker context whose engine answers, by context; `default` is this machine's."""
    clients = {}
    for name in ["default", *_context_names()]:
        try:
            parameters = {} if name == "default" else _stored_context(name)
            clients[name] = _client(parameters, f"the Docker context {name}", is_named=True)
        except NoEngineError as error:
            _news.debug("%s", error)
    return clients


def is_here(client: docker.DockerClient) -> bool:
    """Whether the engine, and so its files, are on this machine: it is reached by a local socket and not by ssh."""
    return str(client.api.base_url).startswith("http+docker://local") and client not in _far


def cause_of(error: BaseException) -> str:
    """Return why a call of Docker's client failed, in the engine's words or the operating system's."""
    if isinstance(error, APIError):
        return str(error.explanation or error)
    cause = _system_error(error)
    return str(cause.strerror or cause) if cause else str(error) or type(error).__name__


def credentials_complaint(client: docker.DockerClient) -> str:
    """Return why the credentials that this client last looked up failed, to follow a sentence; "" if they did not."""
    known = client.api._auth_configs  # type: ignore[attr-defined]
    return known.complaint if isinstance(known, Credentials) else ""


_far: set[docker.DockerClient] = set()


def _from_environment() -> dict[str, Any]:
    try:
        return dict(kwargs_from_env())
    except Exception as error:
        raise NoEngineError(
            f"the environment names a Docker engine that cannot be used ({cause_of(error)})",
            "look at DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, or use --place local",
            is_named=True,
        ) from error


def _current_context() -> str | None:
    """Return the name of the current context; None for the default one."""
    name = os.environ.get("DOCKER_CONTEXT") or ""
    config = _configuration() / "config.json"
    if not name and config.is_file():
        name = str(_read(config).get("currentContext") or "")
    return None if name in {"", "default"} else name


def _context_names() -> list[str]:
    """Return the contexts that `docker context create` made; docker-py finds none without a config.json."""
    names = []
    for file in sorted((_configuration() / "contexts").glob("meta/*/meta.json")):
        try:
            names.append(str(_read(file)["Name"]))
        except (NoEngineError, KeyError) as error:
            _news.debug("%s holds no context: %s", file, error)
    return names


def _stored_context(name: str) -> dict[str, Any]:
    """Return docker-py's arguments for the engine of a context that `docker context create` stored."""
    folder = _configuration() / "contexts"
    key = hashlib.sha256(name.encode()).hexdigest()
    file = folder / "meta" / key / "meta.json"
    if not file.exists():
        raise NoEngineError(
            f"there is no Docker context {name}", "`docker context ls` lists the contexts", is_named=True
        )
    endpoints = _read(file).get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(endpoint, dict) or not isinstance(host, str) or not host:
        raise NoEngineError(
            f"the Docker context {name} names no engine ({file})",
            f"make it again: `docker context rm {name}` and `docker context create`",
            is_named=True,
        )
    keys = folder / "tls" / key / "docker"
    if not keys.is_dir():
        return {"base_url": host}
    try:
        tls = TLSConfig(
            client_cert=(str(keys / "cert.pem"), str(keys / "key.pem")) if (keys / "cert.pem").is_file() else None,
            ca_cert=str(keys / "ca.pem") if (keys / "ca.pem").is_file() else None,
            verify=not endpoint.get("SkipTLSVerify"),
        )
    except Exception as error:
        raise NoEngineError(
            f"the keys of the Docker context {name} cannot be used ({cause_of(error)})",
            f"look at {keys}",
            is_named=True,
        ) from error
    return {"base_url": host, "tls": tls}


def _read(file: Path) -> dict[str, Any]:
    """Read a JSON object that the docker command wrote."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(file, f"cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise _broken(file, "holds no JSON object")
    return value


def _broken(file: Path, fault: str) -> NoEngineError:
    return NoEngineError(f"{file} {fault}", "repair it, or name an engine with DOCKER_HOST", is_named=True)


def _configuration() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _client(parameters: dict[str, Any], source: str, *, is_named: bool) -> docker.DockerClient:
    """Connect to an engine; `source` is what names the engine, for errors."""
    url = str(parameters.get("base_url") or "")
    is_far = url.startswith("ssh://")
    if is_far:
        parameters = {"base_url": f"unix://{_forwarded(url)}"}
    config = _configuration() / "config.json"
    credentials = Credentials(config)
    try:
        with _without_credentials(config, credentials):
            client = docker.DockerClient(max_pool_size=_CONNECTIONS, **parameters)
        atexit.register(client.close)
        client.ping()
    except Exception as error:
        raise _no_answer(error, url, source, config, is_named=is_named) from error
    client.api._auth_configs = credentials  # type: ignore[attr-defined]
    if is_far:
        _far.add(client)
    return client


def _no_answer(error: Exception, url: str, source: str, config: Path, *, is_named: bool) -> NoEngineError:
    if isinstance(_system_error(error), PermissionError):
        return NoEngineError(
            f"this user may not use {url or 'unix://' + _SOCKET}",
            "join the group docker (`sudo usermod -aG docker $USER`, then log in again), or use --place local",
            is_named=True,
        )
    reason = f"no Docker engine answers at {source} ({cause_of(error)})"
    if not is_named:
        return NoEngineError(
            reason,
            "install Docker Engine or Docker Desktop and start it, name another one with DOCKER_HOST or "
            "`docker context use`, or use --place local",
            is_named=False,
        )
    also = f", look at {config}" if config.exists() and _system_error(error) is None else ""
    return NoEngineError(
        reason,
        f"start it{also}, name another one with DOCKER_HOST or `docker context use`, or use --place local",
        is_named=True,
    )


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the innermost error of the operating system behind an error of a library, if there is one."""
    innermost = None
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            innermost = error
        error = error.__cause__ or error.__context__
    return innermost


@contextmanager
def _without_credentials(config: Path, credentials: Credentials) -> Iterator[None]:
    """Have Docker's client load a configuration without credentials: it refuses to start when one is malformed."""
    if not config.exists():
        yield
        return
    before = os.environ.get("DOCKER_CONFIG")
    with tempfile.TemporaryDirectory(prefix="bench-docker-") as folder:
        (Path(folder) / config.name).write_text(json.dumps(credentials.rest()))
        os.environ["DOCKER_CONFIG"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["DOCKER_CONFIG"]
            else:
                os.environ["DOCKER_CONFIG"] = before


@cache
def _forwarded(url: str) -> Path:
    """Have OpenSSH forward the socket of an engine, by the user's own configuration and keys; return the local socket.

    The forwarding ends with this process, however that ends: the remote command reads its input until we are gone.

    Raises:
        NoEngineError: ssh cannot log in.
    """
    remote = urlsplit(url)
    folder = Path(tempfile.mkdtemp(prefix="bench-ssh-"))
    local_socket = folder / "docker.sock"
    command = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"]
    command += ["-p", str(remote.port)] if remote.port else []
    command += ["-l", remote.username] if remote.username else []
    command += ["-L", f"{local_socket}:{remote.path if remote.path.strip('/') else _SOCKET}", str(remote.hostname)]
    try:
        process = subprocess.Popen(
            [*command, "echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise NoEngineError(
            f"{url} needs an ssh program, and there is none", "install OpenSSH's client", is_named=True
        ) from error
    atexit.register(_end, process, folder)
    if process.stdout and process.stdout.readline().strip() != b"ready":
        complaint = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
        raise NoEngineError(
            f"ssh cannot log in at {url}: {complaint}",
            f"`ssh {remote.hostname}` must log in without asking for anything",
            is_named=True,
        )
    return local_socket


def _end(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    process.terminate()
    process.wait()
    (folder / "docker.sock").unlink(missing_ok=True)
    folder.rmdir()
