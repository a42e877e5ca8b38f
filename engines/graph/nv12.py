"""Turns NV12 images into the channels that a network takes, by operators of ONNX that every runtime has.

The equations are those of `engines.imaging.nv12`. Chroma is multiplied before it is doubled in both directions, a
quarter of the work. Nothing is rounded.

    rows (N, 3H/2, W) ─Cast─ Split ─┬─ two parts: luma (N, 1, H, W) ─ Sub ─ Mul ───────────────┐
                                    └─ Sub ─ U, V (N, 1, H/2, W/2) ─ Mul ─ Add ─ Resize ─ Add ─ Clip (N, 3, H, W)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.graph.interface import element_type
from engines.graph.naming import free_name, value_names
from engines.imaging import Nv12
from engines.tensors.preprocessing import Preprocessing

if TYPE_CHECKING:
    import onnx

LEAST_OPSET = 13
"""The operator set in which Split, Slice, Unsqueeze and Resize are as written here."""
_EQUAL_PARTS = 18
"""The operator set in which Split is told the number of equal parts."""


def decode_nv12(
    model: onnx.ModelProto, value: Any, colors: Nv12, steps: Preprocessing, dtype: str
) -> tuple[str, list[Any]]:
    """Make an input of a graph take NV12 images; return the name of the channels 0 to 255, and the nodes before it.

    Args:
        model: The graph, of at least `LEAST_OPSET`, to which constants are added.
        value: The input, which gets the shape (N, 3H/2, W) and takes bytes.
        colors: The colours of the images.
        steps: The order of the network's channels, and the layout of its images.
        dtype: The network's element type.
    """
    opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    maker = _Maker(model, value.name)
    luma_weight, (u_weights, v_weights) = colors.rows("RGB")[0, 0], colors.rows(steps.model_color)[:, 1:].T
    bias, _, middle = colors.bias
    _reshape(value, channels_last=steps.channels_last)

    rows = maker.node("Cast", [value.name], to=element_type("float32"))
    parts = {"num_outputs": 3} if opset >= _EQUAL_PARTS else {}
    top, bottom, chroma = maker.nodes("Split", [rows], 3, axis=1, **parts)
    luma = maker.node("Concat", [top, bottom], axis=1)
    luma = maker.node("Unsqueeze", [luma, maker.integers("channel", 1)])
    if bias:
        luma = maker.node("Sub", [luma, maker.floats("bias", bias)])
    if luma_weight != 1:
        luma = maker.node("Mul", [luma, maker.floats("luma_weight", luma_weight)])
    chroma = maker.node("Unsqueeze", [chroma, maker.integers("channel", 1)])
    chroma = maker.node("Sub", [chroma, maker.floats("middle", middle)])
    weighted = []
    for first, weights in enumerate((u_weights, v_weights)):
        bounds = [maker.integers(name, of) for name, of in ((f"from{first}", first), ("end", 2**31 - 1), ("axis", 3))]
        half = maker.node("Slice", [chroma, *bounds, maker.integers("two", 2)])
        weight = maker.floats(f"weights{first}", np.reshape(weights, (1, 3, 1, 1)))
        weighted.append(maker.node("Mul", [half, weight]))
    scales = maker.floats("scales", [1, 1, 2, 2])
    tint = maker.node(
        *("Resize", [maker.node("Add", weighted), "", scales]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    limits = [maker.floats("black", 0), maker.floats("white", 255)]
    image = maker.node("Clip", [maker.node("Add", [luma, tint]), *limits])
    if steps.channels_last:
        image = maker.node("Transpose", [image], perm=[0, 2, 3, 1])
    if dtype != "float32":
        image = maker.node("Cast", [image], to=element_type(dtype))
    return image, maker.made


def _reshape(value: Any, *, channels_last: bool) -> None:
    """Make an input (N, 3, H, W), or (N, H, W, 3), one of bytes (N, 3H/2, W)."""
    tensor = value.type.tensor_type
    dims = list(tensor.shape.dim)
    batch, height, width = dims[0], *(dims[1:3] if channels_last else dims[2:])
    if height.HasField("dim_value"):
        height.dim_value = height.dim_value * 3 // 2
    elif height.dim_param:
        height.dim_param = f"{height.dim_param}_and_half"
    kept = [dim.SerializeToString() for dim in (batch, height, width)]
    del tensor.shape.dim[:]
    for dim in kept:
        tensor.shape.dim.add().ParseFromString(dim)
    tensor.elem_type = element_type("uint8")


class _Maker:
    """Makes nodes and constants whose names begin with the input's and are unused."""

    def __init__(self, model: onnx.ModelProto, name: str) -> None:
        self.made: list[Any] = []
        self._model, self._prefix = model, f"{name}/nv12"
        self._constants: dict[str, str] = {}
        self._taken = value_names(model)

    def node(self, operator: str, operands: list[str], **attributes: Any) -> str:
        return self.nodes(operator, operands, 1, **attributes)[0]

    def nodes(self, operator: str, operands: list[str], count: int, **attributes: Any) -> list[str]:
        from onnx import helper

        name = self._unused(operator.lower())
        outputs = [name] if count == 1 else [f"{name}/{number}" for number in range(count)]
        self.made.append(helper.make_node(operator, operands, outputs, name=name, **attributes))
        return outputs

    def integers(self, name: str, value: int) -> str:
        return self._constant(name, np.array([value], np.int64))

    def floats(self, name: str, value: Any) -> str:
        return self._constant(name, np.array(value, np.float32))

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = self._unused(name)
            self._model.graph.initializer.append(numpy_helper.from_array(array, self._constants[name]))
        return self._constants[name]

    def _unused(self, name: str) -> str:
        wanted = f"{self._prefix}/{name}"
        if wanted in self._taken:
            return free_name(wanted, self._taken)
        self._taken.add(wanted)
        return wanted
