"""Reads what workers print, a thread per worker, and merges it into one stream of messages."""

import queue
import threading
from collections.abc import Callable, Iterable

import msgspec

from bench.places.api import End, Ended, Messages, Said
from bench.records import decode_record

SILENCE_SECONDS = 0.25
"""While no worker prints anything, the reader of the messages gets a None this often, to check its own time limits."""
LAST_WORDS_LINES = 5
MAX_LAST_WORDS_BYTES = 4096

Chunks = Iterable[tuple[bytes | None, bytes | None]]
"""Pieces of (stdout, stderr) as they come, cut anywhere."""


class OutputListener:
    """Listens to workers, a thread each, and puts what they print into one queue."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Said | Ended] = queue.SimpleQueue()
        self._workers = 0

    def listen(self, worker: str, chunks: Chunks, wait: Callable[[], End]) -> None:
        """Listen to one worker until its output ends; `wait` then returns how the worker ended."""
        self._workers += 1
        threading.Thread(target=self._read, args=(worker, chunks, wait), name=worker, daemon=True).start()

    def messages(self) -> Messages:
        """Yield everything that workers print, until all of them have ended."""
        running = self._workers
        while running:
            try:
                message = self._messages.get(timeout=SILENCE_SECONDS)
            except queue.Empty:
                yield None
                continue
            yield message
            running -= isinstance(message, Ended)

    def _read(self, worker: str, chunks: Chunks, wait: Callable[[], End]) -> None:
        line, complaints = b"", b""
        try:
            for stdout, stderr in chunks:
                complaints = (complaints + (stderr or b""))[-MAX_LAST_WORDS_BYTES:]
                *lines, line = (line + (stdout or b"")).split(b"\n")
                for text in lines:
                    self._messages.put(Said(worker, decode_record(text)))
            end = wait()
        except msgspec.MsgspecError as error:
            end = End(None, f"it printed a line that is not a record ({error}): {text[:200]!r}")
        except Exception as error:  # noqa: BLE001 - whatever the engine's client raises, this worker is lost
            end = End(None, f"its output was lost: {error}")
        last_lines = complaints.decode(errors="replace").strip().splitlines()[-LAST_WORDS_LINES:]
        self._messages.put(Ended(worker, end, "\n".join(filter(None, [*last_lines, end.explanation]))))
