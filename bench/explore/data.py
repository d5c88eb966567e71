"""Restores a log's data, between two orders, to what it was when the log was installed."""

from dataclasses import dataclass

import psycopg

from bench.explore.sessions import Explorer
from bench.postgres.stops import STOPS
from bench.statements import SCHEMA

VACUUM_EVERY = 200
"""Orders between two vacuums: deleted rows make reading slower."""
_TABLES = f"""
    SELECT oid::regclass::text, oid::text
    FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"""
_SEQUENCES = f"""
    SELECT s.seqrelid::regclass::text, seqcache::text
    FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE relnamespace = '{SCHEMA}'::regnamespace"""
_SLOTS = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"
_ADVANCE = """
    SELECT pg_replication_slot_advance(slot_name, pg_current_wal_flush_lsn())
    FROM pg_replication_slots WHERE database = current_database()"""


LONGER_IDS = """DO $$
DECLARE
    following bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
BEGIN
    FOR n IN following + 1 .. 10 ^ length(following::text) - 1 LOOP
        PERFORM pg_current_xact_id();
        COMMIT;
    END LOOP;
END $$"""
"""Uses up transaction ids, until the next one is the last with its number of digits."""
MOST_IDS = 20_000
"""No more transaction ids than this are used up: that takes a second."""


def can_lengthen_ids(explorer: Explorer) -> bool:
    """Whether few enough transaction ids are left with the present number of digits."""
    ((following,),) = explorer.run("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    return int("1" + "0" * len(following or "")) - int(following or 0) <= MOST_IDS


@dataclass
class Data:
    """The statements that restore a log's data."""

    restore: str
    """The statements for tables and sequences."""
    vacuum: str
    advance: list[str]
    """The statements for replication slots, each in a transaction of its own."""
    caches: bool
    """Sessions cache sequence numbers."""
    orders: int = 0

    def reset(self, explorer: Explorer) -> None:
        """Restore the data. No session may be in a transaction."""
        explorer.run(self.restore)
        for statement in self.advance:
            explorer.run(statement)
        self.orders += 1
        if self.orders % VACUUM_EVERY == 0:
            explorer.run(self.vacuum)


def noted(explorer: Explorer) -> Data:
    """Save the data of a log that was just installed, and return how to restore it.

    Raises:
        psycopg.Error: rows can be neither deleted nor truncated.
    """
    tables = [(str(name), str(oid)) for name, oid in explorer.run(_TABLES)]
    inserts = []
    for name, oid in tables:
        if explorer.run(f"SELECT EXISTS (SELECT FROM {name})::text") == [("true",)]:
            explorer.run(f"CREATE TABLE {STOPS}.kept_{oid} AS TABLE {name}")
            inserts.append(f"INSERT INTO {name} OVERRIDING SYSTEM VALUE TABLE {STOPS}.kept_{oid}")
    sequences = [(str(name), str(cache)) for name, cache in explorer.run(_SEQUENCES)]
    setvals = []
    for name, _ in sequences:
        ((last, called),) = explorer.run(f"SELECT last_value::text, is_called::text FROM {name}")
        setvals.append(f"SELECT setval('{name}', {last}, {called})")
    names = ", ".join(name for name, _ in tables)
    deletes = [f"DELETE FROM {name}" for name, _ in tables]
    try:
        explorer.run("; ".join(deletes))
    except psycopg.Error:  # a foreign key or a trigger forbids it
        deletes = [f"TRUNCATE {names} CASCADE"]
    data = Data(
        "; ".join([*deletes, *inserts, *setvals]) or "SELECT",
        f"VACUUM {names}",
        _advancing(explorer),
        any(cache != "1" for _, cache in sequences),
    )
    data.reset(explorer)
    return data


def _advancing(explorer: Explorer) -> list[str]:
    if not explorer.run(_SLOTS):
        return []
    # Decoding begins at the last record of running transactions that the slot has passed: without new ones it is slow.
    ((has_snapshots,),) = explorer.run("SELECT (to_regproc('pg_log_standby_snapshot') IS NOT NULL)::text")
    return [*(["SELECT pg_log_standby_snapshot()"] if has_snapshots == "true" else []), _ADVANCE]
