"""The orchestrator's own connection: installs the log, works the start gate, reads a page, asks what the server is.

Nothing that is timed goes through it.
"""

import logging
import os
import select
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench.errors import BadInputError, OutsideError
from bench.eventlog import Log
from bench.interrupts import held
from bench.judge.checker import Holder
from bench.keepalive import keep_alive
from bench.postgres.barrier import GATE
from bench.postgres.contract import check_contract
from bench.postgres.settings import alike
from bench.records import EXAMPLES, SESSION, TIMEOUTS
from bench.statements import SCHEMA, cursor_columns, read_sql
from bench.worker import server

Connection = psycopg.Connection[tuple[Any, ...]]

BUSY = GATE + 1
"""An advisory lock that a run holds as long as it uses a database."""

_OURS = "eventlog-bench: dropped after the run "
_RESERVED_CONNECTIONS = 5
FSYNCS = 20
TERMINATE_MS = 5_000
CONNECT_SECONDS = 30
KEEPALIVE_SECONDS = 5
KEEPALIVE_PROBES = 3
LOCK_SECONDS = 5
"""A lock in the way of a drop is waited for this long, and a log's uninstall_log too."""
CLEAR_SECONDS = 60
"""All clearing away of a database takes no longer than this, whatever the server does."""
POOLER_LOOKS = 3

_news = logging.getLogger("bench")

_SETTINGS_THAT_DIFFER: LiteralString = """
    SELECT name, current_setting(name) FROM pg_settings
    WHERE setting IS DISTINCT FROM boot_val
      AND source NOT IN ('default', 'override', 'client', 'session', 'interactive', 'environment variable')
      AND category NOT IN ('File Locations', 'Preset Options', 'Client Connection Defaults / Locale and Formatting')
      AND name NOT IN ('listen_addresses', 'port', 'unix_socket_directories')
      AND category NOT LIKE 'Reporting and Logging / %'
    ORDER BY name"""


_HOLDERS: LiteralString = """
    WITH locks AS (
        SELECT pid, virtualtransaction,
               bool_or(locktype = 'transactionid') AS wrote,
               bool_or(locktype = 'relation'
                       AND relation IN (SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace(%(schema)s))
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                       AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock')) AS wrote_here
        FROM pg_locks WHERE granted GROUP BY pid, virtualtransaction
    ), open AS (
        SELECT a.pid, a.datname, nullif(a.application_name, '') AS application, a.state, a.xact_start AS since,
               coalesce(l.wrote, false) AS wrote, coalesce(l.wrote_here, false) AS wrote_here
        FROM pg_stat_activity a LEFT JOIN locks l USING (pid)
        WHERE a.pid <> pg_backend_pid()
          AND NOT (a.datname = current_database() AND starts_with(coalesce(a.application_name, '') || ' ', %(ours)s))
          AND (a.xact_start IS NOT NULL OR coalesce(l.wrote, false))
        UNION ALL
        SELECT NULL, p.database, p.gid, 'prepared', p.prepared, true, coalesce(l.wrote_here, false)
        FROM pg_prepared_xacts p LEFT JOIN locks l ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction
    )
    SELECT pid, datname, application, state, extract(epoch FROM clock_timestamp() - since)::float8, wrote, wrote_here
    FROM open
    WHERE state = 'prepared' OR since IS NULL OR since <= clock_timestamp() - make_interval(secs => %(seconds)s)
    ORDER BY wrote_here DESC, wrote DESC, since NULLS LAST
    LIMIT %(most)s"""


@contextmanager
def connected(conninfo: str) -> Iterator[Connection]:
    """Connect as the orchestrator.

    Raises:
        OutsideError: the server does not let us in.
    """
    with ExitStack() as stack:
        try:
            connection = psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_SECONDS)
            stack.callback(connection.close)
            _refuse_pooler(connection)
            _keep_alive(connection)
            own_timeouts(connection)
            name_session(connection, our_name(connection))
        except psycopg.Error as error:
            raise OutsideError(f"Postgres does not let us in: {in_words(error)}") from error
        try:
            yield connection
        except psycopg.Error as error:
            what = "Postgres broke off" if connection.broken else "Postgres refused"
            raise OutsideError(f"{what}: {in_words(error)}") from error


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
    """Let nothing in the `with` wait longer than this for the server: the connection is broken off then."""
    try:
        line = socket.socket(fileno=os.dup(connection.fileno()))
    except (psycopg.OperationalError, OSError):  # it is gone already
        yield
        return

    def break_off() -> None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    # libpq has no limit for a statement. That a socket is shut down wakes whoever waits on it.
    with line:
        timer = threading.Timer(seconds, break_off)
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


