"""Writes a net as an ONNX graph: one operator after the other, named after their layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines.failures import invalid
from engines.formats.caffe.blobs import Weights, blobs_of
from engines.formats.caffe.detection import outputs_of
from engines.formats.caffe.kinds import DETECTIONS
from engines.formats.caffe.net import Net, Step
from engines.formats.caffe.reference import Shapes, output_names
from engines.graph.naming import free_name
from engines.tensors import Array

OPSET = 18
IR_VERSION = 8
_IMAGE_AXES = 4
_LARGEST = 2**31 - 2**20
"""Bytes of a file of protobuf; weights beyond go beside it."""


@dataclass
class Writer:
    """A graph that grows.

    Attributes:
        low: The shapes of all values at the smallest batch and size.
        high: The same at the largest.
    """

    low: Shapes
    high: Shapes
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    _layer: str = ""
    _weights: int = 0
    _written: bool = False
    _names: set[str] = field(default_factory=set)

    def begin(self, step: Step) -> None:
        """Name what follows after a layer."""
        self._layer, self._written = step.name, False

    def add(self, operator: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Append a node; return the name of its first output.

        Args:
            operator: Its type.
            inputs: Names of the values that it reads.
            outputs: Names of the values that it writes; one gets a name of its own if empty.
            attributes: Its attributes.
        """
        import onnx

        wanted = f"{self._layer}/{operator}" if self._written else self._layer
        name = free_name(wanted, self._names) if wanted in self._names else wanted  # layers may share a name
        self._names.add(name)
        self._written = True
        named = list(outputs) or [f"{name}:0"]
        self.nodes.append(onnx.helper.make_node(operator, list(inputs), named, name=name, **attributes))
        return named[0]

    def constant(self, value: Array | Sequence[int] | float) -> str:
        """Append a constant, float32 or (of whole numbers) int64; return its name."""
        import onnx

        array = np.asarray(value, dtype=np.float32 if isinstance(value, float) else None)
        self._weights += 1
        name = f"{self._layer}/weights_{self._weights}"
        self.constants.append(onnx.numpy_helper.from_array(array, name))
        return name

    def whole(self, values: Sequence[int]) -> str:
        """Append a list of whole numbers; return its name."""
        return self.constant(np.array(values, dtype=np.int64))

    def reshape(self, value: str, wanted: Sequence[tuple[int, int]], have: Sequence[tuple[int, int]]) -> str:
        """Append a Reshape to extents, each at the smallest and the largest batch; `have` are those of the value.

        Raises:
            EngineFailure: INVALID_SPEC if the batch is mixed with other axes in more than one extent.
        """
        target = []
        for index, (low, high) in enumerate(wanted):
            same = index < len(have) and have[index] == (low, high)
            target.append(low if low == high else 0 if same else -1)
        if target.count(-1) > 1:
            raise varies(self._layer)
        return self.add("Reshape", [value, self.whole(target)])

    def extents(self, value: str) -> list[tuple[int, int]]:
        """Return the extents of a value at the smallest and the largest batch."""
        return list(zip(self.low[value], self.high[value], strict=True))

    def fixed(self, value: str, axis: int) -> int:
        """Return an extent that may not vary.

        Raises:
            EngineFailure: INVALID_SPEC if it does.
        """
        if self.low[value][axis] != self.high[value][axis]:
            raise varies(self._layer)
        return self.low[value][axis]


def varies(layer: str) -> Exception:
    """Return the failure of a layer that only takes a fixed batch or size."""
    return invalid(
        f"The layer '{layer}' of the net mixes an axis that ranges with others, or fixes it.",
        "Declare one shape of each input instead of a range; if the batch ranges, a largest batch of 1.",
    )


def write_onnx(net: Net, weights: Weights, low: Shapes, high: Shapes, path: Path) -> None:
    """Write a net.

    Args:
        net: The net.
        weights: Its weights.
        low: The shapes of all values at the smallest batch, from `shapes_of`.
        high: The same at the largest batch and size; of inputs, axis 0 may differ, and height and width of images.
        path: Where the ONNX file goes.

    Raises:
        EngineFailure: INVALID_SPEC for inputs that vary in another way than the graph can.
    """
    import onnx

    from engines.formats.caffe.operators import OPERATORS

    for name in net.inputs:
        moving = [axis for axis, (least, most) in enumerate(zip(low[name], high[name], strict=True)) if least != most]
        if not set(moving) <= {0, 2, 3} or (set(moving) - {0} and len(low[name]) != _IMAGE_AXES):
            raise invalid(
                f"Input '{name}' ranges on axis {moving[-1]}. The batch, axis 0, may range, and height and width of "
                "images, axes 2 and 3.",
                "Declare one extent of this axis.",
            )
    graph = Writer(low, high)
    for step in net.steps:
        graph.begin(step)
        blobs = blobs_of(step, weights, [low[name] for name in step.bottoms])
        values = OPERATORS[step.kind](graph, step, blobs)
        tops = outputs_of(step.tops[0]) if step.kind == DETECTIONS else step.tops
        for value, top in zip(values, tops, strict=False):
            _rename(graph.nodes, value, top)
    outputs = output_names(net)
    for name, value in outputs.items():
        if name != value or value in net.inputs:
            graph.nodes.append(onnx.helper.make_node("Identity", [value], [name], name=f"output/{name}"))
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "caffe",
            [_value(name, low[name], high[name]) for name in net.inputs],
            [_value(name, low[value], high[value]) for name, value in outputs.items()],
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lathe",
    )
    onnx.save_model(model, path, save_as_external_data=model.ByteSize() > _LARGEST, location=f"{path.name}.data")


def _rename(nodes: Sequence[Any], old: str, new: str) -> None:
    """Give a value that one of the last nodes writes its name in the net."""
    for node in reversed(nodes):
        for index, name in enumerate(node.output):
            if name == old:
                node.output[index] = new
                return


def _value(name: str, low: Sequence[int], high: Sequence[int]) -> Any:
    import onnx

    shape = [
        least if least == most else "batch" if axis == 0 else None
        for axis, (least, most) in enumerate(zip(low, high, strict=True))
    ]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
