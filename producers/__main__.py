"""A producer: appends its events batch by batch, as fast as the answers come, and reports what became of them."""

import math
import random
import time
from typing import Any

import psycopg
from msgspec.structs import replace

from bench.attribution import LogFailedError, TransactionChangedError, is_of_the_log, log_failed
from bench.histograms import SecondCounts
from bench.job import ProducerJob, Way
from bench.meter import Clock, Meter, say
from bench.records import Example, Fate, LogError, Range, ReturnedEtags, call_times, ledger_parts, rolled_back_etags
from bench.schedule import due_seconds, ends_of
from bench.statement import Statement
from bench.worker import Lifeline, first_second, is_free_sql, main, time_out, wait_at_barrier
from producers.append import WAYS, Append, returning
from producers.pace import Pace
from producers.transaction import RolledBack, transactions

CALLS: dict[Way, str] = {"generate": "INSERT", "log_event": "log_event", "copy": "COPY"}
"""The name of each way's call, for people."""


def produce(connection: psycopg.Connection[Any], job: ProducerJob) -> None:
    """Do one producer's job."""
    producer = _number(connection, job.producer)
    chance = random.Random(f"{job.seed} {producer}")  # noqa: S311 - for repeating a run, not for secrets
    append = transactions(connection, job, WAYS[job.append](connection, job, producer), chance)
    times = _Times(job.timed_calls)
    pace = _pace(job, producer)
    tally = _Tally(producer)
    look_up = _returning(connection, job, producer, chance, tally) if job.returned else None
    if job.timed_calls:
        append, look_up = times.of(append), look_up and times.of(look_up)
    ended = Statement(connection, is_free_sql(job.stop)) if job.stop else None
    clock = wait_at_barrier(connection, job)
    lifeline = Lifeline(connection, job)
    opened_pc = first_second(connection, clock, job)
    seconds = SecondCounts(opened_pc)
    ends_pc = _start(job, pace, opened_pc)
    meter = Meter(clock, seconds, "service" if pace else "append", job.warm_up_seconds)
    first = 0
    look_up_is_due, reports = True, 0
    error = None
    try:
        # A producer that was late for the whole time still appends a batch: a trial without events measures nothing.
        while first < job.limit and (time.perf_counter() < ends_pc or not first):
            if look_up and look_up_is_due:
                first = _append_until_progress(look_up, pace, job, first, tally, meter, until=0)
                look_up_is_due = False
                continue
            until = min(meter.next_progress, ends_pc)
            first = _append_until_progress(append, pace, job, first, tally, meter, until)
            if time.perf_counter() >= meter.next_progress:
                tally.report()
                if pace:
                    pace.count(seconds)
                meter.progress(first)
                reports += 1
                # A look-up slows its batch down, so there are few: after 1, 2, 4, 8 reports and so on.
                look_up_is_due = reports.bit_count() == 1
                lifeline.look()
                if ended and ended.run().get_value(0, 0) == b"true":
                    # An orchestrator that dies releases this lock, too.
                    lifeline.due = 0
                    lifeline.look()
                    break
    except LogFailedError as failed:
        error = failed.error
    tally.close()
    offered = pace.finish(seconds) if pace else None
    report = meter.finish(tally.events, tally.checksum)
    tally.report()
    times.report(clock)
    for record in (*(pace.steps() if pace else ()), *([error] if error else ())):
        say(record)
    say(
        replace(
            report,
            # Only the last batch may be short, and if that was in the warm-up, so were all.
            warm_up_events=min(report.events, meter.warm_up_calls * job.insert_batch),
            untimed_calls=times.untimed,
            offered=offered,
            attempted=tally.attempted,
        )
    )


def _start(job: ProducerJob, pace: Pace | None, start_pc: float) -> float:
    """Wait for the start of the schedule (perf_counter), if this producer has one; returns when it has to end."""
    if pace:
        pace.start(start_pc)
    if job.seconds is None:
        return math.inf
    time.sleep(max(0.0, start_pc - time.perf_counter()))
    return start_pc + job.seconds


def _pace(job: ProducerJob, producer: int) -> Pace | None:
    if job.load is None:
        return None
    chance = random.Random(f"{job.seed} {producer} arrivals")  # noqa: S311 - as above
    due = due_seconds(job.load, producer, job.limit, job.insert_batch, chance)
    return Pace(due, job.limit, job.insert_batch, ends_of(job.load.steps), job.warm_up_seconds)


def _returning(
    connection: psycopg.Connection[Any], job: ProducerJob, producer: int, chance: random.Random, tally: "_Tally"
) -> Append:
    """A function that appends as the job describes, and notes the etags that log_event returned for a batch."""
    events: list[Example] = []
    append = transactions(connection, job, returning(connection, job, producer, events), chance)

    def noted(first: int, last: int) -> int:
        appended = append(first, last)
        tally.note_returned(events)
        return appended

    return noted


