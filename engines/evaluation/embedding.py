"""Evaluates embedding models: by retrieval if samples share classes, else by statistics only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.datasets.items import Item
from engines.evaluation.bootstrap import Floats, draws, generator, metrics
from engines.evaluation.collector import Collector, row
from engines.evaluation.feeder import Sample
from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction
from engines.evaluation.report import MetricValue
from engines.evaluation.report_figures import EmbeddingFigures
from engines.evaluation.truth import check_tasks
from engines.failures import EngineFailure, FailureReason

MOST_SEARCHED = 20_000
"""Most samples of a search, whose time grows with their square; of more samples, a random part is searched."""
_BLOCK = 256


@dataclass(frozen=True)
class Retrieval:
    """For each sample: whether its nearest neighbour has its class, and 1 / the rank of the first one that has.

    Both are NaN for samples without a class or with a class of their own. Of equal similarities, samples of another
    class come first, so vectors that are all the same find nothing.
    """

    nearest: Floats
    reciprocal_rank: Floats


def retrieval(vectors: Floats, classes: NDArray[np.int64]) -> Retrieval:
    """Search for each sample's class among all other samples, by cosine similarity.

    Args:
        vectors: (samples, dimension); one with values that are not finite finds nothing and comes last.
        classes: (samples,) number of the class; -1 for none.
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


