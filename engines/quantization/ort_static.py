"""ONNX Runtime's static quantizer: QuantizeLinear and DequantizeLinear placed by ranges that were found before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model, save_model
from engines.graph.nodes import products_of_activations
from engines.graph.precision import to_half
from engines.graph.versions import modernized, raise_opset
from engines.quantization.ranges import Ranges

WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that hold a network's weights; quantizing others costs accuracy and wins no time."""
NEVER = frozenset({"LayerNormalization", "InstanceNormalization", "BatchNormalization"})
"""Operators that normalize: in integers they lose what they are for, and win no time."""
LEAST_OPSET = 13
"""Operator set that knows scales per channel."""
HALF_OPSET = 21
"""Operator set that knows scales in FP16, and casts of every type."""


def place_qdq(
    graph: Path,
    target: Path,
    ranges: Ranges,
    *,
    everything: bool,
    per_channel: bool,
    asymmetric: bool,
    reduce_range: bool,
    signed: bool = False,
    halves: bool = False,
    excluded: frozenset[str],
) -> Path:
    """Write the graph with QDQ around what is quantized; return its file.

    Activations take unsigned bytes, for which x86 has the faster instructions; a symmetric range has its zero in the
    middle of them.

    Args:
        graph: The floating-point graph, shapes inferred, nodes named.
        target: Where the quantized graph goes.
        ranges: Ranges of activations.
        everything: True quantizes every operator that ONNX Runtime can, but `NEVER`; False the operators with weights
            alone, and of products those of an activation with a weight, whose results stay in floating point.
        per_channel: One scale per output channel of a weight, or one per tensor.
        asymmetric: Ranges of activations as they are, or symmetric about zero.
        reduce_range: Weights take 7 bits, for processors whose sums of 8-bit products saturate.
        signed: Activations take signed bytes, and biases stay in floating point, as GPUs want them.
        halves: FP16 is computed beside the integers, with scales in FP16.
        excluded: Names of nodes that stay in floating point.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION for FP16 if the graph's operator set knows no such scales.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry

    model = _raised(load_model(graph))
    if halves:
        model, ranges = _in_half(model, ranges)
    extra: dict[str, Any] = {"ActivationSymmetric": not asymmetric, "WeightSymmetric": True, "QuantizeBias": not signed}
    if not everything:
        extra |= {"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"], "DedicatedQDQPair": True}
        excluded |= products_of_activations(model)
        keep_integer_products(model, excluded)
    quantizer = QDQQuantizer(
        model,
        per_channel,
        reduce_range,
        QuantType.QInt8,
        QuantType.QInt8 if signed else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, _arrays(ranges, halves=halves)),
        [],
        sorted(excluded),
        sorted(QDQRegistry.keys() - NEVER) if everything else list(WITH_WEIGHTS),
        extra,
    )
    quantizer.quantize_model()
    if not everything:
        spare_others(quantizer.model.model, excluded)
    quantizer.model.topological_sort()
    save_model(quantizer.model.model, target)
    return target


def keep_integer_products(model: Any, excluded: frozenset[str]) -> None:
    """Give the biases behind products of three and more axes as many axes.

    ONNX Runtime joins a product and a bias of one axis to a Gemm before it looks for products of integers, and a Gemm
    with a bias in floating point then computes in floating point. It leaves biases of more axes alone.
    """
    import onnx
    from onnx import numpy_helper

    biases = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 1}
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    products = {
        node.output[0]: ranks.get(node.output[0], 0)
        for node in model.graph.node
        if node.op_type == "MatMul" and node.name not in excluded
    }
    for node in model.graph.node:
        rank = max((products.get(name, 0) for name in node.input), default=0)
        if node.op_type != "Add" or rank < 3:
            continue
        for position, name in enumerate(node.input):
            if name in biases:
                wide = f"{name}/of_{rank}_axes"
                if wide not in {tensor.name for tensor in model.graph.initializer}:
                    array = numpy_helper.to_array(biases[name])
                    model.graph.initializer.append(numpy_helper.from_array(array.reshape(*[1] * (rank - 1), -1), wide))
                node.input[position] = wide
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used or tensor.name not in biases]
    unchanged = onnx.GraphProto()
    unchanged.initializer.extend(kept)
    del model.graph.initializer[:]
    model.graph.initializer.extend(unchanged.initializer)


def spare_others(model: Any, excluded: frozenset[str]) -> None:
    """Let nodes that are not quantized read the value itself, not what quantization for another node left of it.

    So a residual connection keeps its precision. What a quantized node computes stays behind its own QDQ, which its
    kernel needs.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    quantized = {node.name for node in model.graph.node if node.op_type in WITH_WEIGHTS} - excluded
    values = {}
    for node in model.graph.node:
        source = producers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if source is None or source.op_type != "QuantizeLinear":
            continue
        made_by = producers.get(source.input[0])
        if made_by is None or made_by.name not in quantized:
            values[node.output[0]] = source.input[0]
    for node in model.graph.node:
        if node.name in quantized:
            continue
        for position, name in enumerate(node.input):
            node.input[position] = values.get(name, name)


def _arrays(ranges: Ranges, *, halves: bool) -> dict[str, tuple[Any, Any]]:
    """Return ranges in the type of the scales that are made of them."""
    import numpy as np

    if not halves:
        return {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    most = float(np.finfo(np.float16).max)
    return {name: (np.float16(max(low, -most)), np.float16(min(high, most))) for name, (low, high) in ranges.items()}


def _in_half(model: Any, ranges: Ranges) -> tuple[Any, Ranges]:
    """Return the model in FP16 and an operator set with scales in FP16, and the ranges of the casts that it has."""
    import onnx

    if not raise_opset(model, HALF_OPSET):
        model = modernized(model, HALF_OPSET)
    if model is None:
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"The graph cannot be written in ONNX's operator set {HALF_OPSET}, which has scales in FP16.",
            suggested_fix="Export the model in a newer operator set, or convert it in FP16.",
        )
    half = onnx.shape_inference.infer_shapes(to_half(model, "FP16"))
    casts = [(node.input[0], node.output[0]) for node in half.graph.node if node.op_type == "Cast"]
    ends = casts + [(after, before) for before, after in casts]
    return half, {name: ranges[known] for known, name in ends if known in ranges} | ranges


def _raised(model: Any) -> Any:
    """Return the model in an operator set that knows scales per channel."""
    from onnx import version_converter

    version = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    return model if version >= LEAST_OPSET else version_converter.convert_version(model, LEAST_OPSET)