@contextmanager
def installed(connection: Connection, log: Log, run_id: str, *, stays: bool = True) -> Iterator[None]:
    """Install a log into a schema of its own, which is dropped in the end.

    A schema of that name that an earlier run of ours left is replaced. `stays` is whether the server is there after the
    run: of one that goes with it nothing is cleared away over a second connection.

    Raises:
        BadInputError: the log's SQL is wrong or leaves something of the contract out, or Postgres is too old for it.
        OutsideError: the schema is somebody else's, or another run is at work in this database.
    """
    _refuse_read_only(connection, log)
    _check_server(connection, log)
    _take_database(connection)
    end_left_sessions(connection)
    if comment_on_schema(connection, _OURS):
        drop(connection)
    try:
        make_schema(connection, _OURS + run_id)
    except psycopg.errors.InsufficientPrivilege as error:
        raise OutsideError(f"cannot make the schema {SCHEMA}: {error.diag.message_primary}") from error
    try:
        install(connection, log)
        yield
    finally:
        with held():
            if stays or not (connection.broken or connection.closed):
                _clear_away(connection)


def clear_left(connection: Connection) -> bool:
    """Drop the schema that a dead run left in a database; False when there is none.

    Raises:
        OutsideError: it is not ours, a run is at work there, or something is in the way.
    """
    if comment_on_schema(connection, _OURS) is None:
        return False
    _take_database(connection)
    end_left_sessions(connection)
    drop(connection)
    return True


def _take_database(connection: Connection) -> None:
    """Take the lock that a run holds on its database.

    Raises:
        OutsideError: another session holds it; the message says which.
    """
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [BUSY]).fetchone()
    if row and row[0]:
        return
    holder = connection.execute(
        "SELECT a.pid, a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database "
        "WHERE datname = current_database()) AND (l.classid::bigint << 32) + l.objid::bigint = %s",
        [BUSY],
    ).fetchone()
    who = (
        f": its session has pid {holder[0]}, is called {holder[1]!r} and began at {holder[2]:%H:%M:%S}"
        if holder
        else ""
    )
    raise OutsideError(
        f"another run is at work in this database{who}. Wait for its end, or name another database; if there is no "
        "such run any more, SELECT pg_terminate_backend(pid) ends that session"
    )


def _refuse_pooler(connection: Connection) -> None:
    """Refuse a pooler that has sessions share a connection to the server: locks, settings and prepared statements of
    one would be another's.

    Raises:
        OutsideError: it does.
    """
    if _backend(connection) == connection.info.backend_pid:
        return
    # Something stands between. In transaction mode it gives an idle client's connection to the next one.
    for _ in range(POOLER_LOOKS):
        ours = _backend(connection)
        try:
            with (
                psycopg.connect(_way(connection), autocommit=True, connect_timeout=CONNECT_SECONDS) as other,
                limited(other, LOCK_SECONDS),
            ):
                shared = _backend(other) == ours or _backend(connection) != ours
        except psycopg.OperationalError as error:
            raise OutsideError(
                "between us and Postgres is a pooler that gives no second connection: "
                f"a run needs one for each worker and three more ({in_words(error)})"
            ) from error
        if shared:
            raise OutsideError(
                "between us and Postgres is a pooler that shares one connection among clients (pool_mode "
                "transaction or statement): name Postgres itself, or a pool in session mode"
            )


