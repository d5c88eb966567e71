"""Effects of a transaction that is left open on a log: who waits for it, and whether events arrive afterwards.

The probe runs in a few sessions of the orchestrator; nothing in it is timed.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from bench.attribution import is_of_the_log
from bench.errors import InfrastructureError, UsageError
from bench.eventlog import Log
from bench.postgres.connection import Connection, in_words
from bench.postgres.install import installed
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


class _NotApplicableError(Exception):
    """A kind of transaction that is impossible with this log. The message has the reason."""


def probe(log: Log, connection: Connection, conninfo: str, run_id: str) -> list[Blocked]:
    """Try every kind of open transaction, each on a fresh copy of the log. The log's own error costs only the answer
    for that kind.

    Raises:
        InfrastructureError: something broke that is not the log's fault.
    """
    return [_answer(log, connection, conninfo, run_id, name) for name in BLOCKERS]


def failed(log: Log, why: str) -> list[Blocked]:
    """The answers for a log on which nothing can be tried."""
    return [_untried(log, name, failure=why) for name in BLOCKERS]


def _untried(log: Log, name: str, not_applicable: str | None = None, failure: str | None = None) -> Blocked:
    return Blocked(log.name, name, 0, 0, 0, writers_waited=False, not_applicable=not_applicable, failure=failure)


def _answer(log: Log, connection: Connection, conninfo: str, run_id: str, name: str) -> Blocked:
    try:
        with installed(connection, log, run_id):
            return _probe(log, conninfo, name, _BLOCKERS[name])
    except _NotApplicableError as error:
        return _untried(log, name, not_applicable=str(error))
    except UsageError as error:
        return _untried(log, name, failure=str(error))
    except psycopg.errors.QueryCanceled:
        return _untried(log, name, failure=f"an append did not return within {APPEND_SECONDS} s")
    except psycopg.Error as error:
        if is_of_the_log(error):
            return _untried(log, name, failure=in_words(error))
        raise InfrastructureError(f"the probe with open transactions failed: {in_words(error)}") from error


def _probe(log: Log, conninfo: str, name: str, blocker: Callable[[str, Log], AbstractContextManager[None]]) -> Blocked:
    with ExitStack() as stack:
        writer = stack.enter_context(session(conninfo))
        reading = Reading(log, stack.enter_context(session(conninfo)), EVENTS)
        appended = 0
        writers_waited = False
        with blocker(conninfo, log):
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
        return Blocked(log.name, name, appended, meanwhile, len(set(reading.events)), writers_waited)


@contextmanager
def _in_this_log(conninfo: str, _log: Log) -> Iterator[None]:
    with session(conninfo) as other, other.transaction(force_rollback=True):
        append(other, 0, producer=1)
        yield


@contextmanager
def _in_another_table(conninfo: str, _log: Log) -> Iterator[None]:
    with session(conninfo) as other:
        other.execute("CREATE TABLE elsewhere (n int)")
        with other.transaction(force_rollback=True):
            other.execute("INSERT INTO elsewhere VALUES (1)")
            yield


@contextmanager
def _in_another_database(conninfo: str, _log: Log) -> Iterator[None]:
    with session(conninfo) as admin:
        name = f"bench_elsewhere_{admin.info.backend_pid}"
        database = sql.Identifier(name)
        admin.execute(sql.SQL("CREATE DATABASE {}").format(database))
        try:
            with session(psycopg.conninfo.make_conninfo(conninfo, dbname=name)) as other:
                other.execute("CREATE TABLE public.elsewhere (n int)")
                with other.transaction(force_rollback=True):
                    other.execute("INSERT INTO public.elsewhere VALUES (1)")
                    yield
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@contextmanager
def _read_only(conninfo: str, log: Log) -> Iterator[None]:
    with session(conninfo) as other, other.transaction(force_rollback=True):
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        other.execute(f"SELECT count(*) FROM {log.table}".encode())
        yield


@contextmanager
def _prepared(conninfo: str, _log: Log) -> Iterator[None]:
    with session(conninfo) as other:
        name = f"bench_{other.info.backend_pid}"
        other.execute("BEGIN")
        append(other, 0, producer=1)
        try:
            other.execute(f"PREPARE TRANSACTION '{name}'".encode())
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.ObjectNotInPrerequisiteState) as error:
            raise _NotApplicableError(in_words(error)) from error
        try:
            yield
        finally:
            other.execute(f"ROLLBACK PREPARED '{name}'".encode())


Blocker = Callable[[str, Log], AbstractContextManager[None]]

_BLOCKERS: dict[str, Blocker] = {
    "in this log": _in_this_log,
    "in another table": _in_another_table,
    "in another database": _in_another_database,
    "read-only": _read_only,
    "prepared": _prepared,
}
BLOCKERS = tuple(_BLOCKERS)
"""The kinds of transactions that are left open."""
