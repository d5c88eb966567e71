"""The etags and times by which the real-time order of appends is judged, from a real table."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import eventlog
from bench.postgres.append_etags import append_etags
from bench.postgres.connection import Connection
from bench.records import CallTimes, LedgerPart
from bench.run.jobs import producers
from bench.run.outcome import Outcome, TrackOutcome
from bench.run.realtime import order_of_appends
from bench.specfile import make

BIGSERIAL = eventlog.load("bigserial")
SPEC = make({"scale": 2, "limit": 4, "insert_batch": 2, "mode": "tail"}, None)
EVENTS = st.lists(
    st.tuples(st.integers(-1, 3) | st.just(2**80), st.integers(-1, 9) | st.sampled_from([2**63 - 1, 2**70])),
    max_size=20,
)


def insert(log: Connection, *rows: tuple[int, str]) -> None:
    """Replace the table's rows by some with these etags and payloads."""
    log.execute("TRUNCATE events_log")
    with log.cursor() as cursor:
        cursor.executemany("INSERT INTO events_log (etag, payload) VALUES (%s, %s)", rows)


def event_of(producer: int, seq: int) -> str:
    return json.dumps({"producer": producer, "seq": seq, "value": seq})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=EVENTS,
    batch=st.integers(1, 3),
    appends=st.lists(st.integers(0, 4), min_size=1, max_size=3),
    compact=st.booleans(),
)
def test_each_append_has_the_etags_of_its_own_rows(
    log: Connection, events: list[tuple[int, int]], batch: int, appends: list[int], *, compact: bool
) -> None:
    texts = [event_of(*each) for each in events]
    rows = [(3 * n + 1, text.replace(" ", "") if compact else text) for n, text in enumerate(texts)]
    insert(log, *rows, (1000, '{"note": "no event"}'))
    of_producers = append_etags(log, BIGSERIAL, batch, appends)
    assert len(of_producers) == len(appends)
    for producer, (count, own) in enumerate(zip(appends, of_producers, strict=True)):
        assert len(own.rows) == count
        for number in range(count):
            seqs = range(number * batch, (number + 1) * batch)
            etags = [etag for (etag, _), (p, seq) in zip(rows, events, strict=True) if p == producer and seq in seqs]
            assert own.rows[number] == len(etags)
            if etags:
                assert (own.lowest[number], own.highest[number]) == (min(etags), max(etags))


def appended(uncertainty: float) -> TrackOutcome:
    """Producer 0 appends from second 0 to 1 and 2 to 3, producer 1 from 4 to 5 and 6 to 7."""
    outcomes = [Outcome(job) for job in producers(SPEC, BIGSERIAL)]
    for number, outcome in enumerate(outcomes):
        outcome.note(LedgerPart("acknowledged", [(number, 0, 3)]))
        starts = [4 * number, 4 * number + 2]
        outcome.note(CallTimes(1000.0, uncertainty, [(at * 1_000_000, (at + 1) * 1_000_000) for at in starts]))
    return TrackOutcome(outcomes, [], 0.0)


FIRST_LAST = [(5, event_of(0, 0)), (6, event_of(0, 1)), (7, event_of(0, 2)), (8, event_of(0, 3))]
REST = [(1, event_of(1, 0)), (2, event_of(1, 1)), (9, event_of(1, 2)), (10, event_of(1, 3))]


def test_an_append_that_came_later_with_lower_etags_is_inverted(log: Connection) -> None:
    insert(log, *FIRST_LAST, *REST)
    order = order_of_appends(SPEC, BIGSERIAL, appended(0.1), log)
    assert order
    assert (order.pairs, order.inverted) == (4, 1)
    (fault,) = order.examples
    assert (fault.producer, fault.seq, fault.etag) == (1, 0, 1)
    assert fault.earlier_append
    assert (fault.earlier_append.producer, fault.earlier_append.seq, fault.earlier_append.etag) == (0, 2, 8)
    assert 0.79 < fault.earlier_append.seconds < 0.81


def test_nobody_is_accused_within_the_uncertainty_of_the_clocks(log: Connection) -> None:
    insert(log, *FIRST_LAST, *REST)
    order = order_of_appends(SPEC, BIGSERIAL, appended(0.6), log)
    assert order
    assert (order.pairs, order.inverted) == (3, 1)  # still by the first append of producer 0
    order = order_of_appends(SPEC, BIGSERIAL, appended(2.6), log)
    assert order
    assert (order.pairs, order.inverted) == (0, 0)


def test_an_append_that_stands_in_the_table_twice_is_left_out(log: Connection) -> None:
    insert(log, *FIRST_LAST, *REST, (20, event_of(0, 2)), (30, event_of(0, 1)))
    order = order_of_appends(SPEC, BIGSERIAL, appended(0.1), log)
    assert order
    assert (order.pairs, order.inverted) == (0, 0)


def test_events_that_were_not_acknowledged_came_before_nothing(log: Connection) -> None:
    insert(log, *FIRST_LAST, *REST)
    track = appended(0.1)
    track.workers[0].ranges["acknowledged"].clear()
    order = order_of_appends(SPEC, BIGSERIAL, track, log)
    assert order
    assert (order.pairs, order.inverted) == (0, 0)


def test_a_drained_log_and_one_with_several_etags_per_event_have_no_order(log: Connection) -> None:
    drained = make({"scale": 2, "limit": 4, "insert_batch": 2}, None)
    promises = BIGSERIAL.promises.model_copy(update={"one_etag": False})
    assert order_of_appends(drained, BIGSERIAL, appended(0), log) is None
    assert order_of_appends(SPEC, BIGSERIAL.model_copy(update={"promises": promises}), appended(0), log) is None
