"""Describes this machine, and the place of a run, as a result has them."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from bench.paths import PACKAGES
from bench.postgres.connection import Connection
from bench.postgres.server import fsync_ms, server_version, settings_that_differ
from bench.quota import cpu_quota, memory_limit, processors
from bench.results.environment import Environment

DISTRIBUTION = "eventlog-bench"
BUSY_SHARE = 0.25
"""Share of all cores that others may use before a warning is printed."""
BUSY_LOOK_SECONDS = 0.1


def describe(place: str, about: dict[str, str], connection: Connection) -> Environment:
    """Describe a place with a Postgres in it; `about` has further facts about it, as in `Environment`."""
    return Environment(
        place=place,
        cpu=cpu(),
        cores=processors(),
        memory_bytes=memory_bytes(),
        kernel=kernel(),
        python=python(),
        bench=bench_version(),
        git_revision=git_revision(),
        postgres=server_version(connection),
        settings=settings_that_differ(connection),
        fsync_ms=fsync_ms(connection),
        governor=_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        limits=control_group_limits(),
        about=about,
    )


def busy_cores() -> float | None:
    """The cores that other programs use at this moment; None when they use too little to disturb a measurement."""
    used = psutil.cpu_percent(interval=BUSY_LOOK_SECONDS) / 100
    return used * (psutil.cpu_count() or 1) if used >= BUSY_SHARE else None


def cpu() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def control_group_limits() -> dict[str, str]:
    """The limits of this process's control groups: `cpus` is processors' time per time, `memory` is bytes."""
    quota, memory = cpu_quota(), memory_limit()
    limits = {"cpus": None if quota is None else f"{quota:g}", "memory": None if memory is None else str(memory)}
    return {name: text for name, text in limits.items() if text is not None}


def _line(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def memory_bytes() -> int:
    """The machine's memory."""
    return int(psutil.virtual_memory().total)


def kernel() -> str:
    """The operating system and its version."""
    return f"{platform.system()} {platform.release()}"


def python() -> str:
    """The version of Python that the orchestrator runs on."""
    return platform.python_version()


def bench_version() -> str:
    """Our own version."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0 (not installed)"


def git_revision() -> str | None:
    """The revision of the checkout that this program runs from; None when it does not run from a checkout."""
    if not (PACKAGES / ".git").exists():
        return None
    described = subprocess.run(
        ["git", "-C", PACKAGES, "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None
