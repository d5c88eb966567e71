"""Random pauses inside the statements of a run's workers, for `bench run --pause`.

The sessions of workers call the functions of `bench.postgres.shadows`, which pause before and after they call the real
ones. Sessions then meet in orders that are rare at full speed. The log's text stays as it is, and other sessions, such
as the orchestrator's, do not pause.
"""

import random

from bench.eventlog import Log
from bench.postgres import install, shadows
from bench.postgres.connection import Connection
from bench.statements import PAUSES, SCHEMA

SEARCH_PATH = f"{SCHEMA}, {PAUSES}, pg_catalog"
"""The log's schema comes first, so that it stays the one in which unqualified objects are made."""

_STOP = f"""
    -- The nth call in a transaction sleeps with a probability of 1/2 up to the 8th, and of 4/n from there on. So the
    -- number of sleeps grows like the logarithm of the number of calls, and a large batch does not take minutes.
    CREATE FUNCTION {PAUSES}.stop(place text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        low_ms float8 := nullif(pg_catalog.current_setting('{PAUSES}.low_ms', true), '');
        high_ms float8 := nullif(pg_catalog.current_setting('{PAUSES}.high_ms', true), '');
        calls int := coalesce(nullif(pg_catalog.current_setting('{PAUSES}.calls', true), ''), '0')::int + 1;
    BEGIN
        IF high_ms IS NULL THEN
            RETURN;
        END IF;
        PERFORM pg_catalog.set_config('{PAUSES}.calls', calls::text, true);
        IF pg_catalog.random() < 4.0 / greatest(calls, 8) THEN
            PERFORM pg_catalog.pg_sleep((low_ms + (high_ms - low_ms) * pg_catalog.random()) / 1000);
        END IF;
    END $$;
"""


def add(connection: Connection, log: Log, run_id: str) -> None:
    """Make the functions that pause, in a schema next to that of the installed log, and rebind the log to them.
    `install.drop` drops both schemas.

    Raises:
        InfrastructureError: the database has a schema of that name that no run made.
    """
    if install.comment_on_schema(connection, install.OURS, PAUSES) is not None:
        connection.execute(f"DROP SCHEMA {PAUSES} CASCADE".encode())
    install.make_schema(connection, install.OURS + run_id, PAUSES)
    connection.execute(f"{_STOP}{shadows.functions_sql(log, PAUSES)}".encode())
    connection.execute(f"SET search_path TO {SEARCH_PATH}".encode())
    shadows.rebind(connection, log, PAUSES)
    connection.execute(f"SET search_path TO {SCHEMA}".encode())


def session_sql(range_ms: tuple[float, float], seed: int, worker: str) -> str:
    """The SQL with which a worker's session begins to pause for a random time in a range of milliseconds. The sequence
    of its pauses is decided by the run's seed and the worker's name.
    """
    low, high = range_ms
    of_session = random.Random(f"{seed} {worker}").uniform(-1, 1)  # noqa: S311 - for repeating a run, not for secrets
    return (
        f"SET search_path TO {SEARCH_PATH}; SELECT pg_catalog.setseed({of_session}); "
        f"SET {PAUSES}.low_ms TO '{low:.15g}'; SET {PAUSES}.high_ms TO '{high:.15g}'"
    )
