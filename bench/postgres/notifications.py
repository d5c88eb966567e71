"""Lets a log's writers notify its readers, where the log's own SQL does not."""

from psycopg import sql

from bench.errors import UsageError
from bench.eventlog import Log
from bench.postgres.connection import Connection
from bench.statements import CHANNEL, SCHEMA

_TABLES = """
    WITH RECURSIVE parts (oid) AS (
        SELECT to_regclass(%(table)s)::oid
        UNION
        SELECT more.oid
        FROM parts
        CROSS JOIN LATERAL (
            SELECT inhrelid FROM pg_inherits WHERE inhparent = parts.oid
            UNION ALL
            SELECT d.refobjid
            FROM pg_rewrite r
            JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
            WHERE r.ev_class = parts.oid AND d.refclassid = 'pg_class'::regclass
        ) AS more (oid)
    )
    SELECT relname FROM parts JOIN pg_class USING (oid)
    WHERE relkind IN ('r', 'p') AND relnamespace = to_regnamespace(%(schema)s)
    ORDER BY relname"""
"""The tables into which the events of a log may be inserted: its table with its partitions, or those that its view
reads. A statement's trigger fires for the table only that the statement names."""


def add(connection: Connection, log: Log) -> None:
    """Make each transaction that inserts into a log's tables notify `CHANNEL` at its commit; nothing where the log
    notifies a channel of its own. search_path must be set to the log's schema.

    Raises:
        UsageError: the log's view reads no table of its schema.
    """
    if log.notify:
        return
    tables = [name for (name,) in connection.execute(_TABLES, {"table": log.table, "schema": SCHEMA})]
    if not tables:
        raise UsageError(
            f"--wake: the log {log.name} has no table that could notify readers: let its own SQL notify them, and name "
            "the channel in log.toml: notify"
        )
    name = sql.Identifier(CHANNEL)
    connection.execute(
        sql.SQL(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NOTIFY {name}; RETURN NULL; END $$"
        ).format(name=name)
    )
    for table in tables:
        connection.execute(
            sql.SQL(
                "CREATE TRIGGER {name} AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
            ).format(name=name, table=sql.Identifier(table))
        )
