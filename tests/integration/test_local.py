"""The local place end to end: the program as a user runs it."""

import json
import os
import signal
import socket
import subprocess

import psutil
import psycopg
import pytest

from bench.kinds import KINDS
from bench.places.local import postgres as embedded
from bench.report import runs as runs_report
from bench.report.bottleneck import sentence
from bench.results import models, store
from tests.conftest import REPOSITORY, Bench, broken_log, read_until

LOGS = REPOSITORY / "tests" / "logs"
SMALL = ("run", "--place", "local", "--scale", "2", "--insert-batch", "100", "--insert-loops", "3")


def stored(bench: Bench) -> models.Result:
    (file,) = (bench.folder / "results" / "runs").glob("*/result.json")
    return store.load(file)


def nothing_is_left(bench: Bench) -> None:
    assert bench.runs() == []
    assert bench.processes() == []


@pytest.mark.parametrize("append", ["generate", "log_event", "copy"])
@pytest.mark.parametrize("payload_bytes", ["0", "120"])
def test_each_way_to_append_three_reads_and_a_short_last_batch(
    bench: Bench, address: str, append: str, payload_bytes: str
) -> None:
    ran = bench(
        *("run", "--dsn", address, "--scale", "2", "--insert-batch", "100", "--limit", "1234"),
        *("--read-batch", "1000,100,7", "--append", append, "--payload-bytes", payload_bytes),
    )
    assert ran.returncode == 0, ran.stderr
    trial = stored(bench).trials[0]
    assert trial.verdict.ok
    assert trial.verdict.expected_events == 2 * 1234
    assert trial.verdict.expected_checksum == 2 * 1234 * 1233 // 2
    assert [(read.read_batch, read.events) for read in trial.reads] == [(1000, 2468), (100, 2468), (7, 2468)]
    assert {read.checksum for read in trial.reads} == {trial.verdict.expected_checksum}
    assert {read.max_etag_gap for read in trial.reads} == {1}
    assert [producer.events for producer in trial.append.producers] == [1234, 1234]
    nothing_is_left(bench)


@pytest.mark.parametrize("arrival", ["fixed", "poisson"])
def test_an_offered_load(bench: Bench, address: str, arrival: str) -> None:
    load = ("--rate", "400:0.5s,0:0.25s,800:0.5s", "--arrival", arrival)
    ran = bench(
        *("run", "--dsn", address, "--scale", "3", "--insert-batch", "5", "--mode", "tail"),
        *("--abort-rate", "0.1", "--log", "advisory-lock"),
        *load,
    )
    assert ran.returncode == 0, ran.stderr
    trial = stored(bench).trials[0]
    offered = trial.append.offered
    assert offered
    assert offered.service_ms
    assert trial.append.latency_ms
    assert trial.append.latency_ms.max >= offered.service_ms.max * 0.98
    assert trial.append.events + trial.append.rolled_back == 600
    if arrival == "fixed":
        assert offered.events_per_second == pytest.approx(600 / 1.25)
        assert trial.append.seconds > 1.2
    assert "ffered" in ran.stdout
    assert "uncorrected" in ran.stdout
    nothing_is_left(bench)


@pytest.mark.parametrize("log", ["bigserial", "advisory-lock", "skip-locked"])
@pytest.mark.parametrize("mode", ["drain", "tail"])
def test_a_run_by_time(bench: Bench, address: str, log: str, mode: str) -> None:
    ran = bench(
        *("run", "--dsn", address, "--scale", "3", "--insert-batch", "7", "--duration", "1.5s", "--mode", mode),
        *(
            "--log",
            log,
            "--abort-rate",
            "0.2",
            "--transaction-ms",
            "1",
            "--group",
            "2" if log == "skip-locked" else "0",
        ),
    )
    assert ran.returncode == 0 or log == "bigserial", ran.stdout + ran.stderr
    trial = stored(bench).trials[0]
    assert trial.append.seconds >= 1.5
    assert trial.append.rolled_back % 7 == 0
    assert trial.append.events == trial.verdict.expected_events > 0
    assert trial.verdict.phantom == trial.verdict.lost == trial.verdict.duplicated == 0
    assert trial.verdict.aborted == trial.append.rolled_back > 0
    if log != "bigserial":
        assert {read.checksum for read in trial.reads} == {trial.verdict.expected_checksum}
    assert stored(bench).spec["limit"] is None
    assert "--duration 1.5s" in ran.stdout
    nothing_is_left(bench)


