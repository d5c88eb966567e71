"""The schema that an exploration makes next to the log's schema, and its removal."""

from psycopg import sql

from bench.errors import InfrastructureError
from bench.postgres.barrier import take_database
from bench.postgres.connection import Connection
from bench.postgres.install import end_left_sessions
from bench.postgres.locks import lock_timeout

STOPS = "bench_explore"
"""The schema of the functions that stop sessions, and the start of the names of prepared transactions."""
COMMENT = "eventlog-bench: dropped after the exploration"


def is_there(connection: Connection) -> bool:
    """Whether the database has the schema of an exploration.

    Raises:
        InfrastructureError: no exploration made the schema of that name.
    """
    row = connection.execute(
        "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", [STOPS]
    ).fetchone()
    if row and row[0] != COMMENT:
        raise InfrastructureError(
            f"cannot use the schema {STOPS} of this database: no exploration made it; name another database, or rename "
            "that schema"
        )
    return row is not None


def drop(connection: Connection) -> None:
    """Drop the schema, and roll back the prepared transactions of explored sessions. Waits LOCK_SECONDS for locks.

    Raises:
        InfrastructureError: another session's lock blocks the drop; the message names the session.
        psycopg.Error: the server refused.
    """
    prepared = connection.execute(
        "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, %s)", [f"{STOPS}_"]
    )
    for (gid,) in prepared.fetchall():
        connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))
    with lock_timeout(connection):
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(STOPS)))


def clear_left(connection: Connection) -> bool:
    """Drop the schema that a dead exploration left in a database; False when there is none.

    Raises:
        InfrastructureError: no exploration made the schema, a run or an exploration is using the database, or a lock
            blocks the drop.
        psycopg.Error: the server refused.
    """
    if not is_there(connection):
        return False
    take_database(connection)
    end_left_sessions(connection)
    drop(connection)
    return True
