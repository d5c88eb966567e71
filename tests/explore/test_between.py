"""Functions get a stop before each statement that touches data, and are otherwise as they were."""

import re

import pytest

from bench.explore.between import with_stops


def stopped(source: str, language: str = "plpgsql") -> list[str]:
    """What follows each stop, up to the end of its line."""
    changed = with_stops("f", language, source)
    stop = re.compile(r"(?:ASSERT|SELECT) bench_explore\.next_statement\('line \d+ of f'\); ")
    assert stop.sub("", changed) == source
    return [piece.splitlines()[0] for piece in stop.split(changed)[1:]]


def test_a_session_stops_between_statements_and_not_before_the_first() -> None:
    source = """
BEGIN
    PERFORM one();
    x := y;
    PERFORM two();
    RETURN x;
END"""
    assert stopped(source) == ["PERFORM two();"]
    assert "'line 5 of f'" in with_stops("f", "plpgsql", source)


def test_the_first_value_of_a_variable_may_come_from_a_query() -> None:
    assert stopped("DECLARE x int := (SELECT 1); BEGIN PERFORM one(); END") == ["PERFORM one(); END"]
    assert stopped("DECLARE x int := 1; BEGIN PERFORM one(); END") == []


def test_branches_and_loops() -> None:
    source = """
DECLARE
    x int;
BEGIN
    PERFORM first();
    IF x = CASE WHEN y THEN 1 ELSE 2 END THEN
        PERFORM in_then();
    ELSIF x > 2 THEN
        NULL;
    ELSE
        PERFORM in_else();
    END IF;
    CASE x WHEN 1 THEN
        PERFORM in_case();
    END CASE;
    WHILE (SELECT true) LOOP
        x := CASE x WHEN 1 THEN two() ELSE 3 END;
    END LOOP;
    <<label>> FOR x IN SELECT 1 LOOP
        PERFORM in_for();
        EXIT label WHEN x > 1;
    END LOOP;
    BEGIN
        PERFORM in_block();
    EXCEPTION WHEN division_by_zero THEN
        PERFORM in_handler();
    END;
    MERGE INTO t USING u ON a = b WHEN MATCHED THEN UPDATE SET c = 1;
END"""
    assert stopped(source) == [
        "PERFORM in_then();",
        "PERFORM in_else();",
        "PERFORM in_case();",
        "WHILE (SELECT true) LOOP",
        "x := CASE x WHEN 1 THEN two() ELSE 3 END;",
        "END LOOP;",
        "PERFORM in_for();",
        "PERFORM in_block();",
        "PERFORM in_handler();",
        "MERGE INTO t USING u ON a = b WHEN MATCHED THEN UPDATE SET c = 1;",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "BEGIN PERFORM one(); END",
        "BEGIN -- PERFORM one(); PERFORM two();\n PERFORM one('; PERFORM two()'); /* ; PERFORM two(); */ END;",
        "BEGIN PERFORM one(); RAISE NOTICE '%', x; END",
    ],
)
def test_nothing_is_added_where_nothing_can_come_between(source: str) -> None:
    assert stopped(source) == []


def test_statements_of_sql() -> None:
    assert stopped("SELECT 1; UPDATE t SET n = ';';\nSELECT 2", "sql") == ["UPDATE t SET n = ';';", "SELECT 2"]
    assert stopped("SELECT 1", "sql") == []