@pytest.mark.parametrize("mode", ["drain", "tail"])
def test_a_log_that_makes_an_event_up_in_a_run_by_time_is_caught(bench: Bench, address: str, mode: str) -> None:
    made_up = """
        CREATE FUNCTION make_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.payload ->> 'seq' = '5' AND NEW.payload ->> 'producer' = '1' THEN
                INSERT INTO events_log (payload) VALUES ('{"producer":0,"seq":999999999999,"value":999999999999}');
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER make_up BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION make_up();"""
    folder = broken_log(bench.folder / "broken", made_up)
    ran = bench(
        *("run", "--dsn", address, "--scale", "2", "--insert-batch", "10", "--duration", "0.5s", "--mode", mode),
        *("--log", str(folder), "--idle-timeout", "1"),
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert stored(bench).trials[0].verdict.phantom == 1


def test_a_reader_of_a_log_without_end_is_ended_after_a_run_by_time(bench: Bench, address: str) -> None:
    endless = """
        CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
        RETURNS SETOF events_log LANGUAGE sql AS $$
            SELECT last + i, now(), json_build_object('producer', 0, 'seq', last + i, 'value', last + i)
            FROM coalesce(last_etag, -1) AS last, generate_series(1, max_events) AS i $$;"""
    folder = broken_log(bench.folder / "endless", endless)
    ran = bench(
        *("run", "--dsn", address, "--scale", "1", "--insert-batch", "1", "--duration", "0.2s", "--mode", "tail"),
        *("--log", str(folder), "--read-batch", "1000"),
        timeout=120,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert stored(bench).trials[0].verdict.stopped


def test_more_than_the_log_can_take_is_saturated(bench: Bench, address: str) -> None:
    held = ("--transaction-ms", "20", "--scale", "2", "--insert-batch", "1", "--limit", "20")
    ran = bench("run", "--dsn", address, *held, "--rate", "100000")
    assert ran.returncode == 0, ran.stderr
    assert ": saturated" in ran.stdout
    offered = stored(bench).trials[0].append.offered
    assert offered
    assert offered.saturated
    assert offered.largest_backlog >= 38
    assert offered.most_behind_seconds > 0.3


@pytest.mark.parametrize("scale", ["1", "10"])
def test_scale(bench: Bench, address: str, scale: str) -> None:
    ran = bench(*SMALL, "--dsn", address, "--scale", scale)
    assert ran.returncode == 0, ran.stderr
    result = stored(bench)
    assert result.trials[0].verdict.expected_events == int(scale) * 300
    assert len(result.trials[0].append.producers) == int(scale)


def test_a_hundred_producers_get_the_connections_that_the_default_does_not_allow(bench: Bench) -> None:
    ran = bench("run", "--place", "local", "--scale", "100", "--insert-batch", "10", "--limit", "20")
    assert ran.returncode == 0, ran.stderr
    result = stored(bench)
    assert result.trials[0].verdict.expected_events == 2000
    assert result.environment.settings == {"max_connections": "120"}
    assert result.trials[0].append.first_event_seconds
    assert all(producer.memory_bytes for producer in result.trials[0].append.producers)
    nothing_is_left(bench)


def test_more_files_than_may_be_opened_are_refused(bench: Bench) -> None:
    command = " ".join(bench.command("run", "--place", "local", "--scale", "100", "--limit", "1"))
    ran = subprocess.run(
        ["bash", "-c", f"ulimit -n 300; exec {command}"],
        env=bench.environment(), cwd=bench.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 3
    assert "100 workers need 464 open files in the local place and 300 are allowed" in ran.stderr


@pytest.mark.parametrize("words", [(), ("--fresh",)])
def test_trials_are_whole_and_each_on_a_fresh_log(bench: Bench, words: tuple[str, ...]) -> None:
    ran = bench(*SMALL, "--trials", "2", *words)
    assert ran.returncode == 0, ran.stderr
    result = stored(bench)
    assert [trial.verdict.expected_events for trial in result.trials] == [600, 600]
    assert [line.partition(",")[0] for line in ran.stderr.splitlines() if line.startswith("trial")] == [
        "trial 1 of 2: ok", "trial 2 of 2: ok",
    ]  # fmt: skip
    assert "warm-up trial: ok, append" in ran.stderr
    assert ran.stdout.count("events/s, the median of 2 trials; range") == 2
    assert "interval" not in ran.stdout
    assert f"--trials 2{' --fresh' if words else ''}" in runs_report.command(result)
    nothing_is_left(bench)


def test_a_warm_up_that_fails_is_told(bench: Bench, address: str) -> None:
    broken = broken_log(bench.folder / "broken", (LOGS / "lossy.sql").read_text())
    words = ("--trials", "1", "--warm-up", "1", "--log", str(broken), "--idle-timeout", "0.5")
    ran = bench(*SMALL, "--dsn", address, *words)
    assert ran.returncode == 1
    assert [trial.verdict.ok for trial in stored(bench).trials] == [False, False]
    assert [trial.warm_up for trial in stored(bench).trials] == [True, False]
    assert ran.stdout.index("\nwarm-up trial\n") < ran.stdout.index("\ntrial 1 of 1\n")


@pytest.mark.parametrize("depth", ["1", "7"])
@pytest.mark.parametrize(
    "words", [("--consumers", "2"), ("--mode", "tail", "--log", "lock-drain"), ("--log", "partitioned")]
)
def test_named_clients_whose_cursor_the_database_keeps(
    bench: Bench, address: str, depth: str, words: tuple[str, ...]
) -> None:
    ran = bench(*SMALL, "--dsn", address, "--read-batch", "10", "--cursor", "client", "--depth", depth, *words)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    trial = stored(bench).trials[0]
    assert [read.events for read in trial.reads] == [600] * len(trial.reads)
    assert "get_event('bench 10 0'::text, 10)" in stored(bench).sql["read 10"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--depth", "2"), "--cursor client or --group"),
        (("--cursor", "client", "--group", "2"), "--group is a named client already"),
        (("--cursor", "client", "--log", "skip-locked"), "--cursor client: the log skip-locked"),
    ],
)
def test_depth_and_clients_that_make_no_sense(bench: Bench, words: tuple[str, ...], says: str) -> None:
    ran = bench(*SMALL, *words)
    assert ran.returncode == 2
    assert says in ran.stderr


def test_a_phase_is_told_with_what_bounded_it(bench: Bench) -> None:
    ran = bench("run", "--place", "local", "--scale", "2", "--insert-batch", "10", "--limit", "15000")
    assert ran.returncode == 0, ran.stderr
    phases = stored(bench).trials[0].telemetry.phases
    assert set(phases) == {"append", "read 1000"}
    assert phases["append"].samples > 0
    pace = sentence(phases["append"])
    assert pace
    assert pace in " ".join(ran.stdout.split())  # it may be on several lines
    assert phases["append"].counters["rows_inserted"] == 30_000
    assert phases["append"].counters["commits"] >= 3_000
    assert phases["append"].postgres_cpu_seconds
    assert "first batch appended after" in ran.stdout


def test_settings_reach_the_postgres_of_the_users_own_programs_and_the_result(bench: Bench) -> None:
    folder = embedded.binaries(None).folder
    settings = ("--set", "fsync=off", "--set", "shared_buffers=16MB")
    ran = bench(*SMALL, "--pg-bin", str(folder), *settings, "--export-markdown", "table.md")
    assert ran.returncode == 0, ran.stderr
    assert stored(bench).environment.about["postgres_programs"] == str(folder)
    assert stored(bench).environment.settings == {"fsync": "off", "shared_buffers": "16MB"}
    assert "`fsync=off`" in (bench.folder / "table.md").read_text()


def test_exports_and_quiet(bench: Bench, address: str) -> None:
    ran = bench(*SMALL, "--dsn", address, "--quiet", "--export-json", "out.json", "--output", "kept")
    assert ran.returncode == 0
    assert ran.stderr == ""
    assert [line[0] for line in ran.stdout.splitlines() if line] == ["|"] * 3 + ["!"], "fsync is off on this server"
    exported = store.load(bench.folder / "out.json")
    assert store.load(bench.folder / "kept" / exported.run_id / "result.json") == exported


def test_a_spec_file(bench: Bench) -> None:
    (bench.folder / "spec.toml").write_text(
        'scale = 3\ninsert_batch = 10\nlimit = 25\nread-batch = [5, 50]\nplace = "local"\nappend = "copy"\n'
        'output = "kept"\nexport-json = "out.json"\nexport-markdown = "out.md"\nquiet = true\n'
    )
    ran = bench("run", "--spec", "spec.toml", "--scale", "2")
    assert (ran.returncode, ran.stderr) == (0, "")
    result = store.load(bench.folder / "out.json")
    assert result.trials[0].verdict.expected_events == 50
    assert (bench.folder / "kept" / result.run_id / "result.json").is_file()
    assert (bench.folder / "out.md").is_file()


@pytest.mark.parametrize(
    ("log", "faults"),
    [
        ("lossy", {"lost": 2}),
        ("inventing", {"phantom": 2}),
        ("hiding", {"skipped": 2}),
        ("repeating", {"duplicated": 2}),
        ("reordering", {"reordered": 2, "inconsistent": 2}),
    ],
)
def test_a_broken_log_fails_under_the_right_name(bench: Bench, address: str, log: str, faults: dict[str, int]) -> None:
    folder = broken_log(bench.folder / log, (LOGS / f"{log}.sql").read_text())
    ran = bench(*SMALL, "--dsn", address, "--log", str(folder), "--read-batch", "100,7", "--idle-timeout", "0.5")
    assert ran.returncode == 1, ran.stderr
    trial = stored(bench).trials[0]
    counts = {kind: getattr(trial.verdict, kind) for kind in KINDS}
    assert {kind: count for kind, count in counts.items() if count} == faults
    assert not trial.verdict.ok
    assert trial.append.events_per_second is None
    assert {read.events_per_second for read in trial.reads} == {None}
    rows = [line for line in ran.stdout.splitlines() if line.startswith("|")][2:]
    assert all(row.split("|")[7].strip() == "FAILED" for row in rows)
    found = ", ".join(f"{count} {kind}" for kind, count in faults.items())
    assert f"verdict: FAILED. Of 600 acknowledged events: {found}." in ran.stdout
    nothing_is_left(bench)


@pytest.mark.parametrize("mode", ["drain", "tail"])
@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("SELECT * FROM events_log ORDER BY etag LIMIT max_events", "its cursor does not move on"),
        (
            """SELECT coalesce(last_etag, 0) + row_number() OVER (), ctime, payload FROM events_log
               LIMIT max_events""",
            "it delivered more than 2200 events and went on",
        ),
        ("SELECT l.* FROM events_log l, pg_sleep(100)", "a read did not come back and was cancelled"),
    ],
    ids=["stuck", "endless", "hanging"],
)
def test_a_log_whose_reads_never_end_is_ended_and_reported(
    bench: Bench, address: str, rows: str, says: str, mode: str
) -> None:
    if "pg_sleep" in rows:  # only where there is something to read, as when the log is checked
        rows = f"{rows} WHERE EXISTS (SELECT FROM events_log)"
    how = f"""CREATE OR REPLACE FUNCTION get_event(last_etag bigint DEFAULT NULL, max_events bigint DEFAULT 1)
              RETURNS SETOF events_log LANGUAGE sql STABLE AS $$ {rows} $$"""
    words = ("--log", str(broken_log(bench.folder / "endless", how)), "--idle-timeout", "0.5", "--read-batch", "101")
    ran = bench(*SMALL, "--dsn", address, *words, "--mode", mode)
    assert ran.returncode == 1, ran.stderr
    assert says in ran.stdout
    nothing_is_left(bench)


