"""How a person is shown what goes on: what shows it is chosen elsewhere."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Update = Callable[[str, int, int], None]
"""Takes a track's name, its events so far and how many of its workers are done."""


class Watch(Protocol):
    """Shows a person what goes on."""

    def __call__(self, tracks: Mapping[str, tuple[int, int]], idle_seconds: float) -> AbstractContextManager[Update]:
        """Show a phase. Takes the workers and the events of each track, and after how many seconds without an event
        readers are stopped; yields what to call as the phase goes on.
        """
        ...

    def step(self, name: str) -> AbstractContextManager[None]:
        """Show for as long as it lasts what has no events to count."""
        ...


class Unwatched:
    """Shows nothing."""

    def __call__(self, tracks: Mapping[str, tuple[int, int]], idle_seconds: float) -> AbstractContextManager[Update]:  # noqa: ARG002
        """Show nothing of a phase."""
        return nullcontext(lambda _name, _events, _done: None)

    def step(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Show nothing of a step."""
        return nullcontext()
