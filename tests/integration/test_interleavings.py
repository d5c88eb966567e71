"""Every log that ships, stepped by hand: two writers and a reader, in the orders that lose events."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg import sql

from bench import eventlog
from bench.errors import UsageError
from bench.eventlog import Log
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.postgres.stepping import Cursor, read_page
from bench.statements import SCHEMA

LOGS = eventlog.shipped()
SERIAL = {"table-lock", "advisory-lock", "counter", "partitioned"}
WAITS_FOR_WRITERS = {"lock-drain", "gap-wait", "xid-horizon"}
PARTITIONED = [name for name in LOGS if eventlog.load(name).group == "partitions"]
GENERATING = [name for name in LOGS if "generate" in eventlog.load(name).append]
DEADLINE_SECONDS = 20


@dataclass
class Bystander:
    """A reader that goes from page to page, and sessions that write."""

    log: Log
    open_one: Callable[[], Connection]
    reader: Connection
    cursor: Cursor = ()
    delivered: list[int] = field(default_factory=list)

    def reads(self) -> list[int]:
        """What reading on until an empty page delivers now, as the numbers in the events; a read that waits for a
        writer delivers nothing.
        """
        new: list[int] = []
        while True:
            try:
                rows, self.cursor = read_page(self.reader, self.log, 2, self.cursor)
            except psycopg.errors.QueryCanceled:
                break
            new += [row[2]["n"] for row in rows]
            if not rows:
                break
        self.delivered += new
        return new

    def gets(self, *numbers: int) -> None:
        """Read on until all of these are delivered."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not set(numbers) <= set(self.delivered):
            self.reads()
            assert time.monotonic() < deadline, f"delivered {self.delivered}, expected {numbers}"

    def writer(self) -> Connection:
        session = self.open_one()
        session.execute("SET lock_timeout = '400ms'")
        return session


def append(session: Connection, *numbers: int, producer: int = 0) -> None:
    events = json.dumps([{"producer": producer, "n": number} for number in numbers])
    session.execute("SELECT count(*) FROM log_event(%s)", [events])


@pytest.fixture(params=LOGS)
def stepped(request: pytest.FixtureRequest, logs: str) -> Iterator[Bystander]:
    which = eventlog.load(request.param)
    opened: list[Connection] = []

    def open_one() -> Connection:
        session = psycopg.connect(logs, options=f"-c search_path={SCHEMA}", autocommit=True)
        opened.append(session)
        return session

    with connected(logs) as connection, install.installed(connection, which, "test"):
        reader = open_one()
        reader.execute("SET statement_timeout = '400ms'")
        yield Bystander(which, open_one, reader)
        for session in opened:
            session.close()


@contextmanager
def transaction(session: Connection, end: str) -> Iterator[None]:
    session.execute("BEGIN")
    yield
    session.execute(end.encode())


def test_events_come_once_and_in_order(stepped: Bystander) -> None:
    writer = stepped.writer()
    append(writer, 1)
    append(writer, 2, 3, 4)
    append(writer)
    append(writer, 5)
    stepped.gets(1, 2, 3, 4, 5)
    assert stepped.reads() == []
    assert sorted(stepped.delivered) == [1, 2, 3, 4, 5]
    if stepped.log.promises.order != "none":
        assert stepped.delivered == [1, 2, 3, 4, 5]


def test_a_log_can_be_read_again_when_it_promises_that(stepped: Bystander) -> None:
    append(stepped.writer(), 1, 2, 3)
    stepped.gets(1, 2, 3)
    stepped.cursor = ()
    assert sorted(stepped.reads()) == ([1, 2, 3] if stepped.log.promises.replay else [])


def test_an_event_that_commits_after_a_later_one(stepped: Bystander) -> None:
    first, second = stepped.writer(), stepped.writer()
    with transaction(first, "COMMIT"):
        append(first, 1)
        if stepped.log.name in SERIAL:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                append(second, 2)
        else:
            append(second, 2)
        meanwhile = stepped.reads()
        assert meanwhile == ([] if stepped.log.name in SERIAL | WAITS_FOR_WRITERS else [2])
    if stepped.log.name in SERIAL:
        append(second, 2)
    if stepped.log.name == "bigserial":
        assert stepped.reads() == []  # 1 is skipped, for ever
    else:
        stepped.gets(1, 2)
    assert len(stepped.delivered) == len(set(stepped.delivered))


@pytest.mark.parametrize("stepped", PARTITIONED, indirect=True)
def test_partitions_do_not_wait_for_one_another(stepped: Bystander) -> None:
    rows = stepped.reader.execute("SELECT p, part_of(json_build_object('producer', p)) FROM generate_series(0, 9) AS p")
    parts: dict[int, int] = dict(rows.fetchall())
    other = next(producer for producer in parts if parts[producer] != parts[0])
    first, second = stepped.writer(), stepped.writer()
    with transaction(first, "COMMIT"):
        append(first, 1, producer=0)
        append(second, 2, producer=other)
        assert stepped.reads() == [2]
    stepped.gets(1)


