"""Statistics over repeated measurements. Thin over numpy; no I/O."""

from collections.abc import Sequence
from typing import NamedTuple

RESAMPLES = 10_000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def median(values: Sequence[float], seed: int = 0) -> Estimate:
    """The median, with the percentile bootstrap's interval (Efron, 1979)."""
    import numpy as np  # noqa: PLC0415 - a tenth of a second that every command would wait for

    sample = np.asarray(values, dtype=float)
    medians = np.median(np.random.default_rng(seed).choice(sample, (RESAMPLES, len(sample))), axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(np.median(sample)), float(low), float(high))
