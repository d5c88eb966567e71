"""Writes a counterexample as a script for psql. Its sessions are asynchronous connections of dblink, so that one psql
carries out all of it, step by step. Pure.
"""

from bench.eventlog import Log
from bench.explore.breakpoints import LOCKS, SEARCH_PATH
from bench.explore.carried import Carried, Part
from bench.explore.data import LONGER_IDS
from bench.explore.scope import PAGE_EVENTS, Scope
from bench.postgres.stops import STOPS
from bench.statements import SCHEMA, read_sql, stored_sql

_HELPERS = f"""
CREATE EXTENSION dblink SCHEMA {STOPS};
CREATE TABLE {STOPS}.sessions (name text, number int, pid int);

-- Open a session that stops in {STOPS}.stop.
CREATE FUNCTION {STOPS}.open(name text, number int, inside text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {STOPS}.dblink_connect(name, format(
        'host=%s port=%s dbname=%s user=%s '
        'options=''-c search_path={SEARCH_PATH.replace(" ", "")} -c {STOPS}.session=%s -c {STOPS}.inside=%s '
        '-c plan_cache_mode=force_generic_plan -c enable_seqscan=off''',
        split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database(),
        current_user, number, inside));
    INSERT INTO {STOPS}.sessions
    SELECT name, number, pid FROM {STOPS}.dblink(name, 'SELECT pg_backend_pid()') AS s (pid int);
    PERFORM pg_advisory_lock({LOCKS}, 2 * number);
END $$;

-- Wait until a session is done, stops or waits for another session.
CREATE FUNCTION {STOPS}.look(session text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    others int[];
BEGIN
    LOOP
        IF {STOPS}.dblink_is_busy(session) = 0 THEN
            RETURN session || ' is done';
        END IF;
        others := (SELECT pg_blocking_pids(pid) FROM {STOPS}.sessions WHERE name = session);
        IF pg_backend_pid() = ANY (others) THEN
            RETURN session || ' stops';
        ELSIF others <> '{{}}' THEN
            RETURN session || ' waits for ' ||
                coalesce((SELECT string_agg(name, ', ') FROM {STOPS}.sessions WHERE pid = ANY (others)),
                         'another session');
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION {STOPS}.go_on(session text) RETURNS void LANGUAGE sql AS $$
    SELECT {STOPS}.let_go(number, pid) FROM {STOPS}.sessions WHERE name = session
$$;
"""


def psql_script(log: Log, scope: Scope, carried: Carried, stops: str, title: str) -> str:
    """The script. `stops` is the SQL that creates the functions that stop."""
    names = [program.name for program in scope.programs]
    used = sorted({part.session for part in carried.parts} | {number for number, _ in carried.last_pages})
    needs = [f"-- The server needs {name} = {value}." for name, value in log.settings.items()]
    lines = [
        f"-- {title}",
        "-- To be run by a superuser in a database that has no schema bench, on the server's own machine:",
        "-- psql -X -q -f THIS_FILE",
        *needs,
        r"\set ON_ERROR_STOP on",
        r"\pset footer off",
        "SET client_min_messages TO warning;",
        f"CREATE SCHEMA {SCHEMA};",
        f"SET search_path TO {SCHEMA};",
        "",
        log.schema_sql,
        stops,
        _HELPERS,
        *(
            f"SELECT {STOPS}.open({_literal(names[nth])}, {nth}, {_literal(_on_off(scope))}) \\g /dev/null"
            for nth in used
        ),
    ]
    lines += [rf"\set {_variable(number, nth)} NULL" for number in used for nth in range(len(log.cursor))]
    if scope.longer_ids:
        lines.append(f"{LONGER_IDS};")
    for nth, part in enumerate(carried.parts, 1):
        lines += ["", *_step(log, scope, nth, part, names[part.session])]
    lines += [
        "",
        r"\echo",
        r"\echo All steps are done; readers read on.",
        r"SELECT pg_advisory_unlock_all() \g /dev/null",
    ]
    for number, text in carried.last_pages:
        session = _literal(names[number])
        lines.append(f"\\echo {names[number]}:")
        lines += _shown(log, scope, number, text, f"{STOPS}.dblink({session}, {_sent(log, scope, number, text)})")
    lines += [r"\echo In the table:", f"{stored_sql(log)} ORDER BY 1;", ""]
    lines += [f"SELECT {STOPS}.dblink_disconnect({_literal(names[nth])}) \\g /dev/null" for nth in used]
    if "uninstall_log()" in log.schema_sql:
        lines.append("SELECT uninstall_log();")
    lines.append(f"DROP SCHEMA {STOPS}, {SCHEMA} CASCADE;")
    return "\n".join(lines) + "\n"


