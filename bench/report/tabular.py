"""Writes rows of texts as a table: in markdown, or fitted to a screen."""

import re
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Protocol

from tabulate import tabulate

from bench.report import screen

Rows = Sequence[Mapping[str, str]]

FAILED = "FAILED"
"""A cell without a value, because something failed; the notes below the table have the reason."""

_BARS = re.compile(r"(\\*)\|")
"""A bar with the backslashes before it, which would escape the backslash that is put before the bar."""


class Form(Protocol):
    """A way to write a table. The columns named by `right` are aligned to the right, all others to the left."""

    def __call__(self, rows: Rows, right: Container[str] = ()) -> str:
        """Write a table of at least one row."""


def markdown(rows: Rows, right: Container[str] = ()) -> str:
    """The whole table, however wide. In cells, | is escaped, which would begin another cell."""
    return tabulate(
        [{name: _BARS.sub(r"\1\1\\|", text) for name, text in row.items()} for row in rows],
        headers="keys",
        tablefmt="github",
        disable_numparse=True,
        colalign=["right" if name in right else "left" for name in rows[0]],
    )


def narrow(rows: Rows, right: Container[str] = (), *, columns: int, dispensable: Container[str] = ()) -> str:
    """A table in at most this many columns of characters, without marks. If it is too wide, the dispensable columns are
    left out; if it still is, each row becomes a block of names and values.
    """
    plain = [{name: screen.plain(text) for name, text in row.items()} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in plain)) for name in plain[0]}
    for names in (list(widths), [name for name in widths if name not in dispensable]):
        for gap in ("  ", " "):
            lines = [
                gap.join(
                    f"{row[name]:>{widths[name]}}" if name in right else f"{row[name]:<{widths[name]}}"
                    for name in names
                ).rstrip()
                for row in ({name: name for name in names}, *plain)
            ]
            if max(map(len, lines)) <= columns:
                return "\n".join(lines)
    wide = max(map(len, widths))
    blocks = ("\n".join(f"{name:<{wide}}  {screen.HANG}{text}" for name, text in row.items() if text) for row in plain)
    return screen.fit("\n\n".join(blocks), columns)


def form() -> Form:
    """The form of tables on standard output: markdown on a pipe, fitted to its width on a terminal."""
    return partial(narrow, columns=screen.width()) if sys.stdout.isatty() else markdown


def shown(text: Callable[[Form], str]) -> str:
    """A text with tables and marks, made for standard output: markdown on a pipe, fitted to a terminal."""
    return fitted(text, screen.width()) if sys.stdout.isatty() else text(markdown)


def fitted(text: Callable[[Form], str], columns: int) -> str:
    """A text with tables and marks, in at most this many columns of characters and without marks."""
    return screen.fit(screen.plain(text(partial(narrow, columns=columns))), columns)
