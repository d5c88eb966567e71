"""Attributes an error by its SQLSTATE: to the log itself, which is a finding about the log, or to its surroundings."""

import psycopg

from bench.records import LogError

AROUND = (
    "08",  # connection exception
    "25006",  # read only SQL transaction: the server or the role became read-only
    "25P03",  # idle in transaction session timeout
    "25P04",  # transaction timeout
    "26000",  # invalid SQL statement name: a pooler between us and the server changed the session
    "28",  # invalid authorization specification
    "42P05",  # duplicate prepared statement: as 26000
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "57",  # operator intervention: cancelled, shut down, crashed
    "58",  # system error, external to PostgreSQL itself
    "F0",  # configuration file error
    "XX",  # internal error
)
"""Classes of errors (two characters), and single errors, that say nothing about a log: all others are the log's own.

Source: PostgreSQL's manual, appendix A, "PostgreSQL Error Codes".
"""

_DEADLOCK = "40P01"
_MOST_CHARACTERS = 600
"""Length limit of each text in a record: four such texts fit into one record, whatever JSON escapes in them."""


class TransactionChangedError(psycopg.OperationalError):
    """A call of the log began a transaction and left it open, or ended one that was not its own."""


class LogFailedError(Exception):
    """The log failed, and its worker cannot go on."""

    def __init__(self, error: LogError) -> None:
        super().__init__(error.message)
        self.error = error


def is_of_the_log(error: psycopg.Error) -> bool:
    """Whether an error of a statement that ran the log's SQL is the log's own.

    An error without a SQLSTATE does not come from the server: the connection is gone.
    """
    if isinstance(error, TransactionChangedError):
        return True
    return error.sqlstate is not None and not error.sqlstate.startswith(AROUND)


def log_failed(call: str, error: psycopg.Error, events: tuple[int, int] | None = None) -> LogFailedError:
    """Put an error of the log's own into a record. `call` is the name of the failed call, `events` its batch.

    The hint of a deadlock is left out: it refers to the server's log, which may be gone with the server.
    """
    diagnostics = error.diag
    return LogFailedError(
        LogError(
            call=call,
            message=_cut(diagnostics.message_primary or str(error).strip()),
            sqlstate=error.sqlstate,
            detail=_cut(diagnostics.message_detail),
            hint=_cut(diagnostics.message_hint) if error.sqlstate != _DEADLOCK else "",
            context=_cut(diagnostics.context),
            events=events,
        )
    )


def _cut(text: str | None) -> str:
    return (text or "").strip()[:_MOST_CHARACTERS]
