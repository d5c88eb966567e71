"""Scopes are as large as they say."""

from bench import eventlog
from bench.explore.scope import Program, Scope, Statement, scopes


def test_two_writers_with_two_appends_and_three_pages_have_1680_orders() -> None:
    by_name = {scope.name: scope for scope in scopes(eventlog.load("bigserial"), 2, "none")}
    assert by_name["two appends per transaction"].orders == 1680
    assert by_name["two transactions"].orders == 420
    assert by_name["a rollback"].orders == 210
    assert by_name["inside statements"].orders is None
    assert by_name["longer transaction ids"].orders == 1


def test_only_a_log_that_shares_its_events_is_read_by_several_sessions_of_a_client() -> None:
    def clients(name: str) -> list[bool]:
        return [scope.client for scope in scopes(eventlog.load(name), 2, "none") if scope.client]

    assert clients("bigserial") == [True]
    assert clients("xid-horizon") == []


def test_a_bystander_is_in_every_scope_but_that_of_a_client() -> None:
    for scope in scopes(eventlog.load("lock-drain"), 3, "prepared"):
        names = [program.name for program in scope.programs]
        if scope.longer_ids:
            continue
        assert ("bystander" in names) is not scope.client
        assert scope.client or names[:3] == ["writer 1", "writer 2", "writer 3"]


def test_orders_are_counted_by_the_lengths_of_programs() -> None:
    page = Program("reader", (Statement("page"),) * 2, is_reader=True)
    assert Scope("pages", (page, page, page)).orders == 90
