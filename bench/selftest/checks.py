"""Proves the checker to its user: every kind of fault, planted between log and consumer, must be caught under its name.

The faults are real: rows that are gone, doubled, swapped, changed or made up in the table, and a reader's function that
hides some. The producers and the consumer are the ones that every run uses.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bench.eventlog import Log, load
from bench.flags import OneMachine
from bench.job import Job
from bench.judge.verdict import Verdict
from bench.kinds import KINDS
from bench.places.api import Place
from bench.places.rundir import RunFolder
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.postgres.server import settle
from bench.results.tracks import APPEND, Track
from bench.run.jobs import consumers, producers, readings
from bench.run.outcome import Reader, TrackOutcome
from bench.run.phase import Plan, all_events, carry_out
from bench.run.place import ChosenPlace, open_place
from bench.run.realtime import order_of_appends
from bench.run.trial import carry_out_trial
from bench.run.verdict import judged, written_by
from bench.run.watch import Unwatched
from bench.selftest.plants import (
    LEAVE_ROOM,
    PLANT,
    PREPARE,
    PRODUCERS,
    READ_WITH_FAULTS,
    READING_FAULTS,
    SCENARIOS,
    STORED_FAULTS,
    TAKE_IN_PART,
    UNDO,
    UNHIDE,
    WITHHOLD,
)
from bench.spec import Spec
from bench.statements import SCHEMA

READ_BATCH = 1000
IDLE_SECONDS = 0.75
"""These logs hold nothing back: an event that does not come at once never comes. A reader that is permitted to stop too
early still reads to an empty page; it is cancelled if it reports nothing, and it reports each half second."""


class Options(BaseModel):
    """The flags of `bench selftest`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, defer_build=True)

    events: Annotated[int, Field(ge=4000, le=100_000_000)] = 1_000_000
    """Log size, at least 4000; the hardest case is a single faulty event."""
    place: OneMachine = "local"


class Check(NamedTuple):
    """One plant and its verdict."""

    planted: str
    """The kind of fault, or nothing."""
    place: str
    """Where in the log the faults are, or which log was tailed."""
    events: int | None
    """The number of faulty events; None if it is not known."""
    verdict: Verdict
    ok: bool
    """Whether the verdict has exactly what was planted."""


