"""What a producer reports of its events, against the fates that its batches had."""

from types import SimpleNamespace
from typing import Any, cast, get_args

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import producers.__main__ as program
from bench import eventlog
from bench.attribution import LogFailedError, TransactionChangedError
from bench.records import Fate, LedgerPart, Record, RolledBackEtags
from bench.run.jobs import producers
from bench.specfile import make
from producers.transaction import RolledBack

BIGSERIAL = eventlog.load("bigserial")
NUMBER = 3
LIMIT = 20

ENDS: dict[str, tuple[Exception | int, Fate, type[Exception]]] = {
    "took fewer": (-1, "acknowledged", LogFailedError),
    "took more": (1, "acknowledged", LogFailedError),
    "refused by the log": (psycopg.errors.UniqueViolation("no"), "aborted", LogFailedError),
    "transaction ended by the log": (TransactionChangedError("no"), "indeterminate", LogFailedError),
    "connection lost": (psycopg.OperationalError("no"), "indeterminate", psycopg.OperationalError),
    "server out of space": (psycopg.errors.DiskFull("no"), "indeterminate", psycopg.errors.DiskFull),
}
"""How a batch ends a producer: what appending raises, or by how many its answer is wrong; the fate; the exception."""


def reported(records: list[Record], fate: str) -> list[tuple[int, int, int]]:
    ranges = [
        part for record in records if isinstance(record, LedgerPart) and record.fate == fate for part in record.ranges
    ]
    assert all(first <= last for _, first, last in ranges)
    return ranges


@given(
    st.integers(1, 7),
    st.lists(st.booleans(), min_size=LIMIT, max_size=LIMIT),
    st.tuples(st.integers(0, 8), st.sampled_from([*ENDS])),
    st.sampled_from([0.0, float("inf")]),
    st.integers(1, 4),
)
def test_what_is_reported_is_what_became_of_each_event(
    batch: int, commits: list[bool], end: tuple[int, str], next_progress: float, report_every: int
) -> None:
    """`commits` are the fates of batches one after the other, until the one at `end`."""
    (job,) = producers(make({"scale": 1, "limit": LIMIT, "insert_batch": batch}, None), BIGSERIAL)
    met, fate, raised = ENDS[end[1]]
    fates: dict[str, set[int]] = {fate: set() for fate in get_args(Fate)}
    etags: list[tuple[int, int]] = []
    timed = calls = first_of_ended = 0

    def append(first: int, last: int) -> int:
        nonlocal calls, timed, first_of_ended
        seqs = set(range(first, last + 1))
        assert len(seqs) == min(batch, LIMIT - first)
        ends, commit = calls == end[0], commits[calls]
        calls += 1
        if ends:
            first_of_ended = first
            fates[fate] |= seqs
            if isinstance(met, Exception):
                raise met
            timed += 1
            return len(seqs) + met
        if not commit:
            fates["aborted"] |= seqs
            etags.append((first * 2 + 1, last * 2 + 1))
            raise RolledBack([etags[-1]])
        fates["acknowledged"] |= seqs
        timed += 1
        return len(seqs)

    tally, meter = program._Tally(NUMBER), SimpleNamespace(calls=[], was_late=lambda _: None)
    records: list[Record] = []
    turns = first = 0
    error: Exception | None = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "say", records.append)
        while first < LIMIT and error is None:
            before = calls
            try:
                first = program._append_until_progress(append, None, job, first, tally, cast(Any, meter), next_progress)
            except (LogFailedError, psycopg.Error) as met_by_worker:
                error = met_by_worker
            if isinstance(error, LogFailedError):
                assert error.error.events == (first_of_ended, min(first_of_ended + batch, LIMIT) - 1)
            elif error:  # its connection is lost, so all was reported before it ends
                reported_before = len(records)
                tally.report()
                assert len(records) == reported_before
            elif next_progress == 0:
                assert calls == before + 1
            elif first < LIMIT:
                assert not commits[calls - 1]
            turns += 1
            if turns % report_every == 0:
                tally.report()
        tally.close()
        events, checksum, attempted = tally.events, tally.checksum, tally.attempted
        tally.report()
    assert (type(error) if error else None) == (raised if calls > end[0] else None)
    assert len(meter.calls) == timed
    for kind, seqs in fates.items():
        ranges = reported(records, kind)
        assert all(producer == NUMBER for producer, _, _ in ranges)
        assert [seq for _, low, high in ranges for seq in range(low, high + 1)] == sorted(seqs)
    assert attempted == sum(map(len, fates.values()))
    assert (events, checksum) == (len(fates["acknowledged"]), sum(fates["acknowledged"]))
    assert [each for record in records if isinstance(record, RolledBackEtags) for each in record.etags] == etags


def test_events_of_one_fate_that_follow_one_another_are_one_range() -> None:
    tally = program._Tally(NUMBER)
    fates: list[tuple[Fate, int, int]] = [
        ("acknowledged", 0, 4),
        ("acknowledged", 5, 4),
        ("acknowledged", 5, 9),
        ("aborted", 10, 10),
        ("acknowledged", 11, 12),
    ]
    for fate, first, last in fates:
        tally.note(fate, first, last)
    records: list[Record] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "say", records.append)
        tally.report()
        tally.report()
    assert reported(records, "acknowledged") == [(NUMBER, 0, 9), (NUMBER, 11, 12)]
    assert reported(records, "aborted") == [(NUMBER, 10, 10)]
    assert len(records) == 2
