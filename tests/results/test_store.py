"""Names of runs."""

from bench.results.store import new_run_id


def test_runs_of_one_second_sort_by_time() -> None:
    names = [new_run_id() for _ in range(20_000)]
    assert names == sorted(names)
    assert len({name.rpartition("-")[0] for name in names}) < len(set(names))
