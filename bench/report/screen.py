"""How text is made to fit where it is shown: its width, its colours. What is shown is decided elsewhere."""

import os
import re
import shutil
import sys
from textwrap import wrap
from typing import TextIO

USUAL = 80
UNLIMITED = 1_000_000
WIDEST = 100
NARROW = 60
"""Below this many columns text hangs by a few columns only, and tables become lists."""
HANG = "\t"
"""In a line of text: where the lines begin that it is continued on. Without one they hang by two columns."""
TIED = "\u00a0"
"""A space at which a line is not broken."""

_RESET, _BAD, _GOOD, _WARNING = "\033[0m", "\033[1;31m", "\033[32m", "\033[33m"
_COLOURS = (
    (re.compile(r"\bFAILED\b"), _BAD),
    (re.compile(r"(?<=verdict: )ok\b|(?<= )ok(?=\s*$)", re.MULTILINE), _GOOD),
    (re.compile(r"\b(?:fsync|synchronous_commit)=\w+|\bnot durable\b"), _WARNING),
)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads this stream on a screen that understands more than plain lines."""
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


def width(stream: TextIO | None = None) -> int:
    """The columns that text on a stream, standard output if none is given, may take. On a pipe a sentence is a line:
    programs look for it."""
    if not (stream or sys.stdout).isatty():
        return UNLIMITED
    return min(shutil.get_terminal_size((USUAL, 24)).columns, WIDEST)


def fit(text: str, columns: int) -> str:
    """Break each line of a text that is longer than `columns` between words. See `HANG` and `TIED`."""
    return "\n".join(part for line in text.split("\n") for part in _fit_line(line, columns)).replace(TIED, " ")


def shown(text: str, stream: TextIO | None = None) -> str:
    """A text for a stream, standard output if none is given: fitted to a terminal, as it is for a pipe."""
    return fit(text, width(stream))


def _fit_line(line: str, columns: int) -> list[str]:
    head, marked, rest = line.partition(HANG)
    whole = head + rest
    indent = len(whole) - len(whole.lstrip(" "))
    if len(whole) <= columns or whole.startswith("|"):
        return [whole.rstrip(" ")]
    hanging = len(head) if marked else indent + 2
    if columns < NARROW:
        hanging = min(hanging, 4)
        indent = min(indent, hanging)
    # The spaces inside of a head keep its columns; elsewhere a broken line needs no more than one between words.
    first = head if marked and columns >= NARROW else " " * indent
    text = rest if marked and columns >= NARROW else whole.lstrip(" ")
    return wrap(
        text,
        columns,
        initial_indent=first,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def plain(text: str) -> str:
    """A text of markdown without the marks of strong words and of code."""
    return text.replace("**", "").replace("`", "")


def coloured(text: str, stream: TextIO | None = None) -> str:
    """The text with its verdicts and warnings in colour, where the stream, standard output if none is given, has it.

    NO_COLOR (no-color.org) and TERM=dumb are heeded.
    """
    if os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout):
        return text
    for words, colour in _COLOURS:
        text = words.sub(lambda found, colour=colour: f"{colour}{found[0]}{_RESET}", text)  # type: ignore[misc]
    return text
