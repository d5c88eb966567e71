"""Ctrl-C, similar signals and a time limit: one interrupt, raised only when everything that was started is noted for
clearing away."""

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
"""The other signals that end a process by default, as far as the system has them (signal(7)). Python ignores SIGPIPE
and SIGXFSZ, SIGALRM is the time limit's, and the rest report a fault."""
ONE_PRESS_SECONDS = 1.0
"""Signals that come this soon after the first count as one with it: a closed terminal sends more than one."""
EXIT_CODE = 130
ENDING_SECONDS = 30.0
"""A process that has not ended this long after its time limit is ended at once: there may be no one to press Ctrl-C."""


class TimeIsUp(KeyboardInterrupt):
    """The time limit is over."""

    exit_code = 3


_depth = 0
_first_at: float | None = None
"""When the first signal came (monotonic); None before it."""
_raised = False
_interrupts: type[KeyboardInterrupt] = KeyboardInterrupt
"""The exception that is raised."""
_at_once: dict[object, Callable[[], None]] = {}


def install() -> None:
    """Turn the first signal that would end the process into a KeyboardInterrupt; a later signal ends the process at
    once, whatever it waits for. Ignored signals, like SIGHUP under nohup, stay ignored, except for SIGINT, SIGTERM and
    SIGQUIT."""
    also = {getattr(signal, name, None) for name in _ALSO} | {*range(signal.SIGRTMIN, signal.SIGRTMAX + 1)}
    for number in [*_SIGNALS, *(each for each in also if each and signal.getsignal(each) is signal.SIG_DFL)]:
        signal.signal(number, _interrupt)


@contextmanager
def held() -> Iterator[None]:
    """Hold an interrupt back while something is started and noted for clearing away, and raise it afterwards.

    Only the main thread is ever interrupted, so there is nothing to hold back in another thread.
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
    """Raise an interrupt that was held back, or that got lost: Python drops an exception that is raised while it
    finalizes an object. Loops that wait must call this. While another exception is handled, a lost interrupt is not
    raised again, because the run is stopping already.

    Raises:
        KeyboardInterrupt: there was a signal, and its interrupt has not been raised, or got lost.
    """
    if _first_at is None or _depth or threading.current_thread() is not threading.main_thread():
        return
    if not _raised or sys.exc_info()[0] is None:
        _raise()


@contextmanager
def killed_at_once(kill: Callable[[], None]) -> Iterator[None]:
    """Call `kill` if the process is ended at once during the `with`; it must not wait."""
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
        _say("bench: stopping; a second signal ends it at once")
        if not _depth:
            _raise()
    elif now - _first_at > ONE_PRESS_SECONDS:
        _end_at_once(EXIT_CODE)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeIsUp in the `with` when it takes longer than this; None is no limit. If the `with` has not ended
    ENDING_SECONDS later, the process is ended at once."""
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


def _say(message: str) -> None:
    with suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{message}\n".encode())


def _raise() -> None:
    global _raised  # noqa: PLW0603
    _raised = True
    raise _interrupts
