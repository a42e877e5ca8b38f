"""One figure for one form of a model, as often as asked: what accuracy control compares forms by."""

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

    Prepared inputs are kept up to 512 MiB, so that the next form does not wait for images to be decoded again.

    Args:
        selection: Annotated items.
        steps: What happens to images; None brings them to the input's size, colours and layout.
        manifest_component: The component as `manifest.json` has it.
        method: Postprocess method.
        args: Its plain arguments.
        taxonomies: `{"task", "classes"}` of each task.
        metric: Name of the figure: any that evaluations give over all data; the method's main one where empty.
        batch_size: Samples per call.
        seed: Seed of choices.

    Raises:
        EngineFailure: INVALID_SPEC for wrong arguments, or a method without figures; what `Feeder` raises.
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
            message = f"The method {method} gives outputs without a judgement, so there is no accuracy to hold."
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
            EngineFailure: OUTPUT_MISMATCH if outputs do not fit the method, INVALID_DATA if nothing can be
                judged, INVALID_SPEC if there is no such figure.
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
                "No item of the data is annotated with a class of the model, so accuracy cannot be judged.",
                evidence=" ".join(collector.warnings()) if collector else "",
                suggested_fix="Map the dataset's keys and values to the model's classes when it is imported.",
            )
        found = {entry.name: entry.value for entry in collector.metrics([Group("", np.arange(len(items)))], 0, 0)}
        if self.metric not in found:
            shown = ", ".join(list(found)[:30])
            message = f"There is no figure '{self.metric}' of this model on this data; there are {shown}."
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
