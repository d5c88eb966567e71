"""The folder of a run on this machine, and the lock in it that distinguishes a living run from a dead one.

The processes that a run starts on this machine keep their files in the folder. The kernel releases the lock when the
orchestrator dies, however it dies.
"""

import fcntl
import logging
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.errors import InfrastructureError
from bench.interrupts import held

STOP_SECONDS = 5

_news = logging.getLogger("bench")


@dataclass(frozen=True)
class RunFolder:
    """A run's id and its folder, which exists as long as the run."""

    run_id: str
    path: Path
    swept: Sequence[str] = ()
    """Ids of dead runs whose folders were removed before this one was made."""

    @property
    def lock(self) -> Path:
        """Held by the orchestrator for as long as it lives."""
        return self.path / "lock"


def root() -> Path:
    """Return the folder of all runs of this user: below TMPDIR, or below /var/tmp, which is on a disk.

    Raises:
        InfrastructureError: Postgres does not take the folder's name.
    """
    # Absolute, so that processes with another working folder find it, too.
    path = Path(os.environ.get("TMPDIR") or "/var/tmp").absolute() / f"bench-{os.getuid()}"  # noqa: S108
    if "," in str(path):
        raise InfrastructureError(
            f"TMPDIR {path.parent}: Postgres takes no socket folder with a comma in its name; set another"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InfrastructureError(f"TMPDIR {str(path.parent)!a}: its name is not valid UTF-8; set another") from error
    return path


def by_hand() -> Path:
    """Return the folder of the server of `bench start`, which belongs to no run and is never swept."""
    return root() / "by-hand"


@contextmanager
def opened(run_id: str) -> Iterator[RunFolder]:
    """Make a run's folder and hold its lock; the folder is removed at the end of the `with`.

    What dead runs left on this machine is removed first.
    """
    folder = RunFolder(run_id, root() / run_id, sweep())
    with ExitStack() as stack:
        with held(), _alone():
            make(folder.path)
            fcntl.flock(stack.enter_context(folder.lock.open("w")), fcntl.LOCK_EX)
            stack.callback(_remove, folder.path)
        yield folder


def disk(path: Path) -> str:
    """Return the file system and the device of a folder, like "ext4 on /dev/sda1"; "" when they are unknown."""
    mounts = [mount for mount in psutil.disk_partitions(all=True) if path.is_relative_to(mount.mountpoint)]
    deepest = max(mounts, key=lambda mount: len(mount.mountpoint), default=None)
    return f"{deepest.fstype} on {deepest.device}" if deepest else ""


def make(path: Path) -> None:
    """Make a folder for ourselves; when we are root, an unprivileged Postgres can pass through it, but not list it."""
    mode = 0o711 if os.getuid() == 0 else 0o700
    try:
        for folder in (root(), path):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            folder.chmod(mode)
            if folder.stat().st_uid != os.getuid():
                raise InfrastructureError(f"{folder} belongs to another user: set TMPDIR to another folder")
    except OSError as error:
        raise InfrastructureError(f"{error.filename}: {error.strerror}; TMPDIR names the folder to use") from error


def is_held(lock: Path) -> bool:
    """Whether the orchestrator that holds this lock lives."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # held, or another user's
        return True
    return False


def anything_runs() -> bool:
    """Whether a run of this user is in progress on this machine, or the server of `bench start` runs."""
    runs = any(is_held(lock) for lock in root().glob("*/lock"))
    return runs or running_postgres(by_hand() / "data") is not None


def sweep() -> list[str]:
    """Stop and remove what dead runs left on this machine; return their ids."""
    swept = []
    with _alone():
        for path in dead():
            kill_postgres(path / "data")
            _kill_beginning(path / "data")
            if _remove(path):
                swept.append(path.name)
    return swept


def dead() -> list[Path]:
    """Return the folders of runs whose lock is not held or does not exist.

    A run that begins at this moment may have made its folder and not yet its lock; `sweep` keeps such runs out.
    """
    others = {by_hand()} | set(root().glob("binaries-*"))
    runs = (path for path in sorted(root().glob("*")) if path.is_dir() and path not in others)
    return [path for path in runs if not is_held(path / "lock")]


def _remove(path: Path) -> bool:
    """Remove a run's folder, its lock last; when something stays, warn and return False."""
    try:
        for each in path.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != "lock":
                each.unlink()
        shutil.rmtree(path)
    except FileNotFoundError:  # another process removes it, too
        return True
    except OSError as error:
        _news.warning(
            "%s of a run that is over cannot be removed: %s; run `bench clean` as a user who may remove it",
            error.filename,
            error.strerror,
        )
        return False
    return True


def running_postgres(data: Path) -> int | None:
    """Return the process id of the Postgres that runs on this data folder; None when none does."""
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        pid = int((data / "postmaster.pid").read_text().split()[0])
        # The system may have given the number to another process since; a postmaster works in its data folder.
        if Path(psutil.Process(pid).cwd()) == data.resolve():
            return pid
    return None


def kill_postgres(data: Path) -> None:
    """Stop the Postgres that runs on this data folder without a checkpoint."""
    pid = running_postgres(data)
    if pid is None:
        return
    with suppress(psutil.NoSuchProcess):
        postmaster = psutil.Process(pid)
        postmaster.send_signal(signal.SIGQUIT)
        _, left = psutil.wait_procs([postmaster], STOP_SECONDS)
        if left:  # it is stopped, for example
            kill_tree(pid)


def _kill_beginning(data: Path) -> None:
    """Kill what is making this data folder, or starting on it: without a postmaster.pid, `kill_postgres` misses it."""
    deadline = time.monotonic() + STOP_SECONDS
    while (beginning := _beginning(data)) and time.monotonic() < deadline:
        for process in beginning:
            kill_tree(process.pid)
        psutil.wait_procs(beginning, STOP_SECONDS)


def _beginning(data: Path) -> list[psutil.Process]:
    """The processes of Postgres's programs that were given this data folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() in ("initdb", "postgres") and str(data) in process.cmdline():
                found.append(process)
    return found


def kill_tree(server: int) -> None:
    """Kill a server and all of its processes, which may be unable to notice that their server is gone."""
    with suppress(psutil.NoSuchProcess):
        postmaster = psutil.Process(server)
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def _alone() -> Iterator[None]:
    """Keep one run from sweeping away the folder that another run is just making."""
    make(root())
    with (root() / "sweep.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
