"""Reads the SQL of an installed log: which of its steps are independent of each other?

The answer is derived from words, so it is cautious: a word that is not known to be harmless makes steps depend on each
other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.eventlog import Log
from bench.explore.independence import Append, Independence
from bench.postgres.connection import Connection
from bench.postgres.script import tokens
from bench.postgres.shadows import CLOCKS
from bench.statements import SCHEMA

_PURE = {
    *("coalesce", "nullif", "greatest", "least", "json_typeof", "json_array_elements", "json_build_array"),
    *("json_build_object", "generate_series", "unnest", "array_agg", "count", "min", "max", "sum", "row_number"),
    *("abs", "length", "hashtext"),
}
"""Functions whose result depends on their arguments alone."""
_BEFORE_PARENTHESES = {
    *(
        "in",
        "and",
        "or",
        "not",
        "where",
        "values",
        "array",
        "exists",
        "any",
        "all",
        "over",
        "if",
        "elsif",
        "when",
        "as",
    ),
    *("then", "else", "case", "by", "select", "from", "on", "lateral", "filter", "return", "limit", "query", "using"),
    *("numeric", "varchar", "char", "materialized", "cast"),
}
"""Words before a parenthesis that call nothing."""
_LOOKS = {
    *("update", "delete", "merge", "truncate", "lock", "execute", "copy", "call", "notify", "listen", "create"),
    *("alter", "drop", "set", "share", "conflict", "commit", "rollback", "information_schema", "do", "tablesample"),
    *("xmin", "xmax", "cmin", "cmax", "ctid", "tableoid", "last_value", "current_timestamp", "current_time"),
    *("current_date", "localtime", "localtimestamp", "fetch", "move", "cursor", "open", "diagnostics"),
}
"""Words of statements that lock, change, or look at more than rows."""
_LOUD = {
    *("truncate", "alter", "drop", "create", "cluster", "vacuum", "reindex", "refresh", "execute", "copy", "call"),
    *("commit", "access", "do"),
}
"""Words of statements that others can see before the transaction commits, or that lock out readers."""
_NEW = {"nextval", "pg_current_xact_id", *CLOCKS}
"""Functions that give a row values of its own."""

_FUNCTIONS = """
    SELECT proname, CASE WHEN lanname IN ('sql', 'plpgsql') THEN coalesce(pg_get_function_sqlbody(p.oid), prosrc)
                         ELSE 'do' END
    FROM pg_proc p JOIN pg_language l ON l.oid = prolang
    WHERE pronamespace = %(schema)s::regnamespace
      AND (proname <> 'get_event' OR p.oid = to_regprocedure(%(reader)s))"""
"""Names and bodies; `do`, which is no word of a body, for a function whose body is not understood."""
_RELATIONS = "SELECT relname, relkind FROM pg_class WHERE relnamespace = %(schema)s::regnamespace"
_INSERTS = """
    SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN ours ON ours.oid = adrelid
    UNION ALL SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint JOIN ours ON ours.oid = conrelid
              WHERE conbin IS NOT NULL
    UNION ALL SELECT concat_ws(' ', pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid))
              FROM pg_index JOIN ours ON ours.oid = indrelid
    UNION ALL SELECT proname || CASE WHEN tgqual IS NULL THEN '()' ELSE '() conflict' END
              FROM pg_trigger JOIN ours ON ours.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
              WHERE NOT tgisinternal
    UNION ALL SELECT 'conflict' FROM pg_constraint JOIN ours ON ours.oid = conrelid WHERE contype IN ('f', 'x', 'u')"""
"""The texts that an insert evaluates; `conflict`, which is no word of an expression, where it does more than that."""
_UNUSUAL = """
    SELECT EXISTS (SELECT FROM pg_operator WHERE oprnamespace = %(schema)s::regnamespace)
        OR EXISTS (SELECT FROM pg_type WHERE typnamespace = %(schema)s::regnamespace AND typtype = 'd')
        OR EXISTS (SELECT FROM pg_rewrite JOIN ours ON ours.oid = ev_class)
        OR EXISTS (SELECT FROM ours WHERE relrowsecurity OR relkind NOT IN ('r', 'p'))
        OR EXISTS (SELECT FROM pg_trigger JOIN ours ON ours.oid = tgrelid WHERE tgdeferrable)
        OR EXISTS (SELECT FROM pg_constraint JOIN ours ON ours.oid = conrelid WHERE condeferrable)"""
_OURS = """
    WITH ours AS (
        SELECT oid, relkind, relrowsecurity FROM pg_class
        WHERE relnamespace = %(schema)s::regnamespace AND relkind NOT IN ('i', 'I', 'S', 'c', 't')
    ) """


def independence_of(connection: Connection, log: Log) -> Independence:
    """Derive which steps of a log are independent. The log was installed, and has no stops yet."""
    types = ", ".join([*log.cursor.values(), "bigint"])
    parameters = {"schema": SCHEMA, "reader": f"{SCHEMA}.get_event({types})"}
    if connection.execute((_OURS + _UNUSUAL).encode(), parameters).fetchone() != (False,):
        return Independence()
    functions = connection.execute(_FUNCTIONS.encode(), parameters).fetchall()
    relations: dict[str, str] = dict(connection.execute(_RELATIONS.encode(), parameters).fetchall())
    inserts = [text for (text,) in connection.execute((_OURS + _INSERTS).encode(), parameters)]
    append = _closure(functions, ["log_event()", *inserts])
    page = _closure(functions, ["get_event()"])
    return Independence(_appends(append, relations), _is_page_of_rows(page, relations))


@dataclass(frozen=True)
class _Sql:
    """The words of some SQL, without its quoted texts and comments, in lower case."""

    words: Sequence[str]
    called: frozenset[str]
    """Words before a parenthesis."""
    functions: frozenset[str]
    """The functions of the log among `words`, whose own words are here too."""
    is_plain: bool
    """No identifier is quoted."""


def _closure(functions: Iterable[tuple[str, str]], texts: Iterable[str]) -> _Sql:
    """The words of some texts, and of the functions that they name."""
    words: list[str] = []
    called: set[str] = set()
    named: set[str] = set()
    is_plain = True
    left = list(functions)
    ahead = list(texts)
    while ahead:
        text_tokens = [(text.lower(), is_word) for _, text, is_word in tokens(ahead.pop())]
        for (text, is_word), (following, _) in zip(text_tokens, [*text_tokens, ("", False)][1:], strict=True):
            if is_word:
                words.append(text)
                if following == "(":
                    called.add(text)
            is_plain = is_plain and not text.startswith('"')
        new = [each for each in left if each[0] in words]
        left = [each for each in left if each[0] not in words]
        named |= {name for name, _ in new}
        ahead += [source for _, source in new]
    return _Sql(words, frozenset(called), frozenset(named), is_plain)


def _appends(sql: _Sql, relations: Mapping[str, str]) -> Append:
    """How far appends are seen by others, and see others."""
    words = set(sql.words)
    locks_readers = sql.words.count("lock") > sql.words.count("mode")
    if not sql.is_plain or words & _LOUD or locks_readers or "log_event" not in sql.functions:
        return "loud"
    calls = sql.called - sql.functions - relations.keys() - _PURE - _NEW - _BEFORE_PARENTHESES
    reads = any(
        word in relations and before != "into" for before, word in zip(["", *sql.words], sql.words, strict=False)
    )
    return "quiet" if calls or reads or words & _LOOKS else "blind"


def _is_page_of_rows(sql: _Sql, relations: Mapping[str, str]) -> bool:
    """Whether a page depends only on rows, and changes nothing."""
    words = set(sql.words)
    calls = sql.called - sql.functions - _PURE - _BEFORE_PARENTHESES
    return (
        sql.is_plain
        and "get_event" in sql.functions
        and sql.words.count("get_event") == 1
        and not calls
        and not words & (_LOOKS | {"insert"})
        and not any(word.startswith(("pg_", "txid_")) for word in words)
        and not any(relations.get(word) == "S" for word in words)
    )
