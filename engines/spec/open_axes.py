"""Axes that a graph leaves open: their extents come from samples, from a default or from a declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engines.failures import invalid
from engines.spec.template import Component
from engines.tensors.element import Shapes, TensorElement
from engines.tensors.inputs import ComponentInput
from engines.tensors.shapes import Shape, format_extents, format_shape
from engines.tensors.signature import TensorSpec

_TOKENS, _PIXELS, _IMAGE_AXES = 128, 224, 4
"""Extents in the example declaration of a message: for the axes of a text, and for those of an image."""


class Declared(NamedTuple):
    """A component whose inputs are declared, and warnings about extents that were assumed."""

    component: Component
    warnings: tuple[str, ...] = ()


def shape_in_words(given: ComponentInput) -> str:
    """Return an input's shape as users read it: `1*1..512, tuned for 1*128`."""
    if not given.min_shape:
        return format_shape(given.shape)
    return f"{format_extents(given.min_shape, given.max_shape)}, tuned for {format_shape(given.shape)}"


def as_stated(component: Component, inputs: Sequence[TensorSpec]) -> Component:
    """Return the component with the inputs of its graph, open axes at their smallest extent, to be overridden."""
    stated = [ComponentInput(name=spec.name, shape=spec.opt, dtype=spec.dtype) for spec in inputs]
    return component.model_copy(update={"inputs": tuple(stated)})


def settle(component: Component, inputs: Sequence[TensorSpec], samples: Mapping[str, Shape]) -> Declared:
    """Return a component without declared inputs with the inputs of its graph, each axis with an extent.

    An open batch axis becomes 1, so that the component's largest batch applies; a warning follows if that is 1. Any
    other open axis takes its extent from the samples, else the one that the graph is tuned for, if it states any.

    Args:
        component: The component.
        inputs: Inputs as the graph states them.
        samples: Shapes of the user's samples by input; empty if there are none.

    Raises:
        EngineFailure: INVALID_SPEC naming each open axis without an extent, and what to type; or the input whose shape
            the graph does not state, or whose samples do not fit.
    """
    unsaid = next((spec.name for spec in inputs if not spec.known), None)
    if unsaid is not None:
        raise invalid(
            f"The graph does not state the shape of its input '{unsaid}'.",
            "Declare all inputs in the template's component, or in tensor information: "
            f"--tensor-information '{unsaid}:float(1*3*224*224)'.",
        )
    batch = batch_axes(inputs)
    for spec in inputs:
        if spec.name in samples:
            _check_samples(spec, samples[spec.name])
    _check_settled(inputs, batch, samples)
    found = []
    for spec in inputs:
        seen = samples.get(spec.name, spec.opt)
        shape = tuple(seen[axis] if axis in spec.open_axes else extent for axis, extent in enumerate(spec.opt))
        axis = batch.get(spec.name, 0)
        if spec.name in batch:
            shape = (*shape[:axis], 1, *shape[axis + 1 :])
        found.append(ComponentInput(name=spec.name, shape=shape, dtype=spec.dtype, batch_axis=axis or None))
    settled = component.model_copy(update={"inputs": tuple(found)})
    return Declared(settled, (_one_at_a_time(component, batch),) if batch and component.largest_batch == 1 else ())


def batch_axes(inputs: Sequence[TensorSpec]) -> dict[str, int]:
    """Return the open batch axis of each input that has one, as far as the graph tells; empty if it does not.

    It is the first axis, if that is open in every input that has axes. An input whose first axis is fixed may have the
    batch elsewhere, under the name that it has in the others: a state of 2*batch*128 beside batch*512.
    """
    sized = [spec for spec in inputs if spec.max]
    found = {spec.name: 0 for spec in sized if 0 in spec.open_axes}
    names = {spec.axis_names[0] for spec in sized if spec.name in found and spec.axis_names} - {""}
    for spec in sized:
        elsewhere = [axis for axis, name in enumerate(spec.axis_names) if axis and name in names]
        if spec.name in found and elsewhere:
            return {}  # an axis that comes first in one input and later in another is a length, not a batch
        if spec.name not in found:
            if len(elsewhere) != 1:
                return {}
            found[spec.name] = elsewhere[0]
    return found


def _check_samples(spec: TensorSpec, shape: Shape) -> None:
    """Refuse samples that the graph does not take; a fixed first axis may be a multiple, for more samples."""
    fits = len(shape) == len(spec.max) and all(
        extent > 0 and (axis in spec.open_axes or (extent % high == 0 if axis == 0 else extent == high))
        for axis, (extent, high) in enumerate(zip(shape, spec.max, strict=True))
    )
    if not fits:
        raise invalid(
            f"The samples' array '{spec.name}' has the shape {format_shape(shape)}; the graph takes "
            f"{format_extents(spec.min, spec.max, spec.axis_names)}.",
            "Give samples of a shape that the graph takes.",
        )


def _check_settled(inputs: Sequence[TensorSpec], batch: Mapping[str, int], samples: Mapping[str, Shape]) -> None:
    places = [
        f"axis {axis} of '{spec.name}'" + (f" ({spec.axis_names[axis]})" if any(spec.axis_names[axis:][:1]) else "")
        for spec in inputs
        for axis in spec.open_axes
        if axis != batch.get(spec.name) and spec.name not in samples and spec.opt[axis] == spec.min[axis]
    ]
    if places:
        text = " ".join(str(_example(spec, batch.get(spec.name))) for spec in inputs)
        raise invalid(
            f"The graph leaves the extent of {', '.join(places)} open, and nothing states it.",
            f"Declare the inputs with the extents that the model is used with, such as --tensor-information '{text}' "
            "(a range as 1*1,1*512), or in the template's component; or give samples of the right shape (--samples of "
            "convert, --test-data of optimize).",
        )


def _example(spec: TensorSpec, batch_axis: int | None) -> TensorElement:
    usual = _PIXELS if len(spec.max) == _IMAGE_AXES else _TOKENS
    shape = [usual if axis in spec.open_axes and axis not in {0, batch_axis} else n for axis, n in enumerate(spec.opt)]
    return TensorElement(spec.name, (), "", spec.dtype, Shapes("fixed", (tuple(shape),)))


def _one_at_a_time(component: Component, batch: Mapping[str, int]) -> str:
    return (
        f"The batch axis of {', '.join(map(repr, batch))} is open in the graph; the package takes batches of 1, the "
        f"default. For more, set max_batch of component '{component.name}', or declare a range in tensor information."
    )
