"""One graph while it is rewritten into half precision: its values, their current types, and shared casts."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from engines.graph.element_types import FLOAT, UNKNOWN, type_name
from engines.graph.half_constants import HalfType, Range


@dataclass
class Value:
    """A value of the graph.

    Attributes:
        type: Its original type, as schemas write it.
        name: Its current name.
        half: Whether it is now in half precision.
        data: Whether it depends on a floating-point input or a parameter; else it comes from indices and sizes.
        range: Whether half precision can hold it.
        constant: Its tensor, if it is a constant.
    """

    type: str
    name: str
    half: bool = False
    data: bool = False
    range: Range = Range.FITS
    constant: Any = None


@dataclass
class Work:
    """State shared by all graphs of a conversion: the type, nodes that stay, the operator set, names in use."""

    half: HalfType
    kept: AbstractSet[str]
    opset: int
    taken: set[str]
    converted: int = 0

    def new_name(self, wanted: str) -> str:
        """Return an unused name."""
        name, number = wanted, 1
        while name in self.taken:
            name, number = f"{wanted}_{number}", number + 1
        self.taken.add(name)
        return name

    def suffix(self, *, half: bool) -> str:
        """Return the name of a cast."""
        return self.half.precision.lower() if half else "fp32"


class Scope:
    """One graph, its values by their original names, and its rewritten nodes.

    Args:
        work: The conversion.
        graph: The graph; subgraphs take and return half precision, the main graph float32.
        parent: The scope around a subgraph.
    """

    def __init__(self, work: Work, graph: Any, parent: Scope | None) -> None:
        self.work, self.graph, self.parent = work, graph, parent
        self.values: dict[str, Value] = {}
        self.casts: dict[tuple[str, bool], str] = {}
        self.nodes: list[Any] = []
        _make_initializers(graph)
        self.declared = {value.name: declared(value) for value in (*graph.value_info, *graph.output)}
        for value in graph.input:
            type_ = declared(value)
            half = parent is not None and type_ == FLOAT
            self.values[value.name] = Value(type_, value.name, half, data=type_ == FLOAT)
        for tensor in graph.initializer:
            if tensor.name not in self.values:
                type_ = type_name(tensor.data_type)
                fits = work.half.range_of(tensor) if type_ == FLOAT else Range.FITS
                self.values[tensor.name] = Value(type_, tensor.name, range=fits, constant=tensor)

    def find(self, name: str) -> Value:
        """Return a value of this graph or of an outer one, by its original name."""
        if name in self.values or self.parent is None:
            return self.values.get(name) or Value(UNKNOWN, name)
        return self.parent.find(name)

    def read(self, name: str, *, half: bool) -> str:
        """Return the name under which a value is read in a precision; adds a cast if there is none yet."""
        value = self.find(name)
        if not name or value.type != FLOAT or value.half == half:
            return value.name
        return self._cast_of(name, half) or self._add_cast(name, value, half)

    def give(self, node: Any, position: int, value: Value) -> None:
        """Note the outputs of a node; an output of the main graph stays float32 under its own name."""
        name = value.name
        self.values[name] = value
        if self.parent is None and value.half and any(output.name == name for output in self.graph.output):
            value.name = self.work.new_name(f"{name}_{self.work.suffix(half=True)}")
            node.output[position] = value.name
            self.casts[name, False] = name

    def add(self, node: Any) -> None:
        """Add a node, and after it the casts of those of its outputs that the graph returns."""
        self.nodes.append(node)
        for (name, _), cast in list(self.casts.items()):
            if cast == name and self.values[name].name in node.output:
                self._cast_node(self.values[name].name, name, half=False)

    def _cast_of(self, name: str, half: bool) -> str:
        if (name, half) in self.casts:
            return self.casts[name, half]
        return self.parent._cast_of(name, half) if self.parent is not None and name not in self.values else ""

    def _add_cast(self, name: str, value: Value, half: bool) -> str:
        if value.constant is not None and name not in self.values and self.parent is not None:
            return self.parent._add_cast(name, value, half)
        made = self.work.new_name(f"{name}_{self.work.suffix(half=half)}")
        if value.constant is not None:
            self.graph.initializer.append(self.work.half.cast(value.constant, made))
        else:
            self._cast_node(value.name, made, half)
        self.casts[name, half] = made
        return made

    def _cast_node(self, source: str, target: str, half: bool) -> None:
        import onnx

        to = self.work.half.element if half else onnx.TensorProto.FLOAT
        self.nodes.append(onnx.helper.make_node("Cast", [source], [target], name=f"Cast_{target}", to=to))


def declared(value: Any) -> str:
    """Return the type that a graph declares for a value; unknown for sequences and optional values too."""
    if value.type.HasField("tensor_type") and value.type.tensor_type.elem_type:
        return type_name(value.type.tensor_type.elem_type)
    return UNKNOWN


def _make_initializers(graph: Any) -> None:
    """Turn nodes with a constant float tensor into initializers, so that both are treated alike."""
    import numpy as np
    import onnx

    kept = []
    for node in graph.node:
        attribute = node.attribute[0] if node.op_type == "Constant" and node.attribute else None
        if attribute is not None and attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        elif attribute is not None and attribute.name in {"value_float", "value_floats"}:
            floats = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(floats, np.float32), node.output[0]))
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        kept = [_copy(node) for node in kept]
        del graph.node[:]
        graph.node.extend(kept)


def _copy(node: Any) -> Any:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
