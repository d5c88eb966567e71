"""The bigserial log on a real Postgres: each promise of its SQL functions."""

import json
import threading
from collections.abc import Callable

import psycopg
import pytest

from bench.postgres.connection import Connection
from tests.conftest import wait_until

Another = Callable[[], Connection]


def etags(connection: Connection, call: str) -> list[int]:
    return [row[0] for row in connection.execute(f"SELECT etag FROM {call}".encode())]


def fill(connection: Connection, count: int) -> None:
    connection.execute("SELECT log_event(%s::json)", [json.dumps([{"n": n} for n in range(count)])])


def test_one_event_is_appended_and_its_row_comes_back(log: Connection) -> None:
    row = log.execute("""SELECT etag, ctime, payload FROM log_event('{"event": "payload"}')""").fetchone()
    assert row is not None
    assert (row[0], row[2]) == (1, {"event": "payload"})


@pytest.mark.parametrize("name", ["log_event", "log_events"])
def test_each_element_of_an_array_is_an_event_in_its_order(log: Connection, name: str) -> None:
    rows = log.execute(f"SELECT etag, payload FROM {name}('[1, \"x\", null, [2], {{}}]')".encode()).fetchall()
    assert rows == [(1, 1), (2, "x"), (3, None), (4, [2]), (5, {})]
    assert log.execute("SELECT payload::text FROM events_log ORDER BY etag").fetchall()[2] == ("null",)


def test_an_empty_array_appends_nothing(log: Connection) -> None:
    assert log.execute("SELECT * FROM log_event('[]')").fetchall() == []


def test_an_event_that_is_null_is_a_clear_error(log: Connection) -> None:
    with pytest.raises(psycopg.errors.NullValueNotAllowed, match="log_event: the event must not be NULL"):
        log.execute("SELECT log_event(NULL)")


def test_the_seeds_own_insert_works(log: Connection) -> None:
    log.execute(
        """INSERT INTO "bench"."events_log" ("payload")
           SELECT json_build_object('v', "t") AS "payload" FROM generate_series(1, 1000) AS "t" """
    )
    assert etags(log, "get_event(998, 10)") == [999, 1000]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("get_event()", [1]),
        ("get_event(3)", [4]),
        ("get_event(3, 2)", [4, 5]),
        ("get_event(3, 0)", []),
        ("get_event(10)", []),
        ("get_event(NULL)", [1]),
        ("get_event(NULL, 3)", [1, 2, 3]),
        ("get_event(NULL::bigint)", [1]),
        ("get_event(8, NULL)", [9, 10]),
        ("get_event(-5, 2)", [1, 2]),
    ],
)
def test_reading_yields_what_follows(log: Connection, call: str, expected: list[int]) -> None:
    fill(log, 10)
    assert etags(log, call) == expected


@pytest.mark.parametrize("call", ["get_event(1, -1)", "get_event('someone', -1)"])
def test_a_negative_limit_is_a_clear_error(log: Connection, call: str) -> None:
    fill(log, 3)
    with pytest.raises(psycopg.Error, match="LIMIT must not be negative"):
        etags(log, call)
    assert etags(log, "get_event('someone')") == [1]


def test_reading_by_etag_is_inlined_to_an_index_scan(log: Connection) -> None:
    fill(log, 10_000)
    log.execute("ANALYZE events_log")
    plan = "\n".join(row[0] for row in log.execute("EXPLAIN SELECT * FROM get_event(5000, 10)"))
    assert "Index Scan using events_log_pkey" in plan
    assert "Function Scan" not in plan


def test_a_client_gets_what_it_has_not_had(log: Connection) -> None:
    fill(log, 5)
    assert etags(log, "get_event('a')") == [1]
    assert etags(log, "get_event('a', 3)") == [2, 3, 4]
    assert etags(log, "get_event('b', 2)") == [1, 2]
    assert etags(log, "get_event('a', 3)") == [5]
    assert etags(log, "get_event('a', 3)") == []
    fill(log, 1)
    assert etags(log, "get_event('a', 3)") == [6]


def test_a_rollback_takes_a_clients_position_back(log: Connection) -> None:
    fill(log, 5)
    assert etags(log, "get_event('a', 2)") == [1, 2]
    with log.transaction(force_rollback=True):
        assert etags(log, "get_event('a', 2)") == [3, 4]
        assert etags(log, "get_event('a', 2)") == [5]
    assert etags(log, "get_event('a', 2)") == [3, 4]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
def test_a_second_session_of_a_client_waits_for_the_first(
    log: Connection, another: Another, ending: str, *, known: bool
) -> None:
    fill(log, 6)
    if known:
        assert etags(log, "get_event('a', 2)") == [1, 2]
    first, second = another(), another()
    first.execute("BEGIN")
    taken = etags(first, "get_event('a', 2)")
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(etags(second, "get_event('a', 2)")))
    thread.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    wait_until(lambda: log.execute(waiting, [second.info.backend_pid]).fetchone() == (1,))
    assert thread.is_alive()
    first.execute(ending.encode())
    thread.join()
    start = taken[0] + (2 if ending == "COMMIT" else 0)
    assert got == [start, start + 1]


def test_many_sessions_of_one_client_share_each_event_once(log: Connection, another: Another) -> None:
    fill(log, 600)
    got: list[int] = []

    def take(session: Connection) -> None:
        while page := etags(session, "get_event('a', 7)"):
            got.extend(page)

    threads = [threading.Thread(target=take, args=(another(),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(1, 601))


def test_clients_do_not_wait_for_one_another(log: Connection, another: Another) -> None:
    fill(log, 3)
    first, second = another(), another()
    second.execute("SET lock_timeout = '1s'")
    first.execute("BEGIN")
    assert etags(first, "get_event('a', 2)") == [1, 2]
    assert etags(second, "get_event('b', 2)") == [1, 2]
    first.execute("ROLLBACK")


def test_a_repeatable_reader_is_refused_rather_than_given_an_event_twice(log: Connection, another: Another) -> None:
    fill(log, 4)
    assert etags(log, "get_event('a')") == [1]
    late = another()
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    late.execute("SELECT 1 FROM events_log")
    assert etags(log, "get_event('a')") == [2]
    with pytest.raises(psycopg.errors.SerializationFailure):
        etags(late, "get_event('a')")
