"""The bootstrap over samples: draws with replacement, as counts, and percentile intervals.

See Efron & Tibshirani, An Introduction to the Bootstrap, 13.3. A draw of n samples with replacement is a vector of
counts, so a figure that is a function of weighted sums is computed for all draws at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.report import MetricValue

Floats = NDArray[np.float64]

RESAMPLES = 500
_LEAST = 100
_MOST_COUNTS = 40_000_000
_PERCENTILES = (2.5, 97.5)


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of a part of the data, the same for the same seed and name."""
    return np.random.default_rng([seed, *name.encode()])


def draws(counts: NDArray[np.int64], resamples: int, random: np.random.Generator) -> Floats:
    """Return how often each cell occurs in each draw of as many samples as the data has: (resamples, cells).

    Args:
        counts: Samples in each cell; ones if every sample is a cell of its own.
        resamples: Number of draws; fewer, but at least 100, if they would take over 320 MB.
        random: Source of randomness.
    """
    total = int(counts.sum())
    if not resamples or not total:
        return np.zeros((0, len(counts)))
    resamples = min(resamples, max(_LEAST, _MOST_COUNTS // len(counts)))
    if len(counts) < total / 4:
        return random.multinomial(total, counts / total, size=resamples).astype(np.float64)
    cells = np.repeat(np.arange(len(counts)), counts)
    rows = (np.bincount(cells[random.integers(0, total, total)], minlength=len(counts)) for _ in range(resamples))
    return np.array(list(rows), np.float64)


def metric(name: str, value: float, drawn: Floats, part: str) -> MetricValue | None:
    """Return a figure with its interval; None if it is undefined.

    Args:
        name: Name of the metric.
        value: The figure of the samples themselves.
        drawn: The figure of each draw; NaN if it is undefined there.
        part: Name of the slice.
    """
    if not np.isfinite(value):
        return None
    known = drawn[np.isfinite(drawn)]
    low, high = np.percentile(known, _PERCENTILES) if len(known) else (value, value)
    # A percentile interval can miss the figure itself if no draw reaches it, which would confuse readers.
    return MetricValue(name=name, value=value, low=min(low, value), high=max(high, value), slice=part)


def metrics(values: Mapping[str, float], drawn: Mapping[str, Floats], part: str) -> Iterable[MetricValue]:
    """Yield the figures that are defined, each with its interval."""
    empty = np.zeros(0)
    for name, value in values.items():
        found = metric(name, float(value), drawn.get(name, empty), part)
        if found is not None:
            yield found