@pytest.mark.parametrize(
    ("until", "number"),
    [
        ("place:", signal.SIGINT),
        ("place:", signal.SIGTERM),
        ("append: starting", signal.SIGTERM),
        ("append: 2 producers started", signal.SIGINT),
        ("read 10: 1 consumer", signal.SIGTERM),
    ],
)
def test_an_interrupt_leaves_nothing(bench: Bench, until: str, number: signal.Signals) -> None:
    limit = "20000" if until.startswith("read") else "3000000"
    words = ("--insert-batch", "1000", "--limit", limit, "--read-batch", "1000,10")
    process = bench.start("run", "--place", "local", "--scale", "2", *words)
    read_until(process, until)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "bench: interrupted; everything that was started is stopped"
    nothing_is_left(bench)


def children(pid: int, words: str) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if words in " ".join(child.cmdline())]


def test_a_producer_that_dies_fails_the_run(bench: Bench) -> None:
    words = ("--scale", "3", "--insert-batch", "100", "--limit", "2000000")
    process = bench.start("run", "--place", "local", *words)
    read_until(process, "append: 3 producers started")
    (forkserver,) = children(process.pid, "bench.places.local.forkserver")
    forkserver.children()[0].kill()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "ended before its job was done, with exit code -9: ended by signal 9" in stderr
    nothing_is_left(bench)


