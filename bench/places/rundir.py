"""The folder of a run on this machine, and the lock in it that tells a living run from what a dead one left.

The processes that a run starts here live in the folder. The kernel lets go of the lock when the orchestrator dies,
however it dies.
"""

import fcntl
import logging
import os
import shutil
import signal
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
    """A run's id and its folder, which is there as long as the run."""

    run_id: str
    path: Path
    swept: Sequence[str] = ()
    """Ids of dead runs whose folders were removed before this one was made."""

    @property
    def lock(self) -> Path:
        """Held by the orchestrator for as long as it lives."""
        return self.path / "lock"


def root() -> Path:
    """The folder of all runs of this user: below TMPDIR, or below /var/tmp, which is on a disk.

    Raises:
        InfrastructureError: the name of it cannot be given to Postgres.
    """
    # What is started with another working folder must find it, too.
    path = Path(os.environ.get("TMPDIR") or "/var/tmp").absolute() / f"bench-{os.getuid()}"  # noqa: S108
    if "," in str(path):
        raise InfrastructureError(
            f"TMPDIR {path.parent}: Postgres takes no socket folder with a comma in its name: set another"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InfrastructureError(
            f"TMPDIR {str(path.parent)!a}: it has bytes that are no UTF-8: set another"
        ) from error
    return path


def by_hand() -> Path:
    """The folder of the server that `bench start` started: no run's, so it is never swept."""
    return root() / "by-hand"


@contextmanager
def opened(run_id: str) -> Iterator[RunFolder]:
    """Make a run's folder and hold its lock; in the end the folder goes.

    What earlier runs left on this machine goes first.
    """
    folder = RunFolder(run_id, root() / run_id, sweep())
    with ExitStack() as stack:
        with held(), _alone():
            make(folder.path)
            fcntl.flock(stack.enter_context(folder.lock.open("w")), fcntl.LOCK_EX)
            stack.callback(_remove, folder.path)
        yield folder


def disk(path: Path) -> str:
    """The file system that a folder is in, and its device: its deepest mount point's."""
    mounts = [each for each in psutil.disk_partitions(all=True) if path.is_relative_to(each.mountpoint)]
    deepest = max(mounts, key=lambda each: len(each.mountpoint), default=None)
    return f"{deepest.fstype} on {deepest.device}" if deepest else ""


def make(path: Path) -> None:
    """Make a folder that an unprivileged Postgres can reach, but not read, when we are root."""
    mode = 0o711 if os.getuid() == 0 else 0o700
    try:
        for folder in (root(), path):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            folder.chmod(mode)
            if folder.stat().st_uid != os.getuid():
                raise InfrastructureError(f"{folder} belongs to somebody else: set TMPDIR to another folder")
    except OSError as error:
        raise InfrastructureError(f"{error.filename}: {error.strerror}. TMPDIR names the folder to use") from error


def is_held(lock: Path) -> bool:
    """Whether the orchestrator that this lock belongs to lives."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # held, or another user's and none of our business
        return True
    return False


def somebody_lives() -> bool:
    """Whether a run of this user is at work on this machine, or the server of `bench start` runs."""
    runs = any(is_held(lock) for lock in root().glob("*/lock"))
    return runs or running_postgres(by_hand() / "data") is not None


def sweep() -> list[str]:
    """Stop and remove what dead runs left on this machine; return their ids."""
    swept = []
    with _alone():
        for path in dead():
            kill_postgres(path / "data")
            if _remove(path):
                swept.append(path.name)
    return swept


def dead() -> list[Path]:
    """The folders of runs that nobody holds the lock of, those without one among them. A run that begins at this moment
    may have made its folder and not the lock yet: `sweep` keeps such runs out.
    """
    others = {by_hand()} | set(root().glob("binaries-*"))
    runs = (path for path in sorted(root().glob("*")) if path.is_dir() and path not in others)
    return [path for path in runs if not is_held(path / "lock")]


def _remove(path: Path) -> bool:
    """Remove a run's folder, its lock last; False when something stays, which is said."""
    try:
        for each in path.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != "lock":
                each.unlink()
        shutil.rmtree(path)
    except FileNotFoundError:  # somebody else removes it, too
        return True
    except OSError as error:
        _news.warning(
            "%s of a run that is over cannot be removed: %s; `bench clean` of a user who may removes it",
            error.filename,
            error.strerror,
        )
        return False
    return True


def running_postgres(data: Path) -> int | None:
    """The process id of the Postgres that runs on this data folder, if one does."""
    with suppress(OSError, ValueError, IndexError, psutil.Error):
        pid = int((data / "postmaster.pid").read_text().split()[0])
        # The number may be another process's by now; a postmaster works in its data folder.
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


def kill_tree(server: int) -> None:
    """Kill a server and all of its processes, which may be unable to notice that it is gone."""
    with suppress(psutil.NoSuchProcess):
        postmaster = psutil.Process(server)
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def _alone() -> Iterator[None]:
    """Keep a run that sweeps from taking away a folder that another run is just making."""
    make(root())
    with (root() / "sweep.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
