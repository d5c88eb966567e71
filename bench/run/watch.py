"""How a run shows a person its progress; the module that shows it is chosen elsewhere."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol


class Extent(NamedTuple):
    """How much there is to do in a track."""

    workers: int
    events: int | None
    """Events of all workers together; None when producers append for a time."""
    times: int = 1
    """How many times each event is appended or read."""
    seconds: float | None = None
    """Producers: the time for which they append; None when their events are counted."""


Update = Callable[[str, int, int], None]
"""Takes a track's key, its events so far and how many of its workers are done."""


class Watch(Protocol):
    """Shows a person what goes on."""

    def __call__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> AbstractContextManager[Update]:
        """Show a phase, given the extent of each track by its key, and after how many seconds without an event readers
        are stopped; yields the function to call as the phase goes on.
        """
        ...

    def step(self, name: str) -> AbstractContextManager[None]:
        """Show a step that has no events to count, for as long as it lasts."""
        ...


class Unwatched:
    """Shows nothing."""

    def __call__(self, tracks: Mapping[str, Extent], idle_seconds: float) -> AbstractContextManager[Update]:  # noqa: ARG002
        """Show nothing of a phase."""
        return nullcontext(lambda _name, _events, _done: None)

    def step(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Show nothing of a step."""
        return nullcontext()
