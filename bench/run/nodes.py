"""Nodes that are lost in a phase: whether the phase goes on without the workers on them."""

import logging
import time
from collections.abc import Mapping, Sequence

from bench.errors import InfrastructureError
from bench.job import ProducerJob
from bench.postgres.barrier import terminate
from bench.postgres.connection import Connection
from bench.records import Range
from bench.run.outcome import Outcome

_news = logging.getLogger("bench")


class NodeLostError(InfrastructureError):
    """A node is gone, and the run ends with it."""

    def __init__(self, message: str, acknowledged: list[Range]) -> None:
        super().__init__(message)
        self.acknowledged = acknowledged
        """The events that all producers of the phase had reported as acknowledged."""


class Nodes:
    """Decides whether a phase goes on when a node is lost with the workers on it."""

    def __init__(self, workers: Mapping[str, Outcome], connection: Connection, *, spare_producers: bool) -> None:
        self._workers = workers
        self._connection = connection
        self._spare_producers = spare_producers
        self._reported: set[str] = set()
        """Nodes of which a warning was printed."""
        self.opened_pc: float | None = None
        """When the barrier was lifted (perf_counter)."""

    def lose(self, worker: str, node: str, lost_with: Sequence[str]) -> None:
        """Go on without a worker that is not done, if that can be.

        What its session still has the server do is ended: a server can take hours to see that a client is gone, and
        keeps its locks meanwhile.

        Raises:
            NodeLostError: the phase cannot go on without the workers on the node.
        """
        missing = [name for name, lost in self._workers.items() if name in lost_with and not lost.has_reported]
        terminate(self._connection, missing)
        seconds = None if self.opened_pc is None else time.perf_counter() - self.opened_pc
        when = "before the start" if seconds is None else f"{seconds:.0f} s after the start"
        message = f"the node {node} was lost {when}, and with it {', '.join(missing)}"
        producers_only = all(isinstance(self._workers[name].job, ProducerJob) for name in missing)
        if not self._spare_producers or seconds is None or not producers_only:
            acknowledged = [part for each in self._workers.values() for part in each.ranges["acknowledged"]]
            raise NodeLostError(message, acknowledged)
        self._workers[worker].lost_after = seconds
        if node not in self._reported:
            self._reported.add(node)
            _news.warning("%s; the others go on", message)
