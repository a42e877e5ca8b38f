"""Cuts a quantized graph into pieces between the values that it shares with the graph that it was made from.

A piece computes one value of the floating-point graph from others, by nodes of the quantized graph:

    floating point    x ──────────────────▶ Conv ──▶ y
    quantized         x ──▶ Q ──▶ DQ ──▶ Conv ──▶ y          one piece, from x to y

Only pieces with quantization in them are kept. Where a quantizer leaves out an activation that its ranges cut off
already (ONNX Runtime does so with Relu), the value exists only behind the quantization that follows, which then belongs
to the piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.graph.walk import reads
from engines.quantization.existing import is_quantization

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Piece:
    """Nodes of the quantized graph that compute one value of the floating-point graph.

    Attributes:
        value: Name of the value, as the floating-point graph has it.
        node: Node of the floating-point graph that it stands for, the one to leave in floating point.
        operator: Operator type of that node.
        nodes: Nodes of the quantized graph, in topological order.
        inputs: Shared values that they read.
        result: Name of the value inside the quantized graph: `value`, or what follows it.
    """

    value: str
    node: str
    operator: str
    nodes: tuple[Any, ...]
    inputs: tuple[str, ...]
    result: str


def cut(float_model: onnx.ModelProto, quantized_model: onnx.ModelProto) -> list[Piece]:
    """Return the quantized pieces of the main graph, in the topological order of the floating-point graph."""
    floating, quantized = _Graph(float_model), _Graph(quantized_model)
    shared = (floating.producers.keys() & quantized.producers.keys()) | (floating.inputs & quantized.inputs)
    pieces = []
    for value in floating.producers:
        if value in shared:
            piece = _piece(value, floating, quantized, shared)
            if any(is_quantization(node) for node in piece.nodes):
                pieces.append(piece)
    return pieces


class _Graph:
    """A main graph, with who makes and who reads each value."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.order = {id(node): position for position, node in enumerate(self.nodes)}
        self.inputs = {value.name for value in model.graph.input}
        self.producers = {output: node for node in self.nodes for output in node.output if output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in reads(node):
                self.readers.setdefault(name, []).append(node)
        for output in model.graph.output:
            self.readers.setdefault(output.name, []).append(None)

    def cone(self, value: str, ends: Iterable[str]) -> tuple[list[Any], set[str]]:
        """Return the nodes that compute a value from any of `ends`, in order, and the ends that they read."""
        stops = set(ends) - {value}
        waiting, found, read = [value], {}, set()
        while waiting:
            node = self.producers.get(waiting.pop())
            if node is None or id(node) in found:
                continue
            found[id(node)] = node
            for name in reads(node):
                if name in stops:
                    read.add(name)
                else:
                    waiting.append(name)
        return sorted(found.values(), key=lambda node: self.order[id(node)]), read


def _piece(value: str, floating: _Graph, quantized: _Graph, shared: set[str]) -> Piece:
    nodes, inputs = quantized.cone(value, shared)
    stands_for = floating.producers[value]
    result = value
    if all(node.op_type != stands_for.op_type for node in nodes):
        behind = _quantized_result(value, quantized)
        if behind:
            result = behind
            nodes, inputs = quantized.cone(result, shared - {value})
    names = {(node.name, node.op_type): node for node in floating.cone(value, inputs)[0]}
    same = [names[node.name, node.op_type] for node in nodes if node.name and (node.name, node.op_type) in names]
    stands_for = same[-1] if same else _computing(stands_for, names)
    return Piece(
        value, stands_for.name or stands_for.output[0], stands_for.op_type, tuple(nodes), tuple(sorted(inputs)), result
    )


def _quantized_result(value: str, quantized: _Graph) -> str:
    """Return the value behind the QuantizeLinear and DequantizeLinear that alone read a value; else an empty name."""
    readers = quantized.readers.get(value, [])
    if len(readers) != 1 or readers[0] is None or readers[0].op_type != "QuantizeLinear":
        return ""
    following = [node for node in quantized.readers.get(readers[0].output[0], []) if node is not None]
    dequantized = [node for node in following if node.op_type == "DequantizeLinear"]
    return dequantized[0].output[0] if dequantized else ""


def _computing(node: Any, cone: Mapping[tuple[str, str], Any]) -> Any:
    """Return the node of the cone that has parameters to quantize, the value's own where none has."""
    heavy = [entry for entry in cone.values() if entry.op_type in {"Conv", "ConvTranspose", "MatMul", "Gemm"}]
    return node if node in heavy or not heavy else heavy[-1]
