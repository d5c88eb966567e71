"""Scopes: small sets of sessions with the statements of each, of which every order is carried out. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import factorial, prod
from typing import Literal

from bench.eventlog import Log

Kind = Literal["append", "commit", "rollback", "page", "write elsewhere", "prepare", "commit prepared"]
Bystander = Literal["none", "table", "prepared"]
PAGE_EVENTS = 2
"""Events per page: fewer than a scope appends, so that pages also end between the events of one transaction."""


@dataclass(frozen=True)
class Statement:
    """The SQL that a session sends at one time."""

    kind: Kind
    events: int = 0
    """Number of events of an append."""


@dataclass(frozen=True)
class Program:
    """A session and its statements, in their order. A transaction begins with its first append: BEGIN by itself touches
    nothing that another session could see, so its place among the steps of others makes no difference.
    """

    name: str
    statements: tuple[Statement, ...]
    is_reader: bool = False
    """The session reads, and after the order reads on to the end of the log."""

    def without(self, number: int) -> "Program":
        """The program without one of its statements."""
        return replace(self, statements=self.statements[:number] + self.statements[number + 1 :])


@dataclass(frozen=True)
class Scope:
    """Sessions whose steps are put into every order."""

    name: str
    programs: tuple[Program, ...]
    inside: bool = False
    """Sessions also stop inside statements."""
    client: bool = False
    """The readers are sessions of one named client, or of one queue."""
    longer_ids: bool = False
    """Transaction ids get another digit between the first two transactions. One order only, each session after the
    other: another order would have to wait for one more digit."""

    @property
    def orders(self) -> int | None:
        """Number of orders of the statements if no session ever waits for another; None when sessions also stop inside
        statements, because the number then depends on the log's SQL.
        """
        if self.longer_ids:
            return 1
        if self.inside:
            return None
        lengths = [len(program.statements) for program in self.programs]
        return factorial(sum(lengths)) // prod(map(factorial, lengths))


def scopes(log: Log, writers: int, bystander: Bystander) -> Iterator[Scope]:
    """The scopes in which a log is explored, those without stops inside statements first."""
    append, commit, rollback = Statement("append", 1), Statement("commit"), Statement("rollback")
    batch = Statement("append", 2)
    yield replace(_scope("longer transaction ids", [(append, commit, append, commit)], [1], "none"), longer_ids=True)
    yield _scope("a rollback", [(append, rollback), *[(append, commit)] * (writers - 1)], [3], bystander)
    if writers == 2:
        yield _scope("two transactions", [(append, commit, append, commit), (append, commit)], [2], bystander)
    if writers == 2:
        yield _scope("two appends per transaction", [(batch, append, commit)] * 2, [3], bystander)
    else:
        yield _scope("one append per transaction", [(append, commit)] * writers, [3], bystander)
    if log.group != "no":
        members = _scope("two sessions of one client", [(batch, commit, append, commit)], [2, 2], "none")
        yield replace(members, client=True)
    yield replace(_scope("inside statements", [(append, commit)] * writers, [2], bystander), inside=True)


def _scope(name: str, writers: list[tuple[Statement, ...]], pages: list[int], bystander: Bystander) -> Scope:
    numbers = [f" {number}" for number in range(1, len(pages) + 1)] if len(pages) > 1 else [""]
    return Scope(
        name,
        (
            *(Program(f"writer {number}", statements) for number, statements in enumerate(writers, 1)),
            *(
                Program(f"reader{number}", (Statement("page"),) * count, is_reader=True)
                for number, count in zip(numbers, pages, strict=True)
            ),
            *_bystanders(bystander),
        ),
    )


def _bystanders(bystander: Bystander) -> Iterator[Program]:
    if bystander == "table":
        yield Program("bystander", (Statement("write elsewhere"), Statement("commit")))
    elif bystander == "prepared":
        statements = (Statement("write elsewhere"), Statement("prepare"), Statement("commit prepared"))
        yield Program("bystander", statements)
