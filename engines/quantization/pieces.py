"""Cuts a quantized graph into pieces between the values that it shares with the graph that it was made from.

A piece computes one value of the floating-point graph from others, by nodes of the quantized graph:

    floating point    x ──────────────────▶ Conv ──▶ y
    quantized         x ──▶ Q ──▶ DQ ──▶ Conv ──▶ y          one piece, from x to y

Only pieces with quantization in them are kept. If a quantizer leaves out an activation that its ranges cut off
already (ONNX Runtime does so with Relu), the value exists only behind the quantization that follows, which then belongs
to the piece.

A piece may hold a node that is not quantized itself, but reads a value that was rounded for the sake of another: ONNX
Runtime rounds what a MatMul gives before an Add in floating point reads it, and what a MatMul takes for every reader.
Such a piece stands for those others: they are the ones to leave in floating point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.graph.quantized import PASSIVE, is_quantization
from engines.graph.walk import reads

if TYPE_CHECKING:
    import onnx


HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "Gather", "LSTM", "GRU", "RNN", "Attention"})
"""Operators that quantizers quantize for their own sake: products, and tables."""
FLOAT_ELEMENT = 1
"""Element type of float32 in TensorProto."""


@dataclass(frozen=True)
class Piece:
    """Nodes of the quantized graph that compute one value of the floating-point graph.

    Attributes:
        value: Name of the value, as the floating-point graph has it.
        stands_for: Nodes of the floating-point graph to leave in floating point, so that it is not quantized.
        nodes: Nodes of the quantized graph, in topological order.
        inputs: Shared values that they read.
        result: Name of the value inside the quantized graph: `value`, or what follows it.
    """

    value: str
    stands_for: tuple[Any, ...]
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
        self.named = {(node.name, node.op_type): node for node in self.nodes if node.name}
        self.integers = {tensor.name for tensor in model.graph.initializer if tensor.data_type != FLOAT_ELEMENT}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in reads(node):
                self.readers.setdefault(name, []).append(node)
        for output in model.graph.output:
            self.readers.setdefault(output.name, []).append(None)

    def is_rounded(self, value: str) -> bool:
        """Return whether a value was brought to integers and back, or is a dequantized parameter."""
        node = self.producers.get(value)
        while node is not None and node.op_type in PASSIVE:
            node = self.producers.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    def heavy_readers(self, value: str) -> list[Any]:
        """Return the products that read a value, directly or moved."""
        found, waiting = [], [node for node in self.readers.get(value, []) if node is not None]
        while waiting:
            node = waiting.pop(0)
            if node.op_type in HEAVY:
                found.append(node)
            elif node.op_type in PASSIVE:
                waiting += [reader for reader in self.readers.get(node.output[0], []) if reader is not None]
        return found

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
    own = _own_node(stands_for, nodes, floating.cone(value, inputs)[0])
    others = () if _is_quantized(own, quantized) else _responsible(own, nodes, floating, quantized)
    return Piece(value, others or (own,), tuple(nodes), tuple(sorted(inputs)), result)


def _own_node(producer: Any, nodes: Sequence[Any], cone: Sequence[Any]) -> Any:
    """Return the node of the floating-point graph that a piece computes: of several, the one with parameters."""
    names = {(node.name, node.op_type) for node in nodes}
    same = [node for node in cone if node.name and (node.name, node.op_type) in names]
    heavy = [node for node in same or cone if node.op_type in HEAVY]
    return (heavy or same or [producer])[-1]


def _is_quantized(own: Any, quantized: _Graph) -> bool:
    """Return whether a node was quantized for its own sake: by its kind, or because all that it reads was rounded."""
    node = quantized.named.get((own.name, own.op_type)) if own.name else None
    if own.op_type in HEAVY or node is None:
        return True
    rounded = [quantized.is_rounded(name) for name in node.input if name and name not in quantized.integers]
    given_on = [
        reader is not None and reader.op_type == "QuantizeLinear" for reader in quantized.readers[node.output[0]]
    ]
    return all(rounded) and (len(rounded) > 1 or all(given_on))


def _responsible(own: Any, nodes: Sequence[Any], floating: _Graph, quantized: _Graph) -> tuple[Any, ...]:
    """Return the quantized nodes that read the same rounded values, else the ones that give them."""
    values = [node.input[0] for node in nodes if node.op_type == "QuantizeLinear"]
    readers = [node for value in values for node in floating.heavy_readers(value) if node is not own]
    givers = [floating.producers[value] for value in values if value in floating.producers]
    return tuple(readers) or tuple(node for node in givers if node.op_type in HEAVY)


def _quantized_result(value: str, quantized: _Graph) -> str:
    """Return the value behind the QuantizeLinear and DequantizeLinear that alone read a value; else an empty name."""
    readers = quantized.readers.get(value, [])
    if len(readers) != 1 or readers[0] is None or readers[0].op_type != "QuantizeLinear":
        return ""
    following = [node for node in quantized.readers.get(readers[0].output[0], []) if node is not None]
    dequantized = [node for node in following if node.op_type == "DequantizeLinear"]
    return dequantized[0].output[0] if dequantized else ""
