"""Proves the checker to its user: every kind of fault, planted between log and consumer, must be caught under its name.

The faults are real: rows that are gone, doubled, swapped, changed or made up in the table, and a reader's function that
hides some. The producers and the consumer are the ones that every run uses.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bench.eventlog import Log, load
from bench.flags import OneMachine
from bench.judge.verdict import KINDS, Verdict
from bench.places.api import Place
from bench.places.rundir import RunFolder
from bench.postgres import install
from bench.postgres.connection import Connection, connected
from bench.postgres.server import settle
from bench.records import Job
from bench.results.tracks import APPEND, Track
from bench.run.jobs import consumers, producers, readings
from bench.run.outcome import Reader, TrackOutcome
from bench.run.phase import Plan, Total, carry_out
from bench.run.place import ChosenPlace, open_place
from bench.run.realtime import order_of_appends
from bench.run.trial import carry_out_trial
from bench.run.verdict import judged, written_by
from bench.run.watch import Unwatched
from bench.selftest.plants import (
    LEAVE_ROOM,
    PLANT,
    PLANTS,
    PREPARE,
    PRODUCERS,
    SCENARIOS,
    TAKE_IN_PART,
    UNDO,
    WITHHOLD,
)
from bench.spec import Spec

READ_BATCH = 1000
IDLE_SECONDS = 1.0
"""This log holds nothing back: an event that does not come at once never comes."""


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
        set={},
    )
    tailing = spec.model_copy(
        update={
            "scale": 8,
            "limit": 200,
            "insert_batch": 5,
            "mode": "tail",
            "transaction_ms": (0.0, 10.0),
            "idle_timeout": 2.0,
        }
    )
    alone = tailing.model_copy(update={"scale": 1, "transaction_ms": (0.0, 0.0)})
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


class _Tested:
    """A log with events, into which faults are planted one after the other."""

    def __init__(self, spec: Spec, log: Log, place: Place, connection: Connection) -> None:
        self._spec = spec
        self._log = log
        self._place = place
        self._connection = connection
        self._appended = self._carried_out(APPEND, producers(spec, log))
        self._written = written_by(self._appended)

    def checks(self) -> Iterator[Check]:
        """Plant each kind of fault at each place, undo it, and judge a reading each time."""
        self._connection.execute(PREPARE)
        settle(self._connection)
        yield _check("nothing", "", 0, self.judged())
        places = self._connection.execute("SELECT place, count(*) FROM chosen GROUP BY place ORDER BY min(etag), 2")
        for place, count in places.fetchall():
            for kind in PLANTS:
                with self._planted(kind, place):
                    # A reader has passed an event only when it was given a later one.
                    expected = "withheld" if (kind, place) == ("skipped", "the last event") else kind
                    yield _check(expected, place, count, self.judged())
        yield _check("nothing", "after all of that", 0, self.judged())

    @contextmanager
    def _planted(self, kind: str, place: str) -> Iterator[None]:
        self._connection.execute(PLANT.format(place=place) + PLANTS[kind])
        yield
        self._connection.execute(UNDO)

    def judged(self) -> Verdict:
        """Read the log and judge what was read."""
        (read_batch,) = self._spec.read_batch
        outcome = self._carried_out(Track(read_batch), consumers(self._spec, self._log, read_batch))
        readers = [
            Reader(reading, [worker], outcome.holders)
            for reading, worker in zip(readings(self._spec, read_batch), outcome.reported, strict=True)
        ]
        order = order_of_appends(self._spec, self._log, self._appended, self._connection)
        return judged(self._spec, self._log, self._written, readers, self._connection, [], order=order).verdict

    def _carried_out(self, track: Track, jobs: Sequence[Job]) -> TrackOutcome:
        to_read = Total(self._spec.events, self._spec.checksum)
        plan = Plan({track: jobs}, self._spec.events, self._spec.idle_timeout, to_read)
        return carry_out(plan, self._place.workers.start, self._connection, Unwatched())[track]


def _check(planted: str, place: str, events: int, verdict: Verdict) -> Check:
    expected = {} if planted == "nothing" else {planted: events}
    return Check(planted, place, events, verdict, ok=_counts(verdict) == expected and verdict.ok == (not expected))


def _counts(verdict: Verdict) -> dict[str, int]:
    return {kind: getattr(verdict, kind) for kind in KINDS if getattr(verdict, kind)}
