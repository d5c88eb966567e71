"""What a comparison says, and what it must not say."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.eventlog import load
from bench.judge.exposure import Exposure
from bench.logs import compare as log_comparison
from bench.logs.comparison import Comparison, Load, Measured, Speed, Tail, Workload
from bench.logs.open_transactions import Blocked
from bench.postgres.open_transactions import KINDS
from bench.report import logs as logs_report
from bench.results import store
from bench.results.environment import Environment
from bench.results.models import Latency
from tests.conftest import REPOSITORY, golden

ENVIRONMENT = Environment(
    place="local",
    cpu="CPU",
    cores=2,
    memory_bytes=8 * 2**30,
    kernel="Linux 6",
    python="3.13",
    bench="0",
    git_revision=None,
    postgres="18.6",
    settings={"track_commit_timestamp": "on"},
    about={},
)


def speed(append: float | None, read: float | None) -> Speed:
    return Speed(appended_per_second=append, read_per_second=read, bytes_an_event=112, wal_bytes_an_event=184)


EXPOSED = Exposure(transactions=9, overlapped=9, out_of_order=3, pages=9, pages_amid_overlap=5, pages_at_risk=2)
SHELTERED = Exposure(transactions=9, out_of_order=0, pages=9, pages_at_risk=0)


def tail(faults: dict[str, int], *, ok: bool, delay: float = 8, exposure: Exposure | None = EXPOSED) -> Tail:
    return Tail(
        ok=ok,
        exposure=exposure,
        acknowledged=1000,
        faults=faults,
        end_to_end_p50_ms=delay,
        end_to_end_p99_ms=3 * delay,
        longest_wait_seconds=0.1,
    )


def compared(skipped: int, other: list[Tail], name: str = "lock-drain") -> Comparison:
    def blocked(log: str, *waiting: str) -> list[Blocked]:
        return [Blocked(log, kind, 10, 0 if kind in waiting else 10, 10, writers_waited=False) for kind in KINDS]

    control_tail = tail({"skipped": skipped} if skipped else {}, ok=not skipped)
    return Comparison(
        run_id="r",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        workload=Workload(insert_batch=(1,), rounds=2, tails=len(other)),
        environment=ENVIRONMENT,
        promises={each: load(each).promises for each in ("bigserial", name)},
        needs={},
        measured=[
            Measured(
                log="bigserial",
                insert_batch=1,
                speeds=[speed(4000, 9e5), speed(2000, 7e5)],
                tails=[control_tail] * len(other),
            ),
            Measured(log=name, insert_batch=1, speeds=[speed(3600, 4.5e5), speed(2200, 3.5e5)], tails=other),
        ],
        blocked=[*blocked("bigserial"), *blocked(name, "in this log", "prepared")],
    )


def test_what_people_read() -> None:
    found = compared(400, [tail({}, ok=True, delay=24)] * 2)
    golden("comparison.md", logs_report.whole(found) + "\n")
    golden("comparison-short.md", logs_report.short([found]) + "\n")
    golden("comparison-glance.md", logs_report.glance([found]) + "\n")


def test_safe_is_said_only_when_the_control_lost_events() -> None:
    clean = [tail({}, ok=True)] * 2
    assert "safe: 0 of 2,000 in 2 runs (< 0.15 %)" in logs_report.whole(compared(1, clean))
    unproven = logs_report.whole(compared(0, clean))
    assert "safe:" not in unproven
    assert "0 of 2,000, which proves nothing" in unproven


def test_safe_is_said_only_when_readers_were_exposed() -> None:
    sheltered, exposed = (tail({}, ok=True, exposure=each) for each in (SHELTERED, EXPOSED))
    unknown = tail({}, ok=True, exposure=Exposure(unknown="no xmin"))
    for tails, word in (([sheltered] * 2, "untested"), ([unknown] * 2, "untested"), ([sheltered, exposed], "safe")):
        found = compared(400, tails)
        assert f"{word}: 0 of 2,000 in 2 runs" in logs_report.whole(found)
        cell = logs_report.glance([found]).splitlines()[-1].split("|")[2].strip()
        assert cell == f"yes, {word}"


def test_a_record_of_a_version_that_counted_no_exposure_is_untested() -> None:
    found = compared(400, [tail({}, ok=True, exposure=None)] * 2)
    assert "untested: 0 of 2,000" in logs_report.whole(found)
    assert "safe:" not in logs_report.whole(found)


@pytest.mark.parametrize(
    ("name", "tails", "cell"),
    [
        ("lock-drain", [tail({}, ok=True)], "yes, safe"),
        ("lock-drain", [tail({}, ok=True, exposure=SHELTERED)], "yes, untested"),
        ("lock-drain", [tail({"skipped": 3}, ok=False)], "yes, **3 skipped**"),
        ("commit-timestamp", [tail({"skipped": 3}, ok=False)], "no, **3 skipped**"),
        ("commit-timestamp", [tail({}, ok=True)], "no, nothing lost"),
        ("commit-timestamp", [tail({}, ok=True, exposure=SHELTERED)], "no, untested"),
    ],
)
def test_at_a_glance_a_log_is_what_it_promises_and_what_was_shown(name: str, tails: list[Tail], cell: str) -> None:
    header, _, *rows = logs_report.glance([compared(400, tails, name)]).splitlines()
    assert header.split("|")[2].strip() == "safe when tailed: promised, shown"
    assert rows[-1].split("|")[2].strip() == cell


def test_the_real_time_order_is_shown_only_by_pairs_that_could_have_broken_it() -> None:
    for name, changes, cell in (
        ("lock-drain", {"real_time_pairs": 1500}, "kept in 3,000 pairs"),
        ("lock-drain", {"real_time_pairs": 0}, "untested"),
        ("lock-drain", {}, "untested"),
        ("lock-drain", {"real_time_pairs": 9, "faults": {"inverted": 2}, "ok": False}, "**4 inverted**"),
        ("skip-locked", {"real_time_pairs": 9, "faults": {"inverted": 2}}, "not promised; **4 inverted**"),
    ):
        found = logs_report.whole(compared(400, [tail({}, ok=True).model_copy(update=changes)] * 2, name))
        assert f"| {cell} " in found, found


def test_a_log_that_promises_nothing_is_not_called_safe() -> None:
    text = logs_report.whole(compared(1, [tail({}, ok=True)], "commit-timestamp"))
    assert "safe" not in text
    assert "0 of 1,000" in text
    assert "does not promise" in text


def test_a_later_comparison_adds_its_logs_to_the_short_form() -> None:
    first = compared(400, [tail({}, ok=True)])
    second = compared(300, [tail({}, ok=True)], "counter")
    lines = logs_report.short([first, second]).splitlines()
    names = [line.split("|")[1].strip() for line in lines if line.startswith("| `")]
    assert names == ["`bigserial`", "`counter`", "`lock-drain`"]
    assert "**400 skipped**" in logs_report.short([first, second])


def test_one_bad_run_is_told() -> None:
    text = logs_report.whole(compared(1, [tail({}, ok=True), tail({"skipped": 3, "lost": 1}, ok=False)]))
    assert "**3 skipped, 1 lost** of 2,000, in 1 of 2 runs" in text


def test_what_a_log_may_do_is_told_and_excused() -> None:
    text = logs_report.whole(compared(1, [tail({"reordered": 3}, ok=True)], "skip-locked"))
    assert "safe: 0 of 1,000 in 1 run (< 0.3 %), reordered" in text


def test_a_trial_that_failed_has_no_speed() -> None:
    found = compared(1, [tail({}, ok=True)])
    broken = found.measured[1].model_copy(update={"speeds": [speed(None, None), speed(1, 1)]})
    text = logs_report.whole(found.model_copy(update={"measured": [found.measured[0], broken]}))
    assert "FAILED" in text


def test_what_a_log_failed_to_do_is_told_and_is_no_success() -> None:
    found = compared(1, [tail({}, ok=True)])
    assert found.ok
    prepared = replace(found.blocked[-1], not_applicable="it cannot be prepared")
    inapplicable = found.model_copy(update={"blocked": [*found.blocked[:-1], prepared]})
    assert inapplicable.ok
    assert "; not applicable (prepared)" in logs_report.short([inapplicable])
    failed = Measured(
        log="lock-drain", insert_batch=1, speeds=[Speed(failure="why")] * 2, tails=found.measured[1].tails
    )
    failing = found.model_copy(update={"measured": [found.measured[0], failed]})
    assert not failing.ok
    assert re.search("- `lock-drain`: append and read .*: why", logs_report.whole(failing))


def offered(rate: int, p50: float, **rest: Any) -> Load:
    latency = Latency(p50=p50, p90=2 * p50, p99=3 * p50, p99_9=4 * p50, p99_99=4 * p50, max=5 * p50)
    return Load(rate=rate, append_ms=latency, service_ms=latency, end_to_end_ms=latency, **rest)


def with_loads(loads: list[Load], other: list[Load]) -> Comparison:
    found = compared(1, [])
    workload = found.workload.model_copy(update={"rate": (500, 2000), "rounds": 2})
    measured = [each.model_copy(update={"loads": of}) for each, of in zip(found.measured, (loads, other), strict=True)]
    return found.model_copy(update={"workload": workload, "measured": measured})


def test_latencies_at_offered_loads_are_medians_with_what_disturbs_them() -> None:
    control = [offered(500, 1.5), offered(2000, 4), offered(500, 2.5), offered(2000, 40, saturated=True)]
    other = [
        offered(500, 1, faults={"skipped": 3}),
        offered(2000, 1, generator_bound=True),
        offered(500, 1),
        Load(rate=2000, failure="why"),
    ]
    text = logs_report.at_rates(with_loads(control, other))
    (own,) = (line for line in text.splitlines() if line.startswith("| `bigserial`"))
    assert [cell.strip() for cell in own.split("|")[2:-1]] == [
        *["2.0, 6.0"] * 2,
        *["22, 66 (**saturated**)"] * 2,
    ]
    (own,) = (line for line in text.splitlines() if line.startswith("| `lock-drain`"))
    assert own.count("3 skipped") == 2
    assert own.count("FAILED") == 2
    assert "why" in text
    assert "--rate 500,2000" in text
    assert not with_loads(control, other).ok
    assert text.splitlines()[2] in logs_report.whole(with_loads(control, other))


def test_a_comparison_without_an_offered_load_has_no_table_of_latencies() -> None:
    assert "offered" not in logs_report.whole(compared(1, [tail({}, ok=True)]))


@given(
    st.builds(
        Workload,
        scale=st.integers(1, 1000),
        insert_batch=st.lists(st.integers(1, 100_000), min_size=1).map(tuple),
        rate=st.lists(st.integers(1, 10**9)).map(tuple),
        duration=st.floats(0.001, 10**7),
        abort_rate=st.floats(0, 0.9),
        rounds=st.integers(0, 1000),
    )
)
def test_the_command_of_a_record_gives_its_workload(workload: Workload) -> None:
    arguments = workload.arguments()
    names = [name.removeprefix("--").replace("-", "_") for name in arguments[::2]]
    again = Workload.model_validate(dict(zip(names, arguments[1::2], strict=True)))
    assert again == workload.model_copy(
        update={name: pytest.approx(getattr(workload, name), rel=1e-14) for name in ("duration", "abort_rate")}
    )


def test_a_comparison_survives_the_file(tmp_path: Path) -> None:
    found = compared(1, [tail({}, ok=True)])
    store.store_record(found, tmp_path / found.run_id / log_comparison.FILE)
    assert store.load_records(Comparison, tmp_path, log_comparison.FILE) == [found]
    (tmp_path / "r" / "comparison.json").write_text("{}")
    with pytest.raises(UsageError, match=r"comparison\.json"):
        store.load_records(Comparison, tmp_path, log_comparison.FILE)


@pytest.mark.parametrize("batch", [1, 10, 100, 10_000, 100_000])
def test_a_workload_fits_its_batch(batch: int) -> None:
    workload, log = Workload(), load("bigserial")
    for spec in (workload.speed(log, batch, "local"), workload.tail(log, batch, "local", 3)):
        assert spec.insert_batch == batch
        assert 2 <= spec.seq_limit / batch <= 1000
    assert spec.transaction_ms == (0, 20)
    offered = workload.load(log, batch, "local", 5000, 3)
    assert (offered.rate, offered.mode, offered.insert_batch) == ("5000", "tail", batch)
    assert offered.events == pytest.approx(50_000, rel=0.01)


def test_the_published_pages_are_what_their_comparison_says() -> None:
    found = store.load_records(Comparison, REPOSITORY / "results" / "published", log_comparison.FILE)
    assert found
    update = "run: python -m bench table README.md results/README.md results/logs.md"
    assert logs_report.glance(found) in (REPOSITORY / "README.md").read_text(), update
    text = (REPOSITORY / "results" / "logs.md").read_text()
    assert all(logs_report.whole(each) in text for each in found if each.workload.tails), update
    text = (REPOSITORY / "results" / "latency.md").read_text()
    assert all(logs_report.at_rates(each) in text for each in found if each.workload.rate), update
