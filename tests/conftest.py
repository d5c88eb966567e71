"""Fixtures: one embedded Postgres for all tests that need a database, a Docker engine, the program itself."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import docker
import psutil
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from bench import eventlog
from bench.errors import InfrastructureError
from bench.paths import SQL
from bench.places.docker.address import connect
from bench.places.local import postgres as embedded
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.statements import SCHEMA
from tests import loaded
from tests.loaded import Loaded

settings.register_profile("bench", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bench")

REPOSITORY = Path(__file__).parent.parent

SETTINGS = {
    "fsync": "off",
    "max_connections": "50",
    "max_prepared_transactions": "10",
    # As `bench explore` has it: some tests wait for deadlocks.
    "deadlock_timeout": "20ms",
    # What some of the logs need.
    "wal_level": "logical",
    "track_commit_timestamp": "on",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped fails: for CI")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.config.getoption("--no-skips") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips does not allow: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets, that an unprivileged Postgres can reach."""
    path = Path(tempfile.mkdtemp(prefix="b", dir="/var/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server(short_folder: Path) -> Iterator[str]:
    """The conninfo of an embedded Postgres, or of one from the folder of programs that BENCH_TEST_PG_BIN names."""
    folder = short_folder / "server"
    folder.mkdir(mode=0o711)
    named = os.environ.get("BENCH_TEST_PG_BIN")
    with embedded.postgres(embedded.binaries(Path(named) if named else None), folder, SETTINGS) as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def address(server: str) -> str:
    """The conninfo of a database for whole runs: quicker than a Postgres for each."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE runs")
    return psycopg.conninfo.make_conninfo(server, dbname="runs")


@pytest.fixture
def connection(server: str) -> Iterator[Connection]:
    """A connection to a database of the test's own."""
    name = f"test_{os.urandom(4).hex()}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with connected(psycopg.conninfo.make_conninfo(server, dbname=name)) as connection:
                yield connection
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def logs(server: str) -> str:
    """The conninfo of a database for logs: a log is sooner dropped than a new database's caches are built."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE logs")
    return psycopg.conninfo.make_conninfo(server, dbname="logs")


@pytest.fixture
def log(logs: str) -> Iterator[Connection]:
    """A connection to a database with the bigserial log installed, and search_path set to it."""
    with connected(logs) as connection, install.installed(connection, eventlog.load("bigserial"), "test"):
        yield connection


@pytest.fixture
def another(log: Connection) -> Iterator[Callable[[], Connection]]:
    """Opens more sessions on the database of `log`."""
    opened: list[Connection] = []

    def open_one() -> Connection:
        session = psycopg.connect(log.info.dsn, options=f"-c search_path={SCHEMA}", autocommit=True)
        opened.append(session)
        return session

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture(scope="session")
def engine() -> docker.DockerClient:
    """A Docker engine."""
    try:
        return connect()
    except InfrastructureError as error:
        pytest.skip(f"no Docker engine: {error}")


@pytest.fixture(scope="session")
def npm() -> str:
    """Node's package manager."""
    program = shutil.which("npm")
    if program is None or shutil.which("node") is None:
        pytest.skip("no npm")
    return program


def write_log(folder: Path, schema_sql: str, **changes: str) -> Path:
    """Write a log of this SQL, with the log.toml of bigserial but for some keys, given as TOML; return its folder. Its
    rows may be deleted only if the key `passed` is given: they may be those of any view.
    """
    text = re.sub(r"^passed = .*\n", "", (SQL / "bigserial" / "log.toml").read_text(), flags=re.MULTILINE)
    for key, value in changes.items():
        text, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        if not found:
            text = f"{key} = {value}\n{text}"
    folder.mkdir(exist_ok=True)
    (folder / "log.toml").write_text(text)
    (folder / "schema.sql").write_text(schema_sql)
    return folder


def broken_log(folder: Path, how: str) -> Path:
    """Write the bigserial log broken by some SQL that runs after its own."""
    return write_log(folder, (SQL / "bigserial" / "schema.sql").read_text() + how)


def read_until(process: "subprocess.Popen[str]", start: str, containing: str = "") -> None:
    """Read the program's stderr up to a line that starts like this and has that in it."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(start) and containing in line:
            return
    pytest.fail(f"it ended before it said {start!r}")


def wait_until(condition: Callable[[], object], process: "subprocess.Popen[str] | None" = None) -> None:
    """Ask again and again for what nobody reports, like what a server's sessions do, until it is so.

    The test fails when it is not so for a minute, or when the process ends before.
    """
    deadline = time.monotonic() + 60
    while not condition():
        assert process is None or process.poll() is None, "the process ended before it was so"
        assert time.monotonic() < deadline, "it is not so"
        time.sleep(0.01)  # others need the processor to make it so


class Bench:
    """The program, run as a user runs it, in an empty folder."""

    def __init__(self, folder: Path, home: Path, loaded: Loaded) -> None:
        self.folder = folder
        self.home = home
        self.loaded = loaded

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "bench", *words]

    def environment(self, **extra: str) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.home), "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100", **extra}

    def __call__(self, *words: str, timeout: float = 300, **extra: str) -> "subprocess.CompletedProcess[str]":
        """Run the program to its end in a process that has loaded it."""
        return self.loaded.run(loaded.BENCH, words, self.folder, self.environment(**extra), timeout)

    def afresh(self, *words: str, timeout: float = 300, **extra: str) -> "subprocess.CompletedProcess[str]":
        """Run the program to its end in a new interpreter: for tests of its start, and of Python's own variables."""
        return subprocess.run(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(**extra),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *words: str, **extra: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*words),
            cwd=self.folder,
            env=self.environment(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests under nohup has children that would not hear it.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # noqa: PLW1509 - it does no more
        )

    def runs(self) -> list[Path]:
        """The folders of runs that are still there."""
        return [lock.parent for lock in self.home.glob("bench-*/*/lock")]

    def processes(self, words: str = "") -> list[psutil.Process]:
        """The processes that have these words in their command line and are of this test: its home is in their command
        line or environment, or they work in its folder, as those do that were forked from a loaded process.
        """
        found = []
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                # A process that has no command line any more is about to be gone.
                if not command or words not in command:
                    continue
                is_ours = (
                    str(self.home) in command
                    or process.environ().get("TMPDIR") == str(self.home)
                    or process.cwd() == str(self.folder)
                )
            except psutil.Error:
                continue
            if is_ours:
                found.append(process)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    home = Path(tempfile.mkdtemp(prefix="b", dir="/var/tmp"))
    home.chmod(0o711)
    yield Bench(tmp_path, home, loaded.of_bench())
    shutil.rmtree(home, ignore_errors=True)


def golden(name: str, text: str) -> None:
    """Compare a text with tests/golden/NAME, or write it there when BENCH_GOLDEN is set."""
    file = REPOSITORY / "tests" / "golden" / name
    if os.environ.get("BENCH_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()
