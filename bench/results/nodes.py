"""The nodes of a swarm in a result: the work of each, and those that were lost."""

from bench.results.base import StoredModel


class Node(StoredModel):
    """The work of the workers on one node of a swarm."""

    node: str
    producers: int = 0
    consumers: int = 0
    """Over all reads."""
    appended: int = 0
    """Events."""
    appended_per_second: float | None = None
    """Over the whole append phase after the warm-up; None when nothing was appended here or the verdict is not ok."""
    read: int = 0
    """Events, each counted once per reader; a group is one."""
    read_per_second: float | None = None
    """Over the time of its own readers after the warm-up."""
    cpu_seconds: float
    """Of its workers."""
    clock_offset_ms: float
    """The database's clock minus the node's, as the worker with the quickest round trip measured it."""
    round_trip_ms: float
    """The quickest round trip from the node to Postgres."""


class NodeLoss(StoredModel):
    """A node that was lost while producers appended on it."""

    node: str
    producers: list[str]
    seconds: float
    """From the start until the loss was noticed."""
    acknowledged: int
    """Events that its producers had reported as acknowledged. Events that they had not reported are indeterminate."""
