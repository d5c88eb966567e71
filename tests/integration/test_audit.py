"""What a log's table is found to hold, on a real Postgres: whatever its rows, its columns and its etags are."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice, pairwise

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from bench import eventlog
from bench.errors import InfrastructureError
from bench.judge.ranges import normal
from bench.pairing import MODULUS, hashes, weights
from bench.postgres import audit, history, runs, stored
from bench.postgres.audit import Holdings
from bench.postgres.connection import Connection, scalar
from bench.postgres.contract import table_of
from bench.postgres.stored import stored_pages
from bench.records import EXAMPLES, Range
from bench.statements import Table, drawn_sql
from consumer import reader
from consumer.events import Event

BIGSERIAL = eventlog.load("bigserial")
LOWEST, HIGHEST = -(2**63), 2**63 - 1
NUL = '{"note": "a\\u0000b"}'
ONE_DATABASE = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

NUMBERS: st.SearchStrategy[object] = st.one_of(
    st.integers(0, 5),
    st.integers(-3, 10**30),
    st.sampled_from([1.0, 1e3, 0.5, None, True, "0", "x", [], {}]),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(["a\x00b", "\\", '"seq": 7'])
OTHERS = st.dictionaries(TEXTS, NUMBERS | TEXTS, max_size=2)
WHOLE = st.builds(
    lambda producer, seq, others: json.dumps({**others, "producer": producer, "seq": seq, "value": 1}),
    NUMBERS, NUMBERS, OTHERS,
)  # fmt: skip
ODD = st.sampled_from(
    [
        "null", "[]", "5", '"x"', "{}", '{"note": "a\\u0000b"}', '{"a\\u0000b": 1}', '{"note": "\\ud800"}',
        '{"producer": 1, "seq": 2, "value": 2, "note": "\\u0000"}', '{"producer":1,"seq":3,"value":3,"x":"\\ud800"}',
        '{"producer": 1, "producer": 2, "seq": 4, "value": 4}', '{"pro\\u0064ucer": 3, "seq": 5, "value": 5}',
        '\n{\t"seq" : 6,\n "value": 6, "producer": 1}', '{"producer": 1, "seq": 1e3, "value": 1}',
        "[" * 3000 + "]" * 3000, '{"producer": 1, "seq": 7, "value": 7, "deep": ' + "[" * 3000 + "]" * 3000 + "}",
    ]
)  # fmt: skip
PAYLOADS = st.lists(WHOLE | ODD, max_size=8)


def as_read(payload: str) -> tuple[int, int] | None:
    """The event that a consumer takes a payload for."""
    try:
        event = msgspec.json.decode(payload, type=Event)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return event.producer, event.seq


@given(payloads=PAYLOADS)
@ONE_DATABASE
def test_each_row_is_the_event_that_a_consumer_takes_it_for(log: Connection, payloads: list[str]) -> None:
    log.execute("TRUNCATE events_log RESTART IDENTITY")
    for payload in payloads:
        log.execute("INSERT INTO events_log (payload) VALUES (%s)", [payload])
    events = [as_read(payload) for payload in payloads]
    holdings = audit.look_through(log, BIGSERIAL)
    assert holdings.ranges == normal({(event[0], event[1], event[1]) for event in events if event})
    assert holdings.foreign == events.count(None)
    assert holdings.foreign_etags == [etag for etag, event in enumerate(events, 1) if not event]


StoredRow = tuple[int | None, str | None]
"""etag and payload."""


def row_by_row(rows: list[StoredRow], bounds: list[int | None]) -> Holdings:
    """The holdings of a table with these rows, without arrays and pages."""
    events = [(etag, as_read_back(payload)) for etag, payload in rows]
    numbered = [(etag, event) for etag, event in events if etag is not None and event]
    foreign = [etag for etag, event in events if event is None]
    etags = [etag for etag, _ in rows if etag is not None]
    return Holdings(
        as_ranges(event for _, event in events if event),
        len(foreign),
        [etag for etag in foreign if etag is not None][:EXAMPLES],
        sum(hashes(etag) * weights(*event) for etag, event in numbered) % MODULUS,
        gaps(etags),
        len(etags) - len(set(etags)),
        [as_ranges(event for etag, event in numbered if bound is not None and etag < bound) for bound in bounds],
    )


def gaps(etags: Iterable[int]) -> list[tuple[int, int]]:
    return [(before + 1, after - 1) for before, after in pairwise(sorted(set(etags))) if after - before > 1]


def as_ranges(events: Iterable[tuple[int, int]]) -> list[Range]:
    return normal({(producer, seq, seq) for producer, seq in events})


def as_read_back(payload: str | None) -> tuple[int, int] | None:
    """The event that an audit takes a payload for: it does not ask for a value."""
    try:
        event = msgspec.json.decode(payload or "", type=stored.Event)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return event.producer, event.seq


HEALTHY = st.builds('{{"producer":{0},"seq":{1},"value":{1}}}'.format, st.integers(0, 1), st.integers(0, 120))
LIKE_HEALTHY = HEALTHY.flatmap(
    lambda text: st.sampled_from(
        [
            text[:-1] + "e1}", text[:-1] + ".0}", text.replace('"seq":', '"seq":-'), text + " ", text[:-1],
            text.replace('"seq"', '"s\\u0065q":7,"seq"'), text[:-1] + ',"s\\u0065q":7}', text[:-1] + ',"seq":7}',
            text.replace("{", '{"deeper":{"seq":7},'), text.replace('"producer"', '"p"'), text.replace(":", ": "),
            text.replace(":1", ":10000000000000000000000"), text.replace('"value"', '"worth"'),
        ]
    )
)  # fmt: skip

STORED = st.lists(
    st.tuples(
        st.none() | st.sampled_from([LOWEST, 0, HIGHEST]) | st.integers(1, 100),
        st.one_of(HEALTHY, HEALTHY, HEALTHY, LIKE_HEALTHY, LIKE_HEALTHY, WHOLE, ODD, st.none()),
    ),
    max_size=40,
)


@pytest.mark.parametrize("rows_per_page", [7, 2000])
@pytest.mark.parametrize("wire", [True, False])
@pytest.mark.parametrize("kind", ["json", "text"])
@given(rows=STORED)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_of_odd_rows_are_read_as_row_by_row(
    log: Connection, kind: str, rows: list[StoredRow], *, wire: bool, rows_per_page: int
) -> None:
    log.execute(f"DROP TABLE IF EXISTS odd CASCADE; CREATE TABLE odd (etag bigint, payload {kind})".encode())
    log.execute("CREATE VIEW odd_view AS SELECT * FROM odd")
    for row in rows.copy():
        try:
            log.execute("INSERT INTO odd VALUES (%s, %s)", row)
        except psycopg.errors.InvalidTextRepresentation:  # no JSON
            rows.remove(row)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "ROWS", rows_per_page)
        if not wire:
            patch.setattr(reader, "is_unencrypted", lambda _: False)
        for table in ("odd", "odd_view"):
            named = BIGSERIAL.model_copy(update={"table": table})
            bounds = [50, None, 50, LOWEST, HIGHEST]
            assert audit.look_through(log, named, bounds) == row_by_row(rows, bounds)


@pytest.mark.parametrize("wire", [True, False])
def test_a_session_is_used_as_before_once_a_look_is_over_or_was_broken_off(
    log: Connection, monkeypatch: pytest.MonkeyPatch, *, wire: bool
) -> None:
    monkeypatch.setattr(stored, "ROWS", 10)
    if not wire:
        monkeypatch.setattr(reader, "is_unencrypted", lambda _: False)
    log.execute("""INSERT INTO events_log (payload) SELECT json_build_object('producer', 1, 'seq', i, 'value', i)
                   FROM generate_series(1, 1000) AS i""")
    query = "SELECT etag, 1::bigint, payload::text FROM events_log"
    for most in (1, 1000):
        with closing(stored_pages(log, query)) as pages:
            assert sum(len(page.seqs) for page in islice(pages, most)) == min(1000, 10 * most)
        assert scalar(log, "SELECT string_agg(payload::text, '') FROM events_log") is not None
    failing = "SELECT etag, 1 / (500 - etag), payload::text FROM events_log"
    with pytest.raises(psycopg.errors.DivisionByZero):
        list(stored_pages(log, failing))
    assert scalar(log, "SELECT count(*) FROM events_log") == 1000
    interrupted = stored_pages(log, query)
    next(interrupted)
    with pytest.raises(KeyboardInterrupt):
        interrupted.throw(KeyboardInterrupt)
    with pytest.raises(psycopg.OperationalError):
        log.execute("SELECT 1")


def test_rows_are_read_in_a_transaction_that_goes_on(log: Connection) -> None:
    with log.transaction():
        for _ in range(2):
            (page,) = stored_pages(log, "SELECT 3::bigint, 1::bigint, '5'::text")
            assert page.first.tolist() == [3]
    assert scalar(log, "SELECT 1") == 1


@contextmanager
def relayed(log: Connection) -> Iterator[str]:
    """A conninfo that leads to the log's database through threads of this process, as a tunnel's does."""

    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as onward:
        onward.connect(f"{log.info.host}/.s.PGSQL.{log.info.port}")

        def accept() -> None:
            local, _ = listener.accept()
            back = threading.Thread(target=pass_on, args=(onward, local), daemon=True)
            back.start()
            pass_on(local, onward)
            back.join()
            local.close()

        relay = threading.Thread(target=accept, daemon=True)
        relay.start()
        yield make_conninfo(
            "", host="127.0.0.1", port=listener.getsockname()[1], user=log.info.user, dbname=log.info.dbname
        )
        relay.join()


def test_rows_come_through_threads_of_this_process(log: Connection) -> None:
    program = f"""
