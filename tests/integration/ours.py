"""What the runs of one test have in a Docker engine: others may use the same engine meanwhile."""

from collections.abc import Mapping
from typing import Any

import docker
from docker.models.containers import Container

from bench.places.docker.leftovers import LABEL, ORIGIN_LABEL
from tests.conftest import Bench

ONLY = {"label": LABEL}


def is_ours(bench: Bench, labels: Mapping[str, str] | None) -> bool:
    """Whether a run in this test's home made what has these labels."""
    return (labels or {}).get(ORIGIN_LABEL, "").partition(":")[2].startswith(f"{bench.home}/")


def containers(engine: docker.DockerClient, bench: Bench, *, running: bool = True) -> list[Container]:
    """The containers of this test's runs."""
    listed = engine.containers.list(all=not running, filters={"label": LABEL}, ignore_removed=True)
    return [each for each in listed if is_ours(bench, each.labels)]


def container(engine: docker.DockerClient, bench: Bench, name: str) -> Container:
    """The one container of this test's run whose name ends like this."""
    (found,) = [each for each in containers(engine, bench) if str(each.name).endswith(f"-{name}")]
    return found


def left(engine: docker.DockerClient, bench: Bench) -> list[str]:
    """The names of what this test's runs have in the engine."""
    listed: list[dict[str, Any]] = [
        *engine.api.containers(all=True, filters=ONLY),
        *engine.api.networks(filters=ONLY),
        *(engine.api.volumes(filters=ONLY)["Volumes"] or ()),
    ]
    return [str(each.get("Names") or each.get("Name")) for each in listed if is_ours(bench, each["Labels"])]
