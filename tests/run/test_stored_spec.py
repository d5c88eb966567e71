"""A spec that a result stores is a spec again."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results.store import load_all
from bench.run.trials import stored_spec
from bench.spec import Spec, as_given, make
from tests.conftest import REPOSITORY

PUBLISHED = load_all(REPOSITORY / "results" / "published")


@given(
    st.fixed_dictionaries(
        {"insert_batch": st.integers(1, 1000)},
        optional={
            "insert_loops": st.integers(1, 1000),
            "transaction_ms": st.sampled_from(["0..20", "5"]),
            "set": st.just({"work_mem": "8MB"}),
            "trials": st.integers(1, 9),
            "log": st.sampled_from(["counter", "db/events"]),
        },
    )
    | st.fixed_dictionaries({"limit": st.integers(1, 10**6)}, optional={"insert_batch": st.integers(1, 1000)})
)
def test_it_loads_back(flags: dict[str, Any]) -> None:
    spec = make(flags, None)
    again = Spec.model_validate(as_given(json.loads(json.dumps(stored_spec(spec)))))
    assert again.events_per_producer == spec.events_per_producer
    loops = {"limit", "insert_loops"}
    assert again.model_dump(exclude=loops) == spec.model_dump(exclude=loops)


@pytest.mark.parametrize("result", PUBLISHED, ids=lambda result: result.run_id)
def test_those_of_published_results_do(result: Any) -> None:
    assert Spec.model_validate(as_given(result.spec)).events_per_producer == result.spec["limit"]
