"""Holds transactions open in the phases of an offered load that ask for it."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from bench import phases
from bench.errors import InfrastructureError, UsageError
from bench.eventlog import Log
from bench.phases import LoadPhase, OpenTransaction
from bench.postgres.connection import in_words
from bench.postgres.open_transactions import KINDS, NotApplicableError, Opened
from bench.run.outcome import Held

LOCK_SECONDS = 30.0
"""A transaction that is to be left open waits this long for a lock: under load it queues up behind the producers."""


class Holding:
    """Opens the transaction of a phase when the phase begins, and rolls it back when the phase ends."""

    def __init__(self, its_phases: Sequence[LoadPhase], openers: Mapping[OpenTransaction, Opened]) -> None:
        self._phases = its_phases
        self._spans = phases.spans(its_phases)
        self._openers = openers
        self._start_pc = math.inf
        self._number = -1
        """The number of the present phase, from 0; -1 before the first one, their number after the last one."""
        self._open = ExitStack()
        self.held: dict[int, Held] = {}
        """What was held, by the number of the phase."""

    def start(self, start_pc: float) -> None:
        """Start the schedule at this moment (perf_counter)."""
        self._start_pc = start_pc

    @property
    def goes_on(self) -> bool:
        """Whether the last phase is still to come or to end; False without phases."""
        return bool(self._spans) and self._seconds() < self._spans[-1].end

    def keep_up(self) -> None:
        """Hold what is to be held now. To be called several times per second.

        Raises:
            UsageError: the log does not allow such a transaction.
            InfrastructureError: the transaction cannot be opened, or somebody else has ended it.
        """
        seconds = self._seconds()
        number = sum(span.begin <= seconds for span in self._spans) - 1 if self.goes_on else len(self._spans)
        if number == self._number:
            return
        self.let_go()
        self._number = number
        kind = self._phases[number].open_transaction if 0 <= number < len(self._phases) else None
        if kind is not None:
            with self._failures():
                etags = self._open.enter_context(self._openers[kind]())
            self.held[number] = Held(self._seconds(), math.inf, etags)

    def let_go(self) -> None:
        """End what is held.

        Raises:
            InfrastructureError: somebody else has ended it.
        """
        with self._failures():
            self._open.close()
        held = self.held.get(self._number)
        if held and held.ended_seconds == math.inf:
            self.held[self._number] = held._replace(ended_seconds=self._seconds())

    def _seconds(self) -> float:
        return time.perf_counter() - self._start_pc

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn errors of the server into those of a run."""
        try:
            yield
        except NotApplicableError as error:
            raise UsageError(f"{self._clause()}: {error}") from error
        except psycopg.Error as error:
            raise InfrastructureError(f"{self._clause()}: {in_words(error)}") from error

    def _clause(self) -> str:
        """A clause that the transaction of the present phase cannot be held open."""
        phase = self._phases[self._number]
        kind = phase.open_transaction
        return f"cannot leave a transaction open in {phases.name(phase, self._number + 1)}, open-transaction {kind!r}"


@contextmanager
def holding(its_phases: Sequence[LoadPhase], conninfo: str, log: Log) -> Iterator[Holding]:
    """Make ready what the phases are to hold open; yields what opens and ends it. All of it has ended when the `with`
    ends.

    Raises:
        InfrastructureError: a kind of transaction cannot be made ready, for instance because the role may not create a
            database.
    """
    kinds = dict.fromkeys(phase.open_transaction for phase in its_phases if phase.open_transaction)
    with ExitStack() as stack:
        openers: dict[OpenTransaction, Opened] = {}
        for kind in kinds:
            try:
                openers[kind] = stack.enter_context(KINDS[kind](conninfo, log, LOCK_SECONDS))
            except psycopg.Error as error:
                raise InfrastructureError(f"cannot leave a transaction open {kind}: {in_words(error)}") from error
        held = Holding(its_phases, openers)
        try:
            yield held
        except BaseException:
            with suppress(InfrastructureError):
                held.let_go()
            raise
        held.let_go()
