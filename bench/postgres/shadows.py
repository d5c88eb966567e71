"""Functions that sessions call instead of those of PostgreSQL that logs use to draw numbers, take locks and look at
transactions, without a change to the log's text.

They have the same names and types and are in a schema before pg_catalog in the search path. Each calls the schema's own
`stop(place)` before and after it calls the real function: what happens there is up to whoever made the schema. Each is
STABLE or VOLATILE, and STRICT, as the real one is: a STABLE function sees the snapshot of the statement that calls it,
and so must the function that it calls. Only parallel plans are not made with these functions, because a parallel worker
is another session.
"""

from collections.abc import Iterable

from bench.eventlog import Log
from bench.postgres.connection import Connection
from bench.statements import SCHEMA

OWN_PATH = "it has a search_path of its own"

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
"""The functions that call `stop` before and, but for those in ONCE, after."""
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
"""These functions call `stop` only before the real one: their result is fixed before they are called, and they change
nothing."""
CLOCKS = ("clock_timestamp", "statement_timestamp", "transaction_timestamp", "now")
"""These functions also call `stop` when times are part of a log's cursor; otherwise no reader's position depends on a
time."""

_FUNCTIONS = """
    -- An identity column calls no function for its number: a row trigger comes next.
    CREATE FUNCTION :schema.number_drawn() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM :schema.stop('after the number for ' || TG_TABLE_NAME);
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
                CREATE FUNCTION :schema.%1$I(%2$s) RETURNS %3$s LANGUAGE plpgsql %4$s %5$s AS $body$
                DECLARE
                    value %8$s;
                BEGIN
                    PERFORM :schema.stop('before %1$s(' || %7$s || ')');
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
                    $$PERFORM :schema.stop('after %1$s(' || %2$s || ')');$$, original.name, original.subject) END);
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

_IDENTITIES = """
    SELECT DISTINCT format('CREATE TRIGGER "!:schema" BEFORE INSERT ON %%s FOR EACH ROW '
                           'EXECUTE FUNCTION :schema.number_drawn()', attrelid::regclass), ''
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
    WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
      AND attidentity <> '' AND NOT attisdropped"""
"""Triggers fire in the order of their names: this one before those of the log."""

_OUT_OF_REACH = """
    SELECT p.oid::regprocedure::text,
           CASE WHEN lanname NOT IN ('sql', 'plpgsql') THEN format('it is written in %%s', lanname)
                WHEN proconfig::text ~ 'search_path' THEN %(own_path)s
                ELSE 'it names functions of pg_catalog with their schema' END
    FROM pg_proc p JOIN pg_language l ON l.oid = prolang
    WHERE pronamespace = %(schema)s::regnamespace
      AND (lanname NOT IN ('sql', 'plpgsql') OR proconfig::text ~ 'search_path'
           OR prosrc ~ ('pg_catalog\\.(' || array_to_string(%(names)s::text[], '|') || ')\\M'))
    ORDER BY 1"""


def names(log: Log) -> list[str]:
    """The functions of pg_catalog in whose place sessions of this log call another one."""
    has_times = any(kind.startswith(("timestamp", "time", "date")) for kind in log.cursor.values())
    return [*NAMES, *(CLOCKS if has_times else ())]


def functions_sql(log: Log, schema: str) -> str:
    """The SQL that makes the functions, in a schema that exists and has the function `stop(place text)`."""
    script = _FUNCTIONS.replace(":names", _literals(names(log))).replace(":once", _literals(ONCE))
    return script.replace(":schema", schema)


def _literals(texts: Iterable[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts)


def rebind(connection: Connection, log: Log, schema: str) -> list[str]:
    """Rebind the installed log's column defaults, views and parsed function bodies to the functions in `schema`, and
    have inserts into tables with an identity column call `stop` too; returns the statements. Other function bodies are
    bound when they are called.

    The connection must have `schema` before pg_catalog in its search_path: PostgreSQL then prints pg_catalog's
    functions in definitions with their schema, so that calls bound to them can be recognised.
    """
    statements: list[str] = []
    for query in (_DEFAULTS, _VIEWS, _BODIES):
        for command, definition in connection.execute(query.encode(), {"schema": SCHEMA}).fetchall():
            unbound = definition
            for name in (*names(log), "pg_sleep"):
                unbound = unbound.replace(f"pg_catalog.{name}(", f"{name}(")
            if unbound != definition:
                statements.append(f"{command}{unbound}".rstrip().removesuffix(";"))
    identities = _IDENTITIES.replace(":schema", schema)
    statements += [trigger for trigger, _ in connection.execute(identities.encode(), {"schema": SCHEMA})]
    for statement in statements:
        connection.execute(statement.encode())
    return statements


def out_of_reach(connection: Connection, log: Log) -> list[tuple[str, str]]:
    """The functions of the installed log that call those of pg_catalog all the same, each with the reason."""
    parameters = {"schema": SCHEMA, "names": names(log), "own_path": OWN_PATH}
    return [(name, reason) for name, reason in connection.execute(_OUT_OF_REACH.encode(), parameters)]
