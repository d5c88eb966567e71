"""The orchestrator's own queries and maintenance, outside of every measured phase."""

import statistics
import time
from contextlib import suppress
from typing import LiteralString

import psycopg

from bench.errors import UsageError
from bench.judge.evidence import Holder
from bench.postgres.connection import Connection, our_name, scalar
from bench.postgres.locks import lock_timeout
from bench.records import EXAMPLES, SESSION
from bench.statements import SCHEMA
from bench.worker import server

_RESERVED_CONNECTIONS = 5

FSYNCS = 20

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
        SELECT pid, virtualtransaction, array_agg(transactionid::text) AS ids,
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
        FROM pg_prepared_xacts p LEFT JOIN locks l ON l.pid IS NULL AND p.transaction::text = ANY (l.ids)
    )
    SELECT pid, datname, application, state, extract(epoch FROM clock_timestamp() - since)::float8, wrote, wrote_here
    FROM open
    WHERE state = 'prepared' OR since IS NULL OR since <= clock_timestamp() - make_interval(secs => %(seconds)s)
    ORDER BY wrote_here DESC, wrote DESC, since NULLS LAST
    LIMIT %(most)s"""


def holders(connection: Connection, seconds: float) -> list[Holder] | None:
    """Transactions that have been open for `seconds` or longer, in any database, except for this run's own. Prepared
    transactions are included whatever their age, because it is not known when they began.

    A log may hold events back because of them: transactions that wrote to the log come first, then those that have a
    transaction id. The server may hide the state of another role's session; such a session is listed if its locks show
    that it has an open transaction. None where the server does not answer the query.
    """
    ours = f"{our_name(connection)} "
    try:
        rows = connection.execute(_HOLDERS, {"schema": SCHEMA, "ours": ours, "seconds": seconds, "most": EXAMPLES})
    except (psycopg.ProgrammingError, psycopg.NotSupportedError):
        return None
    return [Holder(*row) for row in rows.fetchall()]


def check_connections(connection: Connection, workers: int) -> None:
    """Refuse more workers than the server has connections for.

    Raises:
        UsageError: the server allows fewer connections.
    """
    allowed = int(scalar(connection, "SELECT current_setting('max_connections')::int"))
    if workers + _RESERVED_CONNECTIONS > allowed:
        raise UsageError(
            f"{workers} workers need {workers + _RESERVED_CONNECTIONS} connections, "
            f"and this server allows {allowed}; raise its max_connections, or start fewer workers"
        )


def settle(connection: Connection) -> None:
    """Bring the log into the state that autovacuum and the checkpointer would bring it to sooner or later.

    So each read measures reading, and not the clearing up after the appends that would happen to run into it.

    Raises:
        InfrastructureError: another session's lock blocks the vacuum; the message names the session.
    """
    tables = connection.execute(
        "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables WHERE schemaname = %s", [SCHEMA]
    ).fetchall()
    with lock_timeout(connection):
        for (table,) in tables:
            connection.execute(f"VACUUM (ANALYZE) {table}")
    with suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute("CHECKPOINT")


def server_version(connection: Connection) -> str:
    """The server's version, like 18.6."""
    return str(connection.info.parameter_status("server_version")).split()[0]


def settings_that_differ(connection: Connection) -> dict[str, str]:
    """Each setting that is not at PostgreSQL's default, except for paths, log output and locale."""
    return dict(connection.execute(_SETTINGS_THAT_DIFFER).fetchall())


def wal_position(connection: Connection) -> int | None:
    """Bytes of WAL written since the cluster was made; None on a server that does not answer the query."""
    with suppress(psycopg.Error):
        return int(scalar(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
    return None


def fsync_ms(connection: Connection) -> float | None:
    """Median milliseconds that a commit takes that writes one small record; None where this session may not write one.

    The commits take the same way as a log's commits: through Postgres, to its disk, wherever that is.
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


def session_settings(connection: Connection) -> dict[str, str]:
    """The settings and the server of this session, which workers' sessions must share."""
    settings = {name: str(scalar(connection, "SELECT current_setting(%s)", [name])) for name in SESSION}
    return {"server": server(connection), **settings}
