"""A producer: appends its events batch by batch, as fast as the answers come, and reports what became of them."""

import random
import time
from typing import Any

import psycopg

from bench.log_error import LogFailedError, TransactionChangedError, is_of_the_log, log_failed
from bench.records import Fate, LogError, ProducerJob, Range, Way, ledger_parts, rolled_back_etags
from bench.worker import Lifeline, Meter, Statement, main, say, time_out, wait_at_barrier
from producers.append import WAYS, Append
from producers.transaction import RolledBack, transactions

CALLS: dict[Way, str] = {"generate": "INSERT", "log_event": "log_event", "copy": "COPY"}
"""What each way to append calls, for people."""


def produce(connection: psycopg.Connection[Any], job: ProducerJob) -> None:
    """Do one producer's job."""
    producer = _number(connection, job.producer)
    chance = random.Random(f"{job.seed} {producer}")  # noqa: S311 - for repeating a run, not for secrets
    append = transactions(connection, job, WAYS[job.append](connection, job, producer), chance)
    account = _Tally(producer)
    ended = Statement(connection, f"SELECT pg_try_advisory_lock_shared({job.stop})::text") if job.stop else None
    clock = wait_at_barrier(connection, job)
    lifeline = Lifeline(connection, job)
    meter = Meter(clock)
    first = 0
    error = None
    try:
        while first < job.limit:
            first = _append_until_progress(append, job, first, account, meter)
            if time.perf_counter() >= meter.next_progress:
                account.tell()
                meter.progress(first)
                lifeline.look()
                if ended and ended.run().get_value(0, 0) == b"true":
                    # An orchestrator that dies lets go of this lock, too.
                    lifeline.due = 0
                    lifeline.look()
                    break
    except LogFailedError as failed:
        error = failed.error
    account.close()
    report = meter.finish(account.events, account.checksum)
    account.tell()
    if error:
        say(error)
    say(report)


def _append_until_progress(append: Append, job: ProducerJob, first: int, account: "_Tally", meter: Meter) -> int:
    """Append batch after batch from `first` on, until it is time to tell of it or one is rolled back. Returns the next.

    Of each batch nothing but its time is noted, and of one that is rolled back not even that, because it says nothing
    about a commit. With one event per transaction, on processors that are all busy, anything more would be measured
    with the transaction.

    Raises:
        LogFailedError: the log failed.
        psycopg.Error: something around the log did.
    """
    start, batch, limit = first, job.insert_batch, job.limit
    now, note, until = time.perf_counter, meter.calls.append, meter.next_progress
    last = first
    try:
        while first < limit:
            last = min(first + batch, limit) - 1 if batch > 1 else first
            sent = now()
            appended = append(first, last)
            answered = now()
            note(answered - sent)
            if appended != last - first + 1:
                raise _took(appended, job, first, last)
            first = last + 1
            if answered >= until:
                break
    except RolledBack as rolled:
        account.note("acknowledged", start, first - 1)
        account.note("aborted", first, last)
        account.rolled_back_etags += rolled.etags
        return last + 1
    except LogFailedError:
        account.note("acknowledged", start, first - 1)
        account.note("indeterminate", first, last)
        raise
    except psycopg.Error as error:
        account.note("acknowledged", start, first - 1)
        if is_of_the_log(error) and not time_out(job, error):
            # After an error of the server's the transaction is rolled back; one that the log ended may be committed.
            changed = isinstance(error, TransactionChangedError)
            account.note("indeterminate" if changed else "aborted", first, last)
            raise log_failed(CALLS[job.append], error, (first, last)) from error
        account.note("indeterminate", first, last)
        account.tell()
        raise
    account.note("acknowledged", start, first - 1)
    return first


def _took(events: int, job: ProducerJob, first: int, last: int) -> LogFailedError:
    """What is wrong with a log that says it has more or fewer events than it was given."""
    words = f"it took {events} of the {last - first + 1} events of a batch and reported no error"
    return LogFailedError(LogError(CALLS[job.append], words, events=(first, last)))


class _Tally:
    """What became of each event: as few ranges as its fates change. It is told as it goes, so that whoever loses this
    producer knows what it had acknowledged.
    """

    def __init__(self, producer: int) -> None:
        self._producer = producer
        self.events = self.checksum = 0
        """Of what is acknowledged and closed."""
        self._ranges: dict[Fate, list[Range]] = {"acknowledged": [], "aborted": [], "indeterminate": []}
        self.rolled_back_etags: list[tuple[int, int]] = []
        """The etags of what was rolled back."""
        self._fate: Fate | None = None
        self._first = self._last = 0
        """The events that follow one another with this fate."""

    def note(self, fate: Fate, first: int, last: int) -> None:
        """Events in their turn, if there are any: what is noted follows what was noted before."""
        if last < first:
            return
        if fate != self._fate:
            self.close()
            self._fate, self._first = fate, first
        self._last = last

    def close(self) -> None:
        """What follows is another range, whatever its fate."""
        if self._fate is not None:
            self._ranges[self._fate].append((self._producer, self._first, self._last))
        if self._fate == "acknowledged":
            events = self._last - self._first + 1
            self.events += events
            self.checksum += (self._first + self._last) * events // 2
        self._fate = None

    def tell(self) -> None:
        """Say what was noted since the last time."""
        self.close()
        for fate, ranges in self._ranges.items():
            for ledger in ledger_parts(fate, ranges):
                say(ledger)
            ranges.clear()
        for part in rolled_back_etags(self.rolled_back_etags):
            say(part)
        self.rolled_back_etags.clear()


def _number(connection: psycopg.Connection[Any], producer: int | str) -> int:
    if isinstance(producer, int):
        return producer
    return int(Statement(connection, f"SELECT ({producer})::text").run().get_value(0, 0) or 0)


if __name__ == "__main__":
    main(ProducerJob, produce)
