"""Stops sessions inside statements, without a change to what the log's SQL does.

The functions of `bench.postgres.shadows` stop their session before and after they call the real one: it sends a notice,
then waits for an advisory lock that the explorer holds.

Triggers stop sessions around statements that write, and functions are replaced by ones that also stop between their
statements (`between.py`).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.explore.between import with_stops
from bench.postgres import shadows, stops
from bench.postgres.connection import Connection
from bench.postgres.stops import COMMENT, STOPS
from bench.statements import SCHEMA

_news = logging.getLogger("bench")

SEARCH_PATH = f"{STOPS}, pg_catalog, {SCHEMA}"
NOTICE = "bench_explore: "
"""A notice that begins like this says where its session stops."""
SLEEP = "in pg_sleep()"
"""A session that calls pg_sleep waits for others, or lets time pass: in every scope it stops instead of sleeping."""
LOCKS = 1_652_912_496
"""The explorer's own advisory locks have this as their first number; the second is twice the session's number, or one
more."""

_STOPS = f"""
    CREATE SCHEMA {STOPS};
    COMMENT ON SCHEMA {STOPS} IS '{COMMENT}';
    CREATE TABLE {STOPS}.elsewhere (n int);

    CREATE FUNCTION {STOPS}.stop(place text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        session int := nullif(pg_catalog.current_setting('{STOPS}.session', true), '')::int;
    BEGIN
        IF session IS NULL OR (pg_catalog.current_setting('{STOPS}.inside') = 'off' AND place <> '{SLEEP}') THEN
            RETURN;
        END IF;
        RAISE NOTICE '{NOTICE}%', place;
        PERFORM pg_catalog.pg_advisory_lock_shared({LOCKS}, 2 * session),
                pg_catalog.pg_advisory_unlock_shared({LOCKS}, 2 * session);
        PERFORM pg_catalog.pg_advisory_lock_shared({LOCKS}, 2 * session + 1),
                pg_catalog.pg_advisory_unlock_shared({LOCKS}, 2 * session + 1);
    END $$;

    -- Release a session that has stopped or is about to stop. The second lock holds it before its next stop until the
    -- explorer has the first lock again.
    CREATE FUNCTION {STOPS}.let_go(session int, pid int) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        WHILE NOT pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(pid)) LOOP
        END LOOP;
        PERFORM pg_catalog.pg_advisory_lock({LOCKS}, 2 * session + 1),
                pg_catalog.pg_advisory_unlock({LOCKS}, 2 * session),
                pg_catalog.pg_advisory_lock({LOCKS}, 2 * session),
                pg_catalog.pg_advisory_unlock({LOCKS}, 2 * session + 1);
    END $$;

    CREATE FUNCTION {STOPS}.pg_sleep(seconds double precision) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        PERFORM {STOPS}.stop('{SLEEP}');
    END $$;

    CREATE FUNCTION {STOPS}.next_statement(place text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        PERFORM {STOPS}.stop('before ' || place);
        RETURN true;
    END $$;

    CREATE FUNCTION {STOPS}.statement() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM {STOPS}.stop(lower(TG_WHEN) || ' the ' || lower(TG_OP) || ' on ' || TG_TABLE_NAME);
        RETURN NULL;
    END $$;
"""

_STATEMENTS = f"""
    SELECT format('CREATE TRIGGER "%%s{STOPS}_%%s" %%s INSERT OR UPDATE OR DELETE ON %%s FOR EACH STATEMENT '
                  'EXECUTE FUNCTION {STOPS}.statement()', mark, lower(at), at, oid::regclass), ''
    FROM pg_class, (VALUES ('!', 'BEFORE'), ('~', 'AFTER')) AS sides (mark, at)
    WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"""
"""The first trigger of a statement and the last one."""

_FUNCTIONS = """
    SELECT proname, lanname, prosrc, pg_get_functiondef(p.oid)
    FROM pg_proc p JOIN pg_language l ON l.oid = prolang
    WHERE pronamespace = %(schema)s::regnamespace AND prokind IN ('f', 'p') AND lanname IN ('sql', 'plpgsql')
      AND prosqlbody IS NULL AND provolatile = 'v'"""
"""The functions whose statements each have a snapshot of their own; all statements of another function have that of the
statement that calls it."""


@contextmanager
def installed(connection: Connection, log: Log) -> Iterator[str]:
    """Create the functions that stop, rebind the installed log's column defaults, views and parsed function bodies to
    them, and put stops around and between the statements of the log. Only sessions with SEARCH_PATH use them. Yields
    the SQL that was run.

    Raises:
        InfrastructureError: the schema exists and no exploration made it.
    """
    if stops.is_there(connection):
        stops.drop(connection)
    script = _STOPS + shadows.functions_sql(log, STOPS)
    connection.execute(script.encode())
    functions = connection.execute(_FUNCTIONS.encode(), {"schema": SCHEMA}).fetchall()
    try:
        yield f"{script}\n{_rebind(connection, log)}"
    finally:
        if not connection.broken:
            try:
                for *_, definition in functions:  # the log may call them when it is removed
                    connection.execute(definition.encode())
                stops.drop(connection)
            except (InfrastructureError, psycopg.Error) as error:
                _news.warning(
                    "the schema %s is left in the database (%s); `bench clean --dsn URL` or the next exploration there "
                    "removes it",
                    STOPS,
                    error,
                )


def _rebind(connection: Connection, log: Log) -> str:
    """Rebind the log to the functions that stop, and make sessions stop before and after each statement that writes to
    a table, after an identity column has drawn its number, and between the statements of functions; returns the SQL.
    """
    connection.execute(f"SET search_path TO {SEARCH_PATH}".encode())
    statements = shadows.rebind(connection, log, STOPS)
    for trigger, _ in connection.execute(_STATEMENTS.encode(), {"schema": SCHEMA}).fetchall():
        connection.execute(trigger.encode())
        statements.append(trigger)
    statements += _separate(connection)
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
    return "".join(
        f"{statement};\n"
        for statement in (f"SET search_path TO {SEARCH_PATH}", *statements, f"SET search_path TO {SCHEMA}")
    )


def _separate(connection: Connection) -> Iterator[str]:
    """Replace functions by ones that also stop between their statements; yields the SQL. A function that PostgreSQL
    does not accept with these stops stays as it is.
    """
    for name, language, source, definition in connection.execute(_FUNCTIONS.encode(), {"schema": SCHEMA}).fetchall():
        stopping = with_stops(name, language, source)
        if stopping != source:
            before, _, after = definition.rpartition(source)
            statement = f"{before}{stopping}{after}".rstrip()
            with suppress(psycopg.Error):
                connection.execute(statement.encode())
                yield statement


def out_of_reach(connection: Connection, log: Log) -> list[str]:
    """The functions of the installed log inside which sessions cannot be stopped, with the reason."""
    rows = [
        (name, f"{reason}, so that sessions stop only between its statements" if reason == shadows.OWN_PATH else reason)
        for name, reason in shadows.out_of_reach(connection, log)
    ]
    functions = connection.execute(_FUNCTIONS.encode(), {"schema": SCHEMA}).fetchall()
    whole = [
        (f"{name}()", "PostgreSQL does not accept it with stops between its statements")
        for name, language, source, _ in functions
        if f"{STOPS}." not in source and with_stops(name, language, source) != source
    ]
    return [f"{name}: {reason}" for name, reason in [*rows, *whole]]
