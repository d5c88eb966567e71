"""Fits text to the terminal or pipe that it is printed to: width and colours."""

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
"""Below this number of columns, continued lines are indented a little only, and tables become lists."""
HANG = "\t"
"""Marks in a line the column at which its continuation lines begin. Without the mark, they are indented by two."""
TIED = "\u00a0"
"""A space at which lines are not broken."""

_RESET, _BAD, _GOOD, _WARNING = "\033[0m", "\033[1;31m", "\033[32m", "\033[33m"
_COLOURS = (
    (re.compile(r"\bFAILED\b"), _BAD),
    (re.compile(r"(?<=verdict: )ok\b|(?<= )ok(?=\s*$)", re.MULTILINE), _GOOD),
    (re.compile(r"\b(?:fsync|synchronous_commit)=\w+|\bnot durable\b"), _WARNING),
)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that understands control sequences."""
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


def width(stream: TextIO | None = None) -> int:
    """The number of columns for text on a stream (default: standard output). Unlimited on a pipe, so that programs
    find whole sentences.
    """
    if not (stream or sys.stdout).isatty():
        return UNLIMITED
    return min(shutil.get_terminal_size((USUAL, 24)).columns, WIDEST)


def fit(text: str, columns: int) -> str:
    """Break each line that is longer than `columns` between words. See `HANG` and `TIED`."""
    return "\n".join(part for line in text.split("\n") for part in _fit_line(line, columns)).replace(TIED, " ")


def shown(text: str, stream: TextIO | None = None) -> str:
    """Fit a text to a stream (default: standard output): broken for a terminal, unchanged for a pipe."""
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
    # A head keeps its inner spaces, which make columns; elsewhere a broken line has one space between words.
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
    """Remove the marks of bold text and code from markdown."""
    return text.replace("**", "").replace("`", "")


def coloured(text: str, stream: TextIO | None = None) -> str:
    """Colour verdicts and warnings in a text, if the stream (default: standard output) is a terminal.

    NO_COLOR (no-color.org) and TERM=dumb turn colours off.
    """
    if os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout):
        return text
    for pattern, colour in _COLOURS:
        text = pattern.sub(lambda found, colour=colour: f"{colour}{found[0]}{_RESET}", text)  # type: ignore[misc]
    return text
