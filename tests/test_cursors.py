"""Cursors as workers send them back, report them, and are given them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from bench import eventlog
from bench.eventlog import Log
from bench.judge.ranges import normal
from bench.postgres.retention import MANY_RANGES, Deleted
from bench.run.jobs import consumers, preloaded_events
from bench.spec import Spec
from bench.specfile import make
from bench.statements import retention_sql
from bench.values import Retained
from bench.wire import packed, unpacked

DELETABLE = st.sampled_from([log for log in map(eventlog.load, eventlog.shipped()) if log.passed])


@given(st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=6))
def test_a_cursor_is_read_back_as_it_was_sent(values: list[bytes | None]) -> None:
    assert unpacked(packed(values)) == [value for value in values if value is not None]


@given(DELETABLE, st.integers(1, 5), st.booleans())
def test_a_row_is_deleted_by_the_cursors_of_all_readers(log: Log, readers: int, by_time: bool) -> None:  # noqa: FBT001
    statement = retention_sql(log, readers, Retained(1.5, None) if by_time else Retained(None, 3))
    numbers = [int(number) for number in re.findall(r"\$(\d+)", statement)]
    used = {int(number) for number in re.findall(r"\$(\d+)", log.passed)}
    width = len(log.cursor)
    expected = {reader * width + number for reader in range(readers) for number in used}
    assert set(numbers) == expected | {readers * width + 1}
    kinds = [*log.cursor.values()] * readers
    casts = dict(re.findall(r"\$(\d+)::([a-z0-9_\[\]]+)", statement))
    assert all(casts[str(number)] == kinds[number - 1] for number in expected)


@given(st.integers(1, 10**9), st.integers(1, 1000))
def test_preloaded_events_are_as_many_as_asked_for_and_have_numbers_of_their_own(preload: int, scale: int) -> None:
    spec = make({"preload": preload, "scale": scale, "limit": 5}, None)
    events = preloaded_events(spec)
    assert sum(last - first + 1 for _, first, last in events) == preload
    assert [producer for producer, _, _ in events] == list(range(scale, scale + len(events)))
    first, limit = consumers(spec, eventlog.load("bigserial"), 10)[0].preloaded or (0, 0)
    assert first == scale
    assert max(last for _, _, last in events) == limit - 1


def test_readers_with_a_cursor_of_their_own_begin_after_it() -> None:
    log = eventlog.load("lock-drain")

    def after(**flags: object) -> list[bytes]:
        return consumers(Spec.model_validate(flags), log, 10, [b"\0" * 8])[0].after

    assert after() == [b"\0" * 8]
    assert after(cursor="client") == after(group=2) == []


@given(st.lists(st.integers(1, 50), max_size=600), st.integers(1, 4))
def test_what_was_deleted_is_remembered_in_few_ranges(sizes: list[int], producers: int) -> None:
    deleted = Deleted()
    ends = dict.fromkeys(range(producers), 0)
    for size in sizes:
        deleted.add([(producer, end, end + size - 1) for producer, end in ends.items()])
        ends = {producer: end + size for producer, end in ends.items()}
    assert deleted.statements == len(sizes)
    assert len(deleted.ranges) <= MANY_RANGES + 2 * producers
    assert normal(deleted.ranges) == [(producer, 0, end - 1) for producer, end in ends.items() if end]
