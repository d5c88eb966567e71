"""Installs a log into a schema of its own on a server that takes writes, and drops it in the end."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import LiteralString

import psycopg
from psycopg import sql
from psycopg.generators import execute

from bench.errors import InfrastructureError, UsageError
from bench.eventlog import Log
from bench.interrupts import held
from bench.postgres import open_transactions
from bench.postgres.barrier import take_database, terminate_where
from bench.postgres.connection import (
    LOCK_SECONDS,
    Connection,
    connected,
    conninfo_of,
    in_words,
    limited,
    our_name,
    scalar,
)
from bench.postgres.contract import check_contract
from bench.postgres.locks import lock_timeout
from bench.postgres.read_back import settings_without_effect
from bench.postgres.script import starts
from bench.statements import PAUSES, SCHEMA

OURS = "eventlog-bench: dropped after the run "
"""The comments on the schemas that a run makes begin like this."""
CLEAR_SECONDS = 60
"""Clearing away a database takes no longer than this, whatever the server does."""
RETURN_SECONDS = 3
"""Longest wait for a lost server to return: it may have been restarted."""
CONNECT_AGAIN_SECONDS = 2

_news = logging.getLogger("bench")


@contextmanager
def installed(connection: Connection, log: Log, run_id: str, *, stays: bool = True) -> Iterator[None]:
    """Install a log into a schema of its own, which is dropped in the end.

    A schema of that name that an earlier run of ours left is replaced. `stays` says whether the server outlives the
    run: from a server that does not, nothing is cleared away over a second connection.

    Raises:
        UsageError: the log's SQL is wrong or leaves something of the contract out, or Postgres is too old for it.
        InfrastructureError: the schema is not ours, or another run is using this database.
        BaseException: the exception that ended the `with`, with a note on what could not be cleared away.
    """
    _refuse_read_only(connection, log)
    _check_server(connection, log)
    take_database(connection)
    end_left_sessions(connection)
    if comment_on_schema(connection, OURS):
        drop(connection)
    try:
        make_schema(connection, OURS + run_id)
    except psycopg.errors.InsufficientPrivilege as error:
        raise InfrastructureError(
            f"cannot make the schema {SCHEMA}: {error.diag.message_primary}; let this role create schemas in this "
            "database, or use another role or database"
        ) from error
    try:
        install(connection, log)
        yield
    except BaseException as end:
        with held():
            if left := _clear_away(connection, stays=stays):
                end.add_note(left)
        raise
    with held():
        if left := _clear_away(connection, stays=stays):
            _news.warning(left)


def clear_left(connection: Connection) -> bool:
    """Drop the schema that a dead run left in a database; False when there is none.

    Raises:
        InfrastructureError: the schema is not ours, a run is using the database, or a lock blocks the drop.
    """
    if comment_on_schema(connection, OURS) is None:
        return False
    take_database(connection)
    end_left_sessions(connection)
    drop(connection)
    return True


def _refuse_read_only(connection: Connection, log: Log) -> None:
    """Refuse a server that takes no writes.

    Raises:
        InfrastructureError: the server is a standby, or its sessions are read-only.
        UsageError: the log's own settings make sessions read-only.
    """
    row = connection.execute(
        "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool, source FROM pg_settings "
        "WHERE name = 'default_transaction_read_only'"
    ).fetchone()
    standby, read_only, source = row or (False, False, "")
    if standby:
        raise InfrastructureError("cannot write to this PostgreSQL: it is a standby; connect to its primary")
    if not read_only:
        return
    if "default_transaction_read_only" in log.settings:
        raise UsageError(f"the log {log.name}: log.toml: settings: nothing can be appended when sessions are read-only")
    raise InfrastructureError(
        "cannot write to this PostgreSQL: its sessions are read-only, because default_transaction_read_only is on "
        f"(set by: {source}); switch it off, or use a server, a role or a database that takes writes"
    )


def end_left_sessions(connection: Connection) -> None:
    """End the sessions of workers and the prepared transactions that a dead run left in this database. The caller must
    hold DATABASE_IN_USE."""
    condition: LiteralString = "application_name ~ '^bench [0-9]+ ' AND NOT starts_with(application_name, %s)"
    terminate_where(connection, condition, f"{our_name(connection)} ")
    open_transactions.end_left(connection)


def _clear_away(connection: Connection, *, stays: bool) -> str:
    """Drop the schema, whatever became of the run and of its connection.

    Returns a sentence about what is left and how to remove it; "" when nothing is left.
    """
    with suppress(psycopg.Error), limited(connection, LOCK_SECONDS):
        connection.execute("SELECT 1")
    ours = our_name(connection)
    try:
        if not (connection.broken or connection.closed):
            with limited(connection, CLEAR_SECONDS):
                _end_sessions(connection, ours)
                drop(connection)
        elif stays:
            with _connected_again(conninfo_of(connection)) as second, limited(second, CLEAR_SECONDS):
                take_database(second)
                _end_sessions(second, ours)
                drop(second)
    except (psycopg.Error, InfrastructureError) as error:
        reason = " ".join((in_words(error) if isinstance(error, psycopg.Error) else str(error)).split())
        return (
            f"the schema {SCHEMA} is left in the database ({reason}); `bench clean --dsn URL` or the next run there "
            "removes it"
        )
    return ""


@contextmanager
def _connected_again(conninfo: str) -> Iterator[Connection]:
    """Connect to a server that was lost, if it returns within RETURN_SECONDS.

    Raises:
        InfrastructureError: the server does not return.
    """
    deadline = time.monotonic() + RETURN_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                again = stack.enter_context(connected(conninfo, CONNECT_AGAIN_SECONDS))
            except InfrastructureError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                break
        yield again


def _end_sessions(connection: Connection, ours: str) -> None:
    """End the workers' sessions of a run that is over, and what it left prepared if its session was lost: they would
    hold locks."""
    terminate_where(connection, "starts_with(application_name, %s)", f"{ours} ")
    open_transactions.end_left(connection)


def make_schema(connection: Connection, comment: str, name: str = SCHEMA) -> None:
    """Make a schema, without a name the one that a log is installed into; the comment on it identifies its owner."""
    schema = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(comment)))


def comment_on_schema(connection: Connection, start: str = "", name: str = SCHEMA) -> str | None:
    """The comment on a schema; None when there is no such schema.

    Raises:
        InfrastructureError: the comment does not begin with `start`, so the schema is not ours.
    """
    row = connection.execute(
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = %s", [name]
    ).fetchone()
    if row is None:
        return None
    if not row[0].startswith(start):
        perhaps = " (perhaps `bench start` did)" if name == SCHEMA else ""
        raise InfrastructureError(
            f"cannot use the schema {name} of this database: no run made it{perhaps}; "
            "use another database, or rename that schema"
        )
    return str(row[0])


def install(connection: Connection, log: Log) -> None:
    """Run a log's SQL in the schema and check that everything that the contract asks for is there.

    Raises:
        UsageError: the SQL fails or breaks the contract; the message has the line of schema.sql, where it is known.
    """
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
    connection.execute("SET client_min_messages TO warning")
    try:
        connection.execute(log.schema_sql.encode())
    except psycopg.Error as error:
        if connection.broken:
            raise
        line = _line(connection, error, log.schema_sql)
        raise UsageError(f"the log {log.name}: schema.sql{line}: {error.diag.message_primary or error}") from error
    check_contract(connection, log)


def _line(connection: Connection, error: psycopg.Error, script: str) -> str:
    """The line of an error in a script that was rolled back, like ", line 7"; "" when it is not known.

    Only parse errors have a position in the script: a position within a function's body refers to another text. For all
    other errors it is the line where the statement begins.
    """
    position = error.diag.statement_position
    place = _statement_at_fault(connection, error, script) if position is None else int(position) - 1
    return "" if place is None else f", line {script.count(chr(10), 0, place) + 1}"


def _statement_at_fault(connection: Connection, error: psycopg.Error, script: str) -> int | None:
    """Offset in a script of the statement that failed: the script is run once more, and the server has a result for
    each statement before the failing one. None when the script ends in another way this time."""
    if error.sqlstate is None:
        return None
    connection.rollback()
    connection.pgconn.send_query(script.encode())
    *before, last = connection.wait(execute(connection.pgconn))
    again = psycopg.errors.error_from_result(last, encoding=connection.info.encoding)
    begin = starts(script)
    same = (again.sqlstate, again.diag.message_primary) == (error.sqlstate, error.diag.message_primary)
    return begin[len(before)] if same and len(before) < len(begin) else None


def _check_server(connection: Connection, log: Log) -> None:
    major = connection.info.server_version // 10000
    if major < log.postgres:
        raise UsageError(f"the log {log.name} needs PostgreSQL {log.postgres} or later: this server is {major}")
    for name, has in settings_without_effect(connection, log.settings).items():
        raise UsageError(
            f"the log {log.name} needs {name}={log.settings[name]}: this server has {has}; change that setting there"
        )


def drop(connection: Connection) -> None:
    """Drop the schema, after its log has removed what it has outside of the schema, and the schema of a run's pauses
    with it. Waits LOCK_SECONDS for locks.

    Raises:
        InfrastructureError: another session's lock blocks the drop; the message names the session.
        psycopg.Error: the server refused.
    """
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
    with lock_timeout(connection):
        _uninstall(connection)
        pauses: LiteralString = "SELECT starts_with(obj_description(to_regnamespace(%s), 'pg_namespace'), %s)"
        names = [SCHEMA, PAUSES] if scalar(connection, pauses, [PAUSES, OURS]) else [SCHEMA]
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.SQL(", ").join(map(sql.Identifier, names))))


def _uninstall(connection: Connection) -> None:
    """Call the log's own uninstall_log, if there is one. Its failure is logged as a warning, and raises nothing."""
    if not scalar(connection, "SELECT to_regprocedure('uninstall_log()') IS NOT NULL"):
        return
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{LOCK_SECONDS}s"])
    try:
        connection.execute("SELECT uninstall_log()")
    except psycopg.Error as error:
        if connection.broken:
            raise
        _news.warning(
            "the log's uninstall_log() failed: %s; what the log has outside of its schema is left there",
            in_words(error),
        )
    finally:
        if not connection.broken:
            connection.execute("SET statement_timeout TO 0")
