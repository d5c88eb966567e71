"""The share of its machine that this process may use: processors and memory, by affinity and control groups' limits.

A limit of any group counts, from the process's own up to the root, or to the outermost one that a container shows.
Sources: Linux's cgroup-v2.rst (cpu.max, memory.max), sched-bwc.rst, cgroup-v1/memory.rst, and proc_pid_mountinfo(5).
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

N = TypeVar("N", int, float)

PROCESS = Path("/proc/self")
"""The directory in which Linux shows a process's groups, and where groups are mounted."""
UNLIMITED_BYTES = 1 << 60
"""A limit of this or more is no limit: version 1 writes that as the largest multiple of a page in 63 bits."""


def processors() -> int:
    """Number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_processors(process: Path = PROCESS) -> float:
    """Number of processors whose time this process may use: fewer than it may run on where a quota is tighter."""
    quota = cpu_quota(process)
    return processors() if quota is None else min(processors(), quota)


def cpu_quota(process: Path = PROCESS) -> float | None:
    """Processors' time that the tightest quota allows, 1.5 for 150 ms per 100 ms; None without a quota."""
    return min(_limits(process, "cpu", _cpus), default=None)


def memory_limit(process: Path = PROCESS) -> int | None:
    """Bytes that the tightest limit allows; None without a limit."""
    return min(_limits(process, "memory", _bytes), default=None)


def _cpus(group: Path) -> float | None:
    """The quota of one group: `QUOTA PERIOD` in version 2, a file for each in version 1; both are in microseconds."""
    fields = (
        _text(group / "cpu.max") or f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    ).split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields) or not int(fields[1]):  # max, -1, no such file
        return None
    return int(fields[0]) / int(fields[1])


def _bytes(group: Path) -> int | None:
    text = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < UNLIMITED_BYTES else None


def _limits(process: Path, controller: str, limit_of: Callable[[Path], N | None]) -> Iterator[N]:
    for group in _groups(process, controller):
        limit = limit_of(group)
        if limit is not None:
            yield limit


def _groups(process: Path, controller: str) -> Iterator[Path]:
    """The folders of a process's groups, of both versions, and of the groups above them."""
    paths = _paths(process)
    for line in _text(process / "mountinfo").splitlines():
        mount_fields, _, filesystem = line.partition(" - ")
        if not filesystem.startswith("cgroup"):
            continue
        kind, _, options = filesystem.split()
        names = [""] if kind == "cgroup2" else options.split(",")
        path = next((paths[name] for name in ("", controller) if name in names and name in paths), None)
        if path is None:
            continue
        root, mount = (
            re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text) for text in mount_fields.split()[3:5]
        )
        own = Path(mount)
        # A mount may begin at a group below the root, as in a container; a path outside of it is not shown.
        if Path(path).is_relative_to(root) and ".." not in path:
            own = Path(mount, Path(path).relative_to(root))
        for group in (own, *own.parents):
            yield group
            if group == Path(mount):
                break


def _paths(process: Path) -> dict[str, str]:
    """The paths of a process's groups by controller; version 2 has the controller ""."""
    lines = [line.split(":", 2) for line in _text(process / "cgroup").splitlines()]
    return {name: path for _, names, path in lines for name in names.split(",")}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
