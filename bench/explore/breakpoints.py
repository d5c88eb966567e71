"""Stops sessions inside statements, without a change to what the log's SQL does.

A schema before pg_catalog in the search path has functions with the names and types of those of PostgreSQL that logs
use to draw numbers, take locks and look at transactions. Each stops its session before and after it calls the real one:
it sends a notice, then waits for an advisory lock that the explorer holds. Each is STABLE or VOLATILE, and STRICT, as
the real one is: a STABLE function sees the snapshot of the statement that calls it, and so must the function that it
calls. Only parallel plans are not made with these functions, because a parallel worker is another session.

Triggers stop sessions around statements that write, and functions are replaced by ones that also stop between their
statements (`between.py`).
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.explore.between import with_stops
from bench.postgres import stops
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

NAMES = (
    "nextval",
    "currval",
    "lastval",
    "setval",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_current_snapshot",
    "pg_snapshot_xmin",
    "pg_backend_pid",
    "txid_current",
    "txid_current_snapshot",
    "pg_notify",
)
"""The functions that stop before and, but for those in ONCE, after. `pg_sleep` stops instead of sleeping."""
ONCE = (
    "pg_current_snapshot",
    "pg_current_xact_id_if_assigned",
    "pg_snapshot_xmin",
    "pg_backend_pid",
    "txid_current_snapshot",
    "statement_timestamp",
    "transaction_timestamp",
    "now",
)
"""These functions stop only before the call: their result is fixed before they are called, and they change nothing."""
CLOCKS = ("clock_timestamp", "statement_timestamp", "transaction_timestamp", "now")
"""These functions also stop when times are part of a log's cursor; otherwise no reader's position depends on a time."""

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

    -- An identity column calls no function for its number: a row trigger comes next.
    CREATE FUNCTION {STOPS}.number_drawn() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM {STOPS}.stop('after the number for ' || TG_TABLE_NAME);
        RETURN NEW;
    END $$;

    DO $do$
    DECLARE
        original record;
    BEGIN
        FOR original IN
            SELECT proname AS name, pg_get_function_identity_arguments(p.oid) AS arguments,
                   pg_get_function_result(p.oid) AS result,
                   CASE provolatile WHEN 's' THEN 'STABLE' WHEN 'i' THEN 'IMMUTABLE' ELSE 'VOLATILE' END AS volatility,
                   CASE WHEN proisstrict THEN 'STRICT' ELSE '' END AS strictness,
                   (SELECT coalesce(string_agg('$' || n, ', '), '') FROM generate_series(1, pronargs) AS n) AS numbers,
                   CASE WHEN proargtypes[0] = 'regclass'::regtype THEN '$1::text' ELSE '''''' END AS subject
            FROM pg_proc p
            WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (ARRAY[:names]) AND NOT proretset
        LOOP
            EXECUTE format($template$
                CREATE FUNCTION {STOPS}.%1$I(%2$s) RETURNS %3$s LANGUAGE plpgsql %4$s %5$s AS $body$
                DECLARE
                    value %8$s;
                BEGIN
                    PERFORM {STOPS}.stop('before %1$s(' || %7$s || ')');
                    %9$s pg_catalog.%1$I(%6$s);
                    %11$s
                    RETURN %10$s;
                END $body$ $template$,
                original.name, original.arguments, original.result, original.volatility, original.strictness,
                original.numbers, original.subject,
                CASE original.result WHEN 'void' THEN 'text' ELSE original.result END,
                CASE original.result WHEN 'void' THEN 'PERFORM' ELSE 'value :=' END,
                CASE original.result WHEN 'void' THEN '' ELSE 'value' END,
                CASE WHEN original.name = ANY (ARRAY[:once]) THEN '' ELSE format(
                    $$PERFORM {STOPS}.stop('after %1$s(' || %2$s || ')');$$, original.name, original.subject) END);
        END LOOP;
    END $do$;
"""

