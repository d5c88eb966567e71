"""Ctrl-C and SIGTERM: one interrupt, raised when everything that was started is known to whoever stops it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_depth = 0
_pending = False


def install() -> None:
    """Turn the first SIGINT or SIGTERM into a KeyboardInterrupt and ignore the rest, which would stop the stopping."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def held() -> Iterator[None]:
    """Hold an interrupt back while something is started and noted down, and raise it after that.

    Only the main thread is ever interrupted, so there is nothing to hold in another.
    """
    global _depth  # noqa: PLW0603 - signals are the process's, and so is this
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _pending and not _depth:
            _raise()


def _interrupt(*_: object) -> None:
    global _pending  # noqa: PLW0603
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _pending = True
    if not _depth:
        _raise()


def _raise() -> None:
    global _pending  # noqa: PLW0603
    _pending = False
    raise KeyboardInterrupt