def _backend(connection: Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(row[0]) if row else 0


def _refuse_read_only(connection: Connection, log: Log) -> None:
    """Refuse a server on which nothing can be written.

    Raises:
        OutsideError: it is a standby, or its sessions are read-only.
        BadInputError: they are because the run or the log asks for it.
    """
    row = connection.execute(
        "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool, source FROM pg_settings "
        "WHERE name = 'default_transaction_read_only'"
    ).fetchone()
    standby, read_only, source = row or (False, False, "")
    if standby:
        raise OutsideError("this Postgres is a standby, which takes no writes: name its primary")
    if not read_only:
        return
    if "default_transaction_read_only" in log.settings:
        raise BadInputError(
            f"the log {log.name}: log.toml: settings: nothing can be appended when sessions are read-only"
        )
    raise OutsideError(
        f"sessions of this Postgres are read-only: default_transaction_read_only is on (set by: {source}); "
        "name a server, a role or a database that takes writes"
    )


def end_left_sessions(connection: Connection) -> None:
    """End the sessions of workers that a dead run left in this database. Whoever calls this holds the database."""
    which: LiteralString = "application_name ~ '^bench [0-9]+ ' AND NOT starts_with(application_name, %s)"
    _terminate(connection, which, f"{our_name(connection)} ")


def _clear_away(connection: Connection) -> None:
    """Drop the schema, whatever became of the run and of its connection. What cannot be dropped is told, not raised."""
    try:
        if connection.broken or connection.closed:
            ours = our_name(connection)
            with connected(_way(connection)) as second, limited(second, CLEAR_SECONDS):
                _take_database(second)
                _end_sessions(second, ours)
                drop(second)
        else:
            with limited(connection, CLEAR_SECONDS):
                _end_sessions(connection, our_name(connection))
                drop(connection)
    except (psycopg.Error, OutsideError) as error:
        words = in_words(error) if isinstance(error, psycopg.Error) else str(error)
        _news.warning(
            "the schema %s is left in the database (%s); `bench clean --dsn URL` or the next run there removes it",
            SCHEMA,
            words,
        )


def _way(connection: Connection) -> str:
    """How to connect to where this connection leads, or led."""
    password = connection.info.password
    return make_conninfo(connection.info.dsn, **({"password": password} if password else {}))


def _end_sessions(connection: Connection, ours: str) -> None:
    """End the workers' sessions of a run that is over: what they still have the server do would hold locks."""
    _terminate(connection, "starts_with(application_name, %s)", f"{ours} ")


def make_schema(connection: Connection, comment: str) -> None:
    """Make the schema that a log is installed into; the comment says whose it is."""
    schema = sql.Identifier(SCHEMA)
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(comment)))


def comment_on_schema(connection: Connection, start: str = "") -> str | None:
    """The comment on the schema, None when there is no such schema.

    Raises:
        OutsideError: the comment does not start like that, so the schema is somebody else's.
    """
    row = connection.execute(
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = %s", [SCHEMA]
    ).fetchone()
    if row is None:
        return None
    if not row[0].startswith(start):
        raise OutsideError(
            f"there is a schema {SCHEMA} in this database that no run made, though perhaps `bench start`: "
            "name another database, or rename that schema"
        )
    return str(row[0])


def install(connection: Connection, log: Log) -> None:
    """Run a log's SQL in the schema and check that what the contract asks for is there.

    Raises:
        BadInputError: the SQL or what it makes is wrong; the message has the line of schema.sql where Postgres says it.
    """
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
    connection.execute("SET client_min_messages TO warning")
    try:
        connection.execute(log.schema_sql.encode())
    except psycopg.Error as error:
        if connection.broken:
            raise
        where = f"schema.sql{_line(error, log.schema_sql)}"
        raise BadInputError(f"the log {log.name}: {where}: {error.diag.message_primary or error}") from error
    check_contract(connection, log)


def _line(error: psycopg.Error, statements: str) -> str:
    """The line of an error, in words; nothing when Postgres does not give its place in these statements.

    Only what was parsed has a place. A position within a function's body would be another text's.
    """
    position = error.diag.statement_position
    return "" if position is None else f", line {statements.count(chr(10), 0, int(position) - 1) + 1}"


Cursor = tuple[Any, ...]
"""A reader's position, whatever a log makes of it; () is the start."""


def read_page(connection: Connection, log: Log, read_batch: int, after: Cursor = ()) -> tuple[list[Cursor], Cursor]:
    """Read one page by hand: its rows, which begin with etag, ctime and payload, and the cursor for the next page."""
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(read_sql(log, read_batch).encode(), after or [None] * len(log.cursor))
        rows = cursor.fetchall()
    return rows, tuple(rows[-1][column] for column in cursor_columns(log)) if rows else after


@contextmanager
def gate(connection: Connection, key: int = GATE) -> Iterator[Callable[[], None]]:
    """Close the gate that workers wait at; yields the function that opens it for all of them at once."""
    connection.execute("SELECT pg_advisory_lock(%s)", [key])
    opened = False

    def open_gate() -> None:
        nonlocal opened
        if not opened:
            connection.execute("SELECT pg_advisory_unlock(%s)", [key])
        opened = True

    try:
        yield open_gate
    finally:
        with suppress(psycopg.Error), limited(connection, LOCK_SECONDS):
            open_gate()


def cancel(connection: Connection, workers: Sequence[str]) -> None:
    """Cancel what these workers of this database have the server do. Another run may have workers of the same names in
    another database."""
    connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = ANY(%s) AND state = 'active'",
        [[our_name(connection, worker) for worker in workers]],
    )


def terminate(connection: Connection, workers: Sequence[str]) -> None:
    """End the sessions of these workers of this database; when it returns, none of them commits anything any more."""
    _terminate(connection, "application_name = ANY(%s)", [our_name(connection, worker) for worker in workers])


