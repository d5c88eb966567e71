"""What is logged while a command runs, on stderr: above the live display on a terminal, as plain lines on a pipe."""

import logging
import sys

from rich.text import Text

from bench.quota import processors
from bench.report import screen
from bench.report.progress import CONSOLE
from bench.run import environment
from bench.run.place import ChosenPlace
from bench.text import plural

_news = logging.getLogger("bench")


def listen(*, quiet: bool = False) -> None:
    """Print on stderr what the logger `bench` gets; if `quiet`, warnings only."""
    handler = _AboveTheDisplay() if screen.is_terminal(sys.stderr) else _PlainLines()
    logging.basicConfig(format="%(message)s", handlers=[handler])
    _news.setLevel(logging.WARNING if quiet else logging.INFO)


def introduce(chosen: ChosenPlace, *, quiet: bool = False) -> None:
    """Listen, then log the place and why it was chosen, and whether other programs keep the machine busy."""
    listen(quiet=quiet)
    _news.info("place: %s (%s)", chosen.name, chosen.why)
    if chosen.instead_of:
        _news.warning("%s", chosen.instead_of)
    busy = None if quiet else environment.busy_cores()
    if busy is not None:
        _news.info(
            "This machine is busy: other programs use %.1f of its %s. Results will be slower and noisier.",
            busy,
            plural(processors(), "core"),
        )


class _AboveTheDisplay(logging.Handler):
    """Prints records above the live display, broken between words."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        text = screen.fit(self.format(record), min(CONSOLE.width, screen.WIDEST))
        CONSOLE.print(Text.from_ansi(screen.coloured(text, sys.stderr)), soft_wrap=True)


class _PlainLines(logging.Handler):
    """Prints records as lines, as wide as standard error is."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        print(screen.shown(self.format(record), sys.stderr), file=sys.stderr, flush=True)
