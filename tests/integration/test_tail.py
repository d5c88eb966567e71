"""Reading while others write: real runs, in which transactions overlap and are rolled back."""

from pathlib import Path

import pytest

from bench import eventlog
from bench.results import store
from bench.results.models import Result
from tests.conftest import Bench, broken_log, write_log

OVERLAPPING = (
    "--mode",
    "tail",
    "--scale",
    "6",
    "--insert-batch",
    "5",
    "--transaction-ms",
    "0..10",
    "--abort-rate",
    "0.2",
    "--idle-timeout",
    "2",
)
BIGSERIAL = eventlog.load("bigserial")
SAFE = [name for name in eventlog.shipped() if eventlog.load(name).promises.tail]


def run(bench: Bench, address: str, *words: str, code: int = 0) -> Result:
    ran = bench("run", "--place", "local", "--dsn", address, "--export-json", "result.json", *words)
    assert ran.returncode == code, ran.stdout + ran.stderr
    return store.load(bench.folder / "result.json")


def test_bigserial_is_caught_skipping_and_the_story_is_told(bench: Bench, address: str) -> None:
    result = run(bench, address, *OVERLAPPING, "--insert-loops", "40", "--read-batch", "50", code=1)
    (trial,) = result.trials
    verdict, (read,) = trial.verdict, trial.reads
    assert verdict.skipped > 0
    assert verdict.expected_events + verdict.aborted == 1200
    assert read.events == verdict.expected_events - verdict.skipped
    assert read.events_per_second is None
    gaps = verdict.gaps
    assert gaps.late_commit > 0
    assert (gaps.late_commit + gaps.early_commit + gaps.skipped, gaps.visible) == (verdict.skipped, 0)
    assert gaps.unexplained == 0
    assert 0 < gaps.rolled_back <= verdict.aborted  # etags above the last event leave no gap
    story = verdict.examples[0]
    assert story.kind == "skipped"
    assert story.etag
    assert story.jumped_to
    assert story.etag < story.jumped_to
    assert story.logged_at
    assert story.visible_at
    assert story.jumped_at
    assert story.logged_at < story.visible_at
    assert read.end_to_end_ms


@pytest.mark.parametrize(
    ("ctime", "says"),
    [
        ("clock_timestamp() AT TIME ZONE 'Asia/Tokyo'", "ctimes are up to 9.0 h ahead of the database's clock"),
        ("clock_timestamp() AT TIME ZONE 'Etc/GMT+5'", "ctimes lie up to 5.0 h before the append phase"),
        ("'infinity'", "ctimes are infinite"),
    ],
)
def test_ctimes_that_cannot_be_give_no_delay_and_a_sentence(bench: Bench, address: str, ctime: str, says: str) -> None:
    folder = broken_log(bench.folder / "zone", f"ALTER TABLE events_log ALTER ctime SET DEFAULT {ctime};")
    words = ("--log", str(folder), "--mode", "tail", "--scale", "1", "--limit", "100", "--insert-batch", "5")
    ran = bench("run", "--place", "local", "--dsn", address, "--export-json", "result.json", *words)
    assert ran.returncode == 0, ran.stderr
    assert f"delay not available: {says}" in ran.stdout
    (read,) = store.load(bench.folder / "result.json").trials[0].reads
    assert read.end_to_end_ms is None
    assert read.impossible_ctimes
    assert read.impossible_ctimes.ahead + read.impossible_ctimes.old + read.impossible_ctimes.infinite == 100


@pytest.mark.parametrize("ctime", ["timestamp", "timestamptz"])
def test_ctimes_of_both_types_give_delays(bench: Bench, address: str, ctime: str) -> None:
    folder = broken_log(bench.folder / "typed", f"ALTER TABLE events_log ALTER ctime TYPE {ctime};")
    words = ("--log", str(folder), "--mode", "tail", "--scale", "1", "--limit", "100", "--insert-batch", "5")
    (read,) = run(bench, address, *words).trials[0].reads
    assert read.impossible_ctimes is None
    assert read.end_to_end_ms


def test_a_run_in_which_all_was_rolled_back_measured_nothing(bench: Bench, address: str) -> None:
    words = ("--scale", "1", "--limit", "1", "--abort-rate", "0.9", "--seed", "3", "--quiet", "--output", "runs")
    ran = bench("run", "--place", "local", "--dsn", address, *words)
    assert ran.returncode == 0, ran.stderr
    assert "no event was acknowledged: nothing was measured" in ran.stdout
    (trial,) = store.load_all(bench.folder / "runs")[0].trials
    assert (trial.append.events, trial.append.rolled_back, trial.append.events_per_second) == (0, 1, None)
    assert trial.append.latency_ms is None
    assert trial.append.first_event_seconds is None


