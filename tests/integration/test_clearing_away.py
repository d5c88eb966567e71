"""What a run does about its schema when the server was lost, or stands still."""

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from bench import eventlog
from bench.errors import InfrastructureError
from bench.places.local import postgres as embedded
from bench.places.rundir import kill_tree
from bench.postgres import install
from bench.postgres.connection import connected
from bench.statements import SCHEMA
from tests.conftest import SETTINGS

BIGSERIAL = eventlog.load("bigserial")


@pytest.fixture(scope="module")
def folder(short_folder: Path) -> Iterator[Path]:
    """The folder of a server that may be killed and stopped."""
    path = short_folder / "lost"
    path.mkdir(mode=0o711)
    programs = embedded.binaries(None)
    embedded.init(programs, path)
    embedded.await_answer(embedded.start(programs, path, SETTINGS), path)
    yield path
    kill_tree(embedded.server(path))


def is_left(folder: Path) -> bool:
    with psycopg.connect(embedded.conninfo(folder)) as looking:
        return looking.execute("SELECT FROM pg_namespace WHERE nspname = %s", [SCHEMA]).fetchone() is not None


def lose_the_server(folder: Path) -> None:
    """A run on a server that crashes in the middle of it, and is started again."""
    with connected(embedded.conninfo(folder)) as connection, install.installed(connection, BIGSERIAL, "lost"):
        crashed = psutil.Process(embedded.server(folder))
        kill_tree(crashed.pid)
        crashed.wait()
        (folder / "data" / "postmaster.pid").unlink()
        embedded.start(embedded.binaries(None), folder, SETTINGS)
        connection.execute("SELECT 1")


def test_a_server_that_comes_back_soon_is_cleared(folder: Path) -> None:
    with pytest.raises(InfrastructureError, match="lost the connection to PostgreSQL"):
        lose_the_server(folder)
    assert not is_left(folder)


def interrupt_a_run_on_a_frozen_server(folder: Path) -> None:
    """A run whose server stands still from its middle on, for as long as the run takes."""
    with connected(embedded.conninfo(folder)) as connection:
        postmaster = psutil.Process(embedded.server(folder))
        frozen = [postmaster]
        try:
            with install.installed(connection, BIGSERIAL, "frozen"):
                # A postmaster that is frozen first starts no more processes, and those that end stay as zombies.
                postmaster.send_signal(signal.SIGSTOP)
                for process in postmaster.children(recursive=True):
                    process.send_signal(signal.SIGSTOP)
                    frozen.insert(0, process)
                raise KeyboardInterrupt
        finally:
            for process in frozen:
                process.send_signal(signal.SIGCONT)


def test_what_a_server_that_stands_still_keeps_is_a_note_on_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bench.postgres.install.LOCK_SECONDS", 0.5)
    monkeypatch.setattr("bench.postgres.install.RETURN_SECONDS", 0)
    monkeypatch.setattr("bench.postgres.connection.SILENT_SECONDS", 0.1)
    with pytest.raises(KeyboardInterrupt) as ended:
        interrupt_a_run_on_a_frozen_server(folder)
    assert f"the schema {SCHEMA} is left in the database (cannot connect to PostgreSQL" in ended.value.__notes__[0]
    assert "waiting for PostgreSQL" in caplog.text
    assert is_left(folder)
