"""Where the statements of a script begin."""

from hypothesis import given
from hypothesis import strategies as st

from bench.eventlog import load, shipped
from bench.postgres.script import starts

PARTS = [
    "SELECT 1", "'it''s; -- /* $$'", '"a;""b"', "E'\\\\\\';'", "$$ ; ' \" -- $a$ $$", "$a$ ; $$ ; $a$", "a$b$c", "$1",
    "(a; (b); c)", "case", "begin", "end", "x", "U&'d\\0061;'", "- 1", "/ 2", "é$é", "1.5",
]  # fmt: skip
ATOMIC = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 3; END"
GAPS = [" ", "\n", " -- it's; \n", " /* ; /* ' */ \n ; */ ", "\t"]
statement = st.one_of(
    st.just(ATOMIC),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map(lambda parts: " ".join(["do", *parts])),
)
gap = st.lists(st.sampled_from(GAPS), min_size=1, max_size=3).map("".join)


@given(st.lists(st.tuples(gap, statement, gap, st.sampled_from([";", ";;", "; -- ;\n;"]))), gap)
def test_statements_are_found_whatever_is_quoted_in_them(pieces: list[tuple[str, str, str, str]], tail: str) -> None:
    script, places = "", []
    for before, text, after, end in pieces:
        places.append(len(script) + len(before))
        script += before + text + after + end
    assert starts(script + tail) == places


def test_the_statements_of_logs_that_ship_begin_with_a_command() -> None:
    commands = {"alter", "comment", "create", "do", "grant", "insert", "revoke", "select", "set"}
    for name in shipped():
        script = load(name).schema_sql
        begun = [script[place:].split(None, 1)[0].lower() for place in starts(script)]
        assert begun, name
        assert set(begun) <= commands, name
