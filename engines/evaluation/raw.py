"""Statistics of raw outputs, which are not evaluated otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engines.evaluation.collector import Collector, row
from engines.evaluation.feeder import Sample
from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction
from engines.evaluation.report import MetricValue
from engines.evaluation.report_figures import OutputFigures
from engines.tensors import Array


class RawCollector(Collector):
    """Collects statistics of outputs; see `Collector`."""

    main_metric = ""

    def __init__(self) -> None:
        self.classes = {}
        self._outputs: dict[str, _Statistics] = {}

    def add(self, sample: Sample, prediction: Mapping[str, Any], *, finite: bool) -> SamplePrediction:
        """Add the outputs of one sample."""
        for name, array in prediction["outputs"].items():
            self._outputs.setdefault(name, _Statistics(array)).add(array)
        return row(sample)

    def metrics(self, groups: Sequence[Group], resamples: int, seed: int) -> list[MetricValue]:
        """Return nothing, because the true values of raw outputs are unknown."""
        return []

    def parts(self) -> dict[str, Any]:
        """Return the statistics of each output."""
        return {"outputs": tuple(entry.figures(name) for name, entry in self._outputs.items())}

    def warnings(self) -> list[str]:
        """Return nothing of its own."""
        return []


class _Statistics:
    """Running statistics of one output."""

    def __init__(self, first: Array) -> None:
        self._dtype, self._shape = str(first.dtype), first.shape
        self._elements = self._finite = 0
        self._low, self._high = np.inf, -np.inf
        self._mean = self._squares = 0.0

    def add(self, array: Array) -> None:
        """Add an array, with Chan's numerically stable way to merge means and sums of squares."""
        self._elements += array.size
        if array.dtype.kind not in "biuf":
            self._finite += array.size
            return
        values = np.ravel(array).astype(np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            return
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        mean, count = float(values.mean()), self._finite + values.size
        shift = mean - self._mean
        self._squares += float(((values - mean) ** 2).sum()) + shift**2 * self._finite * values.size / count
        self._mean += shift * values.size / count
        self._finite = count

    def figures(self, name: str) -> OutputFigures:
        """Return the statistics."""
        known = self._finite and self._low <= self._high
        return OutputFigures(
            name=name,
            dtype=self._dtype,
            shape=self._shape,
            elements=self._elements,
            not_finite=self._elements - self._finite,
            minimum=self._low if known else None,
            maximum=self._high if known else None,
            mean=self._mean if known else None,
            deviation=float(np.sqrt(self._squares / self._finite)) if known else None,
        )
