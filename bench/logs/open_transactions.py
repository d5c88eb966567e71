"""Effects of a transaction that is left open on a log: who waits for it, and whether events arrive afterwards.

The probe runs in a few sessions of the orchestrator; nothing in it is timed.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import psycopg

from bench.attribution import is_of_the_log
from bench.errors import InfrastructureError, UsageError
from bench.eventlog import Log
from bench.phases import OpenTransaction
from bench.postgres.connection import Connection, in_words
from bench.postgres.install import installed
from bench.postgres.open_transactions import KINDS, NotApplicableError
from bench.postgres.stepping import APPEND_SECONDS, PATIENCE_SECONDS, Reading, append, session

EVENTS = 10
AFTERWARDS_SECONDS = 30.0


@dataclass(frozen=True)
class Blocked:
    """The effect of one kind of open transaction."""

    log: str
    blocker: str
    appended: int
    """Events that were committed while it was open; fewer than `EVENTS` if writers had to wait."""
    delivered_meanwhile: int
    delivered_afterwards: int
    """Events that had been delivered in total some time after it ended."""
    writers_waited: bool
    not_applicable: str | None = None
    """Why a transaction that wrote to this log cannot be left open in this way; nothing was tried then."""
    failure: str | None = None
    """What is wrong with the log, if this kind could not be tried."""


def probe(log: Log, connection: Connection, conninfo: str, run_id: str) -> list[Blocked]:
    """Try every kind of open transaction, each on a fresh copy of the log. The log's own error costs only the answer
    for that kind.

    Raises:
        InfrastructureError: something broke that is not the log's fault.
    """
    return [_answer(log, connection, conninfo, run_id, kind) for kind in KINDS]


def failed(log: Log, why: str) -> list[Blocked]:
    """The answers for a log on which nothing can be tried."""
    return [_untried(log, kind, failure=why) for kind in KINDS]


def _untried(log: Log, kind: OpenTransaction, not_applicable: str | None = None, failure: str | None = None) -> Blocked:
    return Blocked(log.name, kind, 0, 0, 0, writers_waited=False, not_applicable=not_applicable, failure=failure)


def _answer(log: Log, connection: Connection, conninfo: str, run_id: str, kind: OpenTransaction) -> Blocked:
    try:
        with installed(connection, log, run_id):
            return _probe(log, conninfo, kind)
    except NotApplicableError as error:
        return _untried(log, kind, not_applicable=str(error))
    except UsageError as error:
        return _untried(log, kind, failure=str(error))
    except psycopg.errors.QueryCanceled:
        return _untried(log, kind, failure=f"an append did not return within {APPEND_SECONDS} s")
    except psycopg.Error as error:
        if is_of_the_log(error):
            return _untried(log, kind, failure=in_words(error))
        raise InfrastructureError(f"the probe with open transactions failed: {in_words(error)}") from error


def _probe(log: Log, conninfo: str, kind: OpenTransaction) -> Blocked:
    with ExitStack() as stack:
        writer = stack.enter_context(session(conninfo))
        reading = Reading(log, stack.enter_context(session(conninfo)), EVENTS)
        appended = 0
        writers_waited = False
        with KINDS[kind](conninfo, log, PATIENCE_SECONDS) as opened, opened():
            for number in range(EVENTS):
                try:
                    # A rolled-back append leaves a hole in the etags, at which a log may wait.
                    with writer.transaction(force_rollback=True):
                        append(writer, number, producer=2)
                    append(writer, number)
                except psycopg.errors.LockNotAvailable:
                    writers_waited = True
                    break
                appended += 1
            reading.until(appended, PATIENCE_SECONDS)
            meanwhile = len(set(reading.events))
        reading.until(appended, AFTERWARDS_SECONDS)
        return Blocked(log.name, kind, appended, meanwhile, len(set(reading.events)), writers_waited)
