"""The machine, the server and the settings of a run, as a result stores them."""

from collections.abc import Mapping

from pydantic import Field

from bench.results.base import StoredModel


class Environment(StoredModel):
    """The place of a run: it must be alike in two results before they may be compared."""

    place: str
    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    bench: str
    git_revision: str | None
    """Of the checkout that ran, with -dirty when it was changed; None outside of a checkout."""
    postgres: str
    settings: dict[str, str]
    """Postgres settings that are not at their default."""
    fsync_ms: float | None = None
    """Median of the time in which this Postgres commits one small record to disk."""
    governor: str | None = None
    """The kernel's policy for the processors' clock; None where it cannot be seen."""
    limits: dict[str, str] = Field(default={})
    """The limits of the control groups of the orchestrator, and so of local workers and of a local Postgres: `cpus`,
    like 0.5, is processors' time per time, `memory` is bytes. Some older results have the names of a control group's
    files."""
    about: dict[str, str]
    """Images and their ids, or the folder of the programs; the disk under the data folder."""

    @property
    def machine(self) -> str:
        """Cores and memory, for people."""
        return machine(self.cores, self.memory_bytes, self.limits)


def machine(cores: int, memory_bytes: int, limits: Mapping[str, str]) -> str:
    """Cores and memory for people, and how much of them can be used where `Environment.limits` allow less."""
    has_cores, has_memory = f"{cores} core{'s' * (cores != 1)}", f"{memory_bytes / 2**30:.0f} GiB"
    cpus, memory = float(limits.get("cpus", cores)), int(limits.get("memory", memory_bytes))
    if cpus < cores:
        has_cores = f"{cpus:g} of {has_cores} (quota)"
    if memory < memory_bytes:
        has_memory = f"{memory / 2**30:.1f} of {has_memory} (limit)"
    return f"{has_cores}, {has_memory}"
