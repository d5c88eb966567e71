"""Starts a Postgres of ours with settings; when it does not start, finds out whether they are the reason."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeVar

from bench.errors import BenchError, NotStartedError, SettingRefusedError

Started = TypeVar("Started")


def with_settings(
    stack: ExitStack, settings: Mapping[str, str], start: Callable[[ExitStack, Mapping[str, str]], Started]
) -> Started:
    """Start Postgres, which goes with the stack. `start` does it on a stack of its own, with the settings that it is
    given; it is tried once more without them when Postgres ends with them.

    What a server says of its end names no setting for certain, and may be in any language: that it starts without them
    proves that they are the reason.

    Raises:
        SettingRefusedError: it starts without the settings only.
        NotStartedError: it does not start either way.
    """
    try:
        return _kept(stack, settings, start)
    except NotStartedError as error:
        if settings and _starts_without(start):
            raise SettingRefusedError(error.reason) from error
        raise


def _kept(
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
