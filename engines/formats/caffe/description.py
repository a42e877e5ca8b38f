"""Describes a net and its weights without a framework."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from engines.formats.caffe.blobs import check_weights
from engines.formats.caffe.caffemodel import parameter_count, read_caffemodel
from engines.formats.caffe.failures import refused
from engines.formats.caffe.net import Net, load_net
from engines.formats.caffe.pairs import NET, weights_beside
from engines.formats.caffe.sizes import bound_to_size
from engines.formats.described_tensors import TensorInfo, describe_tensors, most_frequent
from engines.formats.detection import check_format
from engines.spec.declared_inputs import FIXED_SIZE
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import TensorSpec

_LONGEST = 1000
_IMAGE_AXES = 4


def describe_caffe(folder: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of a net: its inputs, its layers, and the weights that it has.

    Raises:
        EngineFailure: as `load_net`, `weights_beside`, `read_caffemodel` and `check_weights`.
    """
    path = folder / shown_path
    if not shown_path.lower().endswith(NET):
        check_format(folder, "CAFFE")
        raise refused(f"'{path.name}' has no .prototxt beside it, which says what its weights are for.")
    net = load_net(path)
    file = weights_beside(path)
    weights = read_caffemodel(file)
    check_weights(net, weights, file.name)
    tensors = {
        f"{step.name}.{index}": TensorInfo(str(blob.values.dtype), blob.shape)
        for step in net.steps
        for index, blob in enumerate(weights.get(step.name, ()))
    }
    return {
        **describe_tensors(tensors, shown_path),
        "parameter_count": parameter_count({step.name: weights.get(step.name, ()) for step in net.steps}),
        "operators": most_frequent(Counter(step.kind for step in net.steps)),
        "signature": {"inputs": [spec.to_dict() for spec in inputs_of(net)], "outputs": []},
        "metadata": {"format": "Caffe", "weights": file.name, "outputs": ", ".join(net.outputs)[:_LONGEST]}
        | _size(net),
    }


def inputs_of(net: Net) -> tuple[TensorSpec, ...]:
    """Return the inputs as the net states them; the batch is open, as Caffe takes every batch.

    Height and width of the only input are open, too, and tuned for what the net states, if no layer is bound to them.
    """
    free = len(net.inputs) == 1 and bound_to_size(net) is None
    return tuple(_spec(net, name, shape, free=free) for name, shape in net.inputs.items())


def _spec(net: Net, name: str, shape: tuple[int | None, ...] | None, *, free: bool) -> TensorSpec:
    if not shape:
        return TensorSpec.unknown(name, "float32")
    if min(extent or 1 for extent in shape) < 1 or max(extent or 1 for extent in shape) > OPEN_EXTENT:
        raise refused(f"The input '{name}' of '{net.file}' has the shape {list(shape)}.", "Correct it in the prototxt.")
    rest = shape[1:]
    least = (1, *(extent or 1 for extent in rest))
    if free and len(shape) == _IMAGE_AXES and all(rest):
        return TensorSpec(
            name, "float32", (1, least[1], 1, 1), least, (OPEN_EXTENT, least[1], OPEN_EXTENT, OPEN_EXTENT)
        )
    return TensorSpec(name, "float32", least, least, (OPEN_EXTENT, *(extent or OPEN_EXTENT for extent in rest)))


def _size(net: Net) -> dict[str, str]:
    step = bound_to_size(net)
    return {FIXED_SIZE: f"{step.where}, of the type {step.kind}"} if step else {}