def _terminate(connection: Connection, which: LiteralString, value: object) -> None:
    """End those other sessions of this database of which a condition with one parameter holds."""
    connection.execute(
        "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND " + which,
        [TERMINATE_MS, value],
    )


def holders(connection: Connection, seconds: float) -> list[Holder] | None:
    """Transactions that have been open for `seconds` or longer, in any database, except for those of this run.
    Prepared ones are among them however old: it is not known when they began.

    A log may hold events back because of them: those that wrote to the log come first, then those that have a
    transaction id. Of another role's session the server may hide what it does; it is listed if its locks show that it
    has one. None where the server does not answer that.
    """
    ours = f"{our_name(connection)} "
    try:
        rows = connection.execute(_HOLDERS, {"schema": SCHEMA, "ours": ours, "seconds": seconds, "most": EXAMPLES})
    except (psycopg.ProgrammingError, psycopg.NotSupportedError):
        return None
    return [Holder(*row) for row in rows.fetchall()]


def check_connections(connection: Connection, workers: int) -> None:
    """Refuse a number of workers that the server has no connections for.

    Raises:
        BadInputError: it has fewer.
    """
    row = connection.execute("SELECT current_setting('max_connections')::int").fetchone()
    allowed = row[0] if row else 0
    if workers + _RESERVED_CONNECTIONS > allowed:
        raise BadInputError(
            f"{workers} workers need {workers + _RESERVED_CONNECTIONS} connections "
            f"and this Postgres allows {allowed}: raise its max_connections"
        )


def settle(connection: Connection) -> None:
    """Bring the log into the state that autovacuum and the checkpointer would bring it to sooner or later.

    So each read measures reading, and not the clearing up after the appends that happens to run into it.

    Raises:
        OutsideError: somebody else's session holds a lock that is in the way; the message says whose.
    """
    tables = connection.execute(
        "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s", [SCHEMA]
    ).fetchall()
    with _lock_timeout(connection):
        for (table,) in tables:
            connection.execute(f"VACUUM (ANALYZE) {table}".encode())
    with suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute("CHECKPOINT")


def version(connection: Connection) -> str:
    """The server's version, like 18.6."""
    return str(connection.info.parameter_status("server_version")).split()[0]


def settings_that_differ(connection: Connection) -> dict[str, str]:
    """Each setting that is not at PostgreSQL's default; paths, log output and locale left out."""
    return dict(connection.execute(_SETTINGS_THAT_DIFFER).fetchall())


def wal_position(connection: Connection) -> int | None:
    """Bytes of WAL written since the cluster was made; None on a server that may not say."""
    with suppress(psycopg.Error):
        row = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        return int(row[0]) if row else None
    return None


def fsync_ms(connection: Connection) -> float | None:
    """Median of how long a commit takes that writes one small record; None on a server that may not write one.

    What is measured is the way that a log's commits take: through Postgres, to its disk, wherever that is.
    """
    commits = []
    try:
        for _ in range(FSYNCS):
            connection.execute("BEGIN; SET LOCAL synchronous_commit TO on")
            connection.execute("SELECT pg_logical_emit_message(true, 'bench', '')")
            began = time.perf_counter()
            connection.execute("COMMIT")
            commits.append(time.perf_counter() - began)
    except psycopg.Error:
        connection.rollback()
        return None
    return statistics.median(commits) * 1e3


def session(connection: Connection) -> dict[str, str]:
    """What workers' sessions must have as well as this one: settings, and the server that they have reached."""
    rows = [connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in SESSION]
    return {"server": server(connection)} | {name: str(row[0]) for name, row in zip(SESSION, rows, strict=True) if row}


def pinned(connection: Connection, conninfo: str) -> str:
    """A connection string that leads to where it has led this connection, though it may name several hosts."""
    info = connection.info
    return make_conninfo(
        conninfo, host=info.host, port=info.port, **({"hostaddr": info.hostaddr} if info.hostaddr else {})
    )


def settings_without_effect(connection: Connection, wanted: Mapping[str, str]) -> dict[str, str]:
    """Compare settings with what a session of this server begins with, by meaning: 33MB is 33792kB.

    Returns what the server has, for people, of each setting that is not as wanted.
    """
    return {
        name: _shown(connection, name) for name, value in wanted.items() if not _is_in_force(connection, name, value)
    }


def refuse_without_effect(connection: Connection, given: Mapping[str, str]) -> None:
    """Refuse a server that does not have the settings that it was started with.

    Raises:
        OutsideError: the message names the first of them, with what the server has instead.
    """
    for name, has in settings_without_effect(connection, given).items():
        raise OutsideError(
            f"--set {name}={given[name]} had no effect: the server has {has}; "
            "does the image's entrypoint pass arguments on, or does a role or database set it otherwise?"
        )