@pytest.mark.parametrize("log", SAFE)
def test_a_log_that_promises_it_delivers_everything(bench: Bench, address: str, log: str) -> None:
    result = run(bench, address, *OVERLAPPING, "--insert-loops", "20", "--read-batch", "50", "--log", log)
    (trial,) = result.trials
    assert trial.reads[0].events == trial.verdict.expected_events
    assert trial.verdict.aborted > 0
    assert trial.verdict.gaps.unexplained == 0
    assert trial.verdict.inverted == 0
    if eventlog.load(log).promises.real_time:
        assert trial.verdict.real_time_pairs
        assert trial.verdict.untested == []
    samples = trial.unseen[trial.reads[0].reader]
    assert 0 < len(samples) <= 300
    assert [each.seconds for each in samples] == sorted(each.seconds for each in samples)


def test_a_sequence_with_a_cache_breaks_the_real_time_order(bench: Bench, address: str) -> None:
    folder = broken_log(bench.folder / "cached", "ALTER SEQUENCE events_log_etag_seq CACHE 1000;")
    load = ("--mode", "tail", "--scale", "4", "--insert-batch", "5", "--insert-loops", "20", "--idle-timeout", "1")
    words = (*load, "--transaction-ms", "2..4", "--log", str(folder))
    ran = bench("run", "--place", "local", "--dsn", address, "--export-json", "result.json", *words)
    assert ran.returncode == 1, ran.stderr
    assert "inverted append" in ran.stdout
    verdict = store.load(bench.folder / "result.json").trials[0].verdict
    assert verdict.inverted
    assert verdict.real_time_pairs
    (first, *_) = [fault for fault in verdict.examples if fault.kind == "inverted"]
    assert first.earlier_append
    assert first.earlier_append.seconds > 0
    assert first.etag is not None
    assert first.earlier_append.etag > first.etag
    toml = folder / "log.toml"
    toml.write_text(toml.read_text().replace("real_time = true", "real_time = false"))
    verdict = run(bench, address, *words, code=1).trials[0].verdict
    assert verdict.inverted
    assert "inverted" in verdict.excused


def test_a_drained_run_does_not_pass_the_real_time_order_by_silence(bench: Bench, address: str) -> None:
    ran = bench("run", "--place", "local", "--dsn", address, "--scale", "2", "--limit", "10")
    assert ran.returncode == 0, ran.stderr
    assert "Untested: whether etags keep the real-time order" in ran.stdout
    assert "--mode tail" in ran.stdout


@pytest.mark.parametrize("log", [name for name in eventlog.shipped() if name != "commit-timestamp"])
def test_every_log_is_complete_when_drained(bench: Bench, address: str, log: str) -> None:
    words = ("--scale", "3", "--limit", "250", "--insert-batch", "40", "--read-batch", "17", "--abort-rate", "0.2")
    (trial,) = run(bench, address, *words, "--log", log).trials
    assert trial.reads[0].events == trial.verdict.expected_events


def test_the_same_seed_rolls_the_same_back(bench: Bench, address: str) -> None:
    words = ("--scale", "2", "--limit", "200", "--insert-batch", "5", "--abort-rate", "0.3", "--seed")
    fates = [run(bench, address, *words, seed).trials[0].verdict.aborted for seed in ("1", "1", "2", "3")]
    assert fates[0] == fates[1]
    assert len(set(fates)) > 1


def test_consumers_are_judged_each_by_itself(bench: Bench, address: str) -> None:
    words = (*OVERLAPPING, "--insert-loops", "20", "--read-batch", "50", "--consumers", "3")
    (trial,) = run(bench, address, *words, "--log", "lock-drain").trials
    assert [read.events for read in trial.reads] == [trial.verdict.expected_events] * 3
    assert list(trial.verdict.by_reader) == ["consumer-50-0", "consumer-50-1", "consumer-50-2"]
    (trial,) = run(bench, address, *words, code=1).trials
    assert sum(found.get("skipped", 0) for found in trial.verdict.by_reader.values()) == trial.verdict.skipped