def _append_until_progress(
    append: Append, pace: Pace | None, job: ProducerJob, first: int, tally: "_Tally", meter: Meter, until: float
) -> int:
    """Append batch after batch from `first` on, until that time (perf_counter), or until a batch is rolled back; at
    least one batch, unless a pace has the next one wait beyond that time. Returns the first seq of the next batch.

    Only the time of each batch is noted, and of a batch that is rolled back not even that, because it is not the time
    of a commit. With one event per transaction, on processors that are all busy, anything more would be measured with
    the transaction.

    Raises:
        LogFailedError: the log failed.
        psycopg.Error: something around the log did.
    """
    start, batch, limit = first, job.insert_batch, job.limit
    now, note = time.perf_counter, meter.calls.append
    last = first
    try:
        while first < limit:
            if pace and not pace.wait(until):
                break
            last = min(first + batch, limit) - 1 if batch > 1 else first
            sent = now()
            appended = append(first, last)
            answered = now()
            note(answered - sent)
            if pace:
                pace.answered(answered)
            begun, first = first, last + 1
            if appended != first - begun:
                # The batch is committed and no error was reported: all of it is acknowledged, whatever is stored.
                raise _took(appended, job, begun, last)
            if answered >= until:
                meter.was_late(answered)
                break
    except RolledBack as rolled:
        tally.note("acknowledged", start, first - 1)
        tally.note("aborted", first, last)
        tally.rolled_back_etags += rolled.etags
        return last + 1
    except LogFailedError:
        tally.note("acknowledged", start, first - 1)
        raise
    except psycopg.Error as error:
        tally.note("acknowledged", start, first - 1)
        if is_of_the_log(error) and not time_out(job, error):
            # After a server's error the transaction is rolled back; a transaction that the log ended may be committed.
            changed = isinstance(error, TransactionChangedError)
            tally.note("indeterminate" if changed else "aborted", first, last)
            raise log_failed(CALLS[job.append], error, (first, last)) from error
        tally.note("indeterminate", first, last)
        tally.report()
        raise
    tally.note("acknowledged", start, first - 1)
    return first


def _took(events: int, job: ProducerJob, first: int, last: int) -> LogFailedError:
    """The failure of a log that committed a batch and reported more or fewer events than it was given."""
    message = f"it took {events} of the {last - first + 1} events of a batch and reported no error"
    return LogFailedError(LogError(CALLS[job.append], message, events=(first, last)))


class _Times:
    """The times of a producer's first transactions."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: list[tuple[float, float]] = []
        """When each was sent, and when its end was answered (perf_counter)."""
        self.untimed = 0
        """Transactions after those."""

    def of(self, append: Append) -> Append:
        """Make a function that appends note its times."""
        now, calls, most = time.perf_counter, self._calls, self._most

        def timed(first: int, last: int) -> int:
            sent = now()
            try:
                return append(first, last)
            finally:
                if len(calls) < most:
                    calls.append((sent, now()))
                else:
                    self.untimed += 1

        return timed

    def report(self, clock: Clock) -> None:
        """Print them as records."""
        since_pc = clock.measured_pc
        calls = [(round((sent - since_pc) * 1e6), round((end - since_pc) * 1e6)) for sent, end in self._calls]
        for record in call_times(clock.measured_at, clock.uncertainty_seconds(clock.now()), calls):
            say(record)


class _Tally:
    """The fates of a producer's events, in as few ranges as possible. They are reported bit by bit, so that a lost
    producer's acknowledged events are known, too.
    """

    def __init__(self, producer: int) -> None:
        self._producer = producer
        self.events = self.checksum = 0
        """Number and sum of the acknowledged events in closed ranges."""
        self.attempted = 0
        """Number of events with a fate."""
        self._ranges: dict[Fate, list[Range]] = {"acknowledged": [], "aborted": [], "indeterminate": []}
        self.rolled_back_etags: list[tuple[int, int]] = []
        """The etags drawn by transactions that were rolled back, not reported yet."""
        self._returned: list[Example] = []
        """Events as log_event returned them, not reported yet."""
        self._fate: Fate | None = None
        self._first = self._last = 0
        """The open range: consecutive events of one fate."""

    def note(self, fate: Fate, first: int, last: int) -> None:
        """Note the fate of the next events, if there are any: they must follow the events noted before."""
        if last < first:
            return
        self.attempted = last + 1
        if fate != self._fate:
            self.close()
            self._fate, self._first = fate, first
        self._last = last

    def note_returned(self, events: list[Example]) -> None:
        """Note acknowledged events with the etags that log_event returned for them."""
        self._returned += events

    def close(self) -> None:
        """Close the open range: the next events begin another one, whatever their fate."""
        if self._fate is not None:
            self._ranges[self._fate].append((self._producer, self._first, self._last))
        if self._fate == "acknowledged":
            events = self._last - self._first + 1
            self.events += events
            self.checksum += (self._first + self._last) * events // 2
        self._fate = None

    def report(self) -> None:
        """Print records of everything noted since the last report."""
        self.close()
        for fate, ranges in self._ranges.items():
            for part in ledger_parts(fate, ranges):
                say(part)
            ranges.clear()
        for etags in rolled_back_etags(self.rolled_back_etags):
            say(etags)
        self.rolled_back_etags.clear()
        if self._returned:
            say(ReturnedEtags(self._returned))
            self._returned = []


def _number(connection: psycopg.Connection[Any], producer: int | str) -> int:
    if isinstance(producer, int):
        return producer
    return int(Statement(connection, f"SELECT ({producer})::text").run().get_value(0, 0) or 0)


if __name__ == "__main__":
    main(ProducerJob, produce)