class EmbeddingCollector(Collector):
    """Collects vectors; see `Collector`.

    Args:
        items: All items, in order.
        tasks: Keys of the items' classes to evaluate by; all if empty.
        seed: Seed of the choice of samples if there are too many.

    Raises:
        EngineFailure: INVALID_SPEC for a key that no item has.
    """

    late = True

    def __init__(self, items: Sequence[Item], tasks: Sequence[str], seed: int) -> None:
        keys = sorted({key for item in items for key in item.classifications})
        check_tasks(tasks, keys)
        self._keys = [key for key in keys if not tasks or key in tasks]
        self._items = items
        self._seed = seed
        self._vectors: list[NDArray[np.float32]] = []
        self._found: dict[str, Retrieval] = {}
        self.classes = {}

    @property
    def main_metric(self) -> str:
        """`precision_at_1` if samples share a class, else empty."""
        return "precision_at_1" if self._retrievals() else ""

    def add(self, sample: Sample, prediction: Mapping[str, Any], *, finite: bool) -> SamplePrediction:
        """Take the vector of one sample.

        Raises:
            EngineFailure: OUTPUT_MISMATCH if it is longer or shorter than those before.
        """
        vector = np.asarray(prediction["vector"], np.float32)
        if self._vectors and len(vector) != len(self._vectors[0]):
            raise EngineFailure(
                FailureReason.OUTPUT_MISMATCH,
                f"{sample.item.path}: the model's vector has {len(vector):,} values, that of the first sample "
                f"{len(self._vectors[0]):,}: vectors of different lengths cannot be compared.",
                suggested_fix="If the output has one vector per token, set the argument 'pooling'.",
            )
        self._vectors.append(vector)
        return row(sample, vector=self._vectors[-1])

    def settled(self, rows: Sequence[SamplePrediction]) -> Sequence[SamplePrediction]:
        """Return the rows with loss and verdict: 1 less the mean reciprocal rank, and whether the nearest is alike."""
        found = list(self._retrievals().values())
        if not found:
            return rows
        ranks = _mean_known(np.stack([entry.reciprocal_rank for entry in found], 1))
        nearest = np.stack([entry.nearest for entry in found], 1)
        settled = []
        for entry, rank, hits in zip(rows, ranks, nearest, strict=True):
            known = np.isfinite(rank)
            correct = bool(hits[np.isfinite(hits)].all()) if known else None
            settled.append(dataclasses.replace(entry, loss=1 - float(rank) if known else None, correct=correct))
        return settled

    def metrics(self, groups: Sequence[Group], resamples: int, seed: int) -> list[MetricValue]:
        """Return precision at 1 and the mean reciprocal rank, per key if there are several."""
        found: list[MetricValue] = []
        for group in groups:
            ones = np.ones(len(group.members), np.int64)
            drawn = draws(ones, resamples, generator(seed, group.name))
            values, many = (self._figures(group, weights) for weights in (ones[None].astype(np.float64), drawn))
            found += metrics({name: figure[0] for name, figure in values.items()}, many, group.name)
        return found

    def parts(self) -> dict[str, Any]:
        """Return the statistics of the vectors."""
        vectors = np.array(self._vectors, np.float64)
        vectors = vectors[np.isfinite(vectors).all(1)]
        if not len(vectors):
            return {}
        norms = np.linalg.norm(vectors, axis=1)
        total = (vectors / np.maximum(norms, 1e-30)[:, None]).sum(0)
        pairs = len(vectors) * (len(vectors) - 1)
        figures = EmbeddingFigures(
            dimension=vectors.shape[1],
            norm_min=float(norms.min()),
            norm_mean=float(norms.mean()),
            norm_max=float(norms.max()),
            # The sum of cosines over all ordered pairs is |sum of unit vectors|², minus each vector with itself.
            mean_cosine=float((total @ total - (norms > 0).sum()) / pairs) if pairs else 1.0,
            retrieval_keys=tuple(self._retrievals()),
        )
        return {"embedding": figures}

    def warnings(self) -> list[str]:
        """Return warnings about what could not be evaluated."""
        if not self._keys:
            return []
        if not self._retrievals():
            return ["No two samples share a class, so retrieval is not evaluated."]
        if len(self._vectors) > MOST_SEARCHED:
            return [f"Retrieval was evaluated on {MOST_SEARCHED:,} of {len(self._vectors):,} samples."]
        return []

    def _figures(self, group: Group, weights: Floats) -> dict[str, Floats]:
        found = self._retrievals()
        values: dict[str, Floats] = {}
        for name in ("precision_at_1", "mrr"):
            field = "nearest" if name == "precision_at_1" else "reciprocal_rank"
            columns = {key: getattr(entry, field)[group.members] for key, entry in found.items()}
            by_key = {key: weighted(weights, column) for key, column in columns.items()}
            if by_key:
                values[name] = _mean_known(np.stack(list(by_key.values()), 1))
            if len(by_key) > 1:
                values |= {f"{name}/{key}": figure for key, figure in by_key.items()}
        return values

    def _retrievals(self) -> dict[str, Retrieval]:
        """Return the searches by key, for keys with a class that two samples share."""
        if not self._found and self._vectors and self._keys:
            chosen = np.arange(len(self._vectors))
            if len(chosen) > MOST_SEARCHED:
                chosen = np.sort(generator(self._seed, "search").permutation(len(chosen))[:MOST_SEARCHED])
            vectors = np.array([self._vectors[number] for number in chosen], np.float64)
            searches = {key: self._search(key, vectors, chosen) for key in self._keys}
            self._found = {key: found for key, found in searches.items() if np.isfinite(found.nearest).any()}
        return self._found

    def _search(self, key: str, vectors: Floats, chosen: NDArray[np.int64]) -> Retrieval:
        values = [self._items[number].classifications.get(key) for number in chosen]
        numbers = {value: number for number, value in enumerate(sorted({v for v in values if v is not None}))}
        found = retrieval(vectors, np.array([-1 if value is None else numbers[value] for value in values]))
        spread = (np.full(len(self._vectors), np.nan) for _ in range(2))
        nearest, ranks = spread
        nearest[chosen], ranks[chosen] = found.nearest, found.reciprocal_rank
        return Retrieval(nearest, ranks)


def weighted(weights: Floats, values: Floats) -> Floats:
    """Return the weighted mean of the values that are not NaN, for each row of weights (draws, samples)."""
    known = np.isfinite(values)
    whole = weights[:, known].sum(1)
    part = weights[:, known] @ values[known]
    mean: Floats = np.divide(part, whole, out=np.full(len(weights), np.nan), where=whole > 0)
    return mean


def _mean_known(values: Floats) -> Floats:
    """Return the mean of each row over values that are not NaN; NaN if there are none."""
    count = np.isfinite(values).sum(1)
    mean: Floats = np.divide(np.nansum(values, 1), count, out=np.full(len(values), np.nan), where=count > 0)
    return mean