def _is_in_force(connection: Connection, name: str, wanted: str) -> bool:
    row = connection.execute(
        "SELECT reset_val, boot_val, vartype, unit, source FROM pg_settings WHERE lower(name) = lower(%s)", [name]
    ).fetchone()
    if row:
        has, default, kind, unit, source = row
        # A default like -1 has the server choose a value, which it shows instead; nobody else chose it then.
        chosen = source in {"default", "override"} and default is not None and alike(wanted, default, kind, unit)
        if chosen or alike(wanted, has or "", kind, unit):
            return True
    return _means_what_it_began_with(connection, name, wanted)


def _means_what_it_began_with(connection: Connection, name: str, wanted: str) -> bool:
    """Whether this session, if it set the setting to this, would have what it began with; False where it may not.

    The server itself knows every word for a value, and old names of settings.
    """
    try:
        # To set a name with a dot would make such a setting.
        if connection.execute("SELECT current_setting(%s, true) IS NULL", [name]).fetchone() == (True,):
            return False
        with connection.transaction(force_rollback=True):
            with_it = connection.execute("SELECT set_config(%s, %s, true)", [name, wanted]).fetchone()
            connection.execute(sql.SQL("SET LOCAL {} TO DEFAULT").format(sql.Identifier(*name.split("."))))
            without = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    except psycopg.Error:
        return False
    return with_it == without


def _shown(connection: Connection, name: str) -> str:
    try:
        row = connection.execute("SELECT current_setting(%s, true)", [name]).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return "a value that this role may not see"
    return "no such setting" if row is None or row[0] is None else str(row[0])


def _check_server(connection: Connection, log: Log) -> None:
    major = connection.info.server_version // 10000
    if major < log.postgres:
        raise BadInputError(f"the log {log.name} needs PostgreSQL {log.postgres} or later, and this is {major}")
    for name, has in settings_without_effect(connection, log.settings).items():
        raise BadInputError(
            f"the log {log.name} needs {name}={log.settings[name]}: this Postgres has {has}; change that setting of it"
        )


def drop(connection: Connection) -> None:
    """Drop the schema, after the log in it has taken away what it has outside of it. What stands in the way is waited
    for some seconds.

    Raises:
        OutsideError: somebody else's session is in the way; the message says whose.
        psycopg.Error: the server refused.
    """
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
    with _lock_timeout(connection):
        _uninstall(connection)
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(SCHEMA)))


@contextmanager
def _lock_timeout(connection: Connection) -> Iterator[None]:
    """Wait for no lock longer than some seconds.

    Raises:
        OutsideError: somebody else's session is in the way; the message says whose.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{LOCK_SECONDS}s"])
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise OutsideError(f"{_in_the_way(connection)}: end it, or wait for its end") from error
    finally:
        if not connection.broken:
            connection.execute("SET lock_timeout TO 0")


def _uninstall(connection: Connection) -> None:
    """Call the log's own uninstall_log, if there is one. That it fails is told, and keeps nothing from going on."""
    row = connection.execute("SELECT to_regprocedure('uninstall_log()') IS NOT NULL").fetchone()
    if not row or not row[0]:
        return
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{LOCK_SECONDS}s"])
    try:
        connection.execute("SELECT uninstall_log()")
    except psycopg.Error as error:
        if connection.broken:
            raise
        _news.warning("the log's uninstall_log() failed: %s; what it has outside of its schema stays", in_words(error))
    finally:
        if not connection.broken:
            connection.execute("SET statement_timeout TO 0")


def _in_the_way(connection: Connection) -> str:
    """Whose locks on the schema's relations keep it from being dropped, in words."""
    rows = connection.execute(
        "SELECT DISTINCT a.pid, a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::int "
        "FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation "
        "WHERE c.relnamespace = to_regnamespace(%s) AND l.granted AND a.pid <> pg_backend_pid() LIMIT 3",
        [SCHEMA],
    ).fetchall()
    told = [session_in_words(*row) for row in rows]
    return f"in the way is the session {' and '.join(told)}" if told else "a lock is in the way"


def session_in_words(pid: int, name: str | None, state: str | None, age: int | None) -> str:
    """Which session it is: its pid, what it calls itself, what it does, and the seconds since its transaction began."""
    parts = [name or "no application_name", state, None if age is None else f"open for {age} s"]
    return f"pid {pid} ({', '.join(filter(None, parts))})"
