"""Real answers with asynchronous messages anywhere, in any pieces: a line reads what libpq reads in the same bytes."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import pq, sql

from bench import eventlog
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.statement import Statement
from bench.statements import SCHEMA
from bench.wire import Call, RawSocket, copy_message
from bench.wire_grammar import ROWS, messages
from tests.integration.replay import Libpq, Outcome, line

PAGE = "SELECT etag, ctime, payload FROM get_event($1::bigint, 3)"
PAGE_TYPES = (20, 1114, 114)
LOOKALIKE = r"\x43 0000000d 53454c4543542031 00 5a 00000005 49"
"""CommandComplete and ReadyForQuery, as a value in a row."""


class Recorded(NamedTuple):
    """An answer as the server sent it."""

    messages: list[bytes]
    calls: int
    """How many calls it is for; 0 for COPY."""
    described: bytes
    """The description of its rows, which libpq wants and a line does not ask for."""
    types: Sequence[int] = ()
    """The types of its columns, as a reader of pages knows them."""


QUERIES = {
    "generate": "INSERT INTO events_log (payload) SELECT '{}' FROM generate_series(1, 7)",
    "log_event": """SELECT count(*)::text FROM log_event('[1, 2, 3]')""",
    "page": "SELECT etag, ctime, payload FROM get_event(NULL::bigint, 3)",
    "empty page": "SELECT etag, ctime, payload FROM get_event(1000000, 3)",
    "lookalikes": f"SELECT '{LOOKALIKE}'::bytea FROM generate_series(1, 3)",
    "NULL": "SELECT NULL::text",
    "no rows": "CREATE TEMP TABLE several_words (i int)",
    "error": "SELECT 1 / (i - 2) FROM generate_series(1, 3) AS i",
    "own error": "SELECT failed('AB123')",
    "deferred error": "INSERT INTO fragile VALUES (1)",
}
COPIES = {"copy": b"{}\n{}\n{}\n", "copy error": b"{}\nno json\n"}
READS = {"page", "empty page", "lookalikes", "depth", "empty depth", "depth error"}
NAMES = [*QUERIES, *COPIES, "depth", "empty depth", "depth error", "empty query"]

SCHEMA_SQL = """
    CREATE FUNCTION failed(state text) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'wanted' USING ERRCODE = state; END $$;
    CREATE TABLE fragile (i int);
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'late'; END $$;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON fragile DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION late();
    INSERT INTO events_log (payload) SELECT json_build_object('seq', i) FROM generate_series(1, 5) AS i"""


def asynchronous(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


NOISE = [
    asynchronous(b"S", b"IntervalStyle\0iso_8601\0"),
    asynchronous(b"S", b"search_path\0\0"),
    asynchronous(b"N", b"SWARNING\0VWARNING\0C01000\0MSELECT 7\0\0"),
    asynchronous(b"A", b"\0\0\x43\0" + b"channel\0\0"),
    asynchronous(b"A", b"Z\0\0\0" + b"channel\0" + b"long " * 80 + b"\0"),
]


def told_by(found: list[bytes], start: bytes) -> list[bytes]:
    return [each for each in found if each.startswith(start)]


def ask(session: Connection, call: bytes) -> list[bytes]:
    """Send a call over the session's socket; returns the messages of the answer."""
    with RawSocket(session)._socket as socket:
        socket.sendall(call)
        received = b""
        while not received.endswith((b"Z\0\0\0\5I", b"Z\0\0\0\5T")):
            received += socket.recv(1 << 16)
    return [received[start - 5 : end] for _, start, end in messages(received, len(received))]


def recorded(session: Connection, query: str, calls: int = 1) -> Recorded:
    statement = Statement(session, query)
    described = ask(
        session, b"D" + (6 + len(statement.name)).to_bytes(4, "big") + b"S" + statement.name + b"\0S\0\0\0\4"
    )
    (description,) = told_by(described, b"T") or [b""]
    # Formats: all binary.
    if description:
        head, types = description[:7], statement.types()
        fields = re.findall(rb"(?s)([^\0]*\0.{16})..", description[7:])
        description = head + b"".join(field + b"\0\1" for field in fields)
        assert len(fields) == len(types)
    sent = ask(session, Call(statement.name, [], calls).message(b""))
    return Recorded(sent, calls, description, statement.types() if description else ())


