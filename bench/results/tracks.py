"""The parts of a trial, as identities: what is done in its phases, and who reads. Each has its names here alone.

A phase is one track, or several at the same time: `--mode tail` reads while it appends.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """The parts of a trial that are timed and that no worker takes part in, by their keys in result.json."""

    START = "start"
    PRELOAD = "preload"
    SETTLE = "settle"
    CHECK = "check"


@dataclass(frozen=True)
class Track:
    """Workers that do one thing in one phase: append, or read the whole log with one read batch."""

    read_batch: int | None = None
    """None appends."""

    @property
    def key(self) -> str:
        """The key of the track in result.json, which is also its name for people: append, read 1000."""
        return "append" if self.read_batch is None else f"read {self.read_batch}"


APPEND = Track()


def phase_key(*tracks: Track) -> str:
    """The key of a phase in result.json, by the tracks that are carried out in it: append, append + read 1000."""
    return " + ".join(track.key for track in tracks)


@dataclass(frozen=True)
class Reading:
    """One reading of the whole log that is judged and measured by itself: by a consumer, or by a group together."""

    read_batch: int
    group: bool = False
    number: int | None = None
    """Of several consumers with one read batch, from 0; None where nobody else reads."""

    @property
    def track(self) -> Track:
        """The track that it belongs to."""
        return Track(self.read_batch)

    @property
    def reader(self) -> str:
        """The name of who reads, in result.json and in verdicts: consumer-1000, consumer-1000-0, group-1000."""
        return "-".join(["group" if self.group else "consumer", str(self.read_batch), *self._numbered(0)])

    @property
    def metric(self) -> str:
        """The name of its rate, with which the names of its other metrics begin: read_1000, read_1000_1."""
        return "_".join(["read", str(self.read_batch), *self._numbered(1)])

    def _numbered(self, first: int) -> Iterable[str]:
        return [] if self.number is None else [str(self.number + first)]
