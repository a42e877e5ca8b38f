"""Weights compressed to eight or four bits, activations left as they are: for transformer models on CPUs.

ONNX Runtime gets operators MatMulNBits from its own quantizer and GatherBlockQuantized for embeddings, OpenVINO an IR
from NNCF. Both keep embeddings, the largest tables of small models, in eight bits when the rest goes to four. Runtimes
that take blocks (`Integers.block`) get a graph that dequantizes four bits itself; embeddings stay as they are.

How products are computed is part of the form. By default the activations of each block are brought to int8 at run time,
which both runtimes have fast kernels for; with `float_activations` they stay float32. MiniLM, 32 tokens, one thread
of a CPU with AVX-512 VNNI; speed against the same runtime in FP32, cosine against FP32:

                              ONNX Runtime      OpenVINO
    int8                      0.9991  1.4x      0.9990  2.0x
    int8, float products      0.9997  0.4x      0.9993  1.0x
    int4                      0.955   1.3x      0.955   2.1x
    int4, float products      0.953   0.9x      0.955   1.0x
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason, first_line
from engines.graph.hygiene import weight_bytes
from engines.quantization import weights_blocked, weights_onnxruntime, weights_openvino
from engines.quantization.compression import Compression, compressible_nodes
from engines.runtimes import runtimes
from engines.runtimes.openvino.runtime import IR
from engines.runtimes.source import GRAPH

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

_BLOCKED = "graph with blocks"
_WRITERS = {GRAPH: weights_onnxruntime.write, IR: weights_openvino.write, _BLOCKED: weights_blocked.write}
"""Writers of compressed weights, by the form that they write."""


@dataclass(frozen=True)
class CompressedGraph:
    """A graph with compressed weights.

    Attributes:
        path: `model.onnx` for ONNX Runtime, `model.xml` beside `model.bin` for OpenVINO.
        nodes: Nodes of the given graph whose weights were compressed.
        size_before: Bytes of the given graph.
        size_bytes: Bytes of the files written.
    """

    path: Path
    nodes: tuple[str, ...]
    size_before: int
    size_bytes: int


def compress_weights(
    model: onnx.ModelProto,
    bits: int,
    runtime: str,
    per_channel: bool,
    excluded: AbstractSet[str],
    *,
    out_dir: Path,
    group_size: int = 0,
    symmetric: bool = True,
    float_activations: bool = False,
) -> CompressedGraph:
    """Write a graph for a runtime whose weights are integers; its interface stays as it is.

    Args:
        model: A graph in floating point.
        bits: Of the weights of MatMul and Gemm, 8 or 4; embeddings have 8.
        runtime: A runtime that takes quantized models.
        per_channel: Must be true: there is no form with one scale per tensor.
        excluded: Nodes whose weights stay.
        out_dir: Folder of the files.
        group_size: Inputs of a channel that share a scale, a power of two; 0 takes what suits the runtime: groups of 64
            for eight bits and of 32 for four, whole channels for eight bits in OpenVINO, which has no groups there.
        symmetric: Whether zero is the middle of the range; else each group has a zero point.
        float_activations: Whether products are computed in float32, rather than on activations brought to int8.

    Raises:
        EngineFailure: INVALID_SPEC if no node has weights to compress, or if the runtime has no such form;
            TOOLCHAIN_CRASHED if the quantizer fails.
    """
    form = _form_of(runtime)
    _check(bits, runtime, per_channel, group_size, symmetric=symmetric)
    block = (group_size or _block_of(runtime)) if form == _BLOCKED else 0
    group_size = block or group_size
    nodes = compressible_nodes(model, form, block)
    chosen = tuple(name for name in nodes if name not in excluded)
    if not chosen:
        raise _nothing_to_compress(model, nodes, block)
    out_dir.mkdir(parents=True, exist_ok=True)
    compression = Compression(bits, group_size, symmetric, float_activations)
    try:
        files = _WRITERS[form](model, compression, frozenset(chosen), out_dir)
    except EngineFailure:
        raise
    except Exception as error:
        raise EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            f"The weights could not be compressed to {bits} bits for {runtime}: {first_line(error)}",
            evidence=str(error).strip()[-1000:],
            suggested_fix="Exclude the node that the message names, or choose another scheme.",
        ) from error
    before, after = weight_bytes(model), sum(path.stat().st_size for path in files)
    log.info("Weights of %d nodes compressed to %d bits: %d bytes, before %d", len(chosen), bits, after, before)
    return CompressedGraph(files[0], chosen, before, after)


def _form_of(runtime: str) -> str:
    integers = runtimes()[runtime].integers if runtime in runtimes() else None
    if integers and integers.block:
        return _BLOCKED
    return integers.form if integers else ""


def _block_of(runtime: str) -> int:
    integers = runtimes()[runtime].integers
    return integers.block if integers else 0


def _check(bits: int, runtime: str, per_channel: bool, group_size: int, *, symmetric: bool) -> None:
    problem, blocked = "", _form_of(runtime) == _BLOCKED
    if bits not in {4, 8}:
        problem = f"Weights are compressed to 8 or 4 bits, not to {bits}."
    elif blocked and bits == 8:
        problem = f"'{runtime}' takes compressed weights of 4 bits alone; for 8, choose the scheme STATIC."
    elif blocked and not symmetric:
        problem = f"'{runtime}' takes compressed weights about zero alone; choose symmetric ranges."
    elif _form_of(runtime) not in _WRITERS:
        able = " and ".join(name for name in runtimes() if _form_of(name) in _WRITERS)
        problem = f"'{runtime}' has no form with compressed weights; there is one for {able}."
    elif not per_channel:
        problem = "Compressed weights have a scale per channel or per group; choose the granularity PER_CHANNEL."
    elif group_size and (group_size < 16 or group_size & (group_size - 1)):
        problem = f"A group has 16, 32, 64, 128… inputs, a power of two; asked for was {group_size}."
    if problem:
        raise EngineFailure(FailureReason.INVALID_SPEC, problem)


def _nothing_to_compress(model: onnx.ModelProto, nodes: list[str], block: int) -> EngineFailure:
    if nodes:
        return EngineFailure(
            FailureReason.INVALID_SPEC,
            f"All {len(nodes)} nodes with weights to compress are excluded.",
            suggested_fix="Exclude fewer nodes.",
        )
    operators = sorted({node.op_type for node in model.graph.node})
    if block and compressible_nodes(model, GRAPH):
        return EngineFailure(
            FailureReason.INVALID_SPEC,
            f"No matrix has inputs in whole blocks of {block}, which is what can be compressed for this runtime.",
            suggested_fix="Quantize it to INT8, or to FP16 or BF16.",
        )
    return EngineFailure(
        FailureReason.INVALID_SPEC,
        "No node has weights that could be compressed alone: the graph has no MatMul or Gemm with a constant float32 "
        "matrix, and no embedding.",
        evidence=f"Operators of the graph: {', '.join(operators)[:500]}",
        suggested_fix="Weight-only compression is for transformer models; quantize this one statically.",
    )
