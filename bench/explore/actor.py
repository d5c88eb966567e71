"""A session that carries out a program: its progress, and the SQL of its next statement."""

import json
from dataclasses import dataclass, field

from bench.eventlog import Log
from bench.explore.carried import Event
from bench.explore.scope import PAGE_EVENTS, Program, Scope, Statement
from bench.explore.sessions import Session
from bench.postgres.stops import STOPS
from bench.statements import read_sql

CLIENT = "explore"


@dataclass
class Actor:
    """A session, its program and its progress."""

    program: Program
    session: Session
    next: int = 0
    """The number of the next statement, or of the one in progress."""
    stops: int = 0
    polls: int = 0
    """How often the sleeping session was released since another session took a step."""
    seq: int = 0
    pending: list[Event] = field(default_factory=list)
    """Events of the open transaction."""
    failed: bool = False
    """The transaction failed and can only be rolled back."""
    cursor: tuple[str | None, ...] = ()
    committed_before: int = 0
    """Number of events that were acknowledged when the page was requested."""
    text: str = ""

    @property
    def over(self) -> bool:
        """Whether all statements have ended."""
        return self.next >= len(self.program.statements)

    @property
    def statement(self) -> Statement:
        """The next statement, or the one in progress."""
        return self.program.statements[self.next]

    def next_sql(self, log: Log, scope: Scope) -> str:
        """The SQL of the session's next statement; the events of an append are then pending."""
        statement = self.statement
        begin = "" if self.session.in_transaction else "BEGIN; "
        if self.failed:
            return "ROLLBACK"
        if statement.kind == "append":
            return f"{begin}{self._append(statement.events)}"
        if statement.kind == "page":
            return self.page_sql(log, scope)
        return {
            "commit": "COMMIT",
            "rollback": "ROLLBACK",
            "write elsewhere": f"{begin}INSERT INTO {STOPS}.elsewhere VALUES (1)",
            "prepare": f"PREPARE TRANSACTION '{STOPS}_{self.session.pid}'",
            "commit prepared": f"COMMIT PREPARED '{STOPS}_{self.session.pid}'",
        }[statement.kind]

    def _append(self, count: int) -> str:
        events = [(self.session.number, self.seq + nth) for nth in range(count)]
        self.seq += count
        self.pending += events
        array = json.dumps([{"producer": producer, "seq": seq, "value": seq} for producer, seq in events])
        return f"SELECT count(*) FROM log_event('{array}')"

    def page_sql(self, log: Log, scope: Scope) -> str:
        """The SQL that reads the page after the reader's cursor."""
        if scope.client:
            return read_sql(log, PAGE_EVENTS, client=CLIENT)
        text = read_sql(log, PAGE_EVENTS)
        values = self.cursor or (None,) * len(log.cursor)
        for nth, value in reversed(list(enumerate(values, 1))):
            text = text.replace(f"${nth}::", ("NULL" if value is None else "'" + value.replace("'", "''") + "'") + "::")
        return text
