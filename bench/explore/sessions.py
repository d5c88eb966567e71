"""Sessions that send a statement and are watched until the statement is done, stops inside, or waits for a session.

No state is inferred from time alone: a session reports its stops itself, and the server reports which session
waits for which.
"""

import select
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Literal

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from bench.errors import InfrastructureError
from bench.explore.breakpoints import LOCKS, NOTICE, SEARCH_PATH
from bench.postgres.connection import Connection, our_name
from bench.postgres.stops import STOPS
from bench.worker import timeouts_of

State = Literal["idle", "running", "stopped", "waiting"]
Rows = list[tuple[str | None, ...]]

FIRST_LOOK_SECONDS = 0.001
"""After this long without an answer the server is asked whether the session waits; most statements take less."""
LATER_LOOK_SECONDS = 0.002
PATIENCE_SECONDS = 20.0
"""An exploration fails when a statement runs for this long without a stop and waits for no session."""


class Explorer:
    """The explorer's own session: it releases stopped sessions, and asks the server which session waits for which."""

    def __init__(self, connection: Connection) -> None:
        self._pgconn = connection.pgconn
        self._encoding = connection.info.encoding
        self.pid = connection.info.backend_pid

    def run(self, text: str) -> Rows:
        """Run statements; returns the rows of the last one.

        Raises:
            psycopg.Error: one of them failed.
        """
        result = self._pgconn.exec_(text.encode())
        if result.status not in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
            raise psycopg.errors.error_from_result(result, encoding=self._encoding)
        return _rows(result)

    def hold(self, numbers: Sequence[int]) -> None:
        """Make the sessions with these numbers stop from now on. They must be idle."""
        self.run("SELECT " + ", ".join(f"pg_advisory_lock({LOCKS}, {2 * number})" for number in numbers))

    def free(self, numbers: Sequence[int]) -> None:
        """Release the sessions with these numbers; they no longer stop."""
        self.run("SELECT " + ", ".join(f"pg_advisory_unlock({LOCKS}, {2 * number})" for number in numbers))

    def waits_for(self, pids: Sequence[int]) -> list[set[int]]:
        """For each of these backends, the pids of the backends that it waits for; 0 is a prepared transaction."""
        array = ",".join(map(str, pids))
        rows = self.run(f"SELECT pg_blocking_pids(pid) FROM unnest('{{{array}}}'::int[]) AS pid")
        return [{int(pid) for pid in (text or "{}").strip("{}").split(",") if pid} - {self.pid} for (text,) in rows]


class Session:
    """A session of a program in a scope. `send` and `let_go` return at once; `settle` and `finish` wait."""

    def __init__(self, connection: Connection, number: int) -> None:
        self.number = number
        self.pid = connection.info.backend_pid
        self.state: State = "idle"
        self.stop = ""
        """Where the session has stopped; meaningful only in the state `stopped`."""
        self.rows: Rows = []
        """The rows of the last statement."""
        self.error: psycopg.Error | None = None
        """The error of the last statement; None when it succeeded."""
        self.holds = True
        """Whether the session is made to stop."""
        self._encoding = connection.info.encoding
        self._pgconn = connection.pgconn
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._stops: list[str] = []
        connection.add_notice_handler(self._note)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        message = notice.message_primary or ""
        if self.holds and message.startswith(NOTICE):
            self._stops.append(message.removeprefix(NOTICE))

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction of this idle session is open, though it may have failed."""
        return self._pgconn.transaction_status != pq.TransactionStatus.IDLE

    def send(self, text: str) -> None:
        """Send statements."""
        self.state, self.rows, self.error = "running", [], None
        self._pgconn.send_query(text.encode())
        while self._pgconn.flush():
            pass

    def let_go(self, explorer: Explorer) -> None:
        """Release the session from its stop."""
        self.state = "running"
        explorer.run(f"SELECT {STOPS}.let_go({self.number}, {self.pid})")

    def speaks(self, seconds: float) -> bool:
        """Whether data arrives from the server within this time."""
        return bool(self._poll.poll(seconds * 1000))

    def receive(self, seconds: float) -> bool:
        """Read the data that arrives within this time; returns whether the session is now done or stopped."""
        if self.speaks(seconds):
            self._pgconn.consume_input()
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                self.state = "idle"
                self._stops.clear()
                return True
            if result.status == pq.ExecStatus.FATAL_ERROR:
                self.error = psycopg.errors.error_from_result(result, encoding=self._encoding)
            else:
                self.rows = _rows(result)
        if self._stops:
            self.stop = self._stops.pop()
            self.state = "stopped"
            return True
        return False

    def settle(self, explorer: Explorer) -> None:
        """Wait until the session is done, stops or waits for another session.

        Raises:
            InfrastructureError: none of these happens within PATIENCE_SECONDS.
        """
        look = FIRST_LOOK_SECONDS
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.receive(look):
            (others,) = explorer.waits_for([self.pid])
            if others and not self.receive(0):
                self.state = "waiting"
                return
            look = LATER_LOOK_SECONDS
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"cannot step through a statement of the log: it has run for {PATIENCE_SECONDS:.0f} s and waits "
                    "for no other session"
                )

    def finish(self, explorer: Explorer, seconds: float) -> bool:
        """Wait until the statement is done. Cancel a statement that takes longer than this, and return False."""
        deadline = time.monotonic() + seconds
        while not self.receive(LATER_LOOK_SECONDS):
            if time.monotonic() > deadline:
                explorer.run(f"SELECT pg_cancel_backend({self.pid})")
                while not self.receive(LATER_LOOK_SECONDS):
                    pass
                return False
        return True


@contextmanager
def opened(conninfo: str, connection: Connection, number: int, *, inside: bool) -> Iterator[Session]:
    """Open a session that stops inside its statements or, if not `inside`, only where it would sleep. Its settings are
    given when it connects, so that RESET ALL restores them. Plans are those of a long log, and identical in each order,
    because how often a statement stops depends on its plan.
    """
    settings = {
        "search_path": SEARCH_PATH.replace(" ", ""),
        f"{STOPS}.session": str(number),
        f"{STOPS}.inside": "on" if inside else "off",
        "client_min_messages": "notice",
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        **dict.fromkeys(timeouts_of(connection), "0"),
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    address = make_conninfo(conninfo, options=options, application_name=our_name(connection, f"session {number}"))
    # A connection's own `with` rolls back, which fails and is logged when an interrupt comes during a statement.
    with closing(psycopg.connect(address, autocommit=True)) as own:
        yield Session(own, number)


def _rows(result: pq.abc.PGresult) -> Rows:
    return [
        tuple(
            value.decode() if (value := result.get_value(row, column)) is not None else None
            for column in range(result.nfields)
        )
        for row in range(result.ntuples)
    ]
