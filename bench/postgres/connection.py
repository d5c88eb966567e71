"""The orchestrator's own sessions: how they are opened, named, limited in time, and found to be lost."""

import logging
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""Longest wait for a lock that blocks a drop, and for a log's uninstall_log."""

POOLER_LOOKS = 3

SILENT_SECONDS = 2
"""A wait for the server that takes longer than this is reported."""

_news = logging.getLogger("bench")


@contextmanager
def connected(conninfo: str, connect_seconds: int = CONNECT_SECONDS) -> Iterator[Connection]:
    """Connect as the orchestrator, waiting at most `connect_seconds` for the server.

    Raises:
        InfrastructureError: the server does not accept the connection, loses it, or refuses a statement in the `with`.
    """
    with ExitStack() as stack:
        try:
            connection = psycopg.connect(conninfo, autocommit=True, connect_timeout=connect_seconds)
            stack.callback(connection.close)
            _refuse_pooler(connection)
            _keep_alive(connection)
            switch_off_timeouts(connection)
            name_session(connection, our_name(connection))
        except psycopg.Error as error:
            raise InfrastructureError(f"cannot connect to PostgreSQL: {in_words(error)}") from error
        try:
            yield connection
        except psycopg.Error as error:
            failure = "lost the connection to PostgreSQL" if connection.broken else "PostgreSQL refused a statement"
            raise InfrastructureError(f"{failure}: {in_words(error)}") from error


def scalar(
    connection: psycopg.Connection[Any], query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
) -> Any:
    """The first column of a query's first row; None when there is no row.

    Raises:
        psycopg.Error: the query failed.
    """
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None


def _keep_alive(connection: Connection) -> None:
    """Have the system notice within seconds that the other end is gone, also while nothing is asked.

    libpq's own parameters would do it too, but the connection string would no longer be the user's.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        if keep_alive(duplicate, KEEPALIVE_SECONDS, KEEPALIVE_PROBES) and hasattr(socket, "TCP_USER_TIMEOUT"):
            milliseconds = (KEEPALIVE_PROBES + 1) * KEEPALIVE_SECONDS * 1000
            duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def switch_off_timeouts(connection: Connection) -> None:
    """Switch off, in a session of ours, the time-outs that a role, a database or the server sets."""
    connection.execute("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)", [list(TIMEOUTS)])


def name_session(connection: Connection, name: str) -> None:
    """Name a session in pg_stat_activity."""
    connection.execute("SELECT set_config('application_name', %s, false)", [name])


def our_name(connection: Connection, worker: str = "") -> str:
    """The application_name of a worker's session in this run; the orchestrator's own without `worker`. It holds the pid
    of the orchestrator's session, so that no two runs on a server share a name."""
    return " ".join(filter(None, ("bench", str(connection.info.backend_pid), worker)))


def in_words(error: psycopg.Error) -> str:
    """The server's message, detail and hint; libpq's message when the server sent none."""
    texts = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    return ". ".join(filter(None, texts)) or str(error).strip()


@contextmanager
def limited(connection: Connection, seconds: float) -> Iterator[None]:
    """Break the connection when the `with` has taken this long, so that nothing in it waits longer for the server. A
    wait longer than SILENT_SECONDS is reported."""
    try:
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
    except (psycopg.OperationalError, OSError):  # the connection is gone already
        yield
        return

    def break_off() -> None:
        with suppress(OSError):
            duplicate.shutdown(socket.SHUT_RDWR)

    def report() -> None:
        _news.warning("waiting for PostgreSQL, for %.0f s at most", seconds)

    # libpq has no time limit for a statement. Shutting the socket down wakes a thread that waits on it.
    with duplicate, _later(seconds, break_off), _later(SILENT_SECONDS, report):
        yield


@contextmanager
def _later(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` when the `with` has taken this long."""
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def has_been_spoken_to(connection: Connection) -> bool:
    """Whether the server has sent something on this idle connection: its last words, or (seldom) a notice or the
    like."""
    readable, _, _ = select.select([connection.fileno()], [], [], 0)
    return bool(readable)


def refuse_lost(connection: Connection) -> None:
    """Refuse to go on when this idle connection is lost. Asks the server nothing unless it has sent something.

    Raises:
        psycopg.OperationalError: the connection is lost; the message has the server's last words, if any came.
    """
    if has_been_spoken_to(connection):
        with limited(connection, LOCK_SECONDS):
            connection.execute("SELECT 1")


def _refuse_pooler(connection: Connection) -> None:
    """Refuse a pooler whose clients share a connection to the server: they would share locks, settings and prepared
    statements.

    Raises:
        InfrastructureError: there is such a pooler, or one that gives no second connection.
    """
    if _backend(connection) == connection.info.backend_pid:
        return
    # There is a pooler. In transaction mode it gives an idle client's server connection to the next client.
    for _ in range(POOLER_LOOKS):
        ours = _backend(connection)
        try:
            with (
                psycopg.connect(conninfo_of(connection), autocommit=True, connect_timeout=CONNECT_SECONDS) as other,
                limited(other, LOCK_SECONDS),
            ):
                shared = _backend(other) == ours or _backend(connection) != ours
        except psycopg.OperationalError as error:
            raise InfrastructureError(
                f"cannot run through this pooler: it gives no second connection ({in_words(error)}); a run needs one "
                "per worker and three more: let the pool have more, or connect to PostgreSQL directly"
            ) from error
        if shared:
            raise InfrastructureError(
                "cannot run through this pooler: it shares one connection among clients (pool_mode transaction or "
                "statement); connect to PostgreSQL directly, or through a pool in session mode"
            )


def _backend(connection: Connection) -> int:
    return int(scalar(connection, "SELECT pg_backend_pid()"))


def conninfo_of(connection: Connection) -> str:
    """A connection string for the server that this connection reached, with its password."""
    password = connection.info.password
    return make_conninfo(connection.info.dsn, **({"password": password} if password else {}))


def pinned(connection: Connection, conninfo: str) -> str:
    """The connection string `conninfo`, which may name several hosts, pinned to the host that it led this connection
    to."""
    info = connection.info
    return make_conninfo(
        conninfo, host=info.host, port=info.port, **({"hostaddr": info.hostaddr} if info.hostaddr else {})
    )
