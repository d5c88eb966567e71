"""What a transaction that somebody leaves open is seen to do to a log."""

from pathlib import Path

from bench import eventlog
from bench.logs import open_transactions
from bench.paths import SQL
from bench.postgres.connection import Connection
from tests.conftest import write_log

WAITS_FOR_ANYBODY = """
CREATE OR REPLACE FUNCTION open_writers() RETURNS text[] LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_stat_clear_snapshot();
    RETURN (SELECT coalesce(array_agg(pid || '/' || xact_start), '{}') FROM pg_stat_activity
            WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend');
END $$;
"""


def test_a_log_that_waits_at_a_hole_for_anybody_is_seen_to_wait(connection: Connection, tmp_path: Path) -> None:
    base = SQL / "gap-wait"
    folder = write_log(tmp_path / "anybody", (base / "schema.sql").read_text() + WAITS_FOR_ANYBODY)
    (folder / "log.toml").write_text((base / "log.toml").read_text())
    found = open_transactions.probe(eventlog.load(str(folder)), connection, connection.info.dsn, "test")
    held = {each.blocker for each in found if each.delivered_meanwhile < each.appended}
    # A prepared transaction has no session.
    assert held == {"in this log", "in another table", "in another database", "read-only"}
    assert all(each.delivered_afterwards == each.appended for each in found)
