"""Scores forms of a model by one figure, for accuracy control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from engines.datasets.selection import Selection
from engines.evaluation.arguments import check_arguments
from engines.evaluation.feeder import Batch, Feeder
from engines.evaluation.groups import Group
from engines.evaluation.predictor import MAIN_METRICS, Predictor
from engines.failures import EngineFailure, FailureReason
from engines.imaging import Steps
from engines.tensors import Array

_MOST_KEPT_BYTES = 512 << 20


class Judge:
    """Scores forms of one model on one selection.

    Preprocessed inputs are kept, up to 512 MiB, so that images are not decoded again for the next form.

    Args:
        selection: Annotated items.
        steps: Preprocessing of images; None brings them to the input's size, colours and layout.
        manifest_component: The component as in `manifest.json`.
        method: Postprocess method.
        args: Its plain arguments.
        taxonomies: `{"task", "classes"}` of each task.
        metric: Name of the figure: any that an evaluation has over all data; the method's main one if empty.
        batch_size: Samples per call.
        seed: Seed of random choices.

    Raises:
        EngineFailure: INVALID_SPEC for wrong arguments or a method without figures, and as `Feeder` does.
    """

    def __init__(  # noqa: PLR0917 - the first six all must be given, in the order of a manifest
        self,
        selection: Selection,
        steps: Steps | None,
        manifest_component: Mapping[str, Any],
        method: str,
        args: Mapping[str, Any],
        taxonomies: Sequence[Mapping[str, Any]],
        metric: str = "",
        batch_size: int = 1,
        seed: int = 0,
    ) -> None:
        check_arguments(method, args)
        if method not in MAIN_METRICS:
            message = f"The method {method} has no figures, so there is no accuracy to keep."
            raise EngineFailure(FailureReason.INVALID_SPEC, message, suggested_fix="Name another postprocess method.")
        self.metric = metric or MAIN_METRICS[method]
        self._feeder = Feeder(selection, manifest_component, steps, batch_size)
        self._method, self._args, self._taxonomies, self._seed = method, dict(args), list(taxonomies), seed
        self._kept: list[Batch] | None = None

    def score(self, run: Callable[[dict[str, Array]], dict[str, Array]]) -> float:
        """Return the figure, from 0 to 1, of a form.

        Args:
            run: Returns every output by name for every input by name, the batch first.

        Raises:
            EngineFailure: OUTPUT_MISMATCH if the outputs do not fit the method, INVALID_DATA if nothing can be
                evaluated, INVALID_SPEC if the figure does not exist.
        """
        predictor = Predictor(self._method, self._args, self._taxonomies)
        items = self._feeder.selection.items
        collector = None
        for batch in self._batches():
            predictions, finite = predictor.predict(batch, run(batch.feed))
            if collector is None:
                collector = predictor.collector(items, predictions[0], (), (), self._seed)
            for sample, prediction, good in zip(batch.samples, predictions, finite, strict=True):
                collector.add(sample, prediction, finite=good)
        if collector is None or not collector.main_metric:
            raise EngineFailure(
                FailureReason.INVALID_DATA,
                "No item of the data is annotated with a class of the model, so accuracy cannot be evaluated.",
                evidence=" ".join(collector.warnings()) if collector else "",
                suggested_fix="Map the dataset's keys and values to the model's classes when it is imported.",
            )
        found = {entry.name: entry.value for entry in collector.metrics([Group("", np.arange(len(items)))], 0, 0)}
        if self.metric not in found:
            shown = ", ".join(list(found)[:30])
            message = f"This model has no figure '{self.metric}' on this data. Its figures are: {shown}."
            raise EngineFailure(FailureReason.INVALID_SPEC, message)
        return found[self.metric]

    def _batches(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Batch] | None = []
        size = 0
        for batch in self._feeder.batches():
            size += sum(array.nbytes for array in batch.feed.values())
            if size > _MOST_KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(batch)
            yield batch
        self._kept = kept