_DEFAULTS = """
    SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET DEFAULT ', adrelid::regclass, attname),
           pg_get_expr(adbin, adrelid)
    FROM pg_attrdef d
    JOIN pg_attribute a ON a.attrelid = adrelid AND a.attnum = adnum
    JOIN pg_class c ON c.oid = adrelid
    WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p') AND attgenerated = ''"""
_VIEWS = """
    SELECT format('CREATE OR REPLACE VIEW %%s AS ', oid::regclass), pg_get_viewdef(oid)
    FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind = 'v'"""
_BODIES = """
    SELECT '', pg_get_functiondef(oid)
    FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace AND prosqlbody IS NOT NULL"""

_IDENTITIES = f"""
    SELECT DISTINCT format('CREATE TRIGGER "!{STOPS}" BEFORE INSERT ON %%s FOR EACH ROW '
                           'EXECUTE FUNCTION {STOPS}.number_drawn()', attrelid::regclass), ''
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND attidentity <> '' AND NOT attisdropped"""
"""Triggers fire in the order of their names: this one before those of the log."""

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

_OUT_OF_REACH = """
    SELECT p.oid::regprocedure::text,
           CASE WHEN lanname NOT IN ('sql', 'plpgsql') THEN format('it is written in %%s', lanname)
                WHEN proconfig::text ~ 'search_path' THEN
                    'it has a search_path of its own, so that sessions stop only between its statements'
                ELSE 'it names functions of pg_catalog with their schema' END
    FROM pg_proc p JOIN pg_language l ON l.oid = prolang
    WHERE pronamespace = %(schema)s::regnamespace
      AND (lanname NOT IN ('sql', 'plpgsql') OR proconfig::text ~ 'search_path'
           OR prosrc ~ ('pg_catalog\\.(' || array_to_string(%(names)s::text[], '|') || ')\\M'))
    ORDER BY 1"""


def names(log: Log) -> list[str]:
    """The functions at which sessions of this log stop, except pg_sleep."""
    has_times = any(kind.startswith(("timestamp", "time", "date")) for kind in log.cursor.values())
    return [*NAMES, *(CLOCKS if has_times else ())]


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
    script = _STOPS.replace(":names", _literals(names(log))).replace(":once", _literals(ONCE))
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


def _literals(texts: Iterable[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


def _rebind(connection: Connection, log: Log) -> str:
    """Rebind defaults, views and functions with a parsed body to the functions that stop, and make sessions stop before
    and after each statement that writes to a table, after an identity column has drawn its number, and between the
    statements of functions; returns the SQL.

    With the functions that stop ahead in the search path, PostgreSQL prints pg_catalog's functions in definitions with
    their schema, so that calls bound to them can be recognised.
    """
    connection.execute(f"SET search_path TO {SEARCH_PATH}".encode())
    statements: list[str] = []
    for query in (_DEFAULTS, _VIEWS, _BODIES):
        for command, definition in connection.execute(query.encode(), {"schema": SCHEMA}).fetchall():
            unbound = definition
            for name in (*names(log), "pg_sleep"):
                unbound = unbound.replace(f"pg_catalog.{name}(", f"{name}(")
            if unbound != definition:
                statements.append(f"{command}{unbound}".rstrip().removesuffix(";"))
    for query in (_IDENTITIES, _STATEMENTS):
        statements += [trigger for trigger, _ in connection.execute(query.encode(), {"schema": SCHEMA})]
    for statement in statements:
        connection.execute(statement.encode())
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
    rows = connection.execute(_OUT_OF_REACH.encode(), {"schema": SCHEMA, "names": names(log)}).fetchall()
    functions = connection.execute(_FUNCTIONS.encode(), {"schema": SCHEMA}).fetchall()
    whole = [
        (f"{name}()", "PostgreSQL does not accept it with stops between its statements")
        for name, language, source, _ in functions
        if f"{STOPS}." not in source and with_stops(name, language, source) != source
    ]
    return [f"{name}: {reason}" for name, reason in [*rows, *whole]]
