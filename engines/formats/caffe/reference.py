"""Computes a net layer by layer in torch, by Caffe's own rules: the truth that packages are compared with.

It shares nothing with the ONNX graph but the parameters of layers, so that neither hides a fault of the other. On the
device `meta` it computes shapes alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.caffe.blobs import Weights, blobs_of
from engines.formats.caffe.detection import outputs_of
from engines.formats.caffe.failures import refused
from engines.formats.caffe.kinds import DETECTIONS
from engines.formats.caffe.net import Net, Step
from engines.formats.caffe.reference_layers import LAYERS
from engines.tensors import Array

if TYPE_CHECKING:
    import torch

Shapes = dict[str, tuple[int, ...]]
"""The shape of each value of a net."""
Seen = Callable[[str, "torch.Tensor"], None]


def output_names(net: Net) -> dict[str, str]:
    """Return the value behind each output; boxes and scores in place of detections."""
    cut = {top: step for step in net.steps if step.kind == DETECTIONS for top in step.tops[:1]}
    found: dict[str, str] = {}
    for name, value in net.outputs.items():
        if value in cut:
            found.update(zip(outputs_of(name), outputs_of(value), strict=True))
        else:
            found[name] = value
    return found


def run(net: Net, weights: Weights, feed: Mapping[str, Array]) -> list[Array]:
    """Return the outputs of a net in the order of `output_names`.

    Raises:
        EngineFailure: as `shapes_of`.
    """
    import torch

    given = {name: torch.from_numpy(np.array(feed[name], dtype=np.float32)) for name in net.inputs}
    with torch.inference_mode():
        return [value.numpy() for value in _computed(net, weights, given, lambda _name, _value: None)]


def shapes_of(net: Net, weights: Weights, inputs: Mapping[str, Sequence[int]]) -> Shapes:
    """Return the shapes of all values for inputs of these shapes; nothing is computed.

    Raises:
        EngineFailure: WEIGHTS_MISMATCH or INVALID_MODEL naming the layer that does not take what it gets.
    """
    import torch

    shapes: Shapes = {name: tuple(inputs[name]) for name in net.inputs}
    given = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    _computed(net, weights, given, lambda name, value: shapes.update({name: tuple(value.shape)}))
    return shapes


def _computed(net: Net, weights: Weights, given: dict[str, torch.Tensor], seen: Seen) -> list[torch.Tensor]:
    values, wanted = dict(given), list(output_names(net).values())
    readers = Counter([*wanted, *(value for step in net.steps for value in step.bottoms)])
    for step in net.steps:
        _refuse_absent(net, step.bottoms, values)
        bottoms = [values[name] for name in step.bottoms]
        tops = outputs_of(step.tops[0]) if step.kind == DETECTIONS else step.tops
        for name, value in zip(tops, _layer(step, bottoms, weights), strict=False):
            values[name] = value
            seen(name, value)
        for name in step.bottoms:
            readers[name] -= 1
            if not readers[name]:
                del values[name]
    _refuse_absent(net, wanted, values)
    return [values[name] for name in wanted]


def _refuse_absent(net: Net, names: Sequence[str], values: Mapping[str, torch.Tensor]) -> None:
    absent = next((name for name in names if name not in values), None)
    if absent is not None:
        raise refused(
            f"The blob '{absent}' of '{net.file}' is one more output of its layer than Lathe reads.",
            "Leave it out, or end the net before it. Of pooling, Lathe reads the values and no places.",
        )


def _layer(step: Step, bottoms: Sequence[torch.Tensor], weights: Weights) -> list[torch.Tensor]:
    import torch

    shapes = [tuple(bottom.shape) for bottom in bottoms]
    words = ", ".join("×".join(map(str, shape)) for shape in shapes)
    try:
        blobs = [torch.from_numpy(blob).to(bottoms[0].device) for blob in blobs_of(step, weights, shapes)]
        return LAYERS[step.kind](step, bottoms, blobs)
    except (IndexError, ValueError, RuntimeError, OverflowError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error):
            raise EngineFailure(
                FailureReason.OUT_OF_MEMORY,
                f"The {step.where} takes more memory than there is: {first_line(error)}",
                suggested_fix="Allow more memory (`memory_limit_bytes` of a task), or declare smaller shapes.",
            ) from error
        raise refused(
            f"The {step.where}, of the type {step.kind}, does not take {words}: {first_line(error)}",
            "Correct the layer in the prototxt, or declare an input shape that the net takes.",
            layer=step.name,
            kind=step.kind,
        ) from error
