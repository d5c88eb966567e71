"""The logs as other programs call them: from Node, psql and psycopg, with parameters that have no type, and by hand."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from bench import eventlog
from bench.paths import SQL
from bench.places.local import postgres as embedded
from bench.postgres.connection import Connection, connected
from bench.postgres.install import installed
from bench.statements import SCHEMA
from tests.conftest import REPOSITORY

PG = "pg@8.23.1"
"""node-postgres."""

EVENTS = 25
PAGE = 10
LARGEST = 2**63 - 1

BY_ETAG = [name for name in eventlog.shipped() if eventlog.load(name).cursor == {"etag": "bigint"}]
NOT_BY_ETAG = [name for name in eventlog.shipped() if name not in BY_ETAG]
WITH_CLIENTS = [name for name in eventlog.shipped() if eventlog.load(name).group in {"turns", "partitions"}]
BOTH = [name for name in WITH_CLIENTS if name in BY_ETAG]

Row = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """What a consumer was given until a page was empty, and the error that ended it before."""

    rows: list[Row]
    error: str | None

    def etags(self) -> list[int]:
        return [int(row["etag"]) for row in self.rows]

    def values(self) -> list[int]:
        return [row["payload"]["value"] for row in self.rows]


class Node:
    """One Node process that reads logs, one after the other."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def read(self, connection: Connection, statement: str, parameters: list[Any], cursor: list[str]) -> Reading:
        """Read a log page by page; the columns `cursor` of the last row become the next page's first parameters."""
        request = {
            "connection": {
                "host": connection.info.host,
                "port": connection.info.port,
                "user": connection.info.user,
                "database": connection.info.dbname,
                "options": f"-c search_path={SCHEMA}",
            },
            "sql": statement,
            "parameters": parameters,
            "cursor": cursor,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return Reading(**json.loads(self._process.stdout.readline()))


@pytest.fixture(scope="module")
def node(npm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    install: list[str | Path] = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, PG]
    subprocess.run(install, check=True, timeout=120)
    with subprocess.Popen(
        ["node", Path(__file__).parent / "consumer.js"],
        env={**os.environ, "NODE_PATH": str(folder / "node_modules")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Node(process)


@pytest.fixture(scope="module")
def database(address: str) -> Iterator[Connection]:
    """One database for all: to drop a log is quicker than to make a database."""
    with connected(address) as connection:
        connection.prepare_threshold = None  # the next log's get_event yields other columns
        yield connection


@pytest.fixture
def filled(database: Connection) -> Iterator[Callable[[str], Connection]]:
    """Installs a log that ships and appends events of several producers, the Nth with etag N and value N."""
    with ExitStack() as stack:

        def fill(name: str) -> Connection:
            stack.enter_context(installed(database, eventlog.load(name), "test"))
            append(database, EVENTS)
            return database

        yield fill


def append(connection: Connection, count: int) -> None:
    events = [{"producer": number % 5, "value": number} for number in range(1, count + 1)]
    connection.execute("SELECT log_event(%s::json)", [json.dumps(events)])


def etags(connection: Connection, call: str, *parameters: str | None) -> list[int]:
    """What a call yields, its parameters $1, $2, .. sent as psycopg sends texts: without a type."""
    with psycopg.RawCursor(connection) as cursor:
        cursor.execute(f"SELECT etag FROM {call}".encode(), parameters)
        return [row[0] for row in cursor]


def clients(connection: Connection) -> set[str]:
    """The clients whose position the database remembers."""
    return {name for (name,) in connection.execute("SELECT name FROM events_client")}


# A consumer in Node.


@pytest.mark.parametrize("name", BY_ETAG)
def test_a_consumer_in_node_that_asks_with_plain_numbers_gets_each_event_once(
    filled: Callable[[str], Connection], node: Node, name: str
) -> None:
    log = filled(name)
    for start in (0, -1, None):
        reading = node.read(log, "SELECT * FROM get_event($1, $2)", [start, PAGE], ["etag"])
        assert reading.error is None
        assert reading.etags() == list(range(1, EVENTS + 1))
        assert sum(reading.values()) == EVENTS * (EVENTS + 1) / 2
    if name in WITH_CLIENTS:
        assert clients(log) == set()


@pytest.mark.parametrize("name", eventlog.shipped())
def test_a_cursor_of_any_kind_can_be_sent_back_from_node(
    filled: Callable[[str], Connection], node: Node, name: str
) -> None:
    cursor = eventlog.load(name).cursor
    # JavaScript's dates have no microseconds.
    columns = [f"{column}::text" if kind == "timestamptz" else column for column, kind in cursor.items()]
    selected = ", ".join(dict.fromkeys(["etag", "payload", *columns]))
    places = ", ".join(f"${number}" for number in range(1, len(cursor) + 2))
    statement = f"SELECT {selected} FROM get_event({places})"
    reading = node.read(filled(name), statement, [*[None] * len(cursor), PAGE], list(cursor))
    assert reading.error is None
    assert sorted(reading.values()) == list(range(1, EVENTS + 1))


@pytest.mark.parametrize("name", NOT_BY_ETAG)
def test_an_etag_alone_is_an_error_in_a_log_that_is_not_read_by_it(
    filled: Callable[[str], Connection], node: Node, name: str
) -> None:
    log = filled(name)
    for etag in (0, 1005, 101112):
        reading = node.read(log, "SELECT * FROM get_event($1, $2)", [etag, PAGE], ["etag"])
        assert reading.rows == []
        assert re.search("does not exist|invalid input syntax|neither a vector of etags nor", reading.error or "")


@pytest.mark.parametrize("name", WITH_CLIENTS)
def test_a_named_client_in_node_moves_on(filled: Callable[[str], Connection], node: Node, name: str) -> None:
    log = filled(name)
    for client in ("client-name", "another"):
        reading = node.read(log, "SELECT * FROM get_event($1, $2)", [client, PAGE], [])
        assert reading.error is None
        assert sorted(reading.etags()) == list(range(1, EVENTS + 1))
    assert clients(log) == {"client-name", "another"}
    assert node.read(log, "SELECT * FROM get_event($1)", ["client-name"], []).rows == []


# psql, since 16.


def psql(connection: Connection, command: str) -> list[str]:
    program = embedded.binaries(None).folder / "psql"
    ran = subprocess.run(
        [program, "-qAt", "-v", "ON_ERROR_STOP=1", connection.info.dsn],
        input=f"SET search_path TO {SCHEMA};\n{command}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize("name", BOTH)
def test_what_psql_binds_reads_by_etag_or_by_name(filled: Callable[[str], Connection], name: str) -> None:
    log = filled(name)
    for _ in range(2):
        assert psql(log, r"SELECT etag FROM get_event($1, $2) \bind 5 2 \g") == ["6", "7"]
        assert psql(log, r"SELECT etag FROM get_event($1) \bind 5 \g") == ["6"]
    assert psql(log, r"SELECT etag FROM get_event($1, $2) \bind 'client-name' 2 \g") == ["1", "2"]
    assert psql(log, r"SELECT etag FROM get_event($1) \bind 'client-name' \g") == ["3"]


def test_what_psql_binds_reads_by_a_vector_or_by_name(filled: Callable[[str], Connection]) -> None:
    log = filled("partitioned")
    for _ in range(2):
        assert len(psql(log, r"SELECT etag FROM get_event($1, $2) \bind '{0,0,0,0,0,0,0,0}' 1000 \g")) == EVENTS
    call = r"SELECT etag FROM get_event($1, $2) \bind 'client-name' 1000 \g"
    yielded = [etag for _ in range(9) for etag in psql(log, call)]  # a page for each of eight partitions
    assert sorted(yielded, key=int) == [str(etag) for etag in range(1, EVENTS + 1)]


# psycopg, which sends texts without a type, and literals.


BY_NUMBER: list[tuple[str, tuple[str | None, ...], list[int]]] = [
    ("get_event($1, $2)", ("5", "2"), [6, 7]),
    ("get_event($1)", ("5",), [6]),
    ("get_event($1, $2)", (None, "2"), [1, 2]),
    ("get_event($1, $2)", ("-5", "2"), [1, 2]),
    ("get_event($1, $2)", ("+5", "2"), [6, 7]),
    ("get_event($1, $2)", (" 5\n", "2"), [6, 7]),
    ("get_event($1, $2)", ("007", "2"), [8, 9]),
    ("get_event($1, $2)", (str(LARGEST), "2"), []),
    ("get_event($1::text, $2)", ("5", "2"), [6, 7]),
    ("get_event($1::varchar, $2)", ("5", "2"), [6, 7]),
    ("get_event($1::bigint, $2)", ("5", "2"), [6, 7]),
    ("get_event($1::int, $2::int)", ("5", "2"), [6, 7]),
    ("get_event($1::smallint, $2::smallint)", ("5", "2"), [6, 7]),
    ("get_event(last_etag => $1, max_events => $2)", ("5", "2"), [6, 7]),
    ("get_event(client => $1, max_events => $2)", ("5", "2"), [6, 7]),
    ("get_event('5', 2)", (), [6, 7]),
    ("get_event('5')", (), [6]),
    ("get_event(5, 2)", (), [6, 7]),
    ("get_event(5)", (), [6]),
    ("get_event(NULL)", (), [1]),
    ("get_event()", (), [1]),
    ("get_event(last_etag => 5)", (), [6]),
]

BY_NAME: list[tuple[str, tuple[str, ...]]] = [
    ("get_event($1, $2)", ("client-name", "2")),
    ("get_event($1::text, $2)", ("client-name", "2")),
    ("get_event($1::varchar, $2)", ("client-name", "2")),
    ("get_event($1::name, $2)", ("client-name", "2")),
    ("get_event(client => $1, max_events => $2)", ("client-name", "2")),
    ("get_event('client-name', 2)", ()),
    ("get_event('client-name', '2')", ()),
    ("get_event(client => 'client-name', max_events => 2)", ()),
]


@pytest.mark.parametrize("name", BOTH)
def test_a_number_reads_by_etag_as_often_as_it_is_asked(filled: Callable[[str], Connection], name: str) -> None:
    log = filled(name)
    for call, parameters, expected in BY_NUMBER:
        assert [etags(log, call, *parameters) for _ in range(2)] == [expected, expected], (call, parameters)
    assert clients(log) == set()


@pytest.mark.parametrize("name", BOTH)
def test_a_name_is_a_client_whose_position_moves(filled: Callable[[str], Connection], name: str) -> None:
    log = filled(name)
    for call, parameters in BY_NAME:
        with log.transaction(force_rollback=True):
            assert [etags(log, call, *parameters) for _ in range(2)] == [[1, 2], [3, 4]], call
            assert etags(log, "get_event('client-name')") == [5]
            assert clients(log) == {"client-name"}


@pytest.fixture(params=WITH_CLIENTS)
def with_clients(filled: Callable[[str], Connection], request: pytest.FixtureRequest) -> Connection:
    return filled(request.param)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.one_of(
        st.integers().map(str),
        st.integers(0, 30).map("{:05d}".format),
        st.integers(0, 30).map("+{} ".format),
        st.floats().map(str),
        st.floats(min_value=1e21, max_value=1e300).map(lambda number: f"{number:.3e}"),
    )
)
@example(str(LARGEST + 1))
@example("")
@example(" ")
@example("-")
@example("5.0")
@example("1e+21")
@example("NaN")
@example("-Infinity")
def test_what_is_written_like_a_number_is_never_a_client(with_clients: Connection, number: str) -> None:
    def outcome(call: str) -> list[int] | type[psycopg.Error]:
        try:
            return etags(with_clients, call, number, "2")
        except psycopg.Error as error:
            return type(error)

    by_etag = outcome("get_event($1::bigint, $2)")
    by_vector = by_etag is psycopg.errors.UndefinedFunction
    assert outcome("get_event($1, $2)") == (psycopg.errors.InvalidParameterValue if by_vector else by_etag)
    assert clients(with_clients) == set()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.from_regex(r"[a-z]+[-_ .:]?[0-9]*|[0-9]+[-_ .:]?[a-z]{2,}[0-9]*|[0-9]+[-:/][0-9]+", fullmatch=True))
@example("2fast")
@example("10.0.0.1")
@example("2026-11-25")
@example("5 to 7")
@example("0x10")
@example("client 1005")
@example("infinite")
@example("O'Hara")
def test_what_is_not_a_number_is_a_client_also_with_digits_in_it(with_clients: Connection, name: str) -> None:
    assume(name not in {"nan", "inf", "infinity"})
    with with_clients.transaction(force_rollback=True):
        assert len(etags(with_clients, "get_event($1, $2)", name, "1")) == 1
        assert clients(with_clients) == {name}


# By hand.


@pytest.mark.parametrize("name", BY_ETAG)
def test_the_calls_of_the_seed_work_in_every_log_that_is_read_by_etag(
    filled: Callable[[str], Connection], name: str
) -> None:
    log = filled(name)
    append(log, 1000)
    assert len(etags(log, "get_event(NULL, 2000)")) == EVENTS + 1000  # the sequencer numbers what is read
    for call, expected in (("get_event()", 1), ("get_event(1005)", 1006)):
        ((row,),) = log.execute(f"SELECT {call}".encode()).fetchall()
        assert re.search(rf"\b{expected}\b", str(row))
    assert etags(log, "get_event(1005, 10)") == list(range(1006, 1016))


@pytest.mark.parametrize("name", NOT_BY_ETAG)
def test_the_first_event_is_there_without_a_parameter(filled: Callable[[str], Connection], name: str) -> None:
    assert etags(filled(name), "get_event()") == [1]


def test_each_statement_by_hand_shows_rows_also_without_types(log: Connection) -> None:
    log.execute("SELECT log_event((SELECT json_agg(json_build_object('v', t)) FROM generate_series(1, 1000) AS t))")
    by_hand = (REPOSITORY / "docs" / "by-hand.md").read_text()
    block = re.search(r"```sql\n(.*?)```", by_hand, re.DOTALL)
    assert block
    for statement in block[1].splitlines():
        expected = 10 if ", 10)" in statement else 3 if "log_event('[" in statement else 1
        assert len(log.execute(statement.encode()).fetchall()) == expected, statement
        call = re.match(r"SELECT (\w+)\((.*)\);", statement)
        assert call
        literals = [text or number for text, number in re.findall(r"'([^']*)'|(\d+)", call[2])]
        places = ", ".join(f"${number}" for number in range(1, len(literals) + 1))
        assert len(etags(log, f"{call[1]}({places})", *literals)) == expected, statement
    etag = re.search(r"`(get_event\('\d+'\))` is `(get_event\(\d+\))`", by_hand)
    assert etag
    assert etags(log, etag[1]) == etags(log, etag[2]) != []


# What a user copies.

GUIDE = (REPOSITORY / "docs" / "make-a-bigserial-log-safe.md").read_text()


def adopted(connection: Connection) -> None:
    """Do what docs/make-a-bigserial-log-safe.md says, with a table, a column and a sequence of other names."""
    named = re.search(r"copy `(open_writers)\(\)` and\s+`(get_event)\(bigint, bigint\)`", GUIDE)
    assert named
    schema = (SQL / "lock-drain" / "schema.sql").read_text()
    functions = [
        re.search(rf"CREATE FUNCTION {named[1]}\(\).*?\$\$;", schema, re.DOTALL),
        re.search(rf"CREATE FUNCTION {named[2]}\(last_etag bigint.*?END \$\$;", schema, re.DOTALL),
    ]
    renamed = "\n".join(function[0] for function in functions if function)
    for ours, theirs in (
        (r"events_log_etag_seq", "orders_number_seq"),
        (r"events_log", "orders"),
        (r"\betag, ctime, payload\b", "number, placed, what"),
        (r"\betag\b", "number"),
    ):
        renamed = re.sub(ours, theirs, renamed)
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(SCHEMA)))
    connection.execute("CREATE TABLE orders (number bigserial PRIMARY KEY, placed timestamp DEFAULT now(), what json)")
    connection.execute(renamed.encode())
    connection.execute("INSERT INTO orders (what) SELECT to_json(n) FROM generate_series(1, %s) AS n", [EVENTS])
    assert connection.execute("SELECT pg_get_serial_sequence('orders', 'number')").fetchone() == (
        f"{SCHEMA}.orders_number_seq",
    )
    cache = re.search(r"`(SELECT seqcache .*?)`", GUIDE)
    assert cache
    assert connection.execute(cache[1].replace("your_seq", "orders_number_seq").encode()).fetchone() == (1,)