from bench.postgres.connection import connected
from bench.postgres.stored import stored_pages
from tests.integration.test_audit import relayed
with connected({log.info.dsn!r}) as log, relayed(log) as conninfo, connected(conninfo) as connection:
    (page,) = stored_pages(connection, "SELECT 3::bigint, 1::bigint, '5'::text")
    print(page.first)
"""
    # In another process: if one of libpq's calls kept the threads from running, nothing here could end it.
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout == "[3]\n"


@pytest.mark.parametrize("kind", ["json", "jsonb", "text", "varchar"])
def test_payloads_may_be_of_any_kind_whose_text_is_json(log: Connection, kind: str) -> None:
    log.execute(f"ALTER TABLE events_log ALTER payload TYPE {kind} USING payload::text::{kind}".encode())
    for seq in range(3, 10):
        log.execute(f"""INSERT INTO events_log (payload) VALUES ('{{"producer": 1, "seq": {seq}, "value": 0}}')""")
    log.execute("INSERT INTO events_log (payload) VALUES ('5')")
    assert audit.look_through(log, BIGSERIAL)[:3] == ([(1, 3, 9)], 1, [8])


def test_the_events_below_an_etag_are_found(log: Connection) -> None:
    for seq in range(5):
        log.execute(f"""INSERT INTO events_log (payload) VALUES ('{{"producer": 1, "seq": {seq}}}'), ('{NUL}')""")
    holdings = audit.look_through(log, BIGSERIAL, [6, LOWEST])
    assert holdings.ranges == [(1, 0, 4)]
    assert holdings.foreign == 5
    assert holdings.below == [[(1, 0, 2)], []]


def test_events_in_any_order_are_each_counted_once(log: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_RUNS", 5)
    log.execute(
        """INSERT INTO events_log (payload) SELECT json_build_object('producer', p, 'seq', s)
           FROM generate_series(0, 1) p, generate_series(0, 99) s, generate_series(0, s % 2) ORDER BY s * 37 % 101, p"""
    )
    assert audit.look_through(log, BIGSERIAL)[:3] == ([(0, 0, 99), (1, 0, 99)], 0, [])


def test_what_a_table_has_is_found_out(log: Connection) -> None:
    def table(sql: str, name: str) -> Table:
        log.execute(sql.encode())
        return table_of(log, BIGSERIAL.model_copy(update={"table": name}))

    assert table("SELECT 1", "events_log") == Table(ctime=True, xmin=True, unique_etag=True)
    assert table("CREATE VIEW bare AS SELECT etag, payload FROM events_log", "bare") == Table(
        ctime=False, xmin=False, unique_etag=False
    )
    assert table("CREATE VIEW rich AS SELECT *, xmin FROM events_log", "rich") == Table(unique_etag=False)
    assert not table("CREATE VIEW texts AS SELECT etag, ctime::text, xmin::text FROM events_log", "texts").ctime
    assert not table("CREATE TABLE heirs () INHERITS (events_log)", "events_log").unique_etag
    partial = "CREATE TABLE part (etag bigint, ctime timestamptz); CREATE UNIQUE INDEX ON part (etag) WHERE etag > 5"
    assert table(partial, "part") == Table(unique_etag=False)


INSERT = "INSERT INTO events_log (payload) VALUES ('1')"
SUBTRANSACTION = f"DO $$ BEGIN {INSERT}; EXCEPTION WHEN others THEN NULL; END $$"


def drawn(connection: Connection, above: int = LOWEST) -> list[tuple[int, int]]:
    with psycopg.RawCursor(connection) as cursor:
        rows = cursor.execute(drawn_sql(BIGSERIAL).encode(), [above]).fetchall()
    return sorted((int(first), int(last)) for first, last in rows)


def test_a_transaction_knows_the_etags_of_its_subtransactions_and_nobody_elses(
    log: Connection, another: Callable[[], Connection]
) -> None:
    other, open_one = another(), another()
    with log.transaction(force_rollback=True), open_one.transaction(force_rollback=True):
        for session, statement in (
            (log, INSERT), (log, SUBTRANSACTION), (other, INSERT), (other, SUBTRANSACTION), (open_one, INSERT),
            (log, SUBTRANSACTION), (log, "SAVEPOINT a"), (log, INSERT), (log, "RELEASE a"), (other, INSERT),
            (log, "SAVEPOINT b"), (log, INSERT), (open_one, SUBTRANSACTION),
        ):  # fmt: skip
            session.execute(statement.encode())
        assert drawn(log) == [(1, 2), (6, 7), (9, 9)]
        assert drawn(log, above=2) == [(6, 7), (9, 9)]
        assert drawn(open_one) == [(5, 5), (10, 10)]
    assert drawn(log) == []


def test_a_transaction_knows_its_etags_wherever_they_begin(log: Connection) -> None:
    log.execute("ALTER SEQUENCE events_log_etag_seq MINVALUE -9223372036854775808 RESTART WITH -9223372036854775807")
    with log.transaction(force_rollback=True):
        log.execute(INSERT)
        log.execute(SUBTRANSACTION)
        assert drawn(log) == [(LOWEST + 1, LOWEST + 2)]


def test_a_view_that_fails_is_named_where_it_costs_the_verdict(log: Connection) -> None:
    log.execute("CREATE VIEW strict AS SELECT etag, ctime, payload::jsonb AS payload, xmin FROM events_log")
    log.execute("INSERT INTO events_log (payload) VALUES (%s)", [NUL])
    strict = BIGSERIAL.model_copy(update={"table": "strict"})
    with pytest.raises(psycopg.Error, match="unsupported Unicode escape sequence"):
        history.stories(log, strict, table_of(log, strict), [(1, 2)])
    with pytest.raises(InfrastructureError, match=r"cannot audit strict: .*unsupported Unicode escape sequence"):
        audit.look_through(log, strict)


def test_the_size_of_a_log_is_that_of_the_tables_that_its_view_reads(log: Connection) -> None:
    log.execute("DROP TABLE events_log CASCADE; CREATE SCHEMA elsewhere")
    log.execute("CREATE TABLE elsewhere.q (etag int PRIMARY KEY, payload text) PARTITION BY RANGE (etag)")
    log.execute("CREATE TABLE public.part PARTITION OF elsewhere.q FOR VALUES FROM (0) TO (9999)")
    log.execute(
        "CREATE VIEW inner_view AS SELECT * FROM elsewhere.q; CREATE VIEW events_log AS SELECT * FROM inner_view"
    )
    before = audit.log_size(log)
    log.execute("INSERT INTO elsewhere.q SELECT i, 'x' FROM generate_series(1, 5000) i")
    after = audit.log_size(log)
    log.execute("DROP SCHEMA elsewhere CASCADE")
    assert after[0] - before[0] > 5000 * 24
    assert after[1] - before[1] > 5000 * 8
