"""What a spec takes and refuses."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.spec import MAX_LIMIT
from bench.specfile import make, make_output_options
from bench.values import parse_count, parse_retention, retained


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"scale": 0}, "--scale/--producers 0: must be at least 1"),
        ({"scale": 1001}, "--scale/--producers 1001"),
        ({"insert_batch": 0}, "--insert-batch 0"),
        ({"insert_loops": -1}, "--insert-loops -1"),
        ({"limit": 0}, "--limit 0"),
        ({"limit": 5, "insert_loops": 5}, "--limit and --insert-loops"),
        ({"insert_batch": 10_000_000, "insert_loops": 10**6}, "over 1,000,000,000,000 events"),
        ({"rate": "0"}, "--rate '0': the rate must be above 0"),
        ({"rate": "fast"}, "--rate 'fast'"),
        ({"rate": "5000,1000:5s"}, "--rate"),
        ({"rate": "5000:0s"}, "--rate"),
        ({"rate": "1e99"}, "--rate"),
        ({"rate": "5000:nans"}, "--rate"),
        ({"rate": "find"}, "--rate find needs an objective"),
        ({"rate": "find", "slo": ["append p99 < 50"]}, "--slo 'append p99 < 50': give a time with its unit"),
        ({"rate": "find", "slo": ["append p99 > 5ms"]}, "--slo 'append p99 > 5ms': "),
        ({"rate": "find", "slo": ["append >= 5/s"]}, "--slo 'append >= 5/s': "),
        ({"rate": "find", "slo": ["skipped = 0"]}, "--slo 'skipped = 0': "),
        ({"rate": "find", "slo": ["end_to_end p99 < 5ms"]}, "--slo 'end_to_end p99 < 5ms': "),
        ({"rate": "find", "slo": ["read p99 < 5ms"]}, "--slo 'read p99 < 5ms': "),
        ({"rate": "find:5s", "slo": ["append p99 < 5ms"]}, "--rate 'find:5s'"),
        ({"rate": "find", "slo": ["append p99 < 5ms"], "limit": 5}, "--limit cannot be combined with --rate find"),
        ({"rate": "find", "slo": ["append p99 < 5ms"], "insert_loops": 5}, "--insert-loops cannot"),
        ({"rate": "find", "slo": ["append p99 < 5ms"], "trials": 5}, "--trials cannot"),
        ({"rate": "find", "slo": ["append p99 < 5ms"], "warm_up": 0}, "--warm-up cannot"),
        ({"rate": "find", "slo": ["append p99 < 5ms"], "pause": "0..5ms"}, "--rate measures"),
        (
            {"rate": "find", "slo": ["append p99 < 5ms"], "place": "swarm", "on_node_loss": "continue"},
            "--on-node-loss cannot",
        ),
        ({"rate": "1000", "slo": ["append p99 < 5ms"], "limit": 5}, "--slo is what --rate find searches for"),
        ({"slo": ["append p99 < 5ms"]}, "--slo is what --rate find searches for"),
        ({"rate": "1000", "duration": "0"}, "--duration"),
        ({"rate": "0.1", "duration": "2s", "scale": 2}, "0.2 events in all, fewer than --scale/--producers 2: give a"),
        ({"rate": "0:9s,3:0.5s", "scale": 2}, "--rate 0:9s,3:0.5s: this load offers 1.5 events"),
        ({"mode": "tail", "phase": [{"rate": 0.5, "duration": 4}]}, "[[phase]]: the phases offer 2 events"),
        ({"rate": "1000:5s", "duration": "5s"}, "--duration and the time of the last step of --rate"),
        ({"rate": "1000", "duration": "5s", "limit": 5}, "--duration and --limit"),
        ({"duration": "0s"}, "--duration '0s': must be more than 0"),
        ({"duration": "soon"}, "--duration 'soon'"),
        ({"duration": "5s", "limit": 5}, "--duration and --limit"),
        ({"duration": "5s", "insert_loops": 5}, "--duration and --insert-loops"),
        ({"duration": "5s", "place": "swarm", "on_node_loss": "continue"}, "--on-node-loss continue"),
        ({"arrival": "poisson"}, "--arrival is for an offered load"),
        ({"retention": "30s"}, "--retention deletes behind readers while events are appended: give --mode tail"),
        ({"retention": "30s", "mode": "tail", "group": 2}, "--retention needs readers that keep their cursors"),
        ({"retention": "30s", "mode": "tail", "cursor": "client"}, "--retention"),
        ({"retention": "0", "mode": "tail"}, "--retention '0': give a time like 30s"),
        ({"retention": "0s", "mode": "tail"}, "--retention '0s'"),
        ({"retention": "1d", "mode": "tail"}, "--retention '1d'"),
        ({"retention": "1.5.s", "mode": "tail"}, "--retention '1.5.s'"),
        ({"preload": 10, "payload_bytes": "200:80%,4000:20%"}, "--preload makes payloads of one size"),
        ({"preload": 10, "payload_file": "events.jsonl"}, "--preload makes payloads of one size"),
        ({"preload": "-1"}, "--preload '-1': give a whole number"),
        ({"preload": "many"}, "--preload 'many'"),
        ({"preload": "1.2345k"}, "--preload '1.2345k'"),
        ({"preload": "1m5"}, "--preload"),
        ({"warm_up_seconds": "1.5s"}, "--warm-up-seconds '1.5s': give whole seconds"),
        ({"warm_up_seconds": "soon"}, "--warm-up-seconds 'soon'"),
        ({"warm_up_seconds": -1}, "--warm-up-seconds -1"),
        ({"warm_up_seconds": "10s", "rate": "100", "duration": "10s"}, "--warm-up-seconds 10 leaves nothing"),
        ({"warm_up_seconds": "1m", "rate": "100:5s,200:5s"}, "--warm-up-seconds 60 leaves nothing"),
        ({"warm_up_seconds": "5", "rate": "100", "limit": 10}, "--warm-up-seconds 5 leaves nothing"),
        ({"read_batch": [0]}, "--read-batch"),
        ({"read_batch": []}, "--read-batch"),
        ({"read_batch": "10,,20"}, "--read-batch '10,,20'"),
        ({"read_batch": [10, 10]}, "--read-batch"),
        ({"append": "telepathy"}, "--append 'telepathy'"),
        ({"payload_bytes": -1}, "--payload-bytes -1"),
        ({"payload_bytes": 79}, "--payload-bytes 79: must be 0 or at least 80"),
        ({"payload_bytes": 16 * 2**20 + 1}, "--payload-bytes 16777217: must be at most"),
        ({"payload_bytes": 1.5}, "--payload-bytes 1.5"),
        ({"payload_bytes": True}, "--payload-bytes True"),
        ({"payload_bytes": "big"}, "--payload-bytes 'big'"),
        ({"payload_bytes": "200,4000"}, "--payload-bytes '200,4000': give"),
        ({"payload_bytes": "200:80%,4000"}, "--payload-bytes '200:80%,4000': give"),
        ({"payload_bytes": "200:80,4000:20"}, "--payload-bytes '200:80,4000:20': give"),
        ({"payload_bytes": "200:80%,4000:10%"}, "add up to 90 %"),
        ({"payload_bytes": "200:100%,4000:0%"}, "above 0 %"),
        ({"payload_bytes": "200:50%,200:50%"}, "each size once"),
        ({"payload_bytes": "0:50%,200:50%"}, "must be at least 80"),
        ({"payload_bytes": ",".join(f"{size}:4%" for size in range(100, 125))}, "at most 20 sizes"),
        ({"payload_bytes": "200:99%,30000:1%", "insert_batch": 10_000}, "--insert-batch 10000 of 30000 bytes"),
        ({"payload_entropy": 3}, "--payload-entropy is for padding"),
        ({"payload_entropy": 7, "payload_bytes": 200}, "--payload-entropy 7"),
        ({"payload_entropy": -1, "payload_bytes": 200}, "--payload-entropy -1"),
        ({"payload_file": "x", "payload_bytes": 200}, "--payload-file has payloads of their own sizes"),
        ({"payload_file": "x", "append": "generate"}, "--append generate builds payloads in the server"),
        ({"payload_bytes": 1_000_000, "insert_batch": 1000}, "--insert-batch 1000 of 1000000 bytes"),
        ({"payload_bytes": 1_000_000, "insert_batch": 1, "read_batch": [1000]}, "--read-batch 1000 of 1000000 bytes"),
        ({"pause": "0"}, "--pause '0'"),
        ({"pause": "5..1ms"}, "--pause '5..1ms'"),
        ({"pause": "0..101ms"}, "--pause '0..101ms'"),
        ({"pause": "0..5s"}, "--pause '0..5s': give a range of milliseconds"),
        ({"pause": "0ms..5"}, "--pause '0ms..5'"),
        ({"pause": ""}, "--pause ''"),
        ({"wake": "notify"}, "--wake is for reading while producers append"),
        ({"wake": "ring", "mode": "tail"}, "--wake 'ring'"),
        ({"poll_interval": "1ms"}, "--poll-interval is for reading while producers append"),
        ({"poll_interval": "soon", "mode": "tail"}, "--poll-interval 'soon': give a time like 1ms"),
        ({"poll_interval": "5..1ms", "mode": "tail"}, "--poll-interval '5..1ms'"),
        ({"poll_interval": "2m", "mode": "tail"}, "--poll-interval '2m'"),
        ({"poll_interval": "1s", "mode": "tail", "wake": "notify"}, "--wake notify never polls"),
        ({"poll_interval": "6s", "mode": "tail"}, "--poll-interval must be at most half of --idle-timeout"),
        ({"consumer_think": "0..6000ms"}, "--consumer-think must be at most half of --idle-timeout"),
        ({"consumer_think": "-1"}, "--consumer-think '-1'"),
        ({"pause": "0..5ms", "rate": "100", "limit": 100}, "--rate measures"),
        ({"log": ""}, "--log"),
        ({"place": "moon"}, "--place 'moon'"),
        ({"dsn": "postgresql://user:secret@[host/"}, "--dsn: "),
        ({"dsn": "what=ever"}, "--dsn"),
        ({"set": {"port": "1"}}, "port is set by the harness itself"),
        ({"set": {"drop table": "1"}}, "'drop table'"),
        ({"dsn": "host=x", "set": {"fsync": "off"}}, "--set cannot be combined with --dsn"),
        ({"dsn": "host=x", "postgres_image": "postgres:17"}, "--postgres-image cannot be combined with --dsn"),
        ({"place": "local", "postgres_image": "postgres:17"}, "--postgres-image is for the docker place"),
        ({"place": "local", "worker_memory": "1g"}, "--worker-memory is for the docker place"),
        ({"place": "docker", "pg_bin": Path("/x")}, "--pg-bin is for the local place"),
        ({"dsn": "host=x", "fresh": True}, "--fresh cannot be combined with --dsn"),
        ({"worker_memory": "lots"}, "--worker-memory 'lots': give a size"),
        ({"worker_memory": "1k"}, "--worker-memory '1k': must be at least 6m"),
        ({"postgres_memory": "6291455"}, "--postgres-memory '6291455': must be at least 6m"),
        ({"constraint": ["disk"]}, "--constraint 'disk'"),
        ({"worker_cpus": 0}, "--worker-cpus 0"),
        ({"postgres_cpus": "x"}, "--postgres-cpus 'x'"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_flag(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        make(flags, None)
    assert says in str(refused.value)


def test_a_bad_time_is_quoted_as_typed_and_its_bound_has_no_useless_digits() -> None:
    with pytest.raises(UsageError) as refused:
        make({"duration": "0.0s"}, None)
    assert str(refused.value) == "--duration '0.0s': must be more than 0"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "poll_ms"),
    [
        ({}, (1, 1)),
        ({"poll_interval": "0.5s"}, (500, 500)),
        ({"poll_interval": "0..20ms"}, (0, 20)),
        ({"poll_interval": 5, "wake": "both"}, (5, 5)),
        ({"wake": "notify"}, None),
    ],
)
def test_a_reader_that_tails_polls_unless_only_notifications_wake_it(
    flags: dict[str, Any], poll_ms: tuple[float, float] | None
) -> None:
    assert make({"mode": "tail", **flags}, None).poll_ms == poll_ms


@pytest.mark.parametrize("flags", [{"read_batch": "0"}, {"read_batch": "x,y"}, {"scale": "x"}])
def test_a_bad_value_is_complained_of_once(flags: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        make(flags, None)
    assert len(str(refused.value).splitlines()) == 1


def test_an_error_names_the_file_only_for_values_that_come_from_it(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text("producers = 3\nlimit = 0\n")
    assert make({"limit": 5}, file).scale == 3
    with pytest.raises(UsageError, match=r"^--limit -1: "):
        make({"limit": -1}, file)


def test_loops_are_a_hundred_unless_a_limit_is_given() -> None:
    assert make({}, None).events_per_producer == 1_000_000
    assert make({"limit": 25}, None).events_per_producer == 25
    assert make({"insert_batch": 10, "insert_loops": 3}, None).events_per_producer == 30


@pytest.mark.parametrize(
    ("given", "kept", "sizes"),
    [
        (0, 0, [(0, 100)]),
        ("200", 200, [(200, 100)]),
        ("200:100%", 200, [(200, 100)]),
        ("200:80%, 4000 : 20 %", "200:80%,4000:20%", [(200, 80), (4000, 20)]),
        ("100:33.333%,200:33.333%,300:33.334%", None, [(100, 33.333), (200, 33.333), (300, 33.334)]),
    ],
)
def test_payloads_have_one_size_or_several(given: object, kept: object, sizes: list[tuple[int, float]]) -> None:
    spec = make({"payload_bytes": given}, None)
    assert spec.payload_bytes == (given if kept is None else kept)
    assert spec.payload_sizes == sizes


def test_a_run_by_time_has_no_number_of_events(tmp_path: Path) -> None:
    spec = make({"duration": "1.5m"}, None)
    assert (spec.append_seconds, spec.events_per_producer, spec.events, spec.seq_limit) == (90, None, None, MAX_LIMIT)
    assert make({"rate": "10", "duration": "1.5m", "scale": 1}, None).append_seconds is None
    assert make({"limit": 7}, None).seq_limit == 7
    file = tmp_path / "spec.toml"
    for key in ("limit", "insert-loops"):
        file.write_text(f"{key} = 9")
        assert make({"duration": 90}, file).append_seconds == 90
    file.write_text('duration = "90s"')
    assert make({"limit": 9}, file).events_per_producer == 9


@given(st.integers(1, 1000), st.integers(1, 10**6), st.integers(1, 10**6))
def test_there_are_always_scale_x_limit_events(scale: int, limit: int, batch: int) -> None:
    spec = make({"scale": scale, "limit": limit, "insert_batch": batch}, None)
    assert spec.events == scale * limit


def test_a_file_has_the_same_keys_and_flags_overrule_it(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(
        'scale = 3\ninsert-batch = 7\nread_batch = [5, 6]\nlimit = 9\n[set]\nfsync = false\nwork_mem = "8MB"\n'
    )
    spec = make({"scale": 4, "insert_loops": 2}, file)
    assert (spec.scale, spec.insert_batch, spec.read_batch) == (4, 7, (5, 6))
    assert (spec.limit, spec.events_per_producer) == (None, 14)
    assert spec.set == {"fsync": "off", "work_mem": "8MB"}


@pytest.mark.parametrize(
    ("text", "seconds", "events"),
    [("30s", 30, None), ("1.5m", 90, None), ("2h", 7200, None), ("5000", None, 5000), ("5k", None, 5000),
     ("1.5M", None, 1_500_000), ("5m", 300, None), ("5M", None, 5_000_000)],
)  # fmt: skip
def test_a_retention_is_a_time_or_a_number_of_events(text: str, seconds: float | None, events: int | None) -> None:
    assert retained(text) == (seconds, events)
    assert parse_retention(text) == text


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(["k", "K", "m", "M", "g", "G"]))
def test_a_count_may_have_a_unit_and_a_fraction(whole: int, thousandths: int, unit: str) -> None:
    units = {"k": 10**3, "m": 10**6, "g": 10**9}
    expected = (whole * 1000 + thousandths) * units[unit.lower()] // 1000
    assert parse_count(f"{whole}.{thousandths:03}{unit}") == expected
    assert parse_count(str(expected)) == parse_count(expected) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scales = 3", "--spec .*spec.toml: scales: unknown key"),
        ("scale = ", "--spec"),
        ("scale = 'many'", "--spec .*spec.toml: scale 'many'"),
        ("scale = 3\nproducers = 3", "--spec .*spec.toml: producers: another key"),
        ("debug = 1", "--spec .*spec.toml: debug 1: give true or false"),
        ("fresh = 'yes'", "--spec .*spec.toml: fresh 'yes': give true or false"),
        ("limit = 3\ninsert_loops = 4", "--limit and --insert-loops"),
        ("read_batch = 'all'", "read_batch 'all'"),
        ("set = 3", "set 3"),
        ("quiet = 'very'", "quiet 'very'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(text)

    def use() -> None:
        make_output_options({}, file)
        make({}, file)

    with pytest.raises(UsageError, match=says):
        use()


@pytest.mark.parametrize(
    ("flags", "events"),
    [
        ({"rate": "1000", "duration": "2m"}, 30_000),
        ({"rate": "1000:1m,0:10s,500:30s"}, 18_750),
        ({"rate": 0.1, "duration": "40s"}, 1),
        ({"rate": "1000", "insert_loops": 3, "insert_batch": 7}, 21),
        ({"rate": "1000", "insert_batch": 7}, 700),
        ({"rate": "1000:1m,5000", "limit": 33}, 33),
    ],
)
def test_an_offered_load_says_how_many_events_there_are(flags: dict[str, Any], events: int) -> None:
    assert make({"scale": 4, **flags}, None).events_per_producer == events


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200), (3, 3), (None, None)]
)
def test_a_time_limit_may_have_a_unit(text: object, seconds: float | None) -> None:
    assert make_output_options({"time_limit": text}, None).time_limit == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "1d", "nan", "inf", "1e3", "9999999h"])
def test_a_time_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--time-limit"):
        make_output_options({"time_limit": text}, None)


@pytest.mark.parametrize("given", ["0..5ms", "0..5", [0, 5], (0.0, 5.0)])
def test_ranges_are_of_milliseconds(given: object) -> None:
    spec = make({"pause": given, "transaction_ms": given}, None)
    assert spec.pause == spec.transaction_ms == (0, 5)


@pytest.mark.parametrize("given", ["5ms", "5", 5])
def test_a_pause_may_have_one_length(given: object) -> None:
    assert make({"pause": given}, None).pause == (5, 5)
    assert make({"pause": None}, None).pause is None


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text('log = "mine/log"\npg_bin = "bin"\nexport_json = "-"\noutput = "/runs"\npayload-file = "o.jsonl"\n')
    assert make({}, file).log == str(tmp_path / "mine" / "log")
    assert make({}, file).pg_bin == tmp_path / "bin"
    assert make({}, file).payload_file == tmp_path / "o.jsonl"
    assert make({"log": "mine/log"}, file).log == "mine/log"
    output = make_output_options({}, file)
    assert (output.export_json, output.output) == (Path("-"), Path("/runs"))
    file.write_text('log = "counter"\nread-batch = "100,10"')
    spec = make({}, file)
    assert (spec.log, spec.read_batch) == ("counter", (100, 10))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        make({}, tmp_path / "none.toml")


@pytest.mark.parametrize("flag", ["postgres_cpus", "worker_cpus"])
@pytest.mark.parametrize("cpus", [float("inf"), float("nan"), 1e300, 1e-12, 0.009, -1.0])
def test_a_limit_of_cpus_that_docker_would_not_make_is_refused(flag: str, cpus: float) -> None:
    with pytest.raises(UsageError, match=f"--{flag.replace('_', '-')} "):
        make({flag: cpus, "place": "docker"}, None)
    make({flag: 0.01, "place": "docker"}, None)
