"""What set the pace of a phase: found in samples, and put into words."""

from collections import Counter
from collections.abc import Mapping

import pytest

from bench.postgres.connection import Connection
from bench.postgres.telemetry import ON_CPU, WORKER
from bench.report.bottleneck import WORDS, main_cause, sentence
from bench.results.costs import Observed
from bench.run.bottleneck import CAUSES, BusyWorker, Cause, bottleneck, cause_of, shares

WAITS = Counter({
    (WORKER, "IO:WalSync"): 40, (WORKER, "LWLock:WALWrite"): 20, (WORKER, ON_CPU): 25,
    (WORKER, "Client:ClientRead"): 14, (WORKER, "LWLock:Odd"): 1, ("checkpointer", "IO:DataFileWrite"): 500,
})  # fmt: skip


def observed(
    waits: Mapping[tuple[str, str], int],
    samples: int = 10,
    busy_cores: float | None = None,
    busy_worker: BusyWorker | None = None,
) -> Observed:
    return Observed(
        seconds=1,
        samples=samples,
        bottleneck=bottleneck(waits, samples, busy_cores, busy_worker),
        waits=[],
        counters={},
        postgres_cpu_seconds=None,
        postgres_memory_bytes=None,
        workers_cpu_seconds=0,
        worker_memory_bytes=0,
    )


def test_events_that_mean_the_same_are_one_cause_and_small_causes_are_not_printed() -> None:
    phase = observed(WAITS)
    assert sentence(phase) == (
        "WAL flush: 60% of the backends' time; then Postgres's CPU 25%, waiting for the client 14%"
    )
    assert main_cause(phase) == "WAL flush"
    assert phase.bottleneck is not None
    assert (phase.bottleneck.cause, phase.bottleneck.share) == ("wal_flush", 0.6)
    assert [each.share for each in phase.bottleneck.others] == [0.25, 0.14, 0.01]


def test_a_worker_that_set_the_pace_is_named() -> None:
    phase = observed(WAITS, busy_cores=1.0, busy_worker=BusyWorker("consumer-1000", 0.97))
    assert sentence(phase) == "client-bound: consumer-1000 used 97% of a core"
    assert main_cause(phase) == "client-bound"
    assert phase.bottleneck is not None
    assert phase.bottleneck.others[0].cause == "wal_flush"


def test_accounted_cpu_time_is_believed_when_samples_saw_less() -> None:
    assert sentence(observed(WAITS, busy_cores=5.0)) == (
        "Postgres's CPU: 50% of the backends' time, 5.0 cores busy; then WAL flush 40%, waiting for the client 9%"
    )
    assert {each.cause: each.share for each in shares(WAITS, cpu_share=0.1)}["cpu"] == 0.25
    assert {each.cause: each.share for each in shares(WAITS, cpu_share=7.0)} == pytest.approx(
        {"cpu": 1, "wal_flush": 0, "client_statement": 0, "lwlock": 0}
    )


def test_shares_add_up() -> None:
    for cpu_share in (None, 0.0, 0.4, 1.0):
        assert sum(each.share for each in shares(WAITS, cpu_share)) == pytest.approx(1)


def test_only_cpu_and_nothing_at_all() -> None:
    assert sentence(observed({(WORKER, ON_CPU): 3}, 3)) == "Postgres's CPU: 100% of the backends' time"
    for waits, samples, busy_cores in (({}, 5, 0.1), ({("checkpointer", ON_CPU): 3}, 3, 0.1), ({}, 0, None)):
        nothing = observed(waits, samples, busy_cores)
        assert sentence(nothing) is main_cause(nothing) is None


def test_an_event_without_a_cause_of_its_own_is_printed_by_its_name() -> None:
    assert (sentence(observed({(WORKER, "LWLock:Odd"): 1})) or "").startswith(
        "another lock inside Postgres (Odd): 100%"
    )
    assert (sentence(observed({(WORKER, "New:Event"): 1})) or "").startswith("New:Event: 100%")


def test_a_sentence_that_an_earlier_version_stored_is_printed_as_it_is() -> None:
    stored = "WAL flush: 60% of the backends' time; then Postgres's CPU 25%"
    phase = observed({}).model_copy(update={"bottleneck_sentence": stored})
    assert sentence(phase) == stored
    assert main_cause(phase) == "WAL flush"


def test_each_cause_has_words_of_its_own() -> None:
    assert WORDS.keys() == CAUSES - {"unknown"}
    assert len(set(WORDS.values())) == len(WORDS)


def test_each_wait_event_of_the_server_has_a_cause(connection: Connection) -> None:
    if connection.info.server_version < 170000:
        pytest.skip("pg_wait_events came with PostgreSQL 17")
    events = [f"{kind}:{name}" for kind, name in connection.execute("SELECT type, name FROM pg_wait_events")]
    assert len(events) > 200
    assert not [event for event in events if cause_of(event).name == "unknown"]


def test_names_of_wait_events_are_known_in_the_spelling_of_each_version() -> None:
    assert cause_of("IO:WALSync") == cause_of("IO:WalSync") == Cause("wal_flush")
    assert cause_of("IPC:BufferIO") == cause_of("IPC:BufferIo")
    assert cause_of("Lock:object") == Cause("object_lock")