@pytest.mark.parametrize("mode", ["tail", "drain"])
@pytest.mark.parametrize("log", [name for name in eventlog.shipped() if eventlog.load(name).group != "no"])
def test_members_of_a_group_hand_over_without_a_gap_or_a_double(
    bench: Bench, address: str, log: str, mode: str
) -> None:
    # A tailed bigserial log is right with one writer only.
    scale, held = ("1", "0..0") if log == "bigserial" and mode == "tail" else ("4", "0..5")
    words = ("--scale", scale, "--insert-loops", "60", "--insert-batch", "5", "--transaction-ms", held)
    (trial,) = run(
        bench, address, *words, "--read-batch", "7", "--mode", mode, "--log", log, "--group", "3", "--rejoin", "4"
    ).trials
    (read,) = trial.reads
    assert (read.members, read.events) == (3, trial.verdict.expected_events)


def test_etags_that_nobody_can_explain_are_told(bench: Bench, address: str) -> None:
    folder = broken_log(bench.folder / "jumping", "ALTER SEQUENCE events_log_etag_seq INCREMENT BY 3;")
    (trial,) = run(bench, address, "--log", str(folder), "--scale", "1", "--limit", "10").trials
    gaps = trial.verdict.gaps
    assert (gaps.unexplained, gaps.examples[:2]) == (18, [(2, 3), (5, 6)])


def test_a_log_that_promises_no_gaps_is_held_to_it(bench: Bench, address: str) -> None:
    folder = broken_log(bench.folder / "jumping", "ALTER SEQUENCE events_log_etag_seq INCREMENT BY 3;")
    toml = folder / "log.toml"
    toml.write_text(toml.read_text().replace("gap_free = false", "gap_free = true"))
    ran = bench("run", "--place", "local", "--dsn", address, "--log", str(folder), "--scale", "1", "--limit", "10")
    assert ran.returncode == 1
    assert "etags have gaps" in ran.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--log", "counter", "--append", "copy"), "--append copy: the log counter supports log_event"),
        (
            ("--log", "counter", "--group", "2"),
            "of those that ship bigs",
        ),
        (("--log", "skip-locked", "--consumers", "2"), "can be read once only: give one --read-batch and one of"),
        (("--log", "logical-slot", "--read-batch", "1,2"), "can be read once only"),
        (("--log", "logical-slot", "--set", "wal_level=replica"), "needs wal_level=logical"),
        (("--mode", "tail", "--read-batch", "1,2"), "give one --read-batch"),
        (("--group", "2", "--consumers", "2"), "give one of them"),
        (("--rejoin", "2"), "--rejoin"),
        (("--transaction-ms", "5..1"), "--transaction-ms '5..1'"),
        (("--transaction-ms", "soon"), "--transaction-ms 'soon'"),
        (("--abort-rate", "1"), "--abort-rate"),
        (("--mode", "wag"), "--mode 'wag'"),
        (("--idle-timeout", "0"), "--idle-timeout"),
    ],
)
def test_what_does_not_fit_is_refused(bench: Bench, words: tuple[str, ...], says: str) -> None:
    ran = bench("run", "--place", "local", "--scale", "1", "--limit", "1", *words)
    assert ran.returncode == 2
    assert says in ran.stderr


@pytest.mark.parametrize("columns", ["etag, payload, xmin", "etag, ctime, payload::text"])
def test_a_view_without_ctime_or_xmin_is_judged_all_the_same(bench: Bench, address: str, columns: str) -> None:
    schema = f"{BIGSERIAL.schema_sql} CREATE VIEW shown AS SELECT {columns} FROM events_log;"
    folder = write_log(bench.folder / "mine", schema, table='"shown"', append='["log_event"]')
    words = ("--log", str(folder), *OVERLAPPING, "--insert-loops", "40", "--read-batch", "50", "--append", "log_event")
    verdict = run(bench, address, *words, code=1).trials[0].verdict
    assert verdict.skipped > 0
    story = next(example for example in verdict.examples if example.kind == "skipped")
    assert story.etag
    assert (story.logged_at is not None) == ("ctime" in columns)
    assert (story.visible_at is not None) == ("xmin" in columns)
    assert verdict.gaps.unexplained == 0
    assert bool(verdict.gaps.rolled_back) == ("xmin" in columns)
    assert bool(verdict.gaps.unknown) == ("xmin" not in columns)


