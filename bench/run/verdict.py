"""Judges what became of the events of a trial, and explains it as far as the log and the server know."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import psycopg

from bench.errors import BenchError, InfrastructureError
from bench.eventlog import Log
from bench.judge import checker, gaps
from bench.judge.evidence import Delivered, Promise, Stored, Written
from bench.judge.gaps import Jump
from bench.judge.ranges import events_in, first_events, intersect, normal, subtract
from bench.judge.realtime import RealTimeOrder
from bench.judge.stranded import Stranded
from bench.judge.verdict import Fault, Verdict
from bench.postgres import audit, etags, history
from bench.postgres.audit import Holdings
from bench.postgres.connection import Connection
from bench.postgres.contract import table_of
from bench.postgres.history import Story
from bench.postgres.preload import Fill, kept
from bench.postgres.retention import Deleted, deleted_events
from bench.records import EXAMPLES, Range
from bench.run.outcome import Reader, TrackOutcome
from bench.spec import Spec
from bench.statements import Table


def written_by(appended: TrackOutcome, *, cut_short: bool = False) -> Written:
    """Put together what producers know of their events; those on lost nodes as far as they reported. With `cut_short`,
    because the log failed a worker, events that a producer did not report were not attempted.

    Raises:
        InfrastructureError: producers do not account for all of their events.
    """
    written = Written(
        acknowledged=appended.of_fate("acknowledged"),
        # Events that a lost producer did not report may have been committed or not.
        indeterminate=[
            *appended.of_fate("indeterminate"),
            *(part for producer in appended.lost for part in producer.unreported),
        ],
        aborted=appended.of_fate("aborted"),
        rolled_back_etags=[
            *(part for producer in appended.workers for part in producer.rolled_back_etags),
            *((etag, etag) for held in appended.held.values() for etag in held.etags),
        ],
        returned=[event for producer in appended.workers for event in producer.returned],
        unattempted=[part for producer in appended.reported if cut_short for part in producer.unreported],
    )
    events, expected = checker.accounted_for(written), sum(producer.seq_limit for producer in appended.workers)
    if events != expected:
        raise InfrastructureError(f"there is no verdict: producers account for {events:,} of {expected:,} events")
    return written


def promise_of(log: Log, *, grouped: bool, drained: bool) -> Promise:
    """A log's promises as the checker takes them. `grouped` readers share a client's events; `drained` reading begins
    when producers have ended.
    """
    promised = log.promises
    return Promise(
        etag_order=promised.order == "etag" and not grouped,
        producer_order=promised.order != "none",
        once=promised.once,
        gap_free=promised.gap_free,
        by_etag=promised.order == "etag",
        drained=drained,
        redelivers=promised.once and not promised.replay and not log.cursor,
        one_etag=promised.one_etag,
        forward=promised.forward,
        one_order=promised.one_order,
        real_time=promised.real_time,
        replay=promised.replay,
    )


class Judged(NamedTuple):
    """A verdict, and what it takes to explain it."""

    verdict: Verdict
    skipped: list[list[Range]]
    """The events that each reader skipped."""


def judged(
    spec: Spec,
    log: Log,
    written: Written,
    readers: list[Reader],
    connection: Connection,
    notes: list[str],
    failures: Sequence[Stranded] = (),
    order: RealTimeOrder | None = None,
    before: Fill | None = None,
    deletions: Sequence[Deleted] = (),
) -> Judged:
    """Judge what was written and what readers were given, by what the log's table holds now. `failures` are the errors
    that ended workers early, `order` is the order of appends where it is known, `before` are the preloaded events,
    which the table of `log` leaves out, `deletions` are what was deleted behind readers. Whatever cannot be
    found out and is not needed for the verdict is added to `notes`.

    Raises:
        InfrastructureError: the log's table cannot be read.
    """
    counted = [reader.delivered() for reader in readers]
    delivered = [checker.without_doubtful_order(written, read) for read in counted]
    notes += [
        f"whether events were reordered for {known.reader} is not known: the log gave it an event beyond the last "
        f"one of producer {checker.beyond_the_last(written, read)[0]}"
        for read, known in zip(counted, delivered, strict=True)
        if read.anomalies != known.anomalies
    ]
    table = table_of(connection, log)
    if spec.abort_rate and not table.xmin:
        written = replace(written, rolled_back_etags=None)
    rows, numbered = audit.row_counts(connection, log)
    stored = Stored(written.acknowledged)
    holdings: Holdings | None = None
    # The rows are looked through only when their number does not prove already what they are.
    if checker.needs_audit(written, delivered, rows):
        holdings = audit.look_through(connection, log, [read.highest_etag for read in delivered])
        stored = Stored(holdings.ranges, holdings.foreign, holdings.foreign_etags)
        delivered = [replace(read, below=below) for read, below in zip(delivered, holdings.below, strict=True)]
    with noted(notes, "whether events were delivered with the etags that are stored is not known"):
        stored = _with_etags(stored, log, delivered, rows, holdings, connection, before.after if before else [])
    with noted(notes, "whether log_event returned the etags that are stored is not known"):
        stored = _with_returned(stored, log, written, connection)
    deleted = deleted_events(deletions)
    stored = replace(stored, foreign=stored.foreign + sum(behind.foreign for behind in deletions))
    if deleted:  # these were not lost, if every reader had them
        given = [normal(read.ranges) for read in delivered]
        stored = replace(stored, removed=reduce(intersect, given, deleted), deleted=deleted)
    elif not log.promises.replay:  # its events were taken away with their etags
        stored = replace(stored, removed=[part for read in delivered for part in read.ranges])
    # Where events are not deleted in the order of their etags, the etags of the rest have gaps.
    if log.promises.replay and not (deleted and log.promises.order != "etag"):
        unknown = "whether etags are missing or doubled is not known"
        with nullcontext() if log.promises.gap_free else noted(notes, unknown):
            stored = _with_numbering(stored, log, table, numbered, holdings, connection)
    if before:
        stored = replace(stored, preloaded=kept(connection, before))
    promise = promise_of(log, grouped=bool(spec.group), drained=spec.mode == "drain")
    verdict = checker.judge(written, delivered, stored, promise, failures, order)
    return Judged(verdict, [checker.skipped(written, read, stored, promise) for read in delivered])


def explained(
    unexplained: Judged, spec: Spec, log: Log, readers: list[Reader], connection: Connection, notes: list[str]
) -> Verdict:
    """Add to a verdict how skipped events came about, as far as the log and the server know it."""
    verdict = unexplained.verdict
    with noted(notes, "how events came to be skipped is not known"):
        table = table_of(connection, log)
        if verdict.skipped and spec.mode == "tail" and table.xmin:
            verdict = _with_commits(verdict, log, readers, unexplained.skipped, connection)
        if verdict.skipped:
            verdict = _with_stories(verdict, log, table, readers, connection)
    return verdict


def _with_commits(
    verdict: Verdict, log: Log, readers: list[Reader], passed_over: list[list[Range]], connection: Connection
) -> Verdict:
    """Add how many of the events that each reader skipped were committed late, as far as the server keeps the times of
    commits.
    """
    late: list[Range] = []
    early: list[Range] = []
    for reader, ranges in zip(readers, passed_over, strict=True):
        after, before = history.commits(connection, log, reader.jumps)
        late += intersect(after, ranges)
        early += intersect(before, ranges)
    late = normal(late)
    return gaps.with_commits(verdict, events_in(late), events_in(subtract(normal(early), late)))


def stored_clause(acknowledged: list[Range], log: Log, connection: Connection) -> str:
    """A clause that says whether the table holds the acknowledged events; empty when there are none, or when they need
    not stay.
    """
    if not acknowledged or not log.promises.replay:
        return ""
    try:
        stored = audit.look_through(connection, log).ranges
    except (psycopg.Error, BenchError) as error:
        return f"; whether what was acknowledged until then is stored is not known: {_reason(error)}"
    promised = normal(acknowledged)
    lost = subtract(promised, normal(stored))
    acknowledged_events = f"{events_in(promised):,} events that were acknowledged until then"
    if not lost:
        return f"; all of the {acknowledged_events} are stored"
    examples = ", ".join(f"producer {producer} seq {seq}" for producer, seq in first_events(lost, EXAMPLES))
    return f"; of the {acknowledged_events}, {events_in(lost):,} are not stored: {examples}"


def _with_etags(
    stored: Stored,
    log: Log,
    delivered: list[Delivered],
    rows: int,
    holdings: Holdings | None,
    connection: Connection,
    after: Sequence[bytes],
) -> Stored:
    """Add the checksum of the stored etags, if a reader was given exactly the table's events, and, if the checksum is
    not that of each such reader, the events that another reading, from the cursor `after` on, delivers with other
    etags.
    """
    comparable = [read for read in delivered if checker.was_given(read, stored)]
    # A table with more rows than events holds rows of the log's own, or an event twice.
    if not comparable or not rows or rows != events_in(normal(stored.ranges)):
        return stored
    etag_checksum = holdings.etag_checksum if holdings else etags.etag_checksum(connection, log)
    stored = replace(stored, etag_checksum=etag_checksum)
    if log.cursor and log.promises.replay and any(read.etag_checksum != etag_checksum for read in comparable):
        events, examples = etags.other_etags(connection, log, rows, after)
        return replace(stored, other_etags=events, other_etag_examples=examples)
    return stored


def _with_returned(stored: Stored, log: Log, written: Written, connection: Connection) -> Stored:
    """Add the stored events that log_event returned with other etags than they have in the table."""
    in_table = normal(stored.ranges)
    events = normal([(example.producer or 0, example.seq or 0, example.seq or 0) for example in written.returned])
    present = {
        (producer, seq) for producer, first, last in intersect(events, in_table) for seq in range(first, last + 1)
    }
    otherwise = [
        example
        for example in etags.other_events(connection, log, written.returned)
        if (example.producer, example.seq) in present
    ]
    return replace(stored, returned_otherwise=otherwise)


def _with_numbering(
    stored: Stored, log: Log, table: Table, numbered: int, holdings: Holdings | None, connection: Connection
) -> Stored:
    """Add the etags that are missing or doubled; `numbered` is the number of rows with an etag."""
    if holdings:
        numbering = etags.numbering_of(connection, log, holdings)
    else:
        numbering = etags.numbering(connection, log, table, numbered)
    missing, doubled, doubled_etags = numbering
    return replace(stored, missing_etags=missing, doubled=doubled, doubled_etags=doubled_etags)


def _with_stories(verdict: Verdict, log: Log, table: Table, readers: list[Reader], connection: Connection) -> Verdict:
    """Add to each skipped example how it came about."""
    wanted = {(fault.producer, fault.seq) for fault in verdict.examples if fault.kind == "skipped"}
    if not wanted:
        return verdict
    events = [(producer, seq) for producer, seq in wanted if producer is not None and seq is not None]
    stories = history.stories(connection, log, table, events)
    jumps = {reader.name: reader.jumps for reader in readers}
    return replace(
        verdict,
        examples=[
            _with_story(fault, stories[fault.producer or 0, fault.seq or 0], jumps.get(fault.reader or "", []))
            if fault.kind == "skipped" and (fault.producer, fault.seq) in stories
            else fault
            for fault in verdict.examples
        ],
    )


def _with_story(fault: Fault, story: Story, jumps: Sequence[Jump]) -> Fault:
    jump = gaps.jump_over(story.etag, jumps)
    return replace(
        fault,
        etag=story.etag,
        logged_at=story.logged_at,
        visible_at=story.visible_at,
        jumped_at=jump and jump.asked_at,
        jumped_to=jump and jump.after,
    )


@contextmanager
def noted(notes: list[str], missing: str) -> Iterator[None]:
    """Turn an error into a note that begins with `missing`, so that it costs an explanation and not the verdict."""
    try:
        yield
    except (psycopg.Error, BenchError) as error:
        notes.append(f"{missing}: {_reason(error)}")


def _reason(error: psycopg.Error | BenchError) -> str:
    """The first line of an error."""
    message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return (message or str(error)).strip().splitlines()[0]
