"""What a user may choose of containers: images and limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from docker.utils import parse_bytes

from bench.errors import InfrastructureError

POSTGRES_IMAGE = "postgres:18"
NANO = 1_000_000_000
DEFAULT_PERIOD_US = 100_000
"""The period of a CPU quota in Linux, where an engine names none."""


@dataclass(frozen=True)
class Limits:
    """Memory (like 512m) and CPUs of one container; None is no limit."""

    memory: str | None = None
    cpus: float | None = None

    @property
    def nano_cpus(self) -> int | None:
        """Billionths of a CPU."""
        return None if self.cpus is None else round(self.cpus * NANO)

    def arguments(self) -> dict[str, Any]:
        """Return the limits as docker-py's arguments."""
        return {"mem_limit": self.memory, "nano_cpus": self.nano_cpus}

    def refuse_dropped(self, applied: Mapping[str, Any]) -> None:
        """Refuse a container that an engine created without some of these limits; `applied` is its HostConfig.

        Raises:
            InfrastructureError: a limit is missing or has another value; an engine drops limits that its kernel does
                not support.
        """
        # An engine may keep a limit of CPUs as a quota of microseconds per period.
        quota = max(0, applied.get("CpuQuota", 0)) * NANO // (applied.get("CpuPeriod") or DEFAULT_PERIOD_US)
        for name, asked, actual in (
            ("NanoCpus", self.nano_cpus, applied.get("NanoCpus") or quota),
            ("Memory", parse_bytes(self.memory) if self.memory else None, applied.get("Memory")),
        ):
            if asked is not None and actual != asked:
                raise InfrastructureError(
                    f"the Docker engine did not limit a container as asked: {name} is {actual}, not {asked}; "
                    "`docker info` warns of limits that its kernel does not support"
                )


@dataclass(frozen=True)
class ContainerOptions:
    """Images and limits of one run."""

    postgres_image: str = POSTGRES_IMAGE
    """Also the image of psql and pgbench."""
    worker_image: str | None = None
    """None is the image that is built from these sources."""
    postgres_limits: Limits = Limits()
    worker_limits: Limits = Limits()
