"""The orchestrator's own connection on a real Postgres."""

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from bench import eventlog
from bench.errors import InfrastructureError, UsageError
from bench.postgres import audit, install
from bench.postgres.barrier import START, hold_lock
from bench.postgres.connection import Connection, connected, name_session, our_name
from bench.postgres.server import check_connections, holders, settings_that_differ, settle
from bench.statements import SCHEMA
from tests.conftest import SETTINGS, wait_until, write_log

BIGSERIAL = eventlog.load("bigserial")


def test_the_schema_is_ours_alone_and_gone_afterwards(connection: Connection) -> None:
    connection.execute("CREATE TABLE public.mine AS SELECT 1 AS one")
    with install.installed(connection, BIGSERIAL, "r"):
        assert connection.execute("SELECT count(*) FROM events_log").fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [SCHEMA]).fetchone() == (0,)
    assert connection.execute("SELECT one FROM public.mine").fetchone() == (1,)


def test_a_schema_of_somebody_else_is_not_touched(connection: Connection) -> None:
    connection.execute("CREATE SCHEMA bench CREATE TABLE precious (id int)")
    with pytest.raises(InfrastructureError, match="no run made it"), install.installed(connection, BIGSERIAL, "r"):
        pass
    assert connection.execute("SELECT count(*) FROM bench.precious").fetchone() == (0,)


def test_a_schema_that_an_earlier_run_left_is_replaced(connection: Connection) -> None:
    with install.installed(connection, BIGSERIAL, "first"):
        connection.execute("ALTER SCHEMA bench RENAME TO kept")
        connection.execute("CREATE SCHEMA bench")
    connection.execute("ALTER SCHEMA kept RENAME TO bench")
    with install.installed(connection, BIGSERIAL, "second"):
        assert audit.row_counts(connection, BIGSERIAL) == (0, 0)


def test_two_runs_do_not_share_a_database(connection: Connection) -> None:
    with (
        install.installed(connection, BIGSERIAL, "first"),
        connected(connection.info.dsn) as second,
        pytest.raises(InfrastructureError, match="another run is using it"),
        install.installed(second, BIGSERIAL, "second"),
    ):
        pass


@pytest.mark.parametrize(
    ("schema", "changes", "says"),
    [
        ("SELECT 1;\nCREATE TABEL x ()", {}, "schema.sql, line 2: syntax error"),
        ("CREATE TABLE t ();\nSELECT ';'; -- ;\n\nCREATE TABLE\nt ();\nSELECT 1", {}, "schema.sql, line 4: relation"),
        ("CREATE TABLE u ();\nCOMMIT;\nSELECT 1 / 0", {}, "schema.sql: division by zero"),
        ("SELECT 1", {}, r"does not define log_event\(json\)"),
        (
            BIGSERIAL.schema_sql,
            {"table": '"elsewhere"'},
            "does not make the table elsewhere",
        ),
        (BIGSERIAL.schema_sql, {"postgres": "99"}, "needs PostgreSQL 99"),
        # The server does not say where in schema.sql this is: the line is that where the statement begins.
        ("SELECT 1;\nDO $$ BEGIN\n PERFORM nosuch(); END $$", {}, r"schema\.sql, line 2: function nosuch\(\) does not"),
        ("SELECT 'ä';\nSELECT nosuch()", {}, r"schema\.sql, line 2: function nosuch\(\) does not exist"),
        (
            BIGSERIAL.schema_sql,
            {"etag": '"payload"'},
            r"comparing the etags of events_log \(the column payload\) fails",
        ),
        (
            BIGSERIAL.schema_sql + "ALTER TABLE events_log ALTER payload TYPE bytea USING '';",
            {"cursor": '{ etag = "bigint" }'},
            "get_event must yield payload as json or jsonb",
        ),
        (
            BIGSERIAL.schema_sql
            + "CREATE VIEW v AS SELECT etag, ctime, payload::text::bytea AS payload FROM events_log",
            {"table": '"v"'},
            "v must hold payload as json, jsonb, text, varchar",
        ),
        (
            BIGSERIAL.schema_sql
            + """CREATE VIEW v AS SELECT etag, ctime, payload::jsonb AS payload FROM events_log;
                INSERT INTO events_log (payload) VALUES ('{"note": "a\\u0000b"}')""",
            {"table": '"v"'},
            "reading the rows of v fails: unsupported Unicode escape sequence",
        ),
    ],
)
def test_a_log_that_breaks_the_contract_is_refused_and_leaves_nothing(
    connection: Connection, tmp_path: Path, schema: str, changes: dict[str, str], says: str
) -> None:
    log = eventlog.load(str(write_log(tmp_path, schema, **changes)))
    with pytest.raises(UsageError, match=says), install.installed(connection, log, "r"):
        pass
    assert connection.execute("SELECT to_regnamespace('bench')").fetchone() == (None,)


