"""Sessions of the orchestrator's own: how they are opened, named, limited and found to be lost."""

import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from bench.errors import InfrastructureError
from bench.keepalive import keep_alive
from bench.records import TIMEOUTS

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_SECONDS = 30

KEEPALIVE_SECONDS = 5

KEEPALIVE_PROBES = 3

LOCK_SECONDS = 5
"""A lock in the way of a drop is waited for this long, and a log's uninstall_log too."""

POOLER_LOOKS = 3

SILENT_SECONDS = 2
"""Whoever waits longer than this for the server is told so."""

_news = logging.getLogger("bench")


@contextmanager
def connected(conninfo: str, connect_seconds: int = CONNECT_SECONDS) -> Iterator[Connection]:
    """Connect as the orchestrator; the server has so long to let us in.

    Raises:
        InfrastructureError: the server does not let us in.
    """
    with ExitStack() as stack:
        try:
            connection = psycopg.connect(conninfo, autocommit=True, connect_timeout=connect_seconds)
            stack.callback(connection.close)
            _refuse_pooler(connection)
            _keep_alive(connection)
            own_timeouts(connection)
            name_session(connection, our_name(connection))
        except psycopg.Error as error:
            raise InfrastructureError(f"Postgres does not let us in: {in_words(error)}") from error
        try:
            yield connection
        except psycopg.Error as error:
            what = "Postgres broke off" if connection.broken else "Postgres refused"
            raise InfrastructureError(f"{what}: {in_words(error)}") from error


def _keep_alive(connection: Connection) -> None:
    """Have the system notice within seconds that the other end is gone, also while nothing is asked.

    With libpq's own parameters a connection string of ours would no longer be the user's.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        if keep_alive(line, KEEPALIVE_SECONDS, KEEPALIVE_PROBES) and hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = (KEEPALIVE_PROBES + 1) * KEEPALIVE_SECONDS * 1000
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def own_timeouts(connection: Connection) -> None:
    """Take away from a session of ours what a role, a database or the server lets statements end by."""
    connection.execute("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)", [list(TIMEOUTS)])


def name_session(connection: Connection, name: str) -> None:
    """Name a session in pg_stat_activity."""
    connection.execute("SELECT set_config('application_name', %s, false)", [name])


def our_name(connection: Connection, who: str = "") -> str:
    """What a session of this run is called: by the number of the orchestrator's own session, so that no two runs on a
    server share a name. Without `who` it is the orchestrator's."""
    return " ".join(filter(None, ("bench", str(connection.info.backend_pid), who)))


def in_words(error: psycopg.Error) -> str:
    """What the server said; else what libpq did."""
    told = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    return ". ".join(filter(None, told)) or str(error).strip()


@contextmanager
def limited(connection: Connection, seconds: float) -> Iterator[None]:
    """Let nothing in the `with` wait longer than this for the server: the connection is broken off then. A long wait is
    told of."""
    try:
        line = socket.socket(fileno=os.dup(connection.fileno()))
    except (psycopg.OperationalError, OSError):  # it is gone already
        yield
        return

    def break_off() -> None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    def say_so() -> None:
        _news.warning("waiting for PostgreSQL, for %.0f s at most", seconds)

    # libpq has no limit for a statement. That a socket is shut down wakes whoever waits on it.
    with line, _later(seconds, break_off), _later(SILENT_SECONDS, say_so):
        yield


@contextmanager
def _later(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Act when the `with` has taken this long."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def has_been_spoken_to(connection: Connection) -> bool:
    """Whether the server said something on this idle connection, which it does at its end, or seldom before it."""
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    return bool(readable)


def refuse_lost(connection: Connection) -> None:
    """Refuse to go on when this idle connection is gone. The server is asked nothing as long as it says nothing.

    Raises:
        psycopg.OperationalError: it is gone; the message has the server's last words, if there were any.
    """
    if has_been_spoken_to(connection):
        with limited(connection, LOCK_SECONDS):
            connection.execute("SELECT 1")


def _refuse_pooler(connection: Connection) -> None:
    """Refuse a pooler that has sessions share a connection to the server: locks, settings and prepared statements of
    one would be another's.

    Raises:
        InfrastructureError: it does.
    """
    if _backend(connection) == connection.info.backend_pid:
        return
    # Something stands between. In transaction mode it gives an idle client's connection to the next one.
    for _ in range(POOLER_LOOKS):
        ours = _backend(connection)
        try:
            with (
                psycopg.connect(way(connection), autocommit=True, connect_timeout=CONNECT_SECONDS) as other,
                limited(other, LOCK_SECONDS),
            ):
                shared = _backend(other) == ours or _backend(connection) != ours
        except psycopg.OperationalError as error:
            raise InfrastructureError(
                "between us and Postgres is a pooler that gives no second connection: "
                f"a run needs one for each worker and three more ({in_words(error)})"
            ) from error
        if shared:
            raise InfrastructureError(
                "between us and Postgres is a pooler that shares one connection among clients (pool_mode "
                "transaction or statement): name Postgres itself, or a pool in session mode"
            )


def _backend(connection: Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0


def way(connection: Connection) -> str:
    """How to connect to where this connection leads, or led."""
    password = connection.info.password
    return make_conninfo(connection.info.dsn, **({"password": password} if password else {}))


def pinned(connection: Connection, conninfo: str) -> str:
    """A connection string that leads to where it has led this connection, though it may name several hosts."""
    info = connection.info
    return make_conninfo(
        conninfo, host=info.host, port=info.port, **({"hostaddr": info.hostaddr} if info.hostaddr else {})
    )
