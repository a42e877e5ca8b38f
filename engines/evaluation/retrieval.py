"""How well vectors find their like: for each sample, the nearest others by the cosine of the angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BLOCK = 256


@dataclass(frozen=True)
class Retrieval:
    """For each sample: whether its nearest other has its class, and 1 / the place of the first that has.

    Both are NaN for samples without a class or whose class no other has. Where similarities are equal, others of
    another class go first: vectors that are all the same find nothing.
    """

    nearest: Floats
    reciprocal_rank: Floats


def retrieval(vectors: Floats, classes: NDArray[np.int64]) -> Retrieval:
    """Search for every sample among all others.

    Args:
        vectors: (samples, dimension); one with values that are not finite finds nothing and is found last.
        classes: (samples,) number of each class; -1 where there is none.
    """
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    lengths = np.linalg.norm(np.where(finite[:, None], vectors, 0), axis=1, keepdims=True)
    units = np.where(finite[:, None], vectors, 0) / np.maximum(lengths, 1e-30)
    count = len(vectors)
    nearest, reciprocal = np.full(count, np.nan), np.full(count, np.nan)
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        similarity = np.where(finite, units[rows] @ units.T, -np.inf)
        others: NDArray[np.bool_] = np.not_equal(np.arange(count)[None], rows[:, None])
        alike: NDArray[np.bool_] = others & np.equal(classes[None], classes[rows, None]) & (classes[rows, None] >= 0)
        judged = alike.any(1)
        best = np.where(alike, similarity, -np.inf).max(1, initial=-np.inf)
        before = (others & ~alike & (similarity >= best[:, None])).sum(1)
        good = finite[rows] & np.isfinite(best)
        nearest[rows[judged]] = (good & (before == 0))[judged]
        reciprocal[rows[judged]] = (good / (1 + before))[judged]
    return Retrieval(nearest, reciprocal)
