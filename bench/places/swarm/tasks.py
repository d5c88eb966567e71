"""The tasks of a swarm's services: their nodes, their output, how they end, and whether their node is lost.

The output of tasks comes back through the logs of each task. The logs of a whole service do not serve: they lose lines
when much is printed, and fail once a node is down (moby issue 37336). A task's log is followed while the task runs.
Following never ends by itself (moby issue 36626), so it is cut off when the manager reports that the task has ended,
and the log is read once more to its end, from the first line that had not come yet.
"""

import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import docker
from docker.errors import DockerException
from docker.types import CancellableStream
from requests.exceptions import RequestException

from bench.places.api import End
from bench.places.listener import Chunks
from bench.places.swarm import cluster
from bench.places.swarm.cluster import Node

LOOK_SECONDS = 0.25
READ_SECONDS = 30
OVER = {"complete", "failed", "rejected", "shutdown", "orphaned", "remove"}
"""The states of a task that no longer runs."""
_HEADER = struct.Struct(">BxxxL")
_STDOUT, _STDERR = 1, 2


class Task:
    """One replica of a service that runs once."""

    def __init__(self, client: docker.DockerClient, name: str) -> None:
        self.name = name
        self.id: str | None = None
        self.node: Node | None = None
        self.container: str | None = None
        """The id of its container, once that exists."""
        self.end: End | None = None
        self._client = client
        self._when_over: Callable[[End], None] = lambda _: None
        self._placed = threading.Event()
        self.over = threading.Event()
        """Set when the task is over."""
        self._cut_off: Callable[[], None] = lambda: None

    def place(self, task_id: str) -> None:
        """Note that the swarm has made the task."""
        if self.id is None:
            self.id = task_id
            self._placed.set()

    def finish(self, end: End) -> None:
        """Note that the task is over. Only the first end counts."""
        if self.end is None:
            self.end = end
            self._when_over(end)
            self.over.set()
            self._placed.set()
            self._cut_off()

    def call_when_over(self, when_over: Callable[[End], None]) -> None:
        """Have a function called when the task is over, or at once when it is over already."""
        self._when_over = when_over
        if self.end is not None:
            when_over(self.end)

    def wait(self) -> End:
        """Wait until the task is over, and return how it ended."""
        self.over.wait()
        return self.end or End(None)

    def chunks(self) -> Chunks:
        """Yield all of the task's output as it comes; of a task whose node is lost, the output that came before."""
        self._placed.wait()
        if self.id is None:
            return
        received: Counter[int] = Counter()
        if not self.over.is_set():
            follow = _log(self._client, self.id, follow=True)
            self._cut_off = follow.close
            if not self.over.is_set():
                for stream, data in follow:
                    received[stream] += 1
                    yield _chunk(stream, data)
        self.over.wait()
        if self.end is None or self.end.lost_with or self.node is None or self.container is None:
            return
        with closing(_log(self._client, self.id, follow=False)) as whole:
            for stream, data in whole:
                received[stream] -= 1
                if received[stream] < 0:
                    yield _chunk(stream, data)


class TaskWatcher:
    """Polls the tasks of services and their nodes, and notes in each task where it runs and how it ends."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._services: dict[str, list[Task]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="task watcher", daemon=True)
        self._thread.start()

    def tasks(self, service: str, names: Sequence[str]) -> list[Task]:
        """Watch a service that has one replica per name, in the order of slots, and return its tasks."""
        self._services[service] = [Task(self._client, name) for name in names]
        return self._services[service]

    def forget(self, service: str) -> None:
        """Stop watching a service, which is about to be removed. Its tasks that still run count as ended."""
        for task in self._services.pop(service, []):
            task.finish(End(None, "removed"))

    def break_off(self, explanation: str) -> None:
        """Count all tasks that still run as ended, with this explanation."""
        for tasks in list(self._services.values()):
            for task in tasks:
                task.finish(End(None, explanation))

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._stopped.wait(LOOK_SECONDS):
                if self._services:
                    self._look()
        except (DockerException, RequestException) as error:
            self.break_off(f"the swarm's manager no longer answers: {error}")

    def _look(self) -> None:
        nodes = cluster.nodes(self._client)
        watched: list[tuple[Task, dict[str, Any]]] = []
        lost: dict[str, list[str]] = {}
        for state in cluster.all_tasks(self._client):
            tasks = self._services.get(state["ServiceID"], [])
            slot = state.get("Slot", 0)
            if not 1 <= slot <= len(tasks):
                continue
            task = tasks[slot - 1]
            watched.append((task, state))
            task.node = nodes.get(state.get("NodeID", ""))
            task.container = state["Status"].get("ContainerStatus", {}).get("ContainerID") or task.container
            if task.node and not task.node.is_up and task.end is None and state["Status"]["State"] not in OVER:
                lost.setdefault(task.node.id, []).append(task.name)
        for task, state in watched:
            if task.node and task.name in lost.get(task.node.id, []):
                task.finish(End(None, node=task.node.name, lost_with=lost[task.node.id]))
                continue
            task.place(state["ID"])
            end = _end(state, task.node)
            if end:
                task.finish(end)


def _end(state: dict[str, Any], node: Node | None) -> End | None:
    """Return how a task ended; None while it has not."""
    status = state["Status"]
    error = status.get("Err", "")
    name = node.name if node else None
    if status["State"] in {"pending", "new"} and error:
        return End(None, f"the swarm has no place for it: {error}")
    if status["State"] not in OVER:
        return None
    if status["State"] == "complete":
        return End(0, node=name)
    if status["State"] == "rejected":
        return End(None, f"{name} rejected it: {error}", node=name)
    code = status.get("ContainerStatus", {}).get("ExitCode", 0) or None
    return End(code, f"on {name}: {error}" if error else f"on {name}", node=name)


def _chunk(stream: int, data: bytes) -> tuple[bytes | None, bytes | None]:
    return (data if stream == _STDOUT else None, data if stream == _STDERR else None)


def _log(client: docker.DockerClient, task_id: str, *, follow: bool) -> "CancellableStream[tuple[int, bytes]]":
    """Return a task's log as (stream, line); docker-py has no call for it (Engine API: GET /tasks/{id}/logs)."""
    api = client.api
    response = api.get(
        f"{api.base_url}/v{api.api_version}/tasks/{task_id}/logs",
        params={"stdout": "1", "stderr": "1", "follow": "1" if follow else "0", "tail": "all"},
        stream=True,
        timeout=None if follow else READ_SECONDS,
    )
    response.raise_for_status()
    return CancellableStream(_frames(response.raw), response)


def _frames(raw: Any) -> Iterator[tuple[int, bytes]]:
    with suppress(ValueError):  # cut off
        while len(header := raw.read(_HEADER.size)) == _HEADER.size:
            stream, size = _HEADER.unpack(header)
            yield stream, raw.read(size)
