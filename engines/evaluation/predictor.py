"""Turns a model's outputs into predictions, with a clear failure if they do not fit the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engines.datasets.items import Item
from engines.evaluation.classification import ClassificationCollector
from engines.evaluation.collector import Collector
from engines.evaluation.detection import DetectionCollector
from engines.evaluation.embedding import EmbeddingCollector
from engines.evaluation.feeder import Batch
from engines.evaluation.raw import RawCollector
from engines.evaluation.truth import ClassTruth, check_tasks
from engines.failures import EngineFailure, FailureReason, count
from engines.postprocess import OutputMismatch, run
from engines.tensors import Array

Prediction = dict[str, Any]
Taxonomies = Sequence[Mapping[str, Any]]

MAIN_METRICS = {
    "classification": "top1",
    "multi_classification": "top1",
    "detection": "map",
    "yolo": "map",
    "heads": "map",
    "embedding": "precision_at_1",
}
"""The main figure by method; `raw` has none."""


class Predictor:
    """A postprocess method with its arguments.

    Attributes:
        taxonomies: `{"task", "classes"}` of each task, with numbers as names if the package has none.
    """

    def __init__(self, method: str, args: Mapping[str, Any], taxonomies: Taxonomies) -> None:
        self.method = method
        self.args = args
        self.taxonomies = list(taxonomies)

    def predict(self, batch: Batch, outputs: Mapping[str, Array]) -> tuple[list[Prediction], list[bool]]:
        """Return the prediction of each sample of a batch, and whether all of its outputs are finite.

        Raises:
            EngineFailure: OUTPUT_MISMATCH with the actual and the expected outputs.
        """
        outputs = batch.cut(outputs)
        if self.method != "raw":
            self._check_numbers(outputs)
        try:
            found = run(self.method, self.args, outputs, self.taxonomies, batch.input_size)
        except OutputMismatch as mismatch:
            raise self._mismatch(str(mismatch), outputs) from mismatch
        if len(found) != len(batch.samples) and self.method == "raw" and len(batch.samples) == 1:
            found = [{"outputs": dict(outputs)}]
        if len(found) != len(batch.samples):
            sizes = f"the batch has {count(len(batch.samples), 'sample')}, the outputs {count(len(found), 'row')}"
            raise self._mismatch(f"one row per sample is expected, but {sizes}", outputs)
        return found, _finite(outputs, len(found))

    def collector(
        self, items: Sequence[Item], first: Prediction, tasks: Sequence[str], thresholds: Sequence[float], seed: int
    ) -> Collector:
        """Return the collector that evaluates the predictions.

        Args:
            items: All items to evaluate, in order.
            first: A prediction, which tells the number of classes if the package does not name them.
            tasks: Classification tasks to evaluate; all if empty.
            thresholds: Requested intersections over union.
            seed: Seed of random choices.

        Raises:
            EngineFailure: INVALID_SPEC for an unknown task.
        """
        if self.method == "raw":
            check_tasks(tasks, [])
            return RawCollector()
        if self.method == "embedding":
            return EmbeddingCollector(items, tasks, seed)
        if "tasks" in first:
            self.taxonomies = self.taxonomies or [
                {"task": task, "classes": [str(number) for number in range(len(scores))]}
                for task, scores in first["tasks"].items()
            ]
            named = self.taxonomies[:1] if self.method == "classification" else self.taxonomies
            return ClassificationCollector(ClassTruth(items, named, tasks))
        if not self.taxonomies:
            self.taxonomies = [{"task": "label", "classes": self._numbers(items)}]
        entry = self.taxonomies[0]
        check_tasks(tasks, [taxonomy["task"] for taxonomy in self.taxonomies])
        annotated = any(item.boxes for item in items)
        return DetectionCollector({entry["task"]: tuple(entry["classes"])}, annotated=annotated, asked=thresholds)

    def _numbers(self, items: Sequence[Item]) -> list[str]:
        """Return numbers as names of a detector's classes: as many as its arguments or else the data tell."""
        labels = {box.label for item in items for box in item.boxes}
        most = max((int(label) + 1 for label in labels if label.isdecimal() and len(label) < 6), default=1)
        return [str(number) for number in range(self.args.get("num_classes") or most)]

    def _check_numbers(self, outputs: Mapping[str, Array]) -> None:
        for name, array in outputs.items():
            if array.dtype.kind not in "biuf":
                raise self._mismatch(f"numbers are expected, but output '{name}' has none", outputs)

    def _mismatch(self, expected: str, outputs: Mapping[str, Array]) -> EngineFailure:
        found = ", ".join(f"{name} {array.dtype} {_shape(array)}" for name, array in outputs.items())
        return EngineFailure(
            FailureReason.OUTPUT_MISMATCH,
            f"The model's outputs do not fit the method {self.method}: {expected}; found: {found}.",
            evidence=f"found: {found}; expected: {expected}",
            suggested_fix="Choose the model's postprocess method, or describe its outputs in the method's arguments.",
        )


def _finite(outputs: Mapping[str, Array], samples: int) -> list[bool]:
    good = np.ones(samples, np.bool_)
    for array in outputs.values():
        if array.dtype.kind == "f":
            by_sample = array.reshape(samples, -1) if array.shape[:1] == (samples,) else array.reshape(1, -1)
            good &= np.isfinite(by_sample).all(1)
    return [bool(value) for value in good]


def _shape(array: Array) -> str:
    return f"({', '.join(map(str, array.shape))})"