def _on_off(scope: Scope) -> str:
    return "on" if scope.inside else "off"


def _step(log: Log, scope: Scope, nth: int, part: Part, name: str) -> list[str]:
    session = _literal(name)
    text = part.text.removeprefix("BEGIN; ")
    lines = []
    if part.begins:
        lines.append(f"\\echo {nth}. {name}: {_one_line(part.text)}")
        if part.text != text:
            lines.append(f"SELECT {STOPS}.dblink_exec({session}, 'BEGIN') \\g /dev/null")
        sent = _sent(log, scope, part.session, text)
        lines.append(f"SELECT {STOPS}.dblink_send_query({session}, {sent}) \\g /dev/null")
    elif part.woken_by is None:
        lines.append(f"\\echo {nth}. {name} goes on")
        lines.append(f"SELECT {STOPS}.go_on({session}) \\g /dev/null")
    else:
        lines.append(f"\\echo {nth}. {name} goes on by itself")
        if part.was_asleep:
            lines.append(f"SELECT {STOPS}.go_on({session}) \\g /dev/null")
    lines.append(f"SELECT {STOPS}.look({session}) AS {_identifier(name)};")
    if part.end in {"done", "fails"}:
        result = f"{STOPS}.dblink_get_result({session}, false)"
        lines += _shown(log, scope, part.session, text, result)
        # The second result is empty; the connection takes no other statement before it is fetched.
        lines.append(f"SELECT * FROM {result} AS t ({_columns(text)}) \\g /dev/null")
    return lines


def _has_cursor(log: Log, scope: Scope, text: str) -> bool:
    return "get_event(" in text and bool(log.cursor) and not scope.client


def _variable(session: int, nth: int) -> str:
    """The psql variable that holds a part of a reader's cursor, as an SQL literal."""
    return f"cursor_{session}_{nth}"


def _sent(log: Log, scope: Scope, session: int, text: str) -> str:
    """A statement as an SQL expression. Parts of a cursor, such as a transaction's id, may differ from one run to the
    next, so they are variables.
    """
    if not _has_cursor(log, scope, text):
        return _quoted(text)
    template = read_sql(log, PAGE_EVENTS)
    for nth in range(len(log.cursor)):
        template = template.replace(f"${nth + 1}::", "%s::")
    values = ", ".join(f":'{_variable(session, nth)}'" for nth in range(len(log.cursor)))
    return f"format({_quoted(template)}, {values})"


def _shown(log: Log, scope: Scope, session: int, text: str, result: str) -> list[str]:
    """Print the result of a statement, and remember a reader's cursor."""
    if not _has_cursor(log, scope, text):
        return [f"SELECT * FROM {result} AS t ({_columns(text)});"]
    lines = [
        f"CREATE TEMP TABLE page AS SELECT * FROM {result} AS t ({_columns(text)});",
        "TABLE page;",
    ]
    for nth, column in enumerate(log.cursor):
        variable = _variable(session, nth)
        rows = f"SELECT {_identifier(column)} FROM page OFFSET greatest((SELECT count(*) FROM page) - 1, 0) LIMIT 1"
        # An empty page leaves the cursor as it is.
        lines.append(f"SELECT coalesce((SELECT quote_literal(({rows}))), :'{variable}') AS {variable} \\gset")
    return [*lines, "DROP TABLE page;"]


def _columns(text: str) -> str:
    """The columns of a statement's result, each as text."""
    if "get_event(" not in text:
        return '"result" text'
    selected = text.removeprefix("SELECT ").partition(" FROM ")[0]
    return ", ".join(f"{_identifier(column)} text" for column in selected.split(", "))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(text: str) -> str:
    return f"$sql${text}$sql$"


def _identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _one_line(text: str) -> str:
    r"""A text quoted for \echo."""
    return "'" + " ".join(text.split()).replace("'", "''") + "'"
