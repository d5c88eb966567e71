"""A consumer: reads the log from its start, to its end or along with the writers, and reports the events that it was
given."""

import time
from collections import deque
from collections.abc import Iterator
from itertools import accumulate, islice
from struct import pack
from typing import Any

import psycopg
from msgspec.structs import replace
from psycopg import sql

from bench.attribution import is_of_the_log, log_failed
from bench.histograms import SecondCounts
from bench.job import ConsumerJob
from bench.meter import Clock, Meter, say
from bench.records import LogError, PageTimes, Progress, Record, jump_records, ledger_parts, page_times
from bench.statement import Statement
from bench.worker import (
    Lifeline,
    connect,
    fail,
    first_second,
    give_back_timeouts,
    is_free_sql,
    main,
    time_out,
    wait_at_barrier,
)
from consumer.breaks import Breaks
from consumer.delays import Delays
from consumer.ledger import MANY, Ledger
from consumer.reader import CursorStuck, Source, TimedPage, pages, source
from consumer.rows import MisshapenError, Page, columns, row
from consumer.waits import Waits

REHEARSED = 10 * MANY
"""Events that a consumer looks at before the barrier."""
BYTES_A_STEP = 8000
"""One step of the look at earlier pages is made per this many bytes that come: enough for the look to end in time."""
CALL = "get_event"
"""The name of a consumer's call, for people."""
NEARLY = 0.9
"""A read that took this share of a time-out was ended by it: the answer before it may have been noticed late."""
MOST_CURSOR_BYTES = 8000
"""A larger cursor, such as a snapshot with a thousand open transactions, is not reported: its record would be too
long."""


