"""What a Postgres that is ours printed last: why it did not start, or what became of it in the middle of a run."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from bench.errors import InfrastructureError

LINES = 3
ANSWER_SECONDS = 3
END_SECONDS = 5
"""Whoever is connected notices that a server ends before it has ended."""
_MOST_CHARACTERS = 300
"""Of a line: a statement in it may be as long as a batch."""
_SET_UP = "PostgreSQL init process complete"
"""Official images print this when the server that only sets the data up has ended."""
_CRASH = re.compile(r"PANIC: |terminated by signal")
_ENDS = re.compile(r"(?:PANIC|FATAL): |terminated by signal|exited with exit code [1-9]|shutdown request")
_MORE = re.compile(r"(?:DETAIL|HINT): +(.*)")
_REASON = re.compile(r"(?:PANIC|FATAL): +(.*)|(?:^|\.)postgres: (.*)")
"""Before its log is set up a server speaks as `postgres:`, and pg_ctl writes dots before that."""
_FOLLOWS = re.compile(r"FATAL: +(?:terminating connection|the database system is )")
"""What sessions are told when the server ends or is not ready: a consequence, and no reason."""


@contextmanager
def explained(trouble: Callable[[], str]) -> Iterator[None]:
    """Add to an error what became of Postgres, if anything did: `trouble` returns it in a sentence, or nothing.

    Raises:
        InfrastructureError: as it was raised in the `with`, with that sentence.
    """
    try:
        yield
    except InfrastructureError as error:
        if became := trouble():
            raise InfrastructureError(f"{error}\n{became}") from error
        raise


def answers(conninfo: str) -> bool:
    """Whether Postgres takes a connection."""
    try:
        psycopg.connect(conninfo, connect_timeout=ANSWER_SECONDS).close()
    except psycopg.Error:
        return False
    return True


def crashed(log: str) -> bool:
    """Whether a server says that one of its processes died, which it may have survived itself."""
    return _CRASH.search(_of_its_life(log)) is not None


def end_of_log(log: str) -> str:
    """The last lines that tell how a server ended, in a sentence; where none does, its last ones."""
    lines: list[str] = []
    told: list[str] = []
    before = False
    for line in filter(str.strip, _of_its_life(log).splitlines()):
        lines.append(line)
        ends = _ENDS.search(line) and not _FOLLOWS.search(line)
        before = bool(ends or (before and _MORE.search(line)))
        if before:
            told.append(line)
    return _shown(told or lines)


def reason(log: str, exit_code: int | None) -> str:
    """Why a server did not start: its first complaint with its detail and its hint, else how it ended and its log."""
    lines = [line for line in log.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        found = _REASON.search(line)
        if found and not _FOLLOWS.search(line):
            more = [hint[1] for hint in map(_MORE.search, lines[number + 1 : number + 3]) if hint]
            return ". ".join(words.strip().rstrip(".") for words in [found[1] or found[2], *more])
    return f"it ended with exit code {exit_code}; {_shown(lines)}"


def _shown(lines: list[str]) -> str:
    last = [line[:_MOST_CHARACTERS] for line in lines[-LINES:]]
    return "the last lines of its log:\n" + "\n".join(last) if last else "its log is empty"


def _of_its_life(log: str) -> str:
    return log.rpartition(_SET_UP)[2]
