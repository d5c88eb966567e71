"""What a place is made of: a Postgres that answers, and workers next to it.

A host, which is this machine, a Docker engine or a swarm, has a way to start each of the two. The Postgres may also be
one that is there already (`places/dsn.py`), next to the workers of any host.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from bench.job import Job
from bench.records import Record


@dataclass(frozen=True)
class Said:
    """A worker printed a record."""

    worker: str
    record: Record


@dataclass(frozen=True)
class End:
    """How a worker ended, as far as its place knows."""

    exit_code: int | None
    """None when it is unknown, or when the worker never started."""
    explanation: str = ""
    """What the place adds to the worker's own last words."""
    node: str | None = None
    """Where the worker ran, in a place of several nodes."""
    lost_with: Sequence[str] = ()
    """Names of all workers, this one included, that ran on a node that was lost; empty when the worker really ended."""


@dataclass(frozen=True)
class Ended:
    """A worker ended; nothing more comes from it."""

    worker: str
    end: End
    last_words: str
    """The last lines that the worker printed on stderr, and the explanation of its end."""


Messages = Iterator[Said | Ended | None]
"""What all workers print, as it comes, until each of them has ended; None now and then while no worker prints."""

StartWorkers = Callable[[Sequence[Job]], AbstractContextManager[Messages]]
"""Starts one worker per job; workers that still run at the end of the `with` are stopped."""


@dataclass(frozen=True)
class Usage:
    """What Postgres has used: CPU since it was started, memory now."""

    cpu_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Program:
    """One of PostgreSQL's own client programs, to be run next to Postgres as a worker is."""

    command: Sequence[str]
    """The program's name and arguments."""
    script: str
    """The program's standard input."""
    schema: str
    """The search_path of the program's sessions."""
    files: str = ""
    """A pattern of files in its working folder that are printed after what the program itself prints."""

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of the program, beyond libpq's address."""
        return {"PGOPTIONS": f"-c search_path={self.schema}"}


@dataclass(frozen=True)
class Database:
    """A Postgres that answers."""

    conninfo: str = field(repr=False)
    """How the orchestrator connects. Nothing that is timed takes this way."""
    variables: Mapping[str, str]
    """How workers connect: libpq's environment variables, without the password."""
    password: str | None = field(default=None, repr=False)
    """The password of workers; None when they need none."""
    dsn: str | None = field(default=None, repr=False)
    """The connection string by which the user named it; None for a Postgres that the run started."""
    usage: Callable[[], Usage | None] = lambda: None
    """Returns what Postgres has used; None where that cannot be seen from here."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Facts for the result: images with their ids, folders of programs, disks."""


@dataclass(frozen=True)
class Workers:
    """A way to start workers, and other programs, that reach a database."""

    start: StartWorkers
    run_program: Callable[[Program], str]
    """Runs a program to its end and returns what it printed; raises InfrastructureError when it failed."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Facts for the result, as in `Database`."""


@dataclass(frozen=True)
class Place:
    """A Postgres that answers, and workers next to it."""

    database: Database
    workers: Workers

    @property
    def about(self) -> dict[str, str]:
        """Facts for the result about both."""
        return {**self.database.about, **self.workers.about}


class Host(Protocol):
    """What Postgres and workers run on, and the resources they share."""

    def postgres(self, settings: Mapping[str, str]) -> AbstractContextManager[Database]:
        """Start a Postgres, which is gone at the end of the `with`.

        An InfrastructureError that ends the `with` is raised again with how Postgres ended or crashed, if it did.

        Raises:
            SettingRefusedError: Postgres starts without these settings only.
            InfrastructureError: Postgres does not start.
        """
        ...

    def workers(self, database: Database) -> AbstractContextManager[Workers]:
        """Prepare to start workers that reach this database.

        Raises:
            InfrastructureError: the host cannot run workers.
        """
        ...
