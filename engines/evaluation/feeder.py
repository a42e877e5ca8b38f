"""Brings the items of a selection to a model's inputs, batch by batch; only one batch is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engines.datasets.items import Item
from engines.datasets.selection import Selection
from engines.failures import EngineFailure, FailureReason
from engines.imaging import Geometry, Steps, as_input, steps_for
from engines.imaging.inputs import one_sample
from engines.postprocess import input_size
from engines.tensors import Array
from engines.tensors.preprocessing import Preprocessing


@dataclass(frozen=True)
class Sample:
    """An item that was fed to the model; `geometry` is None for tensors."""

    number: int
    item: Item
    geometry: Geometry | None


@dataclass(frozen=True)
class Batch:
    """Samples of one call.

    Attributes:
        samples: The items.
        feed: The inputs by name.
        repeated: How often the last sample is repeated in the feed, for a model that needs a larger batch.
        nv12: Whether the samples are NV12 images.
        counted: The axis of the samples in each output in which it is not the first.
    """

    samples: tuple[Sample, ...]
    feed: dict[str, Array]
    repeated: int = 0
    nv12: bool = False
    counted: Mapping[str, int] = field(default_factory=dict)

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width that positions in the outputs refer to; None for tensors that are not images."""
        return input_size(next(iter(self.feed.values())).shape, nv12=self.nv12)

    def cut(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs with the samples as their first axis, without the rows of repeated samples."""
        kept = len(self.samples)
        rows = kept + self.repeated
        found = dict(outputs)
        for name, axis in self.counted.items():
            if name in found and found[name].shape[axis : axis + 1] == (rows,):
                found[name] = np.moveaxis(found[name], axis, 0)
        return {k: v[:kept] if v.shape[:1] == (rows,) else v for k, v in found.items()} if self.repeated else found


class Feeder:
    """Makes batches from a selection for one component.

    Args:
        selection: Items with their images or tensors.
        component: The component as in `manifest.json`.
        steps: Preprocessing of images, as `Steps.parse` returns it for the component's first input; None brings them to
            the input's size, colours and layout.
        batch_size: Samples per call.
        numbers: Numbers of the items to use, in order; all if None.

    Raises:
        EngineFailure: INVALID_SPEC if the batch is too large, or if the items are images and the model takes several
            inputs or none for images.
    """

    def __init__(
        self,
        selection: Selection,
        component: Mapping[str, Any],
        steps: Steps | None,
        batch_size: int,
        numbers: Sequence[int] | None = None,
    ) -> None:
        self.selection = selection
        self.inputs: list[dict[str, Any]] = component["signature"]["inputs"]
        self.batch_size = batch_size
        self.numbers = list(range(len(selection.items))) if numbers is None else list(numbers)
        self._least, most = _batch_bounds(self.inputs, component["max_batch"])
        if batch_size > most:
            raise _bad(f"The batch size is {batch_size}, but the package takes at most {most}.")
        self._counted = _counted(component["signature"].get("outputs", ()), (self._least, most))
        self._nv12 = first_preprocessing(component).takes_nv12 and not selection.is_tensors
        self.steps = None if selection.is_tensors else self._image_steps(component, steps)

    def batches(self) -> Iterator[Batch]:
        """Yield every item once, in order.

        Raises:
            EngineFailure: INVALID_DATA if an item cannot be read, INVALID_SPEC if it does not fit the input.
        """
        waiting: list[tuple[Sample, dict[str, Array]]] = []
        for number in self.numbers:
            entry = self._prepared(number)
            # Sequences of another length need a call of their own.
            if waiting and (len(waiting) == self.batch_size or not self._alike(waiting[0][1], entry[1])):
                yield self._batch(waiting)
                waiting = []
            waiting.append(entry)
        if waiting:
            yield self._batch(waiting)

    def _prepared(self, number: int) -> tuple[Sample, dict[str, Array]]:
        item = self.selection.items[number]
        try:
            if self.steps is not None:
                image = self.selection.image(item)
                geometry = self.steps.geometry(*image.shape[:2])
                array = as_input(self.steps.apply(image), self.inputs[0])
                return Sample(number, item, geometry), {self.inputs[0]["name"]: array}
            arrays = self.selection.tensors(item)
            return Sample(number, item, None), {e["name"]: as_input(_value_of(arrays, e), e) for e in self.inputs}
        except EngineFailure as failure:
            if item.path not in failure.message:
                failure.message = f"{item.path}: {failure.message}"
            raise

    def _batch(self, entries: list[tuple[Sample, dict[str, Array]]]) -> Batch:
        missing = [entries[-1][1]] * (self._least - len(entries))
        rows = [arrays for _, arrays in entries] + missing
        feed = {entry["name"]: _stacked([row[entry["name"]] for row in rows], entry) for entry in self.inputs}
        return Batch(tuple(sample for sample, _ in entries), feed, len(missing), self._nv12, self._counted)

    def _alike(self, one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
        """Return whether two samples fit into one call: equal shapes, and equal values of inputs without a batch."""
        return all(
            one[entry["name"]].shape == other[entry["name"]].shape
            and (_has_batch(entry) or np.array_equal(one[entry["name"]], other[entry["name"]]))
            for entry in self.inputs
        )

    def _image_steps(self, component: Mapping[str, Any], steps: Steps | None) -> Steps:
        if len(self.inputs) != 1:
            names = ", ".join(entry["name"] for entry in self.inputs)
            raise _bad(
                f"The model takes {len(self.inputs)} inputs ({names}), but the data is images.",
                "Use a dataset of tensors with one array per input.",
            )
        if steps is not None:
            return steps
        colors = first_preprocessing(component)
        return steps_for(self.inputs[0], "BGR" if colors.input_color == "BGR" else "RGB", colors.nv12)


def steps_of(steps: Iterable[Mapping[str, Any]], component: Mapping[str, Any]) -> Steps:
    """Return the steps of a request for a component's first input; EngineFailure INVALID_SPEC as `Steps.parse`."""
    return Steps.parse(steps, component["signature"]["inputs"][0], first_preprocessing(component).nv12)


def first_preprocessing(component: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing in the graph for a component's first input; the component is as in `manifest.json`."""
    values = component.get("preprocessing", {}).get(component["signature"]["inputs"][0]["name"], {})
    return Preprocessing.model_validate(values)


def _batch_bounds(inputs: Sequence[Mapping[str, Any]], max_batch: int) -> tuple[int, int]:
    """Return the least and the most rows of one call."""
    axes = [
        (entry["shape"], entry.get("batch_axis") or 0) for entry in inputs if entry.get("shape") and _has_batch(entry)
    ]
    least = max((shape["min"][axis] for shape, axis in axes), default=1)
    return least, max(least, min((shape["max"][axis] for shape, axis in axes), default=max_batch))


def _counted(outputs: Iterable[Mapping[str, Any]], batches: tuple[int, int]) -> dict[str, int]:
    """Return the axis of the samples by output, if it is not the first: the one that varies as the batch does."""
    found = {}
    for entry in outputs:
        shape = entry.get("shape") or {"min": (), "max": ()}
        varying = [axis for axis, ends in enumerate(zip(shape["min"], shape["max"], strict=True)) if ends == batches]
        if varying and varying[0] and batches[0] != batches[1]:
            found[entry["name"]] = varying[0]
    return found


def _has_batch(tensor: Mapping[str, Any]) -> bool:
    shape = tensor.get("shape")
    return (tensor.get("batch_axis") or 0) >= 0 and not (shape and not shape["max"])


def _stacked(rows: Sequence[Array], tensor: Mapping[str, Any]) -> Array:
    return np.stack(rows, tensor.get("batch_axis") or 0) if _has_batch(tensor) else rows[0]


def _value_of(arrays: Mapping[str, Array], tensor: Mapping[str, Any]) -> Array:
    """Return an input's value in an item: its array, or else the value in the package."""
    name = tensor["name"]
    if name in arrays:
        return arrays[name]
    if tensor.get("value"):
        values, shape = tensor["value"], one_sample(tensor, "opt")
        array: Array = np.full(shape, values[0]) if len(values) == 1 else np.reshape(values, shape)
        return array.astype(tensor["dtype"])
    raise EngineFailure(
        FailureReason.INVALID_DATA,
        f"The model's input '{name}' has no array in the data. The arrays are: {', '.join(arrays) or 'none'}.",
        suggested_fix="Name the arrays of the dataset like the model's inputs.",
    )


def _bad(message: str, fix: str = "") -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message, suggested_fix=fix)