def test_etags_that_a_subtransaction_drew_are_rolled_back_and_not_unexplained(bench: Bench, address: str) -> None:
    how = """ALTER FUNCTION log_event(json) RENAME TO log_it;
        CREATE FUNCTION log_event(event json) RETURNS SETOF events_log LANGUAGE plpgsql AS $$
        BEGIN
            RETURN QUERY SELECT * FROM log_it(event);
        EXCEPTION WHEN not_null_violation THEN
            RAISE EXCEPTION 'log_event: an event must not be NULL';
        END $$;"""
    folder = broken_log(bench.folder / "mine", how)
    words = ("--log", str(folder), "--append", "log_event", "--scale", "4", "--insert-batch", "5", "--limit", "100")
    gaps = run(bench, address, *words, "--abort-rate", "0.3").trials[0].verdict.gaps
    assert gaps.rolled_back > 0
    assert gaps.unexplained == 0


@pytest.mark.parametrize("start", [3_000_000_000, 9_223_372_036_854_774_000])
def test_etags_may_begin_anywhere(bench: Bench, address: str, start: int) -> None:
    folder = broken_log(bench.folder / "high", f"SELECT setval('events_log_etag_seq', {start});")
    toml = folder / "log.toml"
    toml.write_text(toml.read_text().replace("gap_free = false", "gap_free = true"))
    ran = bench("run", "--place", "local", "--dsn", address, "--log", str(folder), "--scale", "2", "--limit", "100")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "missing" not in ran.stdout


def test_doubled_etags_are_not_numbers_without_gaps(bench: Bench, address: str) -> None:
    how = """ALTER TABLE events_log DROP CONSTRAINT events_log_pkey;
        CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.etag := NEW.etag + (NEW.etag % 10 = 3)::int; RETURN NEW; END $$;
        CREATE TRIGGER twin BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION twin();"""
    # Events with one etag are delivered in any order.
    folder = write_log(bench.folder / "twins", BIGSERIAL.schema_sql + how, order='"none"')
    words = ("--log", str(folder), "--scale", "2", "--limit", "100")
    gaps = run(bench, address, *words).trials[0].verdict.gaps
    assert (gaps.unexplained, gaps.doubled, gaps.doubled_etags[:2]) == (20, 20, [4, 14])
    toml = folder / "log.toml"
    toml.write_text(toml.read_text().replace("gap_free = false", "gap_free = true"))
    ran = bench("run", "--place", "local", "--dsn", address, *words)
    assert ran.returncode == 1
    assert "etags have gaps and occur more than once" in ran.stdout


def test_a_row_of_the_logs_own_is_a_phantom_whatever_it_holds(bench: Bench, address: str) -> None:
    how = r"""INSERT INTO events_log (payload) VALUES ('{"note": "a\u0000b"}'), ('{"note": "\ud800"}'), ('null');"""
    folder = broken_log(bench.folder / "mine", how)
    ran = bench("run", "--place", "local", "--dsn", address, "--log", str(folder), "--scale", "1", "--limit", "100")
    assert ran.returncode == 1, ran.stderr
    assert "3 phantom" in ran.stdout
    assert "phantom: etag 1 to 3, rows that no producer wrote" in ran.stdout


ASTRAY = """
    CREATE FUNCTION stray() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (NEW.payload ->> 'producer')::int = 0 AND (NEW.payload ->> 'seq')::bigint = 50 THEN
            NEW.payload := json_build_object('producer', 0, 'seq', 3050, 'value', 3050);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER stray BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION stray();"""


def test_events_after_a_phantom_are_not_called_reordered_where_the_last_seq_is_unknown(
    bench: Bench, address: str, tmp_path: Path
) -> None:
    log = broken_log(tmp_path / "astray", ASTRAY.replace("3050", "10000050"))
    flags = ("--scale", "1", "--insert-batch", "10", "--duration", "1s", "--mode", "tail")
    (trial,) = run(bench, address, "--log", str(log), *flags, code=1).trials
    assert (trial.verdict.lost, trial.verdict.phantom, trial.verdict.reordered) == (1, 1, 0)
    assert any("reordered" in note for note in trial.notes)


@pytest.mark.parametrize("mode", ["tail", "drain"])
def test_a_phantom_moves_no_position_however_many_events_were_preloaded(
    bench: Bench, address: str, tmp_path: Path, mode: str
) -> None:
    log = broken_log(tmp_path / "astray", ASTRAY)
    flags = ("--scale", "1", "--insert-batch", "10", "--limit", "200", "--preload", "5k", "--mode", mode)
    (trial,) = run(bench, address, "--log", str(log), *flags, code=1).trials
    assert (trial.verdict.lost, trial.verdict.phantom, trial.verdict.reordered) == (1, 1, 0)
    assert not trial.notes
