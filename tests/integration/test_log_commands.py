"""bench logs, selftest and compare-logs, as a user runs them."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import eventlog
from bench.cli.app import app
from bench.errors import UsageError
from bench.logs import check as log_check
from bench.paths import SQL
from bench.places.rundir import opened
from bench.run.place import choose
from bench.selftest import checks as selftest
from bench.specfile import make
from tests import loaded
from tests.conftest import Bench, broken_log, write_log


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has fork servers of the tests' own process forked, as those of other runs are."""
    monkeypatch.setattr("bench.places.local.workers.subprocess", loaded.of_workers().subprocess)


def test_logs_are_listed_with_what_they_promise(bench: Bench) -> None:
    ran = bench("logs")
    assert ran.returncode == 0
    for name in eventlog.shipped():
        assert re.search(rf"^\| {name} .*{re.escape(eventlog.load(name).promises.words())}", ran.stdout, re.MULTILINE)


def test_a_new_log_is_a_good_one(bench: Bench, address: str) -> None:
    assert bench("logs", "new", "mine").returncode == 0
    ran = bench("logs", "check", "mine", "--dsn", address)
    assert ran.returncode == 0, ran.stderr
    assert "mine: no fault found" in ran.stdout
    assert "--mode tail" not in ran.stdout, "it promises nothing of the kind, so that it would fail"
    again = bench("logs", "new", "mine")
    assert again.returncode == 2
    assert "File exists" in again.stderr


def complaints(folder: str, address: str) -> list[str]:
    what = make({"log": folder, "place": "local", "dsn": address}, None)
    with opened("check") as run_folder:
        try:
            return log_check.check(eventlog.load(folder), what, choose(what), run_folder).complaints
        except UsageError as error:
            return [str(error)]


@pytest.mark.parametrize("name", eventlog.shipped())
def test_logs_that_ship_have_nothing_wrong(address: str, name: str) -> None:
    assert complaints(name, address) == []


def test_a_promise_that_a_check_could_not_break_is_untested_in_its_outcome(bench: Bench, address: str) -> None:
    ran = bench("logs", "check", "sequencer", "--dsn", address)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("sequencer: ok, but untested: tail = true, because ")
    for log in ("lock-drain", "advisory-lock"):
        ran = bench("logs", "check", log, "--dsn", address)
        assert ran.returncode == 0, ran.stderr
        assert "untested" not in ran.stdout


TWINS = """ALTER TABLE events_log DROP CONSTRAINT events_log_pkey;
    CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.etag := NEW.etag + (NEW.etag = 3)::int; RETURN NEW; END $$;
    CREATE TRIGGER twin BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION twin()"""
GET = """CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
         RETURNS SETOF events_log LANGUAGE sql STABLE AS """


