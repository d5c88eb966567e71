"""Errors of a log's own that ended workers."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Stranded:
    """The `LogError` of a worker, as a result stores it: with the worker's name and the line of schema.sql."""

    worker: str
    call: str
    """The call that failed: log_event, INSERT, COPY or get_event."""
    message: str
    sqlstate: str | None = None
    """None when the error did not come from the server."""
    detail: str = ""
    hint: str = ""
    context: str = ""
    """The server's CONTEXT: the functions that were running, innermost first."""
    line: int | None = None
    """The line of schema.sql; None when unknown."""
    events: tuple[int, int] | None = None
    """Producers: the first and the last seq of the batch that failed."""


_PLPGSQL = re.compile(r"PL/pgSQL\D*?([\w.\"$]+\([^)]*\))\D*([0-9]+)")


def line_in_function(context: str) -> tuple[str, int] | None:
    """The PL/pgSQL function that a line of CONTEXT names, in any language of the server, and the line in its body."""
    match = _PLPGSQL.search(context)
    return (match[1], int(match[2])) if match else None
