"""Compares embedding models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.bootstrap import draws, generator
from engines.evaluation.comparison.side import Difference, Floats, flag
from engines.evaluation.embedding import weighted
from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction

_BLOCK = 4096


class EmbeddingSide:
    """One side of a comparison of embedding models; see `Side`.

    Each side's evaluation has already searched for every sample among all of its data; the samples' own figures are
    compared. `keys` is the number of keys in that search; precision at 1 is compared if there is only one.
    """

    def __init__(self, samples: int, keys: int) -> None:
        self._keys = keys
        self._samples = samples
        self._vectors: NDArray[np.float32] | None = None
        self._loss = np.full(samples, np.nan)
        self._correct = np.full(samples, np.nan)

    def take(self, position: int, sample: SamplePrediction) -> None:
        """Add the vector of one sample."""
        if self._vectors is None:
            self._vectors = np.zeros((self._samples, len(sample.vector)), np.float32)
        self._vectors[position] = sample.vector
        self._loss[position] = np.nan if sample.loss is None else sample.loss
        self._correct[position] = flag(sample.correct)

    def differences(self, reference: EmbeddingSide, group: Group, resamples: int, seed: int) -> Iterator[Difference]:
        """Yield the mean reciprocal rank and, if there is one key, precision at 1."""
        columns = {"mrr": (1 - reference._loss, 1 - self._loss)}
        if self._keys == reference._keys == 1:
            columns = {"precision_at_1": (reference._correct, self._correct), **columns}
        ones = np.ones(len(group.members), np.int64)
        many, once = draws(ones, resamples, generator(seed, group.name)), ones[None].astype(np.float64)
        for name, pair in columns.items():
            known = np.isfinite(pair[0]) & np.isfinite(pair[1])
            before, after = (np.where(known, column, np.nan)[group.members] for column in pair)
            values = [weighted(weights, column) for column in (before, after) for weights in (once, many)]
            yield Difference(name, float(values[0][0]), float(values[2][0]), values[1], values[3])

    def agreement(self, reference: EmbeddingSide) -> Floats:
        """Return the cosine similarity of both vectors; NaN if their dimensions differ or one is zero."""
        found = np.full(self._samples, np.nan)
        mine, theirs = self._vectors, reference._vectors
        if mine is None or theirs is None or mine.shape != theirs.shape:
            return found
        for start in range(0, self._samples, _BLOCK):
            left, right = (part[start : start + _BLOCK].astype(np.float64) for part in (mine, theirs))
            lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
            dots = (left * right).sum(1)
            good = np.isfinite(dots) & (lengths > 0)
            found[start : start + _BLOCK][good] = dots[good] / lengths[good]
        return found

    def losses(self, reference: EmbeddingSide) -> Floats:
        """Return the decrease of the reciprocal rank."""
        return self.severity(reference)

    def severity(self, reference: EmbeddingSide) -> Floats:
        """Return the increase of the sample's loss, which is 1 minus the reciprocal rank."""
        rise: Floats = self._loss - reference._loss
        return rise

    def correct(self) -> Floats:
        """Return whether the nearest other sample has its class."""
        return self._correct
