"""Starts a Postgres with settings, and finds out whether these are the reason when it does not start."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeVar

from bench.errors import BenchError, NotStartedError, SettingRefusedError

Started = TypeVar("Started")


def with_settings(
    stack: ExitStack, settings: Mapping[str, str], start: Callable[[ExitStack, Mapping[str, str]], Started]
) -> Started:
    """Start Postgres, which goes with the stack.

    `start` starts it on a stack of its own, with the settings that are passed to it. If Postgres ends, it is started
    once more without settings: its log does not always name the setting, and may be in any language, but a start
    without the settings proves that these are the reason.

    Raises:
        SettingRefusedError: Postgres starts without the settings only.
        NotStartedError: Postgres does not start either way.
    """
    try:
        return _started(stack, settings, start)
    except NotStartedError as error:
        if settings and _starts_without(start):
            raise SettingRefusedError(error.reason) from error
        raise


def _started(
    stack: ExitStack, settings: Mapping[str, str], start: Callable[[ExitStack, Mapping[str, str]], Started]
) -> Started:
    with ExitStack() as own:
        started = start(own, settings)
        stack.push(own.pop_all())
    return started


def _starts_without(start: Callable[[ExitStack, Mapping[str, str]], object]) -> bool:
    try:
        with ExitStack() as own:
            start(own, {})
    except BenchError:
        return False
    return True
