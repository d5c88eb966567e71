"""Ctrl-C, its kin and a time limit: one interrupt, raised when all that was started is known to whoever stops it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_ALSO = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT")
"""What else ends a process that does nothing about it, as far as the system has it (signal(7)). SIGPIPE and SIGXFSZ are
ignored by Python, SIGALRM is the time limit's, and the others tell of a fault."""
ONE_PRESS_SECONDS = 1.0
"""Signals that come so soon after the first are the same wish: a closed terminal sends more than one."""
EXIT_CODE = 130
ENDING_SECONDS = 30.0
"""What does not end in so long when a time limit is over is ended at once: nobody may be there to press Ctrl-C."""


class TimeIsUp(KeyboardInterrupt):
    """It has taken as long as it may."""

    exit_code = 3


_depth = 0
_first_at: float | None = None
"""When the first signal came (monotonic); None while none has."""
_raised = False
_interrupts: type[KeyboardInterrupt] = KeyboardInterrupt
"""What is raised."""
_at_once: dict[object, Callable[[], None]] = {}


def install() -> None:
    """Turn the first signal that would end the process into a KeyboardInterrupt; a later one ends it at once, whatever
    it waits for. What is ignored, as SIGHUP is under nohup, stays ignored, but for SIGINT, SIGTERM and SIGQUIT."""
    also = {getattr(signal, name, None) for name in _ALSO} | {*range(signal.SIGRTMIN, signal.SIGRTMAX + 1)}
    for number in [*_SIGNALS, *(each for each in also if each and signal.getsignal(each) is signal.SIG_DFL)]:
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
        look()


def look() -> None:
    """Raise an interrupt that was held back, or that got lost: Python drops one that is raised while it clears up an
    object. Whoever waits in a loop calls this. While an exception is handled nothing is raised: the stopping goes on.

    Raises:
        KeyboardInterrupt: there was a signal, and it has not been raised or it got lost.
    """
    if _first_at is None or _depth or threading.current_thread() is not threading.main_thread():
        return
    if not _raised or sys.exc_info()[0] is None:
        _raise()


@contextmanager
def killed_at_once(kill: Callable[[], None]) -> Iterator[None]:
    """Have something that was started killed when the process is ended at once, without waiting for it."""
    key = object()
    _at_once[key] = kill
    try:
        yield
    finally:
        del _at_once[key]


def _interrupt(*_: object) -> None:
    global _first_at  # noqa: PLW0603
    now = time.monotonic()
    if _first_at is None:
        _first_at = now
        _say("bench: stopping; once more ends it at once")
        if not _depth:
            _raise()
    elif now - _first_at > ONE_PRESS_SECONDS:
        _end_at_once(EXIT_CODE)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeIsUp in the `with` when it takes longer than this; None is for ever. What has not ended
    ENDING_SECONDS later is ended at once."""
    if seconds is None:
        yield
        return
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, ENDING_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _time_is_up(*_: object) -> None:
    global _first_at, _interrupts
    if _first_at is not None:
        _end_at_once(TimeIsUp.exit_code)
    _first_at, _interrupts = time.monotonic(), TimeIsUp
    _say("bench: the time limit is over: stopping")
    if not _depth:
        _raise()


def _end_at_once(code: int) -> NoReturn:
    for kill in list(_at_once.values()):
        with suppress(Exception):
            kill()
    _say("bench: ended at once; `bench clean` removes what it may have left")
    os._exit(code)


def _say(words: str) -> None:
    with suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{words}\n".encode())


def _raise() -> None:
    global _raised  # noqa: PLW0603
    _raised = True
    raise _interrupts