@pytest.mark.parametrize(
    ("how", "promises", "says"),
    [
        ("DROP FUNCTION log_event CASCADE", {}, "schema.sql does not define log_event(json)"),
        ("DROP FUNCTION get_event(text, bigint)", {}, "schema.sql does not define get_event(text, bigint)"),
        ("ALTER TABLE events_log RENAME COLUMN ctime TO at", {}, 'reading it fails: column "ctime" does not exist'),
        ("ALTER TABLE events_log ALTER ctime TYPE text", {}, "get_event must yield ctime as timestamp or timestamptz"),
        ("SELEC", {}, "schema.sql, line 8"),
        ("", {"tail": "true"}, "an event that commits after a later one"),
        ("", {"notify": '"bell"'}, "notify = 'bell', and no notification comes on that channel"),
        ("ALTER SEQUENCE events_log_etag_seq CACHE 50", {}, "it promises real_time = true, and 7 appends"),
        ("", {"gap_free": "true"}, "it promises etags without gaps, and after a rollback they are [1, 3]"),
        (GET + "'SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag'", {}, "yields 7 events"),
        (
            GET + """$$SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag
                      LIMIT CASE WHEN max_events > 2 THEN 100000000 ELSE max_events END$$""",
            {},
            "get_event(.., 3) yields 10 events at once",
        ),
        (
            GET + """$$SELECT * FROM events_log WHERE etag > coalesce(last_etag, 0) ORDER BY etag
                      LIMIT max_events + max_events / 1000$$""",
            {},
            "get_event(.., 1000) yields 1001 events at once",
        ),
        (
            """CREATE OR REPLACE FUNCTION get_event(client text, max_events bigint DEFAULT 1) RETURNS SETOF events_log
               LANGUAGE plpgsql AS 'BEGIN PERFORM nosuch(); END'""",
            {},
            "whichever session asks. It fails: function nosuch() does not exist",
        ),
        (
            """CREATE OR REPLACE FUNCTION get_event(client text, max_events bigint DEFAULT 1) RETURNS SETOF events_log
               LANGUAGE sql AS 'SELECT * FROM events_log ORDER BY etag LIMIT 2 * max_events'""",
            {},
            "get_event('client 10'::text, 10) yields 20 events at once",
        ),
        (
            GET + "'SELECT * FROM events_log WHERE etag > coalesce(last_etag, 1) ORDER BY etag LIMIT max_events'",
            {},
            "get_event yields the events [1, 2, 3, 4, 5, 6] of 0..6",
        ),
        (
            GET
            + """$$SELECT 8 - etag, ctime, payload FROM events_log WHERE 8 - etag > coalesce(last_etag, 0)
                   ORDER BY 1 LIMIT max_events$$""",
            {},
            "get_event yields one writer's events in the order [6, 5, 4, 3, 2, 1, 0]",
        ),
        (
            """CREATE OR REPLACE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE sql AS
               'INSERT INTO events_log (payload) VALUES (event) RETURNING *'""",
            {},
            "log_event([{\"n\": 2}, {\"n\": 3}, {\"n\": 4}]) returns 1 row for 3 events",
        ),
        ("ALTER TABLE events_log ADD CHECK (payload ->> 'n' IS NULL)", {}, "log_event takes one event or an array"),
        (
            """CREATE OR REPLACE FUNCTION get_event(client text, max_events bigint DEFAULT 1) RETURNS SETOF events_log
               LANGUAGE plpgsql AS $$
               DECLARE last_etag bigint;
               BEGIN
                   INSERT INTO events_client (name, etag) VALUES (client, 0) ON CONFLICT DO NOTHING;
                   SELECT c.etag INTO last_etag FROM events_client c WHERE c.name = client FOR UPDATE;
                   RETURN QUERY SELECT * FROM get_event(last_etag, max_events);
                   UPDATE events_client c SET etag = last_etag + max_events WHERE c.name = client;
               END $$""",
            {},
            "get_event($1, $2) with untyped parameters resolves to the client-name function: numbers must read by etag",
        ),
        (
            "CREATE FUNCTION get_event(client uuid, max_events bigint DEFAULT 1) RETURNS SETOF events_log "
            "LANGUAGE sql AS 'SELECT * FROM events_log'; DROP FUNCTION get_event(text, bigint)",
            {"group": '"no"'},
            "reads by the cursor. It fails: function get_event(unknown, unknown) is not unique",
        ),
        (TWINS, {}, "several events have the same etag: [4]"),
        (TWINS, {"gap_free": "true"}, "it promises etags without gaps, and after 7 events these are missing: [(3, 3)]"),
        (
            """CREATE FUNCTION wrap() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN NEW.payload := json_build_object('event', NEW.payload); RETURN NEW; END $$;
               CREATE TRIGGER wrap BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION wrap()""",
            {},
            "events_log does not show what was appended: the text of its column payload must be an event's JSON",
        ),
        (
            """INSERT INTO events_log (payload) VALUES ('{"note": "a\\u0000b"}')""",
            {},
            "events_log has 1 row of which no producer appended the event (etags 1)",
        ),
        (
            "CREATE SCHEMA IF NOT EXISTS elsewhere; CREATE TABLE elsewhere.q (i int)",
            {},
            "schema.sql makes objects that stay when its schema is dropped: elsewhere.q, schema elsewhere",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_log_is_said(
    tmp_path: Path, address: str, how: str, promises: dict[str, str], says: str
) -> None:
    folder = write_log(tmp_path / "mine", (SQL / "bigserial" / "schema.sql").read_text() + how, **promises)
    assert any(says in complaint for complaint in complaints(str(folder), address))


def test_what_is_wrong_is_said_once(tmp_path: Path, address: str) -> None:
    endless = GET + "'SELECT * FROM events_log ORDER BY etag LIMIT max_events'"
    folder = write_log(tmp_path / "mine", (SQL / "bigserial" / "schema.sql").read_text() + endless)
    said = [complaint for complaint in complaints(str(folder), address) if "does not come to an end" in complaint]
    assert said == ["get_event does not come to an end: 100 pages of a log of 7 events"]


@pytest.mark.parametrize(
    ("how", "changes", "lacks"),
    [
        ("CREATE VIEW v AS SELECT *, xmin FROM events_log", {}, []),
        ("CREATE VIEW v AS SELECT etag, ctime, payload::jsonb FROM events_log", {}, ["xmin"]),
        ("CREATE VIEW v AS SELECT etag, ctime::text, payload::text, xmin FROM events_log", {}, ["ctime"]),
        ("CREATE VIEW v AS SELECT etag, payload FROM events_log", {}, ["ctime", "xmin"]),
        ("CREATE VIEW v AS SELECT etag::numeric AS n, payload FROM events_log", {"etag": '"n"'}, ["ctime", "xmin"]),
    ],
)
def test_what_a_table_may_lack_is_said_and_is_no_fault(
    tmp_path: Path,
    address: str,
    caplog: pytest.LogCaptureFixture,
    how: str,
    changes: dict[str, str],
    lacks: list[str],
) -> None:
    schema = (SQL / "bigserial" / "schema.sql").read_text() + how
    folder = write_log(tmp_path / "mine", schema, table='"v"', append='["log_event"]', **changes)
    assert complaints(str(folder), address) == []
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(lacks)
    assert all(f"column {lack}" in words for lack, words in zip(lacks, said, strict=True))


def test_a_log_with_something_wrong_is_bad_input(bench: Bench, address: str) -> None:
    folder = write_log(bench.folder / "mine", (SQL / "bigserial" / "schema.sql").read_text(), tail="true")
    ran = bench("logs", "check", str(folder), "--dsn", address)
    assert ran.returncode == 2
    assert "the log mine: it promises tail = true" in ran.stderr


def test_the_checker_proves_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "IDLE_SECONDS", 0.4)
    ran = CliRunner().invoke(app, ["selftest", "--events", "4000"], env={"TMPDIR": str(bench.home)})
    assert ran.exit_code == 0, ran.output
    assert re.search(r"^(\d+) of \1 checks passed\n\Z", ran.stdout, re.MULTILINE), ran.output
    assert bench.runs() == []


def test_logs_are_compared_and_one_that_fails_costs_its_own_cells_only(bench: Bench) -> None:
    for parent in ("unbuilt", "notifies"):
        (bench.folder / parent).mkdir()
    broken_log(bench.folder / "unbuilt" / "mine", "SELEC")
    broken_log(
        bench.folder / "notifies" / "mine",
        """CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            NOTIFY x;
            IF NEW.payload ->> 'producer' = '1' AND NEW.payload ->> 'seq' = '150' THEN RAISE 'not this one'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER tell BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION tell();""",
    )
    chosen = "lock-drain,unbuilt/mine,xid-horizon,notifies/mine"
    words = ("--logs", chosen, "--insert-batch", "100", "--scale", "2", "--rounds", "1", "--tails", "1")
    load = ("--rate", "5000", "--duration", "0.5s")
    ran = bench("compare-logs", *words, *load, "--place", "local")
    assert ran.returncode == 1, ran.stderr
    rows = [line for line in ran.stdout.splitlines() if line.startswith("| `")]
    speeds, loads, blocked = (
        {line.split("`")[1]: [cell.strip() for cell in line.split("|")[2:-1]] for line in part}
        for part in (rows[:5], rows[5:10], rows[10:])
    )
    assert list(speeds) == list(loads) == list(blocked) == ["bigserial", *chosen.split(",")]
    # Two producers do not always bring a reader ahead of an open transaction.
    assert len(re.findall(r"\b(?:safe|untested): 0 of ", ran.stdout)) == 2
    assert re.search(r"`bigserial` .*\*\*[\d,]+ skipped\*\*", ran.stdout)
    assert speeds["unbuilt/mine"][3:] == ["FAILED"] * 5
    assert speeds["notifies/mine"][3:6] == ["FAILED"] * 3
    assert loads["unbuilt/mine"] == loads["notifies/mine"] == ["FAILED"] * 2
    assert all(re.match(r"[\d,.]+, [\d,.]+", cell) for log in ("lock-drain", "xid-horizon") for cell in loads[log])
    # In this log, in another table, in another database, read-only, prepared.
    wait, none = "readers wait: 0 of 10 meanwhile", "all delivered"
    assert blocked == {
        "bigserial": [none] * 5,
        "lock-drain": [wait, none, none, none, wait],
        "unbuilt/mine": ["FAILED"] * 5,
        "xid-horizon": [wait, wait, wait, none, wait],
        "notifies/mine": [none] * 4 + ["not applicable"],
    }
    for line in (
        r"- `unbuilt/mine`: append and read .* and 6 others: the log unbuilt/mine: schema.sql, line \d+: syntax",
        r"- `notifies/mine`: append and read .*: The log stranded: producer-1: log_event: not this one",
        r"- `notifies/mine`: open transaction \(prepared\): cannot PREPARE a transaction that has executed LISTEN",
        rf"- `python -m bench compare-logs --logs bigserial,{chosen} ",
    ):
        assert re.search(f"^{line}", ran.stdout, re.MULTILINE), line
    (kept,) = bench.folder.glob("results/runs/*/comparison.json")
    assert "cannot PREPARE" in kept.read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--logs", "nonsense"), "there is no log 'nonsense'"),
        (("--insert-batch", "few"), "--insert-batch 'few'"),
        (("--rounds", "0", "--tails", "0"), "--rounds"),
        (("--transaction-ms", "9..1"), "--transaction-ms"),
        (("--abort-rate", "3"), "--abort-rate"),
        (("--rate", "0"), "--rate"),
        (("--rate", "300,1", "--duration", "2s"), "--rate 1: this load offers 2 events"),
        (("--duration", "soon"), "--duration"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(bench: Bench, words: tuple[str, ...], says: str) -> None:
    ran = bench("compare-logs", "--place", "local", *words)
    assert ran.returncode == 2, ran.stdout
    assert says in ran.stderr
