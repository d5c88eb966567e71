"""The waits of a reader: when it asks for a page, and for how long it waits, by its job alone."""

from itertools import islice
from typing import Any, cast

import pytest

from bench.job import ConsumerJob
from bench.worker import Lifeline
from consumer.reader import pages
from consumer.rows import Page
from consumer.waits import Waits
from tests.consumer.pages import page

PAGE = page([(1, 1, b"{}")])


class Recorded:
    """A source whose pages all hold one event; it records each call."""

    waited_awake_seconds = 0.0

    def __init__(self) -> None:
        self.calls: list[str] = []

    def ask(self) -> None:
        self.calls.append("ask")

    def wait(self) -> int:
        return 1

    def advance(self) -> bool:
        return True

    def cursor(self) -> list[bytes]:
        return []

    def size_bytes(self) -> int:
        return 100

    def page(self) -> Page:
        return PAGE

    def await_notification(self, seconds: float) -> bool:
        return False


class Alive:
    """The lifeline of a worker whose orchestrator lives."""

    due = float("inf")

    def look(self) -> None:
        pass


def job(**changes: Any) -> ConsumerJob:
    return ConsumerJob("consumer", "bench", 1, "", [0], 1, 10, 0, 10, **changes)


def waits(of: ConsumerJob) -> Waits:
    return Waits(of, cast(Lifeline, Alive()))


@pytest.mark.parametrize(
    ("think_ms", "calls"),
    [
        ((0.0, 0.0), ["ask", "ask", "page", "ask", "page"]),
        ((0.0, 0.001), ["ask", "page", "worked", "ask", "page", "worked"]),
    ],
)
def test_a_reader_that_thinks_asks_afterwards(think_ms: tuple[float, float], calls: list[str]) -> None:
    reads, thinking = Recorded(), job(think_ms=think_ms)
    working = waits(thinking)
    for _ in islice(pages(reads, thinking, cast(Lifeline, Alive())), 2):
        reads.calls.append("page")
        if working.thinks:
            working.think()
            reads.calls.append("worked")
    assert reads.calls == calls


def test_random_waits_follow_the_seed_and_the_name() -> None:
    def drawn(of: ConsumerJob) -> list[float]:
        return [waits(of)._seconds((0, 5)) for _ in range(3)]

    assert drawn(job(seed=1)) == drawn(job(seed=1))
    assert drawn(job(seed=1)) != drawn(job(seed=2))
    other = ConsumerJob("another", "bench", 1, "", [0], 1, 10, 0, 10, seed=1)
    assert drawn(job(seed=1)) != drawn(other)
