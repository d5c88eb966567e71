"""Reads in a Postgres's log why it did not start, or how it ended or crashed in the middle of a run."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from bench.errors import InfrastructureError

LINES = 3
ANSWER_SECONDS = 3
END_SECONDS = 5
"""Time that a server may take to end after its sessions have."""
_MOST_CHARACTERS = 300
"""Longest part of a line that is shown: a statement in it may be as long as a batch."""
_SET_UP = "PostgreSQL init process complete"
"""Official images print this when the server that only sets up the data has ended."""
_CRASH = re.compile(r"PANIC: |terminated by signal")
_ENDS = re.compile(r"(?:PANIC|FATAL): |terminated by signal|exited with exit code [1-9]|shutdown request")
_MORE = re.compile(r"(?:DETAIL|HINT): +(.*)")
_REASON = re.compile(r"(?:PANIC|FATAL): +(.*)|(?:^|\.)postgres: (.*)")
"""Until its log is set up, a server's lines begin with `postgres:`, after dots that pg_ctl writes."""
_FOLLOWS = re.compile(r"FATAL: +(?:terminating connection|the database system is )")
"""What a server sends to its sessions when it ends or is not ready: a consequence, and not a reason."""


@contextmanager
def explained(trouble: Callable[[], str]) -> Iterator[None]:
    """Add to an error that ends the `with` the sentence that `trouble` returns about its cause, if it returns one.

    Raises:
        InfrastructureError: as it was raised in the `with`, with that sentence.
    """
    try:
        yield
    except InfrastructureError as error:
        if cause := trouble():
            raise InfrastructureError(f"{error}\n{cause}") from error
        raise


def answers(conninfo: str) -> bool:
    """Whether Postgres takes a connection."""
    try:
        psycopg.connect(conninfo, connect_timeout=ANSWER_SECONDS).close()
    except psycopg.Error:
        return False
    return True


def crashed(log: str) -> bool:
    """Whether a log reports that a process of the server died; the server itself may have survived that."""
    return _CRASH.search(_after_set_up(log)) is not None


def end_of_log(log: str) -> str:
    """Return, to end a sentence, the last lines that report how a server ended; failing these, the last lines."""
    lines: list[str] = []
    reports: list[str] = []
    reported = False
    for line in filter(str.strip, _after_set_up(log).splitlines()):
        lines.append(line)
        ends = _ENDS.search(line) and not _FOLLOWS.search(line)
        reported = bool(ends or (reported and _MORE.search(line)))
        if reported:
            reports.append(line)
    return _shown(reports or lines)


def reason(log: str, exit_code: int | None) -> str:
    """Return why a server did not start: its first error with detail and hint, else its exit code and end of log."""
    lines = [line for line in log.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        error = _REASON.search(line)
        if error and not _FOLLOWS.search(line):
            hints = [hint[1] for hint in map(_MORE.search, lines[number + 1 : number + 3]) if hint]
            return ". ".join(text.strip().rstrip(".") for text in [error[1] or error[2], *hints])
    return f"it ended with exit code {exit_code}; {_shown(lines)}"


def _shown(lines: list[str]) -> str:
    last = [line[:_MOST_CHARACTERS] for line in lines[-LINES:]]
    return "the last lines of its log:\n" + "\n".join(last) if last else "its log is empty"


def _after_set_up(log: str) -> str:
    return log.rpartition(_SET_UP)[2]