def test_the_audit_tells_ranges_and_rows_that_are_no_events(log: Connection) -> None:
    log.execute(
        """INSERT INTO events_log (payload)
           SELECT json_build_object('producer', p, 'seq', s) FROM generate_series(0, 1) p, generate_series(0, 99) s
           WHERE (p, s) NOT IN ((0, 0), (1, 50), (1, 51))"""
    )
    log.execute("""INSERT INTO events_log (payload) VALUES ('{"producer": 1}'), ('[1]'), ('null'), ('"s"'),
        ('{"producer": 0, "seq": 7}'), ('{"producer": "x", "seq": 1}')""")
    ranges, foreign, *_ = audit.look_through(log, BIGSERIAL)
    assert ranges == [(0, 1, 99), (1, 0, 49), (1, 52, 99)]
    assert foreign == 5


def test_the_gate_holds_until_it_opens(connection: Connection) -> None:
    with connected(connection.info.dsn) as worker:
        passed = threading.Event()

        def wait() -> None:
            worker.execute("SELECT pg_advisory_lock_shared(%s)", [START])
            passed.set()

        thread = threading.Thread(target=wait)
        with hold_lock(connection, START) as lift:
            thread.start()
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_until(lambda: connection.execute(waiting).fetchone() == (1,))
            assert not passed.is_set()
            lift()
        thread.join()
        assert passed.is_set()


def test_too_many_workers_for_the_server_are_refused(connection: Connection) -> None:
    check_connections(connection, 40)
    with pytest.raises(UsageError, match=r"46 workers need 51 connections.* 50; raise its max_connections"):
        check_connections(connection, 46)


def test_settings_that_differ_are_told_and_no_others(connection: Connection) -> None:
    # initdb writes this down, and it is the default from 15 on only.
    written = {"shared_buffers": "128MB"} if connection.info.server_version < 150000 else {}
    assert settings_that_differ(connection) == SETTINGS | written


def test_a_server_that_lets_nobody_in_is_a_clear_error(server: str) -> None:
    with (
        pytest.raises(InfrastructureError, match='database "nowhere" does not exist'),
        connected(psycopg.conninfo.make_conninfo(server, dbname="nowhere")),
    ):
        pass


def test_a_server_that_goes_away_is_a_clear_error(connection: Connection) -> None:
    def use_a_connection_that_is_cut() -> None:
        with connected(connection.info.dsn) as cut:
            connection.execute("SELECT pg_terminate_backend(%s)", [cut.info.backend_pid])
            cut.execute("SELECT 1")

    with pytest.raises(InfrastructureError, match="lost the connection"):
        use_a_connection_that_is_cut()


def test_a_lock_in_the_way_of_settling_is_named(
    log: Connection, another: Callable[[], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.postgres.locks.LOCK_SECONDS", 0.2)
    holder = another()
    holder.execute("BEGIN; LOCK TABLE events_log IN SHARE MODE")
    with pytest.raises(InfrastructureError, match=f"held by the session pid {holder.info.backend_pid} "):
        settle(log)
    holder.execute("ROLLBACK")
    settle(log)


def test_a_prepared_transaction_in_the_way_is_named_with_what_ends_it(
    log: Connection, another: Callable[[], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.postgres.locks.LOCK_SECONDS", 0.2)
    name = f"somebody's {log.info.backend_pid}"
    cure = sql.SQL("ROLLBACK PREPARED {}").format(name).as_string()
    holder = another()
    holder.execute("BEGIN; INSERT INTO events_log (payload) VALUES ('{}')")
    holder.execute(sql.SQL("PREPARE TRANSACTION {}").format(name))
    try:
        (found,) = (each for each in holders(log, 0) or () if each.application == name)
        assert found.wrote_here
        with pytest.raises(InfrastructureError, match="held by the prepared transaction") as refused:
            install.drop(log)
        assert cure in str(refused.value)
    finally:
        log.execute(cure.encode())


def test_transactions_that_may_hold_events_back_are_listed_with_what_they_did(
    log: Connection, another: Callable[[], Connection], server: str
) -> None:
    log.execute("CREATE VIEW events AS SELECT * FROM events_log")
    writer, reader, worker = another(), another(), another()
    writer.execute("SET application_name TO 'bench psql'")
    reader.execute("SET application_name TO ''")
    name_session(worker, our_name(log, "producer-0"))
    for session in (writer, reader, worker):
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    writer.execute("INSERT INTO events_log (payload) VALUES ('{}')")
    reader.execute("SELECT count(*) FROM events_log")
    worker.execute("SELECT pg_current_xact_id()")
    with psycopg.connect(server, autocommit=True) as elsewhere:
        name = f"held_{log.info.backend_pid}"
        elsewhere.execute("BEGIN")
        elsewhere.execute("SELECT pg_current_xact_id()")
        elsewhere.execute(f"PREPARE TRANSACTION '{name}'".encode())
        try:
            found = holders(log, 0)
            young = holders(log, 3600)
        finally:
            elsewhere.execute(f"ROLLBACK PREPARED '{name}'".encode())
    assert found is not None
    did = {holder.pid or holder.application: (holder.wrote, holder.wrote_here) for holder in found}
    assert did[writer.info.backend_pid] == (True, True)
    assert did[reader.info.backend_pid] == (False, False)
    assert did[name] == (True, False)
    assert worker.info.backend_pid not in did
    assert found[0].pid == writer.info.backend_pid
    assert young is not None
    # It was prepared a moment ago, but nobody knows when it began.
    assert [holder.application for holder in young if holder.application == name] == [name]
    assert writer.info.backend_pid not in {holder.pid for holder in young}
