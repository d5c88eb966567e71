"""What this process may use of its machine: processors and memory, after affinity and its control groups' limits.

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
"""Where Linux says in which groups a process is, and where groups are mounted."""
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes no limit as the largest multiple of a page in 63 bits."""


def processors() -> int:
    """How many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_processors(process: Path = PROCESS) -> float:
    """How many processors' time this process may use: not of all that it may run on where there is a quota."""
    quota = cpu_quota(process)
    return processors() if quota is None else min(processors(), quota)


def cpu_quota(process: Path = PROCESS) -> float | None:
    """Processors' time that the tightest quota allows, 1.5 for 150 ms per 100 ms; None without a quota."""
    return min(_limits(process, "cpu", _cpus), default=None)


def memory_limit(process: Path = PROCESS) -> int | None:
    """Bytes that the tightest limit allows; None without a limit."""
    return min(_limits(process, "memory", _bytes), default=None)


def _cpus(group: Path) -> float | None:
    """The quota of one group, in version 2 `QUOTA PERIOD` and in version 1 a file for each; both in microseconds."""
    words = (
        _text(group / "cpu.max") or f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}"
    ).split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or not int(words[1]):  # max, -1, no such file
        return None
    return int(words[0]) / int(words[1])


def _bytes(group: Path) -> int | None:
    text = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < UNLIMITED_BYTES else None


def _limits(process: Path, controller: str, limit: Callable[[Path], N | None]) -> Iterator[N]:
    for group in _groups(process, controller):
        found = limit(group)
        if found is not None:
            yield found


def _groups(process: Path, controller: str) -> Iterator[Path]:
    """The folders of the groups that a process is in, of both versions, with those above them."""
    paths = _paths(process)
    for line in _text(process / "mountinfo").splitlines():
        where, _, what = line.partition(" - ")
        if not what.startswith("cgroup"):
            continue
        kind, _, options = what.split()
        names = [""] if kind == "cgroup2" else options.split(",")
        path = next((paths[name] for name in ("", controller) if name in names and name in paths), None)
        if path is None:
            continue
        root, mount = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), text) for text in where.split()[3:5])
        own = Path(mount)
        # What is mounted may begin at a group below the root, as in a container; a path that is not in it is not shown.
        if Path(path).is_relative_to(root) and ".." not in path:
            own = Path(mount, Path(path).relative_to(root))
        for group in (own, *own.parents):
            yield group
            if group == Path(mount):
                break


def _paths(process: Path) -> dict[str, str]:
    """The paths of a process's groups by controller; "" is that of version 2."""
    lines = [line.split(":", 2) for line in _text(process / "cgroup").splitlines()]
    return {name: path for _, names, path in lines for name in names.split(",")}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
