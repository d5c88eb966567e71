"""Limits of containers that engines drop or keep."""

from typing import Any

import pytest

from bench.errors import InfrastructureError
from bench.places.docker.options import Limits

LIMITS = Limits(memory="200m", cpus=0.55)
KEPT = {"NanoCpus": 550_000_000, "Memory": 200 * 2**20}


@pytest.mark.parametrize(
    "made",
    [
        KEPT,
        {**KEPT, "NanoCpus": 0, "CpuQuota": 55_000},
        {**KEPT, "NanoCpus": 0, "CpuQuota": 27_500, "CpuPeriod": 50_000},
    ],
)
def test_limits_that_an_engine_kept_are_taken(made: dict[str, Any]) -> None:
    LIMITS.refuse_dropped(made)
    Limits().refuse_dropped({"NanoCpus": 0, "Memory": 0, "CpuQuota": 0, "CpuPeriod": 0})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"NanoCpus": 0}, "NanoCpus is 0, not 550000000"),
        ({"NanoCpus": 1}, "NanoCpus is 1, not 550000000"),
        ({"NanoCpus": 0, "CpuQuota": -1}, "NanoCpus is 0, not 550000000"),
        ({"Memory": 0}, "Memory is 0, not 209715200"),
    ],
)
def test_a_limit_that_an_engine_dropped_ends_the_run(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InfrastructureError, match=f"did not limit a container as asked: {says}"):
        LIMITS.refuse_dropped({**KEPT, **change})
