"""What a place gives: a Postgres that runs and a way to start workers beside it. And how workers are listened to."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import msgspec

from bench.records import Job, Record, decode_record

SILENCE_SECONDS = 0.25
"""Whoever listens to workers is woken this often, to see whether it waits in vain."""
LAST_WORDS_LINES = 5
MAX_LAST_WORDS_BYTES = 4096


@dataclass(frozen=True)
class Said:
    """A worker printed a record."""

    worker: str
    record: Record


@dataclass(frozen=True)
class End:
    """How a worker ended, as far as its place can tell."""

    exit_code: int | None
    """None when nobody knows, or it did not even begin."""
    words: str = ""
    """What there is to say of it beside its own last words."""
    node: str | None = None
    """Where it ran, in a place of several nodes."""
    lost_with: Sequence[str] = ()
    """It is not known to have ended, but its node is gone: the workers that were on it, itself too."""


@dataclass(frozen=True)
class Ended:
    """A worker ended; nothing more comes from it."""

    worker: str
    end: End
    last_words: str
    """The last lines that it printed for people, and what else there is to say."""


Messages = Iterator[Said | Ended | None]
"""What all workers say, as it comes, until each of them has ended; a None now and then while nobody says anything."""

StartWorkers = Callable[[Sequence[Job]], AbstractContextManager[Messages]]
"""Starts one worker a job; whatever still runs at the end of the `with` is stopped."""


@dataclass(frozen=True)
class Usage:
    """What Postgres has used: CPU since it was started, memory now."""

    cpu_seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Program:
    """One of PostgreSQL's own client programs, to be run beside Postgres as a worker is."""

    words: Sequence[str]
    """Its name and arguments."""
    script: str
    """What it reads on its standard input."""
    schema: str
    """Its search_path."""

    @property
    def variables(self) -> dict[str, str]:
        """What its environment has beside libpq's address."""
        return {"PGOPTIONS": f"-c search_path={self.schema}"}


@dataclass(frozen=True)
class Site:
    """A running Postgres and the way to start workers that reach it."""

    conninfo: str = field(repr=False)
    """How the orchestrator itself connects. Nothing that is timed goes through it."""
    start_workers: StartWorkers
    run_program: Callable[[Program], str]
    """Runs a program to its end and returns what it printed; InfrastructureError when it failed."""
    usage: Callable[[], Usage | None]
    """What Postgres has used; None where it cannot be seen from here."""
    about: dict[str, str]
    """What is worth keeping in a result: images with their ids, binaries."""


Chunks = Iterable[tuple[bytes | None, bytes | None]]
"""Pieces of (stdout, stderr) as they come: not lines."""


class OutputListener:
    """Listens to workers, a thread each, and puts what they say into one queue."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[Said | Ended] = queue.SimpleQueue()
        self._listening = 0

    def listen(self, worker: str, chunks: Chunks, wait: Callable[[], End]) -> None:
        """Listen to one worker until its output ends; `wait` then tells how it ended."""
        self._listening += 1
        threading.Thread(target=self._hear, args=(worker, chunks, wait), name=worker, daemon=True).start()

    def messages(self) -> Messages:
        """Everything that is said, until all workers have ended."""
        left = self._listening
        while left:
            try:
                message = self._heard.get(timeout=SILENCE_SECONDS)
            except queue.Empty:
                yield None
                continue
            yield message
            left -= isinstance(message, Ended)

    def _hear(self, worker: str, chunks: Chunks, wait: Callable[[], End]) -> None:
        line, words = b"", b""
        try:
            for stdout, stderr in chunks:
                words = (words + (stderr or b""))[-MAX_LAST_WORDS_BYTES:]
                *lines, line = (line + (stdout or b"")).split(b"\n")
                for text in lines:
                    self._heard.put(Said(worker, decode_record(text)))
            end = wait()
        except msgspec.MsgspecError as error:
            end = End(None, f"it printed what is no record ({error}): {lines[0][:200]!r}")
        except Exception as error:  # noqa: BLE001 - whatever the engine's client raises, this worker is lost
            end = End(None, f"its output was lost: {error}")
        last = words.decode(errors="replace").strip().splitlines()[-LAST_WORDS_LINES:]
        self._heard.put(Ended(worker, end, "\n".join(filter(None, [*last, end.words]))))
