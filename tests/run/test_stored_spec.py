"""A spec that a result stores is a spec again."""

import json
import shlex
import tomllib
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.command import as_given
from bench.errors import UsageError
from bench.results.store import load_all
from bench.run.trials import command, stored_spec
from bench.spec import Spec
from bench.specfile import make
from tests.conftest import REPOSITORY

PUBLISHED = load_all(REPOSITORY / "results" / "published")


PHASE = st.fixed_dictionaries(
    {"rate": st.floats(4, 1e6), "duration": st.sampled_from(["30s", 2.5, "0.5m"])},
    optional={
        "name": st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=40),
        "read": st.booleans(),
        "open_transaction": st.sampled_from(["read-only", "prepared"]),
    },
)
PHASES = st.lists(PHASE, min_size=1, max_size=4, unique_by=lambda phase: phase.get("name") or object())


@given(
    st.fixed_dictionaries(
        {"insert_batch": st.integers(1, 1000)},
        optional={
            "insert_loops": st.integers(1, 1000),
            "transaction_ms": st.sampled_from(["0..20", "5"]),
            "pause": st.sampled_from(["0..5ms", "2.5ms"]),
            "set": st.just({"work_mem": "8MB"}),
            "trials": st.integers(1, 9),
            "payload_bytes": st.sampled_from([0, 200, "200:80%,4000:20%", "100:33.4%,200:66.6%"]),
            "log": st.sampled_from(["counter", "db/events"]),
        },
    )
    | st.fixed_dictionaries({"limit": st.integers(1, 10**6)}, optional={"insert_batch": st.integers(1, 1000)})
    | st.fixed_dictionaries({"payload_bytes": st.just(200), "payload_entropy": st.integers(0, 6)})
    | st.just({"payload_file": "events.jsonl"})
    | st.fixed_dictionaries({"preload": st.sampled_from(["0", "10M", "1.5k", 7])})
    | st.fixed_dictionaries(
        {"duration": st.sampled_from(["90s", 2.5])}, optional={"insert_batch": st.integers(1, 1000)}
    )
    | st.fixed_dictionaries({"rate": st.sampled_from(["1000:2s,5:0.5m", "7:2s"])})
    | st.fixed_dictionaries({"mode": st.just("tail"), "retention": st.sampled_from(["30s", "100k", 5000])})
    | st.fixed_dictionaries(
        {"mode": st.just("tail"), "wake": st.sampled_from(["poll", "both"])},
        optional={
            "poll_interval": st.sampled_from(["0..20ms", "1.5s", 3]),
            "consumer_think": st.sampled_from(["0..2.5ms", "7"]),
        },
    )
    | st.just({"mode": "tail", "wake": "notify"})
    | st.fixed_dictionaries(
        {"rate": st.sampled_from(["1000:2s,5", "7"])},
        optional={"duration": st.sampled_from(["90s", 2.5]), "arrival": st.just("poisson")},
    )
    | st.fixed_dictionaries({"mode": st.just("tail"), "phase": PHASES})
    | st.fixed_dictionaries(
        {
            "rate": st.just("find"),
            "mode": st.just("tail"),
            "slo": st.lists(st.sampled_from(["append.p99<50ms", "end_to_end p99.9 <= 1.5s"]), min_size=1),
        },
        optional={"duration": st.sampled_from(["90s", 2.5]), "arrival": st.just("poisson")},
    )
)
def test_it_loads_back(flags: dict[str, Any]) -> None:
    spec = make(flags, None)
    again = Spec.model_validate(as_given(json.loads(json.dumps(stored_spec(spec)))))
    assert again.events_per_producer == spec.events_per_producer
    loops = {"limit", "insert_loops"}
    assert again.model_dump(exclude=loops) == spec.model_dump(exclude=loops)


@pytest.mark.parametrize("payloads", ["--payload-bytes 200:80%,4000:20% --payload-entropy 0", "--payload-file e.jsonl"])
def test_a_command_gives_payloads_as_they_were_given(payloads: str) -> None:
    words = payloads.split()
    flags = {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
    assert command(make(flags, None)) == f"python -m bench run {payloads}"


def test_the_command_has_all_that_was_given_by_flags_and_file(tmp_path: Path) -> None:
    file = tmp_path / "e.toml"
    file.write_text("limit = 20\nfresh = false\nread-batch = [10, 3]\nset = {}")
    spec = make({"scale": "10", "transaction_ms": "0..20", "pause": "0..2.5"}, file)
    expected = "--scale 10 --limit 20 --read-batch 10,3 --transaction-ms 0..20 --pause 0..2.5ms"
    assert command(spec) == f"python -m bench run {expected}"
    waits = "--mode tail --wake both --poll-interval 1500ms --consumer-think 0..2.5ms"
    tails = {"mode": "tail", "wake": "both", "poll_interval": "1.5s", "consumer_think": "0..2.5ms"}
    assert command(make(tails, None)) == f"python -m bench run {waits}"
    given_dsn = command(make({"dsn": "postgresql://me:hush@db/x"}, None))
    assert "--dsn" in given_dsn
    assert "hush" not in given_dsn


def test_an_error_about_a_spec_never_shows_a_password() -> None:
    for dsn in ("postgresql://me:hush@h/x?bogus=1", "postgresql://me:hu sh@h/x"):
        with pytest.raises(UsageError) as raised:
            make({"dsn": dsn}, None)
        shown = "".join(traceback.format_exception(raised.value))
        assert not [line for line in shown.splitlines() if "me:hu" in line]


@pytest.mark.parametrize("result", PUBLISHED, ids=lambda result: result.run_id)
def test_those_of_published_results_do(result: Any) -> None:
    assert Spec.model_validate(as_given(result.spec)).events_per_producer == result.spec["limit"]


@given(PHASES)
def test_the_file_that_a_command_writes_has_the_phases(given_phases: list[dict[str, Any]]) -> None:
    spec = make({"mode": "tail", "phase": given_phases}, None)
    _, _, text, to, file, *rest = shlex.split(command(spec))
    assert (to, rest[:7]) == (">", ["&&", "python", "-m", "bench", "run", "--spec", file])
    assert Spec.model_validate({"mode": "tail", **tomllib.loads(text)}).phase == spec.phase
    assert "open_transaction =" not in text