class _Reading:
    """A reading: takes pages and looks at them until there is a reason to stop."""

    def __init__(self, job: ConsumerJob, ledger: Ledger, clock: Clock, lifeline: Lifeline, start_pc: float) -> None:
        """`start_pc` is when the first second of the phase, and the job's phases, begin (perf_counter)."""
        self._job = job
        self._breaks = Breaks(job.phases, start_pc)
        self._lifeline = lifeline
        self._clock = clock
        self._waits = Waits(job, lifeline)
        self._ending = False
        self._asleep_with: int | None = None
        """The events that it had been given, each counted once, when it was permitted to stop while it was asleep: only
        a notification could have woken it."""
        self._at_end = False
        """Whether the last page was empty."""
        self._look: Iterator[None] = iter(())
        self.ledger = ledger
        self._seconds = SecondCounts(start_pc)
        self.meter = Meter(clock, self._seconds, "read")
        started_at = clock.now() + start_pc - time.perf_counter()
        ends = [started_at + end for end in accumulate(seconds for seconds, _ in job.phases[:-1])]
        self.delays = Delays(clock, self._seconds, ends if job.phases else None)
        self.last_page_at = time.perf_counter()
        """When the last page with events came, or when reading began (perf_counter)."""
        self.longest_wait_seconds = 0.0
        self.largest_page = 0
        self.oversized_pages = 0
        self._usual_page = 0
        """The size of a page with no more events than this need not be noted: one as large came before, and it is not
        larger than asked for."""
        self._asked: list[tuple[float, int]] = []
        """When the first pages were asked for (perf_counter), and the events that had been given before."""
        self._given = 0
        """Deliveries, where times are noted."""
        self._warm_up_events: int | None = None
        """Deliveries in the warm-up; None until it is over."""
        self.untimed_pages = 0
        self._awake_seconds = 0.0
        """CPU time in which sessions that are over only waited."""
        self._answered_at = 0.0
        """When the last answer came (perf_counter)."""

    def session(self, connection: psycopg.Connection[Any]) -> bool:
        """Read in one session; True when reading is done, False when this member of a group left.

        Raises:
            _ReadingStopped: the log does not come to an end.
        """
        job = self._job
        stop = Statement(connection, is_free_sql(job.stop)) if job.stop else None
        if job.listen:  # before the first page: an event that is not in a page is notified after it
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(job.listen)))
        reads = source(connection, job)
        self._answered_at = time.perf_counter()
        try:
            for timed in pages(reads, job, self._lifeline, self._breaks):
                self._answered_at = timed.answered_at
                if job.timed_calls:
                    self._note_time(timed)
                if timed.page.events:
                    self._take(timed, reads)
                    if self._waits.thinks:
                        self._think(reads)
                    self._take_a_break_if_due()
                    continue
                self._come_to_an_end(timed, reads)
                if stop is None or self._ending:
                    return True
                # Pages that come after the permission to stop are still checked: they may hold an event too many.
                self._ending = self._waits.for_more(reads, stop, self._breaks.next_pc)
                if not self._ending:
                    self._take_a_break_if_due()
                elif self._waits.is_asleep(reads):
                    self._asleep_with = self.ledger.distinct_events
        except CursorStuck:
            raise _ReadingStopped("its cursor does not move on, so reading would never end") from None
        except psycopg.errors.QueryCanceled:
            limit = _statement_timeout_ms(connection)
            if limit and (time.perf_counter() - self._answered_at) * 1e3 >= limit * NEARLY:
                raise _ReadingStopped(
                    f"a read was ended by statement_timeout, which is {limit} ms in its session"
                ) from None
            raise _ReadingStopped("a read did not come back and was cancelled") from None
        finally:
            self._awake_seconds += reads.waited_awake_seconds
        return False

    def _take(self, timed: TimedPage, reads: Source) -> None:
        sent, now, page = timed
        if self.meter.count(sent, now):
            self._report_progress(reads, now, page.events)
        if page.largest > self._usual_page:
            self._note_size(page.largest)
        if self._job.tails or self._at_end:
            self.longest_wait_seconds = max(self.longest_wait_seconds, now - self.last_page_at)
            self._at_end = False
        if self._job.tails:
            self.last_page_at = now
            self.meter.end(self._awake_seconds + reads.waited_awake_seconds)
            self.delays.note(columns([page]).ctimes, now)
        # Only some steps with each page: the server must not wait for the next call.
        for _ in islice(self._look, 1 + len(page.rows) // BYTES_A_STEP):
            pass
        # A reader that remembers jumps needs to know when each page was asked for.
        if self.ledger.take(page) or self._job.max_jumps:
            self.finish_look()
            self._look = self.ledger.look(self._clock.now() - (time.perf_counter() - sent))
            if self.ledger.events > self._job.most_events:
                raise _ReadingStopped(f"it delivered more than {self._job.most_events} events and went on")

    def _take_a_break_if_due(self) -> None:
        if time.perf_counter() < self._breaks.next_pc:
            return
        self.look()
        # Progress is reported at both ends of the break, also when there is none: it is interpolated between reports.
        progress = Progress(self.ledger.distinct_events, self.ledger.checksum)
        say(progress)
        self._breaks.take(self._lifeline)
        say(progress)
        self.last_page_at = time.perf_counter()

    def _think(self, reads: Source) -> None:
        """Work with the last page, which is reported first: the reader may not report anything for a while."""
        self.look()
        now = time.perf_counter()
        if now >= self.meter.next_progress:
            self._report_progress(reads, now)
        self._waits.think()

    def overslept_events(self) -> int:
        """As in `Report`; everything must have been looked at."""
        return 0 if self._asleep_with is None else self.ledger.distinct_events - self._asleep_with

    def _end_warm_up(self, now: float, events: int) -> None:
        """Note the deliveries in the warm-up if the last page, which came `now` with these events, came after it. To be
        called before each report of progress: one is due when the warm-up ends.
        """
        if self._warm_up_events is None and self._seconds.second(now) >= self._job.warm_up_seconds:
            self._warm_up_events = self._given - events

    @property
    def warm_up_events(self) -> int:
        """Deliveries in the warm-up of a tailing reader; 0 without one."""
        if not self._job.warm_up_seconds:
            return 0
        return self._given if self._warm_up_events is None else self._warm_up_events

    def _come_to_an_end(self, timed: TimedPage, reads: Source) -> None:
        """Look at everything that was read: an empty page came, the first since the last event or a further one."""
        self.look()
        if not self._at_end:
            self._at_end = True
            if not self._job.tails:
                self.last_page_at = timed.answered_at
                self.meter.count(timed.asked_at, timed.answered_at)
                self.meter.end(self._awake_seconds + reads.waited_awake_seconds)
        self._report_progress(reads, timed.answered_at)

    def _report_progress(self, reads: Source, now: float, events: int = 0) -> None:
        """Report what was read until `now`, when a page with these events came that was not looked at yet."""
        self._end_warm_up(now, events)
        self.delays.count(now)

        def cursor() -> list[bytes]:
            values = reads.cursor() if self._job.reports_cursor else []
            return values if sum(map(len, values)) <= MOST_CURSOR_BYTES else []

        self.meter.progress(self.ledger.distinct_events, self.ledger.checksum, cursor)

    def waited_seconds(self) -> float:
        """The longest wait for an event. The last wait counts too, unless it is only for the permission to stop."""
        last = time.perf_counter() - self.last_page_at if self._job.tails else 0
        return max(self.longest_wait_seconds, last)

    def _note_time(self, timed: TimedPage) -> None:
        if len(self._asked) < self._job.timed_calls:
            self._asked.append((timed.asked_at, self._given))
        else:
            self.untimed_pages += 1
        self._given += timed.page.events

    def page_times(self) -> list[PageTimes]:
        """When pages were asked for, as records."""
        since_pc, since = self._clock.measured_pc, self._clock.measured_at
        pages = [(round((asked_at - since_pc) * 1e6), given) for asked_at, given in self._asked]
        return page_times(since, self._clock.uncertainty_seconds(self._clock.now()), pages)

    def _note_size(self, events: int) -> None:
        asked = self._job.read_batch or events
        self.oversized_pages += events > asked
        self.largest_page = max(self.largest_page, events)
        self._usual_page = min(self.largest_page, asked)

    def finish_look(self) -> None:
        """Complete the look that was begun."""
        deque(self._look, maxlen=0)

    def look(self) -> None:
        """Look at everything that was read."""
        self.finish_look()
        deque(self.ledger.look(), maxlen=0)


def _statement_timeout_ms(connection: psycopg.Connection[Any]) -> int:
    """The statement_timeout of this session in milliseconds; 0 is no limit."""
    query = Statement(connection, "SELECT setting::text FROM pg_settings WHERE name = 'statement_timeout'")
    return int(query.run().get_value(0, 0) or 0)


class _ReadingStopped(Exception):  # noqa: N818 - a finding, not an error
    """The reason why a log is not read any further."""


def consume(connection: psycopg.Connection[Any], job: ConsumerJob) -> None:
    """Do one consumer's job."""
    _rehearse()
    ledger = Ledger(job.limit, job.payloads, job.max_jumps, job.batch, ordered=job.ordered, preloaded=job.preloaded)
    clock = wait_at_barrier(connection, job)
    lifeline = Lifeline(connection, job)
    reading = _Reading(job, ledger, clock, lifeline, first_second(connection, clock, job))
    stopped = error = None
    try:
        done = reading.session(connection)
        while not done:
            connection.close()
            connection = connect(job)
            give_back_timeouts(connection)
            lifeline.follow(connection)
            done = reading.session(connection)
    except _ReadingStopped as reason:
        stopped = str(reason)
        connection.close()  # its pending read is not needed any more
        reading.look()
    except MisshapenError as misshapen:
        error = LogError(CALL, f"it gave {misshapen}")
    except psycopg.Error as failed:
        if not is_of_the_log(failed) or time_out(job, failed):
            raise
        error = log_failed(CALL, failed).error
        connection.close()
        reading.look()
    _report(job, reading, stopped, error)


def _rehearse() -> None:
    """Look at made-up rows: the first look in a process takes some hundredths of a second longer."""
    ledger = Ledger(limit=REHEARSED)
    for first in range(0, REHEARSED, MANY):
        rows = [
            row([pack("!q", seq), pack("!q", seq), b'{"producer":0,"seq":%d,"value":%d}' % (seq, seq)])
            for seq in range(first, first + MANY)
        ]
        ledger.take(Page(b"".join(rows), MANY))
        deque(ledger.look(), maxlen=0)


def skim(connection: psycopg.Connection[Any], job: ConsumerJob) -> None:
    """Read the log to its first empty page without looking at the events."""
    clock = wait_at_barrier(connection, job)
    lifeline = Lifeline(connection, job)
    meter = Meter(clock, SecondCounts(first_second(connection, clock, job)), "read")
    events = 0
    reads = source(connection, job)
    for timed in pages(reads, job, lifeline):
        events += timed.page.events
        if meter.count(timed.asked_at, timed.answered_at):
            meter.progress(events)
        if not timed.page.events:
            break
    meter.end(reads.waited_awake_seconds)
    say(meter.finish(events, checksum=0))


def _report(job: ConsumerJob, reading: _Reading, stopped: str | None, error: LogError | None) -> None:
    ledger = reading.ledger
    reading.delays.count_all()
    report = reading.meter.finish(ledger.events, ledger.checksum)
    records: list[Record] = [
        *ledger_parts("delivered", ledger.delivered()),
        *jump_records(ledger.jumps),
        *reading.page_times(),
        *ledger.anomalies(),
        *(reading.delays.steps() if job.phases else []),
    ]
    if error:
        records.append(error)
    for record in records:
        say(record)
    say(
        replace(
            report,
            max_etag_gap=ledger.max_etag_gap,
            repeated_ctimes=ledger.repeated_ctimes,
            falling_etags=ledger.falling_etags,
            backward_pages=ledger.backward_pages,
            etag_checksum=ledger.stream.etag_checksum,
            order_checksum=ledger.stream.order_checksum if job.ordered else None,
            highest_etag=ledger.highest_etag,
            largest_page=reading.largest_page,
            oversized_pages=reading.oversized_pages,
            impossible_ctimes=reading.delays.impossible(),
            warm_up_events=reading.warm_up_events,
            negative_delays=reading.delays.negative,
            most_negative_seconds=reading.delays.most_negative_seconds,
            longest_wait_seconds=reading.waited_seconds(),
            stopped=stopped,
            untimed_calls=reading.untimed_pages,
            overslept_events=reading.overslept_events(),
        )
    )


def work(connection: psycopg.Connection[Any], job: ConsumerJob) -> None:
    """Do one consumer's job, with or without a look at the events, as the job asks."""
    try:
        (consume if job.check else skim)(connection, job)
    except MisshapenError as error:
        fail(f"the log gave {error}")


if __name__ == "__main__":
    main(ConsumerJob, work)
