"""Code that the writers of compressed weights share: the settings, and the nodes that have weights to compress."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.runtimes.source import GRAPH

if TYPE_CHECKING:
    import onnx

SMALLEST_EMBEDDING = 2**14
"""Elements from which on a table is worth compressing: position and type tables of a few rows stay."""


@dataclass(frozen=True)
class Compression:
    """How weights are compressed; see `compress_weights`."""

    bits: int
    group_size: int = 0
    symmetric: bool = True
    float_activations: bool = False


def compressible_nodes(model: onnx.ModelProto, form: str, block: int = 0) -> list[str]:
    """Return the nodes of the main graph with weights to compress, by name, or by first output if they have none.

    Args:
        model: A graph in floating point.
        form: The form that is written, as `Integers.form`; ONNX has embeddings in blocks of columns only.
        block: If weights are dequantized in the graph, as `Integers.block`: then matrices alone, of whole blocks.
    """
    matrices = float_matrices(model)
    if block:
        return [
            node.name or node.output[0]
            for node in model.graph.node
            if is_product(node, matrices) and _depth(node, matrices) % block == 0
        ]
    return [
        node.name or node.output[0]
        for node in model.graph.node
        if is_product(node, matrices) or (is_embedding(node, matrices) and (form != GRAPH or blocks(node, matrices)))
    ]


def float_matrices(model: onnx.ModelProto) -> dict[str, Any]:
    """Return the constant float32 matrices of the main graph by name."""
    import onnx

    inputs = {value.name for value in model.graph.input}
    return {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2 and tensor.name not in inputs
    }


def is_product(node: Any, matrices: dict[str, Any]) -> bool:
    """Return whether a node multiplies by a constant matrix."""
    return node.op_type in {"MatMul", "Gemm"} and len(node.input) > 1 and node.input[1] in matrices


def is_embedding(node: Any, matrices: dict[str, Any]) -> bool:
    """Return whether a node takes rows out of a constant table that is worth compressing."""
    if node.op_type != "Gather" or node.input[0] not in matrices:
        return False
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return axis in {0, -2} and math.prod(matrices[node.input[0]].dims) >= SMALLEST_EMBEDDING


def blocks(node: Any, matrices: dict[str, Any]) -> int:
    """Return the largest block, at most 128, that divides a table's columns; 0 if even 16 does not."""
    columns = matrices[node.input[0]].dims[1]
    return next((size for size in (128, 64, 32, 16) if columns % size == 0), 0)


def _depth(node: Any, matrices: dict[str, Any]) -> int:
    """Return the inputs of a channel: the rows of a matrix, or its columns if a Gemm turns it."""
    turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    extent: int = matrices[node.input[1]].dims[1 if turned else 0]
    return extent


def as_products(model: onnx.ModelProto, chosen: frozenset[str]) -> set[str]:
    """Write each Gemm of a graph whose nodes are named as MatMul and Add, and return the names of the chosen MatMul."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    products = {node.name for node in model.graph.node if node.name in chosen}
    before = {node.name for node in model.graph.node}
    ONNXModel(model).replace_gemm_with_matmul()
    made = {node.name for node in model.graph.node} - before
    return products | {name for name in made if any(name == f"{gemm}_MatMul" for gemm in products)}
