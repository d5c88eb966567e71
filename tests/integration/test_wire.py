"""The hot calls on a real server: what comes back, errors, and a server that goes away."""

import os
import signal
from collections import deque
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import pq

from bench import wire
from bench.postgres.connection import Connection
from bench.statement import Statement, copy_sender, prepare_append, statement_sender
from bench.statements import SCHEMA
from bench.wire import Call, RawSocket, is_unencrypted, packed
from bench.wire_grammar import ROWS, messages


@pytest.fixture
def session(log: Connection) -> Iterator[Connection]:
    """A session as a worker has it."""
    with psycopg.connect(log.info.dsn, autocommit=True, options=f"-c search_path={SCHEMA}") as session:
        session.pgconn.nonblocking = 0
        yield session


def ask(session: Connection, query: str, *parameters: bytes | None) -> tuple[RawSocket, list[bytes]]:
    """Call a query; returns the messages of the answer by their type."""
    line = RawSocket(session)
    call = Call(Statement(session, query).name, [pq.Format.TEXT] * len(parameters))
    line.send(call.message(packed(parameters)))
    line.receive()
    return line, [kind for kind, _, _ in messages(line.buffer, line.rows_end, ROWS)]


def test_rows_come_as_the_server_sends_them(session: Connection) -> None:
    line, kinds = ask(session, "SELECT i FROM generate_series(1, $1::int) AS i", b"70000")
    assert kinds == [b"D"] * 70000
    assert line.tagged == 70000
    assert len(line.buffer) > wire.FIRST_BUFFER_BYTES


def test_no_rows_a_null_and_an_empty_query(session: Connection) -> None:
    assert ask(session, "SELECT $1::text WHERE false", None)[1] == []
    assert ask(session, "SELECT $1::text", None)[1] == [b"D"]
    assert ask(session, "")[1] == []
    assert ask(session, "CREATE TEMP TABLE several_words (i int)")[1] == []


def test_notices_among_rows_are_no_rows(session: Connection, log: Connection) -> None:
    log.execute(
        "CREATE FUNCTION noisy(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hear'; RETURN i; END $$"
    )
    line, kinds = ask(session, "SELECT noisy(i) FROM generate_series(1, 3) AS i")
    assert kinds.count(b"D") == line.tagged == 3
    assert b"N" in kinds


def test_results_of_an_answer_before_are_none_of_this_one(session: Connection) -> None:
    line = RawSocket(session)
    query = "SELECT i FROM generate_series(1, $1::int) AS i"
    call = Call(Statement(session, query).name, [pq.Format.TEXT], times=7)
    for events in (*range(40, -1, -1), 3, 0, 3):
        line.send(call.message(packed([b"%d" % events])))
        line.receive()
        found = line.results()
        assert [told for _, _, told in found] == [events] * 7
        rows = b"".join([line.buffer[start:end] for start, end, _ in found])
        assert [kind for kind, _, _ in messages(rows, len(rows))] == [b"D"] * events * 7


def test_what_looks_like_the_end_of_an_answer_in_a_row_is_none(session: Connection) -> None:
    ending = r"\x5a0000000549"
    line, kinds = ask(session, f"SELECT '{ending}'::bytea FROM generate_series(1, 20000)")
    assert kinds == [b"D"] * 20000
    assert line.tagged == 20000


def test_an_error_is_psycopgs_and_the_line_goes_on(session: Connection) -> None:
    count = prepare_append(session, "SELECT (10 / $1::int)::text", 1)
    assert count(b"5") == 2
    with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
        count(b"0")
    assert count(b"2") == 5


def test_answers_that_are_known_are_told_apart(session: Connection) -> None:
    count = prepare_append(session, "INSERT INTO events_log (payload) SELECT '{}' FROM generate_series(1, $1::int)", 1)
    assert [count(size) for size in (b"1", b"20", b"1", b"3", b"20")] == [1, 20, 1, 3, 20]


def test_copy_goes_out_in_one_message_and_a_broken_one_leaves_the_line_in_order(session: Connection) -> None:
    wrap, count = copy_sender(session, "COPY events_log (payload) FROM STDIN")

    def copied(rows: bytes) -> int:
        return count(wrap(rows))

    assert copied(b'{"a":1}\n{"a":2}\n') == 2
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        copied(b'{"a":1}\nno json\n')
    with pytest.raises(psycopg.errors.UndefinedTable):
        count(copy_sender(session, "COPY no_such_table FROM STDIN").wrap(b"1\n" * 10000))
    assert copied(b"{}\n" * 5000) == 5000
    assert session.execute("SELECT count(*) FROM events_log").fetchone() == (5002,)


def test_libpq_may_speak_between_calls_and_have_long_answers(session: Connection) -> None:
    count = prepare_append(session, "SELECT $1::text", 1)
    assert count(b"7") == 7
    with wire.long_answers(session):
        assert len(session.execute("SELECT repeat('x', 100) FROM generate_series(1, 5000)").fetchall()) == 5000
    assert count(b"8") == 8


def test_a_server_that_ends_the_session_is_an_operational_error(session: Connection, log: Connection) -> None:
    count = prepare_append(session, "SELECT $1::text", 1)
    log.execute("SELECT pg_terminate_backend(%s)", [session.info.backend_pid])
    with pytest.raises(psycopg.OperationalError, match=r"terminat|lost|closed"):
        deque((count(b"1") for _ in range(100_000)), maxlen=0)


def test_a_server_that_dies_is_an_operational_error(session: Connection) -> None:
    line = RawSocket(session)
    call = Call(Statement(session, "SELECT pg_sleep(60)").name, [])
    line.send(call.message(b""))
    os.kill(session.info.backend_pid, signal.SIGTERM)
    with pytest.raises(psycopg.OperationalError):
        line.receive()


def test_where_libpq_encrypts_only_libpq_speaks(session: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_unencrypted(session)
    monkeypatch.setattr("bench.statement.is_unencrypted", lambda _: False)
    wrap, count = statement_sender(session, "SELECT count(*)::text FROM log_event($1::json)")
    assert count(bytearray(wrap(b"[1, 2, 3]"))) == 3
    inserted = prepare_append(
        session, "INSERT INTO events_log (payload) SELECT '{}' FROM generate_series(1, $1::int)", 1
    )
    assert inserted(b"12") == 12
    wrap, count = copy_sender(session, "COPY events_log (payload) FROM STDIN")
    assert count(bytearray(wrap(b"{}\n{}\n"))) == 2
