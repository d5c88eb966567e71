"""Puts stops between the statements of a function's body, so that another session's step can come between two
snapshots, or between a snapshot and a lock. Pure.

A stop in PL/pgSQL is an ASSERT of a function that returns true: unlike PERFORM, it leaves FOUND and ROW_COUNT as they
are. The text is otherwise unchanged, line by line.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.postgres.script import starts, tokens
from bench.postgres.stops import STOPS

_BRANCHES = {"if", "elsif", "elseif", "case", "when", "exception"}
"""A statement that begins with one of these goes on with the statements after THEN."""
_LOOPS = {"while", "for", "foreach", "loop"}
_INERT = {"null", "raise", "exit", "continue", "get"}
"""A statement that begins with one of these touches nothing that another session could see."""
_STRUCTURE = {"end", "else", "elsif", "elseif", "when", "exception"}
"""No statement can stand before one of these words as if it belonged there."""
_SQL = {"select", "insert", "update", "delete", "merge", "values", "table", "with", "lock", "truncate", "execute"}
_SQL |= {"perform", "call", "notify", "open", "fetch", "from", "commit", "rollback"}
_HARMLESS = {"coalesce", "nullif", "greatest", "least", "array", "current_setting", "json_typeof", "json_build_array"}
_HARMLESS |= {"if", "elsif", "elseif", "when", "case", "then", "else", "and", "or", "not", "in", "any", "all", "return"}
"""Words before a parenthesis that call nothing that touches data."""


class _Token(NamedTuple):
    place: int
    text: str
    """In lower case, if it is a word."""
    is_word: bool


def with_stops(name: str, language: str, source: str) -> str:
    """The body of a function in `sql` or `plpgsql` with a stop before each statement that could touch or see what
    other sessions do, except the first: a session can be held before that one anyway. The body may come back unchanged.
    """
    places = _in_plpgsql(source) if language == "plpgsql" else starts(source)[1:]
    command = "ASSERT" if language == "plpgsql" else "SELECT"
    for place in sorted(places, reverse=True):
        line = source.count("\n", 0, place) + 1
        stop = f"{command} {STOPS}.next_statement('line {line} of {name.replace(chr(39), chr(39) * 2)}'); "
        source = source[:place] + stop + source[place:]
    return source


def _in_plpgsql(source: str) -> Iterator[int]:
    """The offsets of the statements of a PL/pgSQL body before which a session should stop."""
    body = _Body([_Token(at, text.lower() if is_word else text, is_word) for at, text, is_word in tokens(source)])
    for at, token in enumerate(body.text):
        if body.stops_before(at):
            yield token.place


@dataclass
class _Body:
    """A PL/pgSQL body that is read token by token."""

    text: list[_Token]
    blocks: int = 0
    parentheses: int = 0
    cases: int = 0
    """Open CASE expressions."""
    loops: list[bool] = field(default_factory=list)
    """For each open loop, whether its condition touches data after each pass."""
    label_end: int = -1
    """Number of the last token of a label."""
    declares: bool = False
    has_value: bool = False
    """The declaration has a first value."""
    is_start: bool = False
    """The next token begins a statement."""
    is_labelled: bool = False
    has_begun: bool = False
    """Something that touches data may have been done before."""
    head: str = ""
    """The first word of the current statement."""

    def stops_before(self, at: int) -> bool:
        """Read the next token; returns whether a session should stop before it."""
        token = self.text[at]
        word = token.text if token.is_word and self.parentheses == 0 else ""
        stops = False
        if at <= self.label_end:
            return False
        if self.declares or not self.blocks:
            self._declare(at, word)
        elif self.is_start and token.text == "<":  # a label: <<name>>
            self.label_end, self.is_labelled = at + 4, True
        elif self.is_start:
            stops = self._begin(at, word)
        else:
            self._go_on(token, word)
        self.parentheses += (token.text == "(") - (token.text == ")")
        return stops

    def _declare(self, at: int, word: str) -> None:
        """Read a token before the first BEGIN, or in a section of declarations."""
        text = self.text[at].text
        if word == "begin":
            self.declares, self.is_start, self.blocks = False, True, self.blocks + 1
        elif word == "declare":
            self.declares, self.has_value = True, False
        elif self.declares:
            self.has_value = text != ";" and (self.has_value or text == "=" or word == "default")
            self.has_begun = self.has_begun or (self.has_value and _is_active(self.text, at))

    def _begin(self, at: int, word: str) -> bool:
        """Read the first token of a statement; returns whether a session should stop before it."""
        self.is_start, self.head = False, word
        following = self.text[at + 1].text if at + 1 < len(self.text) else ""
        touches = _touches(self.text, at)
        stops = False
        if word == "end":
            if following == "loop":
                stops = bool(self.loops) and self.loops.pop()
            elif following not in {"if", "case"}:
                self.blocks -= 1
        elif word in {"begin", "else"}:
            self.is_start, self.blocks = True, self.blocks + (word == "begin")
        elif word in _STRUCTURE:
            self.has_begun = self.has_begun or touches
        elif word == "declare" or (word not in _INERT and touches):
            stops = self.has_begun and not self.is_labelled
            self.has_begun = True
        if word in _LOOPS:
            self.loops.append(word == "while" and touches)
            self.has_begun, self.is_start = True, word == "loop"
        self.declares, self.has_value, self.is_labelled = word == "declare", False, False
        return stops

    def _go_on(self, token: _Token, word: str) -> None:
        """Read another token of a statement."""
        if token.text == ";" and self.parentheses == 0:
            self.is_start, self.cases = True, 0
        elif word == "case" and self.head != "end":
            self.cases += 1
        elif word == "end" and self.cases:
            self.cases -= 1
        elif not self.cases and (
            (word in {"then", "else"} and self.head in _BRANCHES) or (word == "loop" and self.head in _LOOPS)
        ):
            self.is_start = True


def _touches(text: list[_Token], at: int) -> bool:
    """Whether a statement, which begins at a token, may call something or run a query before the next statement."""
    head = text[at].text
    ends = {"loop"} if head in _LOOPS else {"then"} if head in _BRANCHES else set()
    if head == "loop":
        return False
    for number, token in enumerate(text[at:], at):
        if token.text == ";" or (token.is_word and token.text in ends):
            return False
        if _is_active(text, number):
            return True
    return False


def _is_active(text: list[_Token], at: int) -> bool:
    """Whether a token is a word of a query, or begins the arguments of a call that may touch data."""
    token = text[at]
    before = text[at - 1] if at else token
    return (token.is_word and token.text in _SQL) or (
        token.text == "(" and before.is_word and before.text not in _HARMLESS
    )