def test_the_reader_that_the_guide_proposes_works_from_node(connection: Connection, node: Node) -> None:
    adopted(connection)
    calls = re.search(r"`(SELECT .. WHERE etag > \$1 ORDER BY etag LIMIT \$2)` call `(get_event\(\$1, \$2\))`", GUIDE)
    assert calls
    before = calls[1].replace("..", "* FROM orders").replace("etag", "number")
    for statement in (before, f"SELECT * FROM {calls[2]}"):
        reading = node.read(connection, statement, [0, PAGE], ["number"])
        assert reading.error is None
        assert [int(row["number"]) for row in reading.rows] == list(range(1, EVENTS + 1))


def test_beside_named_clients_the_reader_of_the_guide_works_from_node_with_its_condition_and_not_without(
    connection: Connection, node: Node
) -> None:
    adopted(connection)
    condition = re.search(r"```sql\n(.*?)```", GUIDE, re.DOTALL)
    assert condition
    assert condition[1] in (SQL / "lock-drain" / "schema.sql").read_text()
    for begins_with, expected in (("", 1), (condition[1], EVENTS)):
        connection.execute(
            f"""CREATE OR REPLACE FUNCTION get_event(client text, max_events bigint DEFAULT 1) RETURNS SETOF orders
                LANGUAGE plpgsql AS $$
                BEGIN
                {begins_with}
                RETURN QUERY SELECT * FROM orders ORDER BY number DESC LIMIT 1;
                END $$""".encode()
        )
        reading = node.read(connection, "SELECT * FROM get_event($1, $2)", [0, PAGE], ["number"])
        assert len({row["number"] for row in reading.rows}) == expected