def test_a_hole_that_a_rollback_leaves_stops_nobody(stepped: Bystander) -> None:
    first, second = stepped.writer(), stepped.writer()
    append(first, 0)
    with transaction(first, "ROLLBACK"):
        append(first, 1)
        if stepped.log.name not in SERIAL:
            append(second, 2)
        stepped.reads()
    if stepped.log.name in SERIAL:
        append(second, 2)
    append(second, 3)
    stepped.gets(0, 2, 3)
    assert 1 not in stepped.delivered
    if stepped.log.promises.gap_free:
        stepped.cursor = ()
        rows, _ = read_page(stepped.reader, stepped.log, 10)
        assert [row[0] for row in rows] == [1, 2, 3]


def test_a_transaction_that_was_there_first_and_writes_second(stepped: Bystander) -> None:
    first, second = stepped.writer(), stepped.writer()
    with transaction(first, "COMMIT"):
        first.execute("SELECT pg_current_xact_id()")
        append(second, 1)
        if stepped.log.name == "xid-horizon":
            assert stepped.reads() == []
        else:
            stepped.gets(1)
        append(first, 2)
    stepped.gets(1, 2)


@pytest.mark.parametrize("stepped", GENERATING, indirect=True)
def test_a_transaction_that_drew_its_etag_before_its_id(stepped: Bystander) -> None:
    """The seed's insert draws the etag before the transaction has an id."""
    first, second = stepped.writer(), stepped.writer()
    with transaction(first, "COMMIT"):
        first.execute("""INSERT INTO events_log (payload) VALUES ('{"n": 1}'), ('{"n": 2}')""")
        if stepped.log.name not in SERIAL:
            append(second, 3)
        stepped.reads()
    if stepped.log.name in SERIAL:
        append(second, 3)
    if stepped.log.name == "bigserial":
        assert stepped.reads() == []  # 1 and 2 are skipped
    else:
        stepped.gets(1, 2, 3)
        assert sorted(stepped.delivered) == [1, 2, 3]


@pytest.mark.parametrize("where", ["another table", "another database", "read-only"])
def test_what_others_leave_open(stepped: Bystander, server: str, where: str) -> None:
    other = psycopg.connect(server if where == "another database" else stepped.reader.info.dsn, autocommit=True)
    with other:
        other.execute("CREATE TEMP TABLE elsewhere (n int)")
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        if where == "read-only":
            other.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(SCHEMA, stepped.log.table)))
        else:
            other.execute("INSERT INTO elsewhere VALUES (1)")
        append(stepped.writer(), 1)
        if stepped.log.name == "xid-horizon" and where != "read-only":
            assert stepped.reads() == []
        else:
            stepped.gets(1)
        other.execute("ROLLBACK")
        stepped.gets(1)


def test_what_others_commit_hides_nothing(stepped: Bystander) -> None:
    writer, other = stepped.writer(), stepped.writer()
    append(writer, 1)
    stepped.gets(1)
    other.execute("CREATE TABLE elsewhere (n int)")
    for number in range(20):
        other.execute("INSERT INTO elsewhere VALUES (%s)", [number])
        if number % 10 == 5:
            append(writer, number)
    stepped.gets(1, 5, 15)
    assert sorted(stepped.delivered) == [1, 5, 15]


def test_a_writer_that_is_prepared_and_forgotten(stepped: Bystander) -> None:
    first, second = stepped.writer(), stepped.writer()
    name = f"forgotten_{stepped.reader.info.backend_pid}"
    first.execute("BEGIN")
    append(first, 1)
    first.execute(f"PREPARE TRANSACTION '{name}'".encode())
    try:
        if stepped.log.name in SERIAL:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                append(second, 2)
        else:
            append(second, 2)
            meanwhile = stepped.reads()
            assert meanwhile == ([] if stepped.log.name in WAITS_FOR_WRITERS else [2])
    finally:
        first.execute(f"COMMIT PREPARED '{name}'".encode())
    if stepped.log.name == "bigserial":
        assert stepped.reads() == []  # 1 is skipped
    else:
        stepped.gets(1, *([] if stepped.log.name in SERIAL else [2]))


@pytest.mark.parametrize("log", ["lock-drain", "gap-wait"])
def test_a_reader_that_would_see_an_old_snapshot_is_refused(connection: Connection, log: str) -> None:
    with install.installed(connection, eventlog.load(log), "test"):
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(psycopg.errors.RaiseException, match="in READ COMMITTED"):
            connection.execute("SELECT * FROM get_event(0, 1)")
        connection.execute("ROLLBACK")


def test_a_batch_is_whole(stepped: Bystander) -> None:
    """Events of one transaction follow one another when nobody else writes, whatever the size of a page."""
    append(stepped.writer(), *range(11))
    stepped.gets(*range(11))
    assert len(stepped.delivered) == 11


def test_the_slot_of_a_log_goes_with_it(connection: Connection) -> None:
    with install.installed(connection, eventlog.load("logical-slot"), "test"):
        assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM pg_replication_slots").fetchone() == (0,)


def test_a_log_on_a_server_without_its_settings_is_refused(connection: Connection) -> None:
    which = eventlog.load("bigserial").model_copy(update={"settings": {"wal_level": "minimal"}})
    with (
        pytest.raises(UsageError, match="needs wal_level=minimal: this server has logical"),
        install.installed(connection, which, "test"),
    ):
        pass
