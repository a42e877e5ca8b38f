"""Weights in four bits that the graph itself dequantizes: DequantizeLinear with blocks, as opset 21 has it.

    W (int4, K x N) ──DequantizeLinear(axis 0, block_size)──▶ W (float32) ──MatMul──▶     a scale for each block of K

For runtimes whose builder keeps the integers and dequantizes them inside the product, as TensorRT-RTX does. A matrix of
1024 x 1024 is a plan of 0.88 MB instead of 4.35 in FP32 (1.7.1, SM 8.6). A Gemm it would fold, so it becomes a MatMul.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import save_model
from engines.graph.nodes import drop_unused
from engines.graph.versions import modernized, raise_opset
from engines.quantization.compression import Compression, as_products, float_matrices, is_product

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 21, 10
"""The first that have blocks, and integers of four bits."""
_LEAST, _MOST = -8, 7
"""Steps below and above zero; there is no zero point."""
_RATIOS = np.linspace(0.7, 1.0, 7, dtype=np.float32)
"""Parts of a block's largest value that the last step may stand for: what is beyond is cut, and the rest is finer.

MiniLM on 8 x 32 tokens, cosine against FP32: 0.955 with the best of these, 0.942 with 1 alone."""


def write(model: onnx.ModelProto, compression: Compression, chosen: frozenset[str], out_dir: Path) -> list[Path]:
    """Write the graph with the weights of the chosen nodes compressed; return its files.

    Raises:
        EngineFailure: INVALID_MODEL if the graph cannot be brought to opset 21.
    """
    import onnx
    from onnx import numpy_helper

    compressed = onnx.ModelProto()
    compressed.CopyFrom(model)
    for node in compressed.graph.node:
        node.name = node.name or node.output[0]
    products = as_products(compressed, chosen)
    if not raise_opset(compressed, OPSET):
        newer = modernized(compressed, OPSET)
        if newer is None:
            raise EngineFailure(
                FailureReason.INVALID_MODEL,
                f"Weights of four bits need opset {OPSET}, and the graph has operators that cannot be brought to it.",
                suggested_fix=f"Export the model with opset {OPSET} or newer.",
            )
        compressed = newer
    compressed.ir_version = max(compressed.ir_version, IR_VERSION)
    matrices, made = float_matrices(compressed), dict[str, Any]()
    for node in compressed.graph.node:
        if node.name not in products or not is_product(node, matrices):
            continue
        weight = node.input[1]
        if weight not in made:
            values, scales = quantized(numpy_helper.to_array(matrices[weight]), compression.group_size)
            compressed.graph.initializer.append(numpy_helper.from_array(values, f"{weight}_int4"))
            compressed.graph.initializer.append(numpy_helper.from_array(scales, f"{weight}_scales"))
            made[weight] = onnx.helper.make_node(
                "DequantizeLinear",
                [f"{weight}_int4", f"{weight}_scales"],
                [f"{weight}_float"],
                name=f"{weight}_dequantized",
                axis=0,
                block_size=compression.group_size,
            )
        node.input[1] = f"{weight}_float"
    nodes = [*made.values(), *compressed.graph.node]
    del compressed.graph.node[:]
    compressed.graph.node.extend(nodes)
    drop_unused(compressed)
    return save_model(compressed, out_dir / "model.onnx")


def quantized(matrix: Any, block: int) -> tuple[Any, Any]:
    """Return a matrix [K, N] in steps of -8 to 7 as int4, and the step of each block of a column, [K / block, N].

    Of several steps for a block, the one with the least squared error is taken.
    """
    import ml_dtypes

    rows, columns = matrix.shape
    parts = matrix.reshape(rows // block, block, columns)
    largest = np.abs(parts).max(axis=1, keepdims=True) / np.float32(_MOST)
    best, least = np.where(largest == 0, np.float32(1), largest), np.full_like(largest, np.inf)
    for ratio in _RATIOS:
        step = np.where(largest == 0, np.float32(1), largest * ratio)
        error = ((_rounded(parts, step) * step - parts) ** 2).sum(axis=1, keepdims=True)
        best, least = np.where(error < least, step, best), np.minimum(error, least)
    values = _rounded(parts, best).reshape(rows, columns).astype(np.int8).astype(ml_dtypes.int4)
    return values, best.reshape(-1, columns).astype(np.float32)


def _rounded(parts: Any, step: Any) -> Any:
    return np.clip(np.rint(parts / step), _LEAST, _MOST)
