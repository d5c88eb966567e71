"""A Postgres to try a log in, for `bench start`, `seed`, `psql` and `stop`. Its data stays until it is dropped."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from psycopg import sql

from bench.errors import InfrastructureError, SettingRefusedError, UsageError
from bench.eventlog import Log
from bench.places.local import postgres as embedded
from bench.places.rundir import by_hand, make, running_postgres
from bench.places.starting import with_settings
from bench.postgres import install
from bench.postgres.connection import connected
from bench.statements import SCHEMA

STOP_SECONDS = 60


def start(port: int | None, log: Log) -> str:
    """Start the server unless it runs already, with the data of last time if there is any; return how to reach it.

    Raises:
        UsageError: the data holds another log, or the server runs on another port.
        InfrastructureError: the port is taken, or Postgres does not start.
    """
    folder = by_hand()
    if running_postgres(folder / "data"):
        return _runs_already(folder, port, log)
    port = _free_port(port)
    programs = embedded.binaries(None)
    make(folder)
    if not (folder / "password").exists():
        shutil.rmtree(folder)
        make(folder)
        embedded.init(programs, folder)
    (folder / "port").write_text(str(port), encoding="ascii")
    (folder / "table").write_text(log.table, encoding="ascii")

    def begin(own: ExitStack, settings: Mapping[str, str]) -> None:
        server = embedded.start(programs, folder, {**settings, "listen_addresses": "127.0.0.1"}, port)
        own.callback(_end, server)
        embedded.await_answer(server, folder, port)

    with ExitStack() as unless_ready:
        try:
            with_settings(unless_ready, log.settings, begin)
        except SettingRefusedError as error:
            raise UsageError(f"the log {log.name}: log.toml: settings: {error}") from error
        _install(folder, log)
        unless_ready.pop_all()
    return (
        f"Postgres {programs.version} listens on port {port} with the log {log.name} installed in the schema {SCHEMA}\n"
        f"{_url(folder, port)}"
    )


def _runs_already(folder: Path, wanted: int | None, log: Log) -> str:
    port = int((folder / "port").read_text(encoding="ascii"))
    if wanted not in {None, port}:
        raise UsageError(f"the server is already running on port {port}; stop it with `bench stop`")
    _install(folder, log)
    return f"Postgres is already running on port {port}, with the log {log.name}\n{_url(folder, port)}"


def _url(folder: Path, port: int) -> str:
    password = (folder / "password").read_text(encoding="ascii")
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def seed(events: int) -> str:
    """Append dummy events; return how many there are now.

    Raises:
        UsageError: the server is not running.
    """
    with connected(_address()) as connection:
        connection.execute(
            "SELECT count(*) FROM log_event("
            "(SELECT json_agg(json_build_object('v', t)) FROM generate_series(1, %s) AS t))",
            [events],
        )
        table = (by_hand() / "table").read_text(encoding="ascii")
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    return f"appended {events:,} events: the log holds {row[0] if row else 0:,}"


def psql(arguments: list[str]) -> int:
    """Run psql on the server and return its exit code.

    Raises:
        UsageError: the server is not running.
    """
    program = embedded.binaries(None).folder / "psql"
    if not program.is_file():
        raise InfrastructureError(
            f"{program} is missing: open the address that `bench start` printed with another psql"
        )
    return subprocess.run([program, _address(), *arguments], check=False).returncode


def stop() -> str:
    """Stop the server; its data stays.

    Raises:
        InfrastructureError: Postgres does not stop.
    """
    data = by_hand() / "data"
    pid = running_postgres(data)
    if pid is None:
        return "the server is not running"
    os.kill(pid, signal.SIGINT)  # a fast shutdown: sessions end, data is written back
    deadline = time.monotonic() + STOP_SECONDS
    while running_postgres(data):
        if time.monotonic() > deadline:
            raise InfrastructureError(f"Postgres (process {pid}) did not stop within {STOP_SECONDS} s")
        time.sleep(0.02)
    return f"stopped; its data stays in {data}, `bench stop --drop` removes it"


def drop() -> str:
    """Stop the server and remove its data."""
    if not by_hand().exists():
        return "no server and no data"
    stop()
    shutil.rmtree(by_hand(), ignore_errors=True)
    return "stopped; data removed"


def _install(folder: Path, log: Log) -> None:
    """Install the log and set a password, unless both were done before.

    Raises:
        UsageError: another log is installed.
    """
    password_file = folder / "password"
    with connected(_address()) as connection:
        installed = install.comment_on_schema(connection)
        if installed is None:
            install.make_schema(connection, log.name)
            try:
                install.install(connection, log)
            except BaseException:
                install.drop(connection)
                raise
            schema = sql.Identifier(SCHEMA)
            connection.execute(sql.SQL("ALTER DATABASE postgres SET search_path TO {}, public").format(schema))
        elif installed != log.name:
            raise UsageError(f"the data of last time holds the log {installed}; remove it with `bench stop --drop`")
        if not password_file.exists():
            password = secrets.token_urlsafe(16)
            connection.execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(password)))
            password_file.touch(mode=0o600)
            password_file.write_text(password, encoding="ascii")


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    server.wait()


def _address() -> str:
    folder = by_hand()
    if not running_postgres(folder / "data"):
        raise UsageError("the server is not running; start it with `bench start`")
    port = int((folder / "port").read_text(encoding="ascii"))
    return embedded.conninfo(folder, port)


def _free_port(wanted: int | None) -> int:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except (OSError, OverflowError) as error:
            raise InfrastructureError(
                f"port {wanted} is not available: {error}; name another, or leave --port out for a free one"
            ) from error
        return int(probe.getsockname()[1])
