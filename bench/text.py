"""Words that are made of values, wherever they are shown."""


def plural(count: int, one: str, several: str | None = None) -> str:
    """A count with its noun: 1 trial, 2 trials."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
