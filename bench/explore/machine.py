"""Carries out one order of a scope: one session at a time takes a step, until all programs are over and readers have
read on to the end of the log.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psycopg

from bench.attribution import is_of_the_log
from bench.errors import InfrastructureError
from bench.eventlog import Log
from bench.explore import data, sessions
from bench.explore.actor import Actor
from bench.explore.breakpoints import SLEEP
from bench.explore.carried import Carried, Choice, Delivery, Event, Part, event_of
from bench.explore.scope import PAGE_EVENTS, Program, Scope
from bench.explore.sessions import Explorer, Session
from bench.postgres.connection import Connection, in_words
from bench.postgres.stops import STOPS
from bench.statements import cursor_columns, stored_sql

MOST_STOPS = 16
"""A statement stops no more often than this; then it goes on to its end."""
MOST_POLLS = 30
"""A session that sleeps when all others are done is released at most this often."""
MOST_EMPTY_PAGES = 2
"""A reader that gets this many empty pages in a row is at the end of the log; a reader that has every event is at the
end after one empty page."""
READ_ON_SECONDS = 10.0

_WRITING = "SELECT pid::text FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()"


class Machine:
    """The sessions of a scope on a log, and the explorer's own session."""

    def __init__(self, log: Log, scope: Scope, explorer: Explorer, opened: Sequence[Session], saved: data.Data) -> None:
        self.log = log
        self.scope = scope
        self._explorer = explorer
        self._sessions = opened
        self._data = saved
        self._held = False
        self._actors: list[Actor] = []
        self._previous: int | None = None
        self._carried = Carried()

    def start(self, programs: Sequence[Program]) -> None:
        """Begin an order of these programs: an empty log, and every session idle."""
        reset = "ROLLBACK; RESET ALL; SELECT pg_advisory_unlock_all()"
        reset += "; DISCARD SEQUENCES" if self._data.caches else ""
        # Planning also calls functions: how often a statement stops depends on which plans are cached.
        reset += "; DISCARD PLANS" if self.scope.inside else ""
        for session in self._sessions:
            session.holds = False
            session.send(reset)
        for session in self._sessions:
            if not session.finish(self._explorer, READ_ON_SECONDS) or session.error:
                raise InfrastructureError(f"a session cannot be reset between two orders: {session.error}")
            session.holds = True
        self._data.reset(self._explorer)
        if self.scope.longer_ids:
            self._explorer.run(data.LONGER_IDS)
        self._explorer.hold([session.number for session in self._sessions])
        self._held = True
        self._actors = [Actor(program, session) for program, session in zip(programs, self._sessions, strict=True)]
        self._previous = None
        self._carried = Carried(
            delivered={number: [] for number, program in enumerate(programs) if program.is_reader},
        )

    def stop(self) -> None:
        """Release all sessions, without further stops, and roll back their prepared transactions."""
        if self._held:
            self._explorer.free([session.number for session in self._sessions])
            self._held = False
        self._roll_back_prepared()

    def enabled(self) -> list[int]:
        """The sessions that can take a step."""
        able = [
            number
            for number, actor in enumerate(self._actors)
            if (actor.session.state == "stopped" and not self._sleeps(actor))
            or (actor.session.state == "idle" and not actor.over)
        ]
        return able or [
            number
            for number, actor in enumerate(self._actors)
            if actor.session.state == "stopped" and actor.polls < MOST_POLLS
        ]

    def _sleeps(self, actor: Actor) -> bool:
        """Whether the session sleeps, and no other session has taken a step since it last woke. In a scope without
        stops it sleeps until another session ends a transaction, as a session that waits for a lock does.
        """
        return actor.session.stop == SLEEP and (actor.polls > 0 or not self.scope.inside)

    def cost(self, number: int) -> int:
        """1 when a step of this session takes the turn from another session that could have continued, else 0."""
        previous = self._previous
        if previous is None or previous == number or previous not in self.enabled():
            return 0
        return int(self._actors[previous].session.stop != SLEEP or self._actors[previous].session.state != "stopped")

    def statement(self, number: int) -> int:
        """The number of a session's next statement, or of the one in progress."""
        return self._actors[number].next

    def advance(self, number: int) -> Part:
        """Have a session take a step: to the end of its statement, to its next stop, or until it waits for another
        session.
        """
        enabled = self.enabled()
        costs = tuple(self.cost(each) for each in enabled)
        self._carried.choices.append(Choice(tuple(enabled), costs, number))
        self._previous = number
        actor = self._actors[number]
        begins = actor.session.state == "idle"
        if begins:
            self._begin(actor)
        else:
            actor.polls += actor.session.stop == SLEEP
            actor.session.let_go(self._explorer)
        part = self._settled(number, begins=begins)
        for other in self._actors:
            if other is not actor:
                other.polls = 0
        self._wake_others(number)
        if not self.scope.inside and part.end in {"done", "fails"} and not actor.session.in_transaction:
            self._wake_sleepers(number)
            self._wake_others(number)
        return part

    def _begin(self, actor: Actor) -> None:
        actor.stops = actor.polls = 0
        actor.text = actor.next_sql(self.log, self.scope)
        actor.committed_before = len(self._carried.acknowledged)
        actor.session.send(actor.text)

    def _settled(self, number: int, *, begins: bool, woken_by: int | None = None, was_asleep: bool = False) -> Part:
        """Wait until a session is done, stops or waits, and note the outcome."""
        actor = self._actors[number]
        session = actor.session
        session.settle(self._explorer)
        while session.state == "stopped":
            actor.stops += 1
            if actor.stops <= MOST_STOPS or session.stop == SLEEP:
                break
            session.let_go(self._explorer)
            session.settle(self._explorer)
        statement, kind = actor.next, actor.statement.kind
        if session.state == "stopped":
            part = Part(number, statement, begins, "stops", session.stop, actor.stops)
        elif session.state == "waiting":
            (pids,) = self._explorer.waits_for([session.pid])
            others = tuple(nth for nth, each in enumerate(self._actors) if each.session.pid in pids)
            part = Part(number, statement, begins, "waits", stops=actor.stops, waits_for=others)
        else:
            part = self._ended(number, actor, begins=begins)
        part = replace(part, kind=kind, text=actor.text, woken_by=woken_by, was_asleep=was_asleep)
        self._carried.parts.append(part)
        return part

    def _ended(self, number: int, actor: Actor, *, begins: bool) -> Part:
        """Note the outcome of a statement that has ended, and move on to the next one."""
        statement, at = actor.statement, actor.next
        actor.next += 1
        error = actor.session.error
        if error is not None:
            self._fail(number, actor, error)
            return Part(number, at, begins, "fails", failure=in_words(error), stops=actor.stops)
        events: tuple[Event, ...] = ()
        etags: tuple[int, ...] = ()
        held_back = False
        if statement.kind == "append":
            events = tuple(actor.pending[-statement.events :]) if not actor.failed else ()
        elif statement.kind == "page":
            given = self._deliver(number, actor)
            events = tuple(event for each in given if (event := event_of(each.payload)))
            etags = tuple(each.etag for each in given)
            held_back = len(given) < PAGE_EVENTS and self._left_out(number, actor.committed_before)
        elif statement.kind in {"commit", "rollback"}:
            committed = statement.kind == "commit" and not actor.failed
            if actor.pending:
                self._carried.batches.add(len(actor.pending))
            (self._carried.acknowledged if committed else self._carried.aborted).extend(actor.pending)
            actor.pending, actor.failed = [], False
        return Part(number, at, begins, "done", stops=actor.stops, events=events, etags=etags, held_back=held_back)

    def _fail(self, number: int, actor: Actor, error: psycopg.Error) -> None:
        if not is_of_the_log(error):
            raise error
        self._carried.failures.append((number, error, actor.text))
        if not actor.session.in_transaction:
            self._carried.aborted += actor.pending
            actor.pending = []
        else:
            # PostgreSQL accepts only the end of this transaction.
            actor.failed = True
            statements = actor.program.statements
            while not actor.over and statements[actor.next].kind not in {"commit", "rollback"}:
                actor.next += 1

    def _deliver(self, number: int, actor: Actor) -> list[Delivery]:
        rows = actor.session.rows
        given = [Delivery(int(row[0] or 0), row[2] or "") for row in rows]
        self._carried.delivered[number] += given
        if rows and not self.scope.client:
            actor.cursor = tuple(rows[-1][column] for column in cursor_columns(self.log))
        return given

    def _left_out(self, number: int, acknowledged: int) -> bool:
        """Whether some of the first acknowledged events have not been delivered to a reader."""
        readers = self._carried.delivered.values() if self.scope.client else [self._carried.delivered[number]]
        given = {event for each in readers for one in each if (event := event_of(one.payload))}
        return not given.issuperset(self._carried.acknowledged[:acknowledged])

    def _wake_others(self, number: int) -> None:
        """Follow the waiting sessions that the last step released."""
        while waiting := [nth for nth, actor in enumerate(self._actors) if actor.session.state == "waiting"]:
            pids = [self._actors[nth].session.pid for nth in waiting]
            holders = dict(zip(waiting, self._explorer.waits_for(pids), strict=True))
            awake = [nth for nth, others in holders.items() if not others]
            deadlocked = self._deadlocked(holders)
            if not awake and not deadlocked:
                return
            for nth in awake or [self._victim(deadlocked)]:
                self._actors[nth].session.state = "running"
                self._settled(nth, begins=False, woken_by=number)

    def _deadlocked(self, holders: Mapping[int, set[int]]) -> list[int]:
        """The sessions that wait only for each other."""
        left = dict(holders)
        while True:
            pids = {self._actors[nth].session.pid for nth in left}
            stuck = {nth: others for nth, others in left.items() if others <= pids}
            if len(stuck) == len(left):
                return list(stuck)
            left = stuck

    def _victim(self, deadlocked: Sequence[int]) -> int:
        """Wait until the server ends a deadlock; returns the session that it chose."""
        deadline = time.monotonic() + sessions.PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for nth in deadlocked:
                if self._actors[nth].session.speaks(sessions.LATER_LOOK_SECONDS):
                    return nth
        names = " and ".join(self._actors[nth].program.name for nth in deadlocked)
        raise InfrastructureError(f"{names} wait for each other, and the server does not end the deadlock")

    def _wake_sleepers(self, number: int) -> None:
        for nth, actor in enumerate(self._actors):
            if actor.session.state == "stopped" and actor.session.stop == SLEEP:
                actor.session.let_go(self._explorer)
                self._settled(nth, begins=False, woken_by=number, was_asleep=True)

    def finish(self) -> Carried:
        """Run all programs to their ends and readers to the end of the log; returns the whole order."""
        self._end_programs()
        self.stop()
        for number, actor in enumerate(self._actors):
            actor.session.holds = False
            if actor.session.state != "idle":  # it polls for an event that never comes
                actor.session.finish(self._explorer, 0)
                self._carried.endless.append(number)
        readers = [(number, actor) for number, actor in enumerate(self._actors) if actor.program.is_reader]
        before = {number: len(self._carried.delivered[number]) for number, _ in readers}
        for number, actor in readers:
            self._read_on(number, actor)
        self._carried.read_on = {number: self._carried.delivered[number][length:] for number, length in before.items()}
        rows = self._explorer.run(stored_sql(self.log))
        self._carried.stored = [(None if etag is None else int(etag), payload) for etag, payload in rows]
        return self._carried

    def _end_programs(self) -> None:
        """Take steps until no session can, then roll back the transactions that programs leave open; repeat until no
        session waits for them.
        """
        while True:
            while enabled := self.enabled():
                self.advance(self._previous if self._previous in enabled else enabled[0])
            left = [actor for actor in self._actors if actor.session.state == "idle" and actor.session.in_transaction]
            for actor in left:
                self._carried.aborted += actor.pending
                actor.pending = []
                self._run(actor.session, "ROLLBACK")
            self._roll_back_prepared()
            self._wake_others(len(self._actors))
            if not left and not self.enabled():
                return

    def _roll_back_prepared(self) -> None:
        if any(statement.kind == "prepare" for program in self.scope.programs for statement in program.statements):
            for (name,) in self._explorer.run(f"SELECT gid FROM pg_prepared_xacts WHERE gid LIKE '{STOPS}%'"):
                self._explorer.run(f"ROLLBACK PREPARED '{name}'")

    def _run(self, session: Session, text: str) -> bool:
        session.send(text)
        return session.finish(self._explorer, READ_ON_SECONDS)

    def _read_on(self, number: int, actor: Actor) -> None:
        """Read to the end of the log, while no other session is active."""
        empty = pages = 0
        most = 10 + 3 * len(self._carried.acknowledged)
        while empty < (MOST_EMPTY_PAGES if self._left_out(number, len(self._carried.acknowledged)) else 1):
            text = actor.page_sql(self.log, self.scope)
            self._carried.last_pages.append((number, text))
            if not self._run(actor.session, text) or pages > most:
                self._carried.endless.append(number)
                return
            pages += 1
            if actor.session.error:
                if not is_of_the_log(actor.session.error):
                    raise actor.session.error
                self._carried.failures.append((number, actor.session.error, text))
                return
            empty = 0 if self._deliver(number, actor) else empty + 1
            if empty == MOST_EMPTY_PAGES - 1 and self._left_out(number, len(self._carried.acknowledged)):
                self._await_others()

    def _await_others(self) -> None:
        """Wait until no other session of the cluster is in a transaction that has written: a log may hold events back
        for it.
        """
        deadline = time.monotonic() + READ_ON_SECONDS
        while self._explorer.run(_WRITING) and time.monotonic() < deadline:
            self._explorer.run("SELECT pg_sleep(0.01)")


@contextmanager
def opened(log: Log, scope: Scope, conninfo: str, connection: Connection, saved: data.Data) -> Iterator[Machine]:
    """Open the sessions of a scope on an installed log."""
    with ExitStack() as stack:
        opened_sessions = [
            stack.enter_context(sessions.opened(conninfo, connection, number, inside=scope.inside))
            for number in range(len(scope.programs))
        ]
        machine = Machine(log, scope, Explorer(connection), opened_sessions, saved)
        stack.callback(machine.stop)
        yield machine
