"""A pooler between us and Postgres: in session mode a run goes through it, else it is refused and leaves nothing."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.conftest import Bench

Pooler = Callable[[str, int], str]


@pytest.fixture
def pooler(server: str, short_folder: Path) -> Iterator[Pooler]:
    """Starts a pgbouncer before the tests' server, by its mode and how many connections it has; returns its address."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        pytest.skip("no pgbouncer: apt-get install pgbouncer")
    here = conninfo_to_dict(server)
    running: list[subprocess.Popen[bytes]] = []

    def start(mode: str, size: int) -> str:
        folder = short_folder / f"pool{len(running)}{os.urandom(2).hex()}"
        folder.mkdir()
        (folder / "users").write_text('"postgres" ""\n')
        (folder / "ini").write_text(
            f"[databases]\n* = host={here['host']} port={here['port']} user=postgres\n[pgbouncer]\n"
            f"unix_socket_dir = {folder}\nlisten_port = 6432\nauth_type = trust\nauth_file = {folder}/users\n"
            f"pool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = 100\nlogfile = {folder}/log\n"
            "ignore_startup_parameters = extra_float_digits,options\n"
        )
        user = []
        if os.getuid() == 0:
            owner = Path(str(here["host"])).stat().st_uid
            for path in (folder, folder / "users", folder / "ini"):
                os.chown(path, owner, owner)
            user = ["setpriv", f"--reuid={owner}", "--clear-groups"]
        running.append(subprocess.Popen([*user, program, str(folder / "ini")], stderr=subprocess.DEVNULL))
        address = make_conninfo("", host=str(folder), port=6432, user="postgres", dbname="postgres")
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(address).close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
            else:
                return address

    yield start
    for each in running:
        each.kill()
        each.wait()


def run(bench: Bench, address: str) -> "subprocess.CompletedProcess[str]":
    small = ("--scale", "2", "--limit", "100", "--insert-batch", "10", "--log", "counter")
    return bench("run", "--place", "local", "--dsn", address, *small)


def test_in_session_mode_a_run_goes_through(bench: Bench, pooler: Pooler) -> None:
    ran = run(bench, pooler("session", 20))
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_one_that_shares_connections_is_refused_and_keeps_nothing(bench: Bench, pooler: Pooler, mode: str) -> None:
    address = pooler(mode, 3)
    ran = run(bench, address)
    assert ran.returncode == 3
    assert "it shares one connection among clients" in ran.stderr
    with psycopg.connect(address, autocommit=True) as other:
        assert other.execute("SHOW search_path").fetchone() == ('"$user", public',)
        assert other.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        name = other.execute("SHOW application_name").fetchone()
        assert name is not None
        assert not name[0].startswith("bench")


def test_one_with_a_single_connection_is_refused(bench: Bench, pooler: Pooler) -> None:
    ran = run(bench, pooler("session", 1))
    assert ran.returncode == 3
    assert "gives no second connection" in ran.stderr
