"""The search for the highest offered load that holds: which loads are tried, in which order, and for how long. Pure.

It follows the findmax of NoSQLBench ("Analysis Method: FindMax"): steps that grow while a load holds, a step back when
one does not, and windows that grow as the search closes in. Then it bisects, because findmax begins again with small
steps, which takes many windows. A load whose window fails is offered once more, and holds when that window holds, so
that one disturbance of the machine does not decide. In the end both the highest load that held and the lowest one that
failed are offered again, for the whole time.
"""

from collections.abc import Generator
from typing import NamedTuple

from bench.values import MOST_PER_SECOND

TOLERANCE = 0.03
"""The search ends when the lowest load that failed is at most this share above the highest one that held."""
FIRST_SHARE = 1 / 6
"""The first windows last this share of the confirmation."""
GROWTH = 1.33
"""Each window of the bisection is longer than the one before by this factor, up to the time of the confirmation."""
STEP = 2
"""Factor between loads while no load, or none but failed ones, is known."""
FIRST_STEP = 0.025
"""Loads that are confirmed one after the other are this share apart, then twice that share, and so on."""
DIGITS = 3
"""Loads have this many significant digits."""


class Attempt(NamedTuple):
    """A load to be offered."""

    rate: float
    """Events per second."""
    seconds: float
    confirms: bool
    """Whether this is as long as the load that is found has to hold."""


class Found(NamedTuple):
    """The end of a search."""

    rate: float | None
    """Events per second; None when no load held."""


Bracket = tuple[float | None, float | None]
"""The highest load that held and the lowest one that failed, as far as there are any."""


def search(first: float, lowest: float, seconds: float) -> Generator[Attempt | Found, bool, None]:
    """Yield one attempt after the other, to be answered by whether its load held; at last the load that was found.

    `first` is the load to begin with, `lowest` the least one worth trying, both in events per second; a load has to
    hold for `seconds`.
    """
    window = seconds * FIRST_SHARE
    held, failed = yield from _bracket(rounded(first), rounded(lowest), window)
    while held and failed and failed / held > 1 + TOLERANCE:
        window = min(window * GROWTH, seconds)
        rate = _between(held, failed)
        if (yield from _holds(Attempt(rate, window, confirms=False))):
            held = rate
        else:
            failed = rate
    yield Found((yield from _confirmed(held, failed, rounded(lowest), seconds)) if held else None)


def rounded(rate: float) -> float:
    """A load with `DIGITS` significant digits."""
    return float(f"{rate:.{DIGITS}g}")


def _between(held: float, failed: float) -> float:
    return rounded((held * failed) ** 0.5)


def _holds(attempt: Attempt) -> Generator[Attempt, bool, bool]:
    """Offer a load in up to two windows; it holds as soon as one of them does, and fails when both fail."""
    return (yield attempt) or (yield attempt)


def _bracket(first: float, lowest: float, seconds: float) -> Generator[Attempt, bool, Bracket]:
    """Enclose the highest load: go up from one that holds until one fails, or down from one that fails."""
    rate = first
    if (yield from _holds(Attempt(rate, seconds, confirms=False))):
        held = rate
        while held < MOST_PER_SECOND:
            rate = min(held * STEP, MOST_PER_SECOND)
            if not (yield from _holds(Attempt(rate, seconds, confirms=False))):
                return held, rate
            held = rate
        return held, None
    while rate > lowest:
        failed, rate = rate, max(rounded(rate / STEP), lowest)
        if (yield from _holds(Attempt(rate, seconds, confirms=False))):
            return rate, failed
    return None, rate


def _confirmed(
    rate: float, failed: float | None, lowest: float, seconds: float
) -> Generator[Attempt, bool, float | None]:
    """Offer the highest load that held, and the lowest one that failed, for the whole time.

    Where the first fails now, or the second holds, go on with growing steps until a load holds and a higher one fails,
    and bisect. So a load that was ruled out by mistake, or that holds for a short time only, is found out.
    """

    def holds(load: float) -> Generator[Attempt, bool, bool]:
        return _holds(Attempt(load, seconds, confirms=True))

    step = FIRST_STEP
    if (yield from holds(rate)):
        while failed and (yield from holds(failed)):
            rate, failed, step = failed, _above(failed, step), step * 2
    else:
        held = False
        while not held:
            if rate <= lowest:
                return None
            failed, rate, step = rate, max(rounded(rate / (1 + step)), lowest), step * 2
            held = yield from holds(rate)
    while failed and failed / rate > 1 + TOLERANCE:
        middle = _between(rate, failed)
        if (yield from holds(middle)):
            rate = middle
        else:
            failed = middle
    return rate


def _above(rate: float, share: float) -> float | None:
    """The next load to try above one that held; None where there is none."""
    return min(rounded(rate * (1 + share)), MOST_PER_SECOND) if rate < MOST_PER_SECOND else None