@pytest.fixture(scope="module")
def answers(server: str) -> Iterator[dict[str, Recorded]]:
    """What the session's server answers to each way to append and to read."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE recorded")
        own = psycopg.conninfo.make_conninfo(server, dbname="recorded")
        try:
            with (
                connected(own) as connection,
                install.installed(connection, eventlog.load("bigserial"), "test"),
            ):
                connection.execute(SCHEMA_SQL)
                with psycopg.connect(own, autocommit=True, options=f"-c search_path={SCHEMA}") as session:
                    yield _answers(session)
        finally:
            admin.execute(sql.SQL("DROP DATABASE recorded WITH (FORCE)"))


def _answers(session: Connection) -> dict[str, Recorded]:
    found = {name: recorded(session, query) for name, query in QUERIES.items()}
    for name, rows in COPIES.items():
        found[name] = Recorded(ask(session, copy_message(b"COPY events_log (payload) FROM STDIN", rows)), 0, b"")
    found["depth"] = recorded(session, QUERIES["page"], 3)
    found["empty depth"] = recorded(session, QUERIES["empty page"], 3)
    found["depth error"] = recorded(session, QUERIES["error"], 3)
    found["empty query"] = recorded(session, "")
    return found


@pytest.fixture(scope="module")
def libpq() -> Iterator[Libpq]:
    with tempfile.TemporaryDirectory(prefix="b", dir="/var/tmp") as folder:
        libpq = Libpq(folder)
        yield libpq
        libpq.close()


def noisy(answer: Recorded, noise: Sequence[Sequence[bytes]]) -> tuple[bytes, bytes]:
    """The answer with messages before each of its own and behind the last: as it is sent, and as libpq wants it."""
    sent = wanted = b"".join(noise[0])
    for message, behind in zip(answer.messages, noise[1:], strict=True):
        sent += message + b"".join(behind)
        wanted += message + (answer.described if message.startswith(b"2") else b"") + b"".join(behind)
    return sent, wanted


def pieces(sent: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [sent[start:end] for start, end in pairwise(sorted({0, *cuts, len(sent)}))]


def counted(sent: Sequence[bytes], times: int = 1) -> list[Outcome]:
    """What a producer counts in the same answer to several calls."""
    with line(*[sent] * times) as through:
        count = through.counter()
        found = []
        for _ in range(times):
            try:
                found.append(Outcome(None, number=count(b"call")))
            except psycopg.Error as error:
                found.append(Outcome(type(error), str(error)))
    return found


def paged(sent: Sequence[Sequence[bytes]], calls: int, types: Sequence[int]) -> list[Outcome]:
    """What a reader is given in answers to one call each, or to several."""
    with line(*sent, types=types) as through:
        return [_paged(through, calls) for _ in sent]


def _paged(through: RawSocket, calls: int) -> Outcome:
    through.send(b"call")
    try:
        number = through.receive()
    except psycopg.Error as error:
        return Outcome(type(error), str(error))
    results = through.results() if calls > 1 else [(ROWS, through.rows_end, number)]
    assert len(results) == calls
    rows = b"".join([through.buffer[start:end] for start, end, _ in results])
    kept = [rows[start - 5 : end] for kind, start, end in messages(rows, len(rows)) if kind == b"D"]
    return Outcome(None, "", tuple(kept), number)


def agree(name: str, answer: Recorded, noise: Sequence[Sequence[bytes]], cuts: Sequence[int], libpq: Libpq) -> None:
    sent, wanted = noisy(answer, noise)
    right = libpq.outcome(wanted, answer.calls)
    split = pieces(sent, cuts)
    for found in counted(split, times=2) if name not in READS else ():
        assert (found.error, found.words.split("\n")[0], found.number) == (right.error, right.words, right.number)
    if not answer.calls:
        return
    healthy = b"".join(answer.messages)
    for types in ((), answer.types):
        for found in paged([split, [healthy], split, pieces(healthy, cuts)], answer.calls, types):
            assert (found.error, found.words.split("\n")[0], found.rows) == (right.error, right.words, right.rows)


@settings(max_examples=25)
@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_messages_at_any_border_and_any_split_change_nothing(
    name: str, answers: dict[str, Recorded], libpq: Libpq, data: st.DataObject
) -> None:
    answer = answers[name]
    borders = len(answer.messages) + 1
    noise = data.draw(st.lists(st.lists(st.sampled_from(NOISE), max_size=2), min_size=borders, max_size=borders))
    sent, _ = noisy(answer, noise)
    cuts = data.draw(st.one_of(st.just(range(len(sent))), st.lists(st.integers(1, len(sent) - 1), max_size=6)))
    agree(name, answer, noise, cuts, libpq)


BEHIND = asynchronous(b"E", b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0")


@pytest.mark.parametrize("name", sorted(READS - {"depth error"}))
def test_each_border_and_each_single_split(name: str, answers: dict[str, Recorded]) -> None:
    answer = answers[name]
    healthy = [b"".join(answer.messages)]
    for types in ((), answer.types):
        (right,) = paged([healthy], answer.calls, types)
        for border in range(len(answer.messages) + 1):
            for message in NOISE[:4]:
                sent = b"".join([*answer.messages[:border], message, *answer.messages[border:]])
                splits = [pieces(sent, [cut]) for cut in range(1, len(sent))]
                assert set(paged([healthy, *splits], answer.calls, types)) == {right}


@pytest.mark.parametrize("name", sorted(READS))
def test_nothing_but_the_grammar_is_an_answer(name: str, answers: dict[str, Recorded]) -> None:
    answer = answers[name]
    description = asynchronous(b"T", b"\0\0")
    for border in range(len(answer.messages)):
        for foreign in (description, asynchronous(b"G", b"\0\0\0"), asynchronous(b"s", b""), b"D\0\0\0\2", b"\0" * 9):
            sent = b"".join([*answer.messages[:border], foreign, *answer.messages[border:]])
            (found,) = paged([[sent]], answer.calls, ())
            assert found.error is psycopg.OperationalError
            assert "cannot understand the server's answer" in found.words


def test_a_row_less_than_the_tag_says_is_no_answer(answers: dict[str, Recorded]) -> None:
    found = answers["page"].messages
    (outcome,) = paged([[b"".join(found[:2] + found[3:])]], 1, ())
    assert outcome.error is psycopg.OperationalError
    assert "2 rows came" in outcome.words


@pytest.mark.parametrize("types", [(), PAGE_TYPES])
@pytest.mark.parametrize("state", ["I", "T"])
def test_a_call_that_changes_the_transaction_ends_with_words(
    answers: dict[str, Recorded], types: Sequence[int], state: str
) -> None:
    begun = state == "I"
    sent = b"".join(answers["page"].messages)[:-1] + (b"T" if begun else b"I")
    before = pq.TransactionStatus.IDLE if begun else pq.TransactionStatus.INTRANS
    with line([sent], types=types, state=before) as through:
        through.send(b"call")
        with pytest.raises(psycopg.OperationalError, match="left a transaction open" if begun else "ended the trans"):
            through.receive()


@pytest.mark.parametrize("name", ["generate", "page", "copy", "depth"])
def test_last_words_behind_an_answer_leave_it_whole_and_are_said_next(name: str, answers: dict[str, Recorded]) -> None:
    answer = answers[name]
    sent = b"".join(answer.messages)
    for cut in range(len(sent), len(sent + BEHIND)):
        with line(pieces(sent + BEHIND, [cut]), [b""], types=answer.types) as through:
            through.send(b"call")
            through.receive()
            through.send(b"call")
            with pytest.raises(psycopg.errors.AdminShutdown, match="terminating connection"):
                through.receive()


@pytest.mark.parametrize("name", ["generate", "page", "copy", "depth"])
def test_last_words_within_an_answer_are_the_error(name: str, answers: dict[str, Recorded]) -> None:
    answer = answers[name]
    for border in range(len(answer.messages)):
        sent = b"".join(answer.messages[:border]) + BEHIND
        for cut in range(1, len(sent)):
            (found,) = paged([[*pieces(sent, [cut]), b""]], answer.calls or 1, answer.types)
            assert found.error is psycopg.errors.AdminShutdown


def test_a_word_that_the_server_began_as_it_went_takes_nothing_from_an_answer(answers: dict[str, Recorded]) -> None:
    sent = b"".join(answers["page"].messages)
    for types in ((), PAGE_TYPES):
        for length in range(1, len(BEHIND)):
            found = paged([[sent], [sent + BEHIND[:length], b""]], 1, types)
            assert found[0] == found[1]
            assert found[0].number == 3


def test_a_crash_of_another_session_is_said_in_a_notice(answers: dict[str, Recorded]) -> None:
    notice = asynchronous(b"N", b"SWARNING\0VWARNING\0C57P02\0Mterminating connection because of crash\0\0")
    (found,) = paged([[b"".join(answers["page"].messages[:2]) + notice, b""]], 1, PAGE_TYPES)
    assert (found.error, found.words) == (psycopg.errors.CrashShutdown, "terminating connection because of crash")


def test_a_server_that_goes_in_the_middle_of_an_answer_gives_no_rows(answers: dict[str, Recorded]) -> None:
    sent = b"".join(answers["page"].messages)
    for end in range(len(sent)):
        (found,) = paged([[sent[:end], b""] if end else [b""]], 1, PAGE_TYPES)
        assert found == (psycopg.OperationalError, "server closed the connection unexpectedly", (), 0)


def test_what_is_remembered_is_the_whole_answer(answers: dict[str, Recorded]) -> None:
    seven = b"".join(answers["generate"].messages)
    word = NOISE[0]
    with line(
        [seven],
        [seven[:9], seven[9:]],
        [seven, word[:3], word[3:]],
        [seven + word],
        [word + seven],
        [seven],
        [seven[:9], b""],
    ) as through:
        count = through.counter()
        assert [count(b"call") for _ in range(6)] == [7] * 6
        with pytest.raises(psycopg.OperationalError, match="closed"):
            count(b"call")
