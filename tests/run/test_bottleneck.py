"""What set the pace, in a sentence."""

from collections import Counter

import pytest

from bench.postgres.connection import Connection
from bench.postgres.telemetry import ON_CPU, WORKER
from bench.run.bottleneck import in_words, sentence, shares

WAITS = Counter({
    (WORKER, "IO:WalSync"): 40, (WORKER, "LWLock:WALWrite"): 20, (WORKER, ON_CPU): 25,
    (WORKER, "Client:ClientRead"): 14, (WORKER, "LWLock:Odd"): 1, ("checkpointer", "IO:DataFileWrite"): 500,
})  # fmt: skip


def test_events_that_mean_the_same_are_one_and_small_ones_are_not_told() -> None:
    assert sentence(WAITS, samples=10, busy_cores=None, client=None) == (
        "WAL flush: 60% of the backends' time; then Postgres's CPU 25%, the clients' next statement 14%"
    )


def test_a_worker_that_set_the_pace_is_named() -> None:
    assert sentence(WAITS, 10, 1.0, ("consumer-1000", 0.97)) == "client-bound: consumer-1000 used 97% of a core"


def test_accounted_cpu_time_is_believed_when_samples_saw_less() -> None:
    assert sentence(WAITS, 10, busy_cores=5.0, client=None) == (
        "Postgres's CPU: 50% of the backends' time, 5.0 cores busy; then WAL flush 40%, the clients' next statement 9%"
    )
    assert dict(shares(WAITS, cpu_share=0.1))["Postgres's CPU"] == 0.25
    assert dict(shares(WAITS, cpu_share=7.0)) == pytest.approx(
        {"Postgres's CPU": 1, "WAL flush": 0, "the clients' next statement": 0, "another lock inside Postgres (Odd)": 0}
    )


def test_shares_add_up() -> None:
    for cpu_share in (None, 0.0, 0.4, 1.0):
        assert sum(share for _, share in shares(WAITS, cpu_share)) == pytest.approx(1)


def test_only_cpu_and_nothing_at_all() -> None:
    assert sentence({(WORKER, ON_CPU): 3}, 3, None, None) == "Postgres's CPU: 100% of the backends' time"
    assert sentence({}, 5, 0.1, None) is None
    assert sentence({("checkpointer", ON_CPU): 3}, 3, 0.1, None) is None
    assert sentence({}, 0, None, None) is None


def test_each_wait_event_of_the_server_has_words(connection: Connection) -> None:
    if connection.info.server_version < 170000:
        pytest.skip("pg_wait_events came with PostgreSQL 17")
    events = [f"{kind}:{name}" for kind, name in connection.execute("SELECT type, name FROM pg_wait_events")]
    assert len(events) > 200
    assert not [event for event in events if in_words(event) == event]


def test_names_of_wait_events_are_known_in_the_spelling_of_each_version() -> None:
    assert in_words("IO:WALSync") == in_words("IO:WalSync") == "WAL flush"
    assert in_words("IPC:BufferIO") == in_words("IPC:BufferIo")
    assert in_words("Lock:object") == "a lock on an object, such as the queue of NOTIFY"
    assert in_words("LWLock:XactSLRU") == "the states of transactions"
    assert in_words("Lock:userlock") == "another lock (userlock)"
