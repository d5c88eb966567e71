"""Words that are made of values, wherever they are shown."""

from collections.abc import Sequence

SHOWN_NAMES = 3


def plural(count: int, one: str, several: str | None = None) -> str:
    """A count with its noun: 1 trial, 2 trials."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    shown = names if len(names) <= SHOWN_NAMES else names[: SHOWN_NAMES - 1]
    others = len(names) - len(shown)
    return ", ".join(shown) + (f" and {others} others" if others else "")
