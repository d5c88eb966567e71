"""The history of stored events on a real Postgres: when they were logged and committed, and in which transactions."""

import psycopg
import pytest

from bench.postgres import history
from bench.postgres.connection import Connection
from bench.postgres.contract import table_of
from bench.statements import Table
from tests.integration.test_audit import BIGSERIAL, NUL

EVENT = '{"producer": 1, "seq": 2, "value": 2}'


@pytest.mark.parametrize(
    ("sql", "logged", "visible"),
    [
        ("", True, True),
        ("ALTER TABLE events_log RENAME ctime TO created_at", False, True),
        ("ALTER TABLE events_log ALTER ctime SET DEFAULT 'infinity'", False, True),
        ("ALTER TABLE events_log ALTER ctime SET DEFAULT '200000-01-01'", False, True),
        ("ALTER TABLE events_log RENAME TO t; CREATE VIEW events_log AS SELECT * FROM t", True, False),
        ("ALTER TABLE events_log ALTER payload TYPE text", True, True),
    ],
)
def test_a_story_has_what_the_table_has(log: Connection, sql: str, *, logged: bool, visible: bool) -> None:
    log.execute(sql.encode())
    for payload in (NUL, EVENT, "5"):
        log.execute("INSERT INTO events_log (payload) VALUES (%s)", [payload])
    table = table_of(log, BIGSERIAL)
    found = history.stories(log, BIGSERIAL, table, [(1, 2), (7, 7)])
    assert {event: story.etag for event, story in found.items()} == {(1, 2): 2}
    assert (found[1, 2].logged_at is not None) == logged
    assert (found[1, 2].visible_at is not None) == visible


def test_of_events_in_a_readers_jumps_it_is_known_which_were_committed_too_late(log: Connection) -> None:
    for seq in range(6):
        log.execute("INSERT INTO events_log (payload) VALUES (%s)", [f'{{"producer":0,"seq":{seq},"value":{seq}}}'])
    log.execute("""INSERT INTO events_log (payload) VALUES ('"no event"')""")
    query = "SELECT etag, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM events_log"
    committed: dict[int, float] = dict(log.execute(query).fetchall())
    # Etags 2 and 3 were passed just when 2 was committed, 5 and 7 long before they were.
    jumps = [(1, 4, committed[2]), (4, 6, 0.0), (6, 8, 0.0)]
    assert history.commits(log, BIGSERIAL, jumps) == ([(0, 2, 2), (0, 4, 4)], [(0, 1, 1)])
    log.execute("ALTER TABLE events_log RENAME TO renamed")
    with pytest.raises(psycopg.Error, match="events_log"):
        history.commits(log, BIGSERIAL, jumps)


def test_transactions_have_the_etags_of_their_subtransactions_and_the_time_of_their_commit(log: Connection) -> None:
    log.execute("INSERT INTO events_log (payload) SELECT '1' FROM generate_series(1, 3)")
    with log.transaction():
        log.execute("INSERT INTO events_log (payload) VALUES ('2')")
        with log.transaction():
            log.execute("INSERT INTO events_log (payload) VALUES ('3'), ('4')")
    with log.transaction(force_rollback=True):
        log.execute("INSERT INTO events_log (payload) VALUES ('5')")
    log.execute("INSERT INTO events_log (payload) VALUES ('6')")
    commits = history.transactions(log, BIGSERIAL, Table())
    assert not isinstance(commits, str)
    rows = sorted(zip(*(column.tolist() for column in commits), strict=True))
    assert [row[:3] for row in rows] == [(1, 3, 3), (4, 6, 3), (8, 8, 1)]
    query = "SELECT DISTINCT extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM events_log ORDER BY 1"
    assert [row[3] for row in rows] == [at for (at,) in log.execute(query)]
    assert history.transactions(log, BIGSERIAL, Table(xmin=False)) == "no xmin"


def test_an_empty_table_has_no_transactions(log: Connection) -> None:
    commits = history.transactions(log, BIGSERIAL, Table())
    assert not isinstance(commits, str)
    assert [len(column) for column in commits] == [0, 0, 0, 0]