def test_a_postgres_that_dies_fails_the_run_with_its_workers_last_words(bench: Bench) -> None:
    process = bench.start(*SMALL[:-1], "20000")
    read_until(process, "append: 2 producers started")
    (run,) = bench.runs()
    os.kill(int((run / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "before its job was done, with exit code 1: " in stderr
    assert "server closed the connection unexpectedly" in stderr or "terminating connection" in stderr
    assert "Postgres was killed by signal 9; the last lines of its log:\n" in stderr
    nothing_is_left(bench)


def test_a_postgres_that_loses_a_process_says_which(bench: Bench) -> None:
    process = bench.start(*SMALL[:-1], "20000")
    read_until(process, "append: 2 producers started")
    (run,) = bench.runs()
    with psycopg.connect(embedded.conninfo(run)) as other:
        find = "SELECT pid FROM pg_stat_activity WHERE application_name ~ 'producer-0$'"
        (backend,) = other.execute(find).fetchone() or (0,)
    os.kill(backend, signal.SIGKILL)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "Postgres crashed; the last lines of its log:\n" in stderr
    assert f"(PID {backend}) was terminated by signal 9: Killed\n" in stderr
    nothing_is_left(bench)


def test_sql_that_fails_is_a_finding_with_the_worker_that_ran_it(bench: Bench, address: str) -> None:
    picky = "ALTER TABLE events_log ADD CONSTRAINT picky CHECK (etag < 150)"
    ran = bench(*SMALL, "--dsn", address, "--log", str(broken_log(bench.folder / "picky", picky)))
    assert ran.returncode == 1
    assert "The log stranded: producer-" in ran.stdout
    assert 'violates check constraint "picky"' in ran.stdout


def test_what_a_killed_run_left_is_removed_by_the_next(bench: Bench) -> None:
    process = bench.start(*SMALL[:-1], "20000")
    read_until(process, "append: 2 producers started")
    process.kill()
    process.communicate()
    assert len(bench.runs()) == 1
    assert bench.processes("postgres -D")
    cleaned = bench("clean")
    assert cleaned.returncode == 0
    assert "removed what run" in cleaned.stdout
    nothing_is_left(bench)
    assert bench("clean", DOCKER_HOST="unix:///nowhere").stdout.startswith("Docker was not looked at")


def test_a_living_run_is_not_cleaned_away(bench: Bench) -> None:
    process = bench.start(*SMALL[:-1], "20000")
    read_until(process, "append: 2 producers started")
    bench("clean")
    assert bench.processes("postgres -D")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_disk_that_is_too_small_is_refused_before_the_start(bench: Bench) -> None:
    ran = bench("run", "--place", "local", "--scale", "1000", "--limit", "1000000000", "--payload-bytes", "1000")
    assert ran.returncode == 3
    assert "1,000,000,000,000 events need about" in ran.stderr
    assert "GiB are free" in ran.stderr
    nothing_is_left(bench)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--set", "work_mem"], 2, "--set 'work_mem': give name=value"),
        (["--set", "no_such_setting=1"], 2, 'unrecognized configuration parameter "no_such_setting"'),
        (["--set", "shared_buffers=lots"], 2, 'invalid value for parameter "shared_buffers"'),
        (["--set", "max_connections=3"], 2, "--set: Postgres says: "),
        (["--set", "shared_preload_libraries=nosuch"], 2, '--set: Postgres says: could not access file "nosuch"'),
        (["--log", "nosuchlog"], 2, "there is no log 'nosuchlog'"),
        (["--log", "."], 2, "log.toml is missing"),
        (["--read-batch", "1000;10"], 2, "--read-batch '1000;10'"),
        (["--pg-bin", "."], 2, "there is no initdb in it"),
        (["--scale", "many"], 2, "--scale"),
        (["--nonsense"], 2, "--nonsense"),
        (["--limit", "5", "--insert-loops", "5"], 2, "--limit and --insert-loops"),
        (["--export-json", "no/such/folder.json"], 2, "cannot be written"),
        (["--spec", "none.toml"], 2, "No such file"),
        (["--output", "/dev/null/runs"], 2, "--output /dev/null/runs"),
        (["--place", "local", "--dsn", "host=127.0.0.1 port=1 dbname=x"], 3, "cannot connect to PostgreSQL"),
    ],
)
def test_what_cannot_be_used_is_refused(bench: Bench, words: list[str], code: int, says: str) -> None:
    ran = bench("run", "--place", "local", *words)
    assert ran.returncode == code, ran.stderr
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr
    nothing_is_left(bench)


def test_debug_shows_the_traceback(bench: Bench) -> None:
    assert "Traceback" in bench("run", "--log", "nosuchlog", "--debug").stderr
    (bench.folder / "spec.toml").write_text('log = "nosuchlog"\ndebug = true\n')
    assert "Traceback" in bench("run", "--spec", "spec.toml").stderr


def test_without_docker_auto_is_local_and_docker_is_missing(bench: Bench) -> None:
    ran = bench("run", "--scale", "1", "--limit", "10", DOCKER_HOST="unix:///nowhere")
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.startswith("place: local (no Docker engine answers")
    ran = bench("run", "--place", "docker", DOCKER_HOST="unix:///nowhere")
    assert ran.returncode == 3
    assert "no Docker engine answers" in ran.stderr
    assert "--place local" in ran.stderr


def test_any_postgres_by_its_address(bench: Bench, connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    connection.execute("CREATE ROLE guest LOGIN PASSWORD 'p:s\\s''w@rd'")
    connection.execute(f'GRANT CREATE ON DATABASE "{connection.info.dbname}" TO guest')
    dsn = psycopg.conninfo.make_conninfo(connection.info.dsn, user="guest", password="p:s\\s'w@rd")
    ran = bench("run", "--dsn", dsn, "--scale", "2", "--limit", "100", "--insert-batch", "10")
    assert ran.returncode == 0, ran.stderr
    result = stored(bench)
    assert result.trials[0].verdict.ok
    assert "p:s" not in json.dumps(result.spec)
    assert connection.execute("SELECT to_regnamespace('bench')").fetchone() == (None,)

    connection.execute("CREATE SCHEMA bench")
    ran = bench("run", "--scale", "1", "--limit", "10", BENCH_DSN=dsn)
    assert ran.returncode == 3
    assert "no run made it" in ran.stderr


def test_by_hand(bench: Bench) -> None:
    started = bench("start")
    assert started.returncode == 0, started.stderr
    address = started.stdout.splitlines()[-1]
    try:
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT * FROM get_event()").fetchall() == []
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address.replace("postgres:", "postgres:wrong"))
        assert "holds 1,000" in bench("seed").stdout
        assert bench("psql", "--", "-Atc", "SELECT count(*) FROM events_log").stdout == "1000\n"
        again = bench("start")
        assert (again.returncode, again.stdout.splitlines()[-1]) == (0, address)
        assert bench("start", "--port", "1").returncode == 2
        assert bench("stop").returncode == 0
        assert bench("seed").returncode == 2
        assert bench("start", "--log", str(broken_log(bench.folder / "other", ""))).returncode == 2
        port = address.rpartition(":")[2].partition("/")[0]
        assert bench("start", "--port", port).returncode == 0
        assert bench("psql", "--", "-Atc", "SELECT etag FROM get_event('me')").stdout == "1\n"
        bench("clean")
        assert bench("psql", "--", "-Atc", "SELECT 1").stdout == "1\n"
    finally:
        assert bench("stop", "--drop").returncode == 0
    assert bench.processes() == []


def test_a_port_that_is_taken_is_refused(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = bench("start", "--port", port)
    assert ran.returncode == 3
    assert f"port {port}" in ran.stderr
    assert bench.processes() == []


def test_doctor(bench: Bench) -> None:
    ran = bench("doctor", DOCKER_HOST="unix:///nowhere")
    assert ran.returncode == 0
    assert "ok       local place      PostgreSQL" in ran.stdout
    assert "missing  docker place     no Docker engine answers" in ran.stdout


def test_without_docker_and_without_a_disk_no_place_works(bench: Bench) -> None:
    ran = bench("doctor", DOCKER_HOST="unix:///nowhere", TMPDIR="/proc")
    assert ran.returncode == 3
    assert "ok       local place" in ran.stdout
    assert "missing  disk, local      /proc takes no files" in ran.stdout


def test_the_version(bench: Bench) -> None:
    assert bench("--version").stdout.startswith("bench 0.")
