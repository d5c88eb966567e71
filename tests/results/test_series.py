"""Figures over time, in few samples however long a phase lasts."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bench.results.series import MOST_SAMPLES, MOST_WAITS, OTHERS, SAMPLE_SECONDS, Samples, Series

ROWS = st.one_of(st.none(), st.integers(0, 10**15))
SOME = st.lists(
    st.tuples(ROWS, st.dictionaries(st.sampled_from(["CPU", "IO:WalSync"]), st.integers(1, 9))), max_size=40
)


def collected(samples: list[tuple[int | None, dict[str, int]]], times: int = 1) -> tuple[Series, int]:
    """The series of these samples, repeated, one per second; and their number."""
    collecting = Samples()
    number = 0
    for rows, waits in samples * times:
        collecting.add(number, {"dead_rows": rows}, {("worker", event): count for event, count in waits.items()})
        number += 1
    return collecting.series(), number


@given(SOME.filter(bool), st.integers(1, 60))
def test_nothing_that_was_seen_is_lost_when_samples_are_joined(
    samples: list[tuple[int | None, dict[str, int]]], times: int
) -> None:
    series, number = collected(samples, times)
    assert len(series.seconds) <= MOST_SAMPLES
    assert len(series.seconds) > MOST_SAMPLES / 2 or number == len(series.seconds)
    assert series.seconds == sorted(set(series.seconds))
    assert series.seconds[-1] == number - 1
    values = series.figures["dead_rows"].values
    assert len(values) == len(series.seconds)
    known = [rows for rows, _ in samples if rows is not None]
    assert max((value for value in values if value is not None), default=None) == max(known, default=None)
    total: Counter[str] = Counter()
    for _, waits in samples * times:
        total.update(waits)
    assert {wait.event: sum(wait.counts) for wait in series.waits} == dict(total)
    assert all(len(wait.counts) == len(series.seconds) for wait in series.waits)


@given(st.integers(2, 20_000))
def test_intervals_are_as_long_as_stated(number: int) -> None:
    collecting = Samples()
    for second in range(number):
        collecting.add(second, {"wal_bytes": 7 + 10 * second}, {})
    series = collecting.series()
    step = int(series.interval_seconds / SAMPLE_SECONDS)
    # Each interval but the last one ends with its `step`-th sample.
    assert series.seconds[:-1] == list(range(step - 1, number - 1, step))[: len(series.seconds) - 1]
    values = series.figures["wal_bytes"].values
    assert values == [10 * (second - series.seconds[0]) for second in series.seconds]


def test_rare_waits_of_a_kind_of_backend_are_summed() -> None:
    collecting = Samples()
    collecting.add(0, {}, {("worker", f"IO:{number}"): 100 - number for number in range(MOST_WAITS + 2)})
    collecting.add(1, {}, {("worker", f"IO:{MOST_WAITS}"): 1, ("checkpointer", "CPU"): 1})
    series = collecting.series()
    rest = next(wait for wait in series.waits if wait.event == OTHERS)
    assert (rest.backend, rest.counts) == ("worker", [2 * (100 - MOST_WAITS) - 1, 1])
    assert len(series.waits) == MOST_WAITS + 2
    assert series.figures == {}
