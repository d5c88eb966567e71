"""The log of interval histograms: as HdrHistogram's own reader reads it, and as windows of it."""

from collections import Counter
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import UsageError
from bench.histograms import LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS, bucket
from bench.results import latency_log
from bench.results.latency_log import Measured
from bench.results.timeline import Timeline, histogram

OPENED_AT = 1_800_000_000.25
SECONDS = st.dictionaries(
    st.integers(0, 8), st.lists(st.integers(0, LONGEST_MICROSECONDS), min_size=1, max_size=9), min_size=1, max_size=4
)


def timeline(seconds: dict[int, list[int]]) -> Timeline:
    made = Timeline()
    for second, values in seconds.items():
        made.add(second, Counter(map(bucket, values)).items())
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("latencies")


@given(SECONDS, SECONDS, st.floats(0, 10))
def test_hdrhistograms_reader_reads_every_second_of_every_metric(
    folder: Path, appends: dict[int, list[int]], reads: dict[int, list[int]], later: float
) -> None:
    file = latency_log.latency_file(folder, 1)
    opened_at = {"append": OPENED_AT, "read_1000": OPENED_AT + later}
    values = {"append": appends, "read_1000": reads}
    measured = {tag: Measured(opened_at[tag], timeline(seconds)) for tag, seconds in values.items()}
    latency_log.store(measured, file)
    reader = HistogramLogReader(str(file), HdrHistogram(1, LONGEST_MICROSECONDS, SIGNIFICANT_DIGITS))
    read: dict[str, list[tuple[float, dict[int, int]]]] = {}
    begins = []
    while interval := reader.get_next_interval_histogram():
        begin = interval.get_start_time_stamp() / 1000
        counts = {place: count for place, count in enumerate(interval.counts) if count}
        read.setdefault(interval.get_tag(), []).append((begin, counts))
        begins.append(begin)
        assert interval.get_end_time_stamp() / 1000 == pytest.approx(begin + 1)
    reader.input_file.close()
    assert begins == sorted(begins)
    assert latency_log.tags(file) == {tag: max(seconds) + 1 for tag, seconds in values.items()}
    for tag, seconds in values.items():
        for second, (begin, counts) in enumerate(read[tag]):
            assert begin == pytest.approx(opened_at[tag] + second, abs=0.002)
            assert counts == Counter(map(bucket, seconds.get(second, [])))


def test_a_window_has_the_values_of_its_seconds(tmp_path: Path) -> None:
    file = tmp_path / "latency.hlog"
    latency_log.store({"append": Measured(OPENED_AT, timeline({0: [7], 2: [5, 5], 3: [900], 5: [10**6]}))}, file)
    for first, end, expected in ((0, None, 5), (0, 1, 1), (1, 2, 0), (2, 4, 3), (3, None, 2), (9, None, 0)):
        window = histogram([])
        latency_log.add_window(file, "append", first, end, window)
        assert window.get_total_count() == expected


@pytest.mark.parametrize(
    "text", ["Tag=append,0.000,1.000,0.5,HISTx", "hello", "Tag=append,0.000,1.000,0.5,HISTFAAAAAEV"]
)
def test_a_file_that_is_no_log_of_histograms_is_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "latency.hlog"
    file.write_text(text + "\n")
    with pytest.raises(UsageError, match=r"latency\.hlog"):
        latency_log.add_window(file, "append", 0, None, histogram([]))


def test_trials_have_files_in_their_order(tmp_path: Path) -> None:
    expected = [latency_log.latency_file(tmp_path, trial) for trial in range(1, 12)]
    for file in [*expected, tmp_path / "latency-old.hlog"]:
        file.touch()
    assert latency_log.files(tmp_path) == expected
