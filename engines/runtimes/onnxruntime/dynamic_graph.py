"""Integers whose ranges are found at run time, by ONNX Runtime's own quantizer: nothing is calibrated."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model
from engines.graph.nodes import drop_unused, name_nodes, products_of_activations

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

OPERATORS = ("MatMul", "Gemm", "LSTM")
"""Operators that are quantized: convolutions of that kind are slower than in floating point."""
_MOVES = frozenset({"Concat", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that move values and make none."""


def quantize_products(
    graph: Path,
    target: Path,
    *,
    per_channel: bool = True,
    seven_bits: bool = False,
    excluded: frozenset[str] = frozenset(),
) -> Path:
    """Write the graph with products of 8-bit weights and of activations that are brought to 8 bits in every call.

    Args:
        graph: The graph in floating point.
        target: File to write.
        per_channel: One scale for each output channel of a weight, or one for each weight.
        seven_bits: Weights take 7 bits, for processors whose sums of 8-bit products saturate.
        excluded: Names of nodes that stay in floating point.

    Raises:
        EngineFailure: INVALID_SPEC if no product has a weight.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = _ready(graph)
    left_out = excluded | products_of_activations(model)
    if left_out.issuperset(node.name for node in model.graph.node if node.op_type in OPERATORS):
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The graph has no {', '.join(OPERATORS[:-1])} or {OPERATORS[-1]} with a weight, which dynamic "
            "quantization is for.",
            suggested_fix="Choose the scheme STATIC, with calibration data.",
        )
    quantize_dynamic(
        model,
        target,
        op_types_to_quantize=list(OPERATORS),
        per_channel=per_channel,
        reduce_range=seven_bits,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=sorted(left_out),
    )
    return target


def quantize_by_default(graph: Path, target: Path) -> Path:
    """Write the graph as ONNX Runtime's quantizer makes it if it is told nothing: every operator, one scale per weight.

    Convolutions and embeddings are quantized, too.

    Raises:
        EngineFailure: INVALID_SPEC if the graph has nothing to quantize.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = _ready(graph)
    before = len(model.graph.node)
    quantize_dynamic(model, target, weight_type=QuantType.QInt8, extra_options={"MatMulConstBOnly": True})
    if len(load_model(target, weights=False).graph.node) == before:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            "The graph has no operator with a weight that dynamic quantization is for.",
            suggested_fix="Choose another precision.",
        )
    return target


def _ready(graph: Path) -> onnx.ModelProto:
    model = load_model(graph)
    name_nodes(model)  # first: whoever excludes nodes has named them so
    _settle_weights(model)
    del model.graph.value_info[:]  # the quantizer transposes weights, and then fails on their old shapes
    return model


def _settle_weights(model: onnx.ModelProto) -> None:
    """Store weights as they are used: the quantizer takes none that the graph cuts, joins or turns at first.

    PyTorch writes an LSTM so, and a head that is tied to an embedding. Folding holds the weights twice, so that a graph
    that needs none is left alone.
    """
    from onnxscript import optimizer

    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    if not any(node.op_type in _MOVES and constants.issuperset(filter(None, node.input)) for node in model.graph.node):
        return
    try:
        optimizer.fold_constants(model, should_fold=lambda node: node.op_type in _MOVES, output_size_limit=sys.maxsize)
    except Exception:
        log.exception("onnxscript cannot fold the weights; they are quantized as far as they stand by themselves")
        return
    drop_unused(model)
