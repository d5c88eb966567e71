"""Makes words of values."""

from collections.abc import Sequence

SHOWN_NAMES = 3
WHOLE_FROM = 99.95
"""Numbers from here on are shown without decimals."""


def plural(count: int, one: str, several: str | None = None) -> str:
    """A count with its noun: 1 trial, 2 trials."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def number(value: float) -> str:
    """A number of at least 0 with three digits, or with all digits before the point: 0.0312, 31.2, 12,300."""
    return f"{value:,.0f}" if value >= WHOLE_FROM else f"{value:.3g}"


def some(names: Sequence[str]) -> str:
    """The first of some names, and the number of the others: `a, b and 3 others`."""
    shown = names if len(names) <= SHOWN_NAMES else names[: SHOWN_NAMES - 1]
    others = len(names) - len(shown)
    return ", ".join(shown) + (f" and {others} others" if others else "")