def run(events: int, chosen: ChosenPlace, folder: RunFolder) -> Iterator[Check]:
    """Plant every kind of fault in a log of `events` events; yields each check as soon as it is made.

    Raises:
        BenchError: something that the checks need broke.
    """
    log = load("bigserial")
    spec = Spec(
        scale=PRODUCERS,
        append="generate",  # a fault is planted after the append, and log_event would have returned other etags
        limit=max(2, events // PRODUCERS // 2 * 2),
        read_batch=(READ_BATCH,),
        idle_timeout=IDLE_SECONDS,
        set={"fsync": "off"},  # the server ends with the selftest
    )
    tailing = spec.model_copy(
        update={
            "scale": 8,
            "limit": 100,
            "insert_batch": 5,
            "mode": "tail",
            "transaction_ms": (0.0, 10.0),
        }
    )
    alone = tailing.model_copy(update={"scale": 1, "limit": 200, "transaction_ms": (0.0, 0.0)})
    with open_place(chosen, tailing, log, folder) as place, connected(place.database.conninfo) as connection:
        with install.installed(connection, log, folder.run_id):
            connection.execute(LEAVE_ROOM)
            tested = _Tested(spec, log, place, connection)
            yield from tested.checks()
        for scenario in SCENARIOS:
            changed = spec.model_copy(update=scenario.spec)
            with install.installed(connection, load(scenario.log), folder.run_id):
                connection.execute(scenario.before)
                tested = _Tested(changed, load(scenario.log), place, connection)
                connection.execute(scenario.after)
                verdict = tested.judged()
            counts = _counts(verdict)
            expected = {kind: count or counts.get(kind) for kind, count in scenario.found.items()}
            ok = counts == expected and not verdict.ok
            yield Check(scenario.planted, scenario.place, scenario.found[scenario.planted], verdict, ok)
        with install.installed(connection, log, folder.run_id):
            connection.execute(WITHHOLD)
            trial = carry_out_trial(alone, log, place, connection, Unwatched(), time.time())
            yield _check("withheld", "from a reader that tails", 10, trial.verdict)
        with install.installed(connection, log, folder.run_id):
            connection.execute(TAKE_IN_PART)
            trial = carry_out_trial(alone, log, place, connection, Unwatched(), time.time())
            yield _check("lost", "of a batch that was taken in part", 1, trial.verdict)
        for name, fault in (("bigserial", "skipped"), ("advisory-lock", None), ("lock-drain", None)):
            tailed = load(name)
            with install.installed(connection, tailed, folder.run_id):
                trial = carry_out_trial(tailing, tailed, place, connection, Unwatched(), time.time())
            ok = trial.verdict.skipped > 0 if fault else trial.verdict.ok
            yield Check(fault or "nothing", f"{name}, tailed while commits overlap", None, trial.verdict, ok)


@contextmanager
def _snapshots(conninfo: str) -> Iterator[Callable[[Callable[[Connection], Verdict]], Future[Verdict]]]:
    """Yield a function that starts a judge in a thread of its own, on a session to which the database stays as it is at
    that moment. A judge may only be started once the verdict of the one before has come."""
    with connected(conninfo) as connection, ThreadPoolExecutor(1, "judge") as thread:
        connection.execute(f"SET search_path TO {SCHEMA}")

        def begin(judge: Callable[[Connection], Verdict]) -> Future[Verdict]:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT 1")  # takes the snapshot

            def judge_and_end() -> Verdict:
                try:
                    return judge(connection)
                finally:
                    connection.rollback()

            return thread.submit(judge_and_end)

        yield begin


class _Plant(NamedTuple):
    """Faults of one kind at one place."""

    kind: str
    place: str
    events: int
    sql: str
    """Makes the faults; empty where none are made."""

    @property
    def undelivered(self) -> int:
        """The number of events that no reader is given."""
        return self.events if self.kind in {"lost", "skipped"} else 0

    def check(self, verdict: Verdict) -> Check:
        """Compare a verdict with what was planted."""
        # A reader has passed an event only when it was given a later one.
        withheld = (self.kind, self.place) == ("skipped", "the last event")
        return _check("withheld" if withheld else self.kind, self.place, self.events, verdict)


class _Tested:
    """A log with events, into which faults are planted one after the other."""

    def __init__(self, spec: Spec, log: Log, place: Place, connection: Connection) -> None:
        self._spec = spec
        self._log = log
        self._place = place
        self._connection = connection
        self._producers = producers(spec, log)
        self._appended = self._carried_out(APPEND, self._producers)
        self._written = written_by(self._appended)

    def checks(self) -> Iterator[Check]:
        """Plant each kind of fault at each place, undo it, and judge a reading each time. A reading is judged while the
        next fault is planted and read."""
        self._connection.execute(PREPARE)
        settle(self._connection)
        judging: tuple[_Plant, Future[Verdict]] | None = None
        with _snapshots(self._place.database.conninfo) as in_snapshot:
            for plant in self._plants():
                with self._planted(plant):
                    readers = self._read(plant.undelivered)
                    if judging:
                        before, verdict = judging
                        yield before.check(verdict.result())
                    judging = plant, in_snapshot(partial(self._judged, readers))
            if judging:
                before, verdict = judging
                yield before.check(verdict.result())

    def _plants(self) -> Iterator[_Plant]:
        query = "SELECT place, count(*) FROM chosen GROUP BY place ORDER BY min(etag), 2"
        places = self._connection.execute(query).fetchall()
        yield _Plant("nothing", "", 0, "")
        for place, count in places:
            yield from (_Plant(kind, place, count, sql) for kind, sql in STORED_FAULTS.items())
        self._connection.execute(READ_WITH_FAULTS)
        for place, count in places:
            yield from (_Plant(kind, place, count, sql) for kind, sql in READING_FAULTS.items())
        yield _Plant("nothing", "after all of that", 0, "")

    @contextmanager
    def _planted(self, plant: _Plant) -> Iterator[None]:
        if not plant.sql:
            yield
            return
        self._connection.execute(PLANT.format(place=plant.place) + plant.sql)
        yield
        self._connection.execute(UNDO + (UNHIDE if plant.kind in READING_FAULTS else ""))

    def judged(self) -> Verdict:
        """Read the log and judge what was read."""
        return self._judged(self._read(), self._connection)

    def _read(self, undelivered: int = 0) -> list[Reader]:
        """Read the log. Readers that have all but `undelivered` events are not made to wait for more; they still read
        to an empty page."""
        (read_batch,) = self._spec.read_batch
        outcome = self._carried_out(Track(read_batch), consumers(self._spec, self._log, read_batch), undelivered)
        return [
            Reader(reading, [worker], outcome.holders)
            for reading, worker in zip(readings(self._spec, read_batch), outcome.reported, strict=True)
        ]

    def _judged(self, readers: list[Reader], connection: Connection) -> Verdict:
        order = order_of_appends(self._spec, self._log, self._appended, connection)
        return judged(self._spec, self._log, self._written, readers, connection, [], order=order).verdict

    def _carried_out(self, track: Track, jobs: Sequence[Job], undelivered: int = 0) -> TrackOutcome:
        appended = all_events(self._producers)
        to_read = appended._replace(events=appended.events - undelivered)
        plan = Plan({track: jobs}, appended.events, self._spec.idle_timeout, to_read)
        return carry_out(plan, self._place.workers.start, self._connection, Unwatched())[track]


def _check(planted: str, place: str, events: int, verdict: Verdict) -> Check:
    expected = {} if planted == "nothing" else {planted: events}
    return Check(planted, place, events, verdict, ok=_counts(verdict) == expected and verdict.ok == (not expected))


def _counts(verdict: Verdict) -> dict[str, int]:
    return {kind: getattr(verdict, kind) for kind in KINDS if getattr(verdict, kind)}
