"""Quantization that a graph already has, from quantization-aware training or another quantizer.

Known forms: QuantizeLinear/DequantizeLinear around floating-point operators (QDQ), operators on integers
(QLinearConv, MatMulInteger, …), compressed weights (MatMulNBits, GatherBlockQuantized, an integer parameter that is
cast and scaled by plain operators), OpenVINO's FakeQuantize, and the deploy models of Ascend's AMCT (AscendQuant before
operators on integers, AscendDequant behind them).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.graph.walk import all_graphs, all_nodes

if TYPE_CHECKING:
    import onnx

QDQ = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
"""Operators that convert values to integers and back."""

_MAIN = ("", "ai.onnx")
_OTHER_FORMS = re.compile(
    r"QLinear\w+|\w+Integer(ToFloat)?|DynamicQuantize\w+|MatMulNBits|MatMulBnb4|GatherBlockQuantized|FakeQuantize"
    r"|QGemm|QAttention|QMoE|QEmbedLayerNormalization|Quantize\w+|Dequantize\w+"
)
PASSIVE = frozenset(
    {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Expand", "Slice", "Split"}
)
"""Operators that only move values: a quantized value stays quantized through them."""


def is_quantization(node: Any) -> bool:
    """Return whether a node quantizes, dequantizes or computes on quantized values by its operator alone."""
    return node.op_type in QDQ or _OTHER_FORMS.fullmatch(node.op_type) is not None


def quantized_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the nodes that compute on quantized values, in the graph's order; empty for a graph in floating point.

    A node is named by its first output if it has no name. Subgraphs and local functions count.
    """
    nodes = list(all_nodes(model))
    return [
        nodes[place].name or nodes[place].output[0] for place in places_on_integers(nodes, integer_parameters(model))
    ]


def places_on_integers(nodes: Sequence[Any], integers: frozenset[str]) -> list[int]:
    """Return the positions of the nodes that compute on quantized values, ascending.

    A DequantizeLinear counts itself if only the graph's output reads it.

    Args:
        nodes: All nodes of a model.
        integers: Its `integer_parameters`.
    """
    carried = {output for node in nodes if _gives_quantized(node, integers) for output in node.output}
    for node in nodes:  # nodes are in topological order, so one pass follows whole chains
        if node.op_type in PASSIVE and node.input and node.input[0] in carried:
            carried.update(node.output)
    read = {name for node in nodes for name in node.input}
    found = []
    for place, node in enumerate(nodes):
        reads = not _only_carries(node) and not carried.isdisjoint(node.input)
        computes = is_quantization(node) and node.op_type not in QDQ
        unread = node.op_type == "DequantizeLinear" and read.isdisjoint(node.output)
        if reads or computes or unread:
            found.append(place)
    return found


def _only_carries(node: Any) -> bool:
    return node.op_type in QDQ or node.op_type in PASSIVE


def _gives_quantized(node: Any, integers: frozenset[str]) -> bool:
    """Return whether the outputs hold values that are or were integers: of these operators, or of a parameter."""
    if node.op_type in {"DequantizeLinear", "DequantizeBFP", "AscendQuant"}:
        return True
    return node.op_type == "Cast" and node.domain in _MAIN and node.input[0] in integers


def integer_parameters(model: onnx.ModelProto) -> frozenset[str]:
    """Return matrices and larger parameters in integers of at most eight bits: indices are wider, masks are boolean."""
    import onnx

    narrow = {
        getattr(onnx.TensorProto, name)
        for name in ("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2")
        if hasattr(onnx.TensorProto, name)
    }
    return frozenset(
        tensor.name
        for graph in all_graphs(model)
        for tensor in graph.initializer
        if tensor.data_type in narrow and len(tensor.dims) >= 2
    )
