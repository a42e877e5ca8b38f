"""The precision that a graph states: builders choose none. Half precision is written into it as explicit types.

Weights are cast once, inputs and outputs stay float32.

ONNX Runtime's `float16.convert_float_to_float16` (of onnxconverter-common) was tried first. It has no BF16, silently
clips constants beyond 65504 (which turns a mask into numbers), writes invalid graphs if a node in an If or a Loop stays
in float32, and gives QuantizeLinear types that it does not take.

Effect of the types at run time:

    OpenVINO      computes BF16 graphs in bfloat16 if the CPU has it. FP16 weights halve the file; a CPU without
                  FP16 arithmetic computes on them in float32, no faster. (Asked for float16 there, it silently computes
                  in bfloat16, so the builder asks for float32 instead.)
    ONNX Runtime  on CPUs computes FP16 graphs in float32 between casts, which is slower, and has no BF16 kernels.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason
from engines.graph.half import convert_graph
from engines.graph.half_constants import HalfType
from engines.graph.hygiene import load_model, save_model, tidy
from engines.graph.quantized import quantized_nodes
from engines.graph.versions import raise_opset
from engines.graph.walk import all_nodes, all_tensors

if TYPE_CHECKING:
    import onnx

QUANTIZED = frozenset({"INT8", "INT4"})
"""Precisions that only a quantizer or the training brings into a graph."""

_BF16_OPSET = 22
"""The operator set in which convolutions and poolings accept bfloat16."""


def stated_graph(onnx_path: Path, precision: str, out_dir: Path) -> Path:
    """Return a graph that states the precision: the given one, or one written to `out_dir/model.onnx`.

    FP16 is written into a graph that has no FP16 constants yet. FP32 and BF16 are options of the runtime, not of the
    graph.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION if a graph in floating point is to be built in INT8 or INT4, or if no node
            can compute in FP16.
    """
    if precision in QUANTIZED:
        if not quantized_nodes(load_model(onnx_path, weights=False)):
            raise not_quantized(precision)
    elif precision == "FP16":
        model = load_model(onnx_path)
        if "FP16" not in half_elements(model):
            return save_model(to_half(model, "FP16"), out_dir / "model.onnx")[0]
    return onnx_path


def not_quantized(precision: str) -> EngineFailure:
    """Return the failure of building a floating-point graph in integers."""
    return EngineFailure(
        FailureReason.UNSUPPORTED_PRECISION,
        f"The graph is in floating point and cannot be built in {precision}: a conversion does not quantize.",
        suggested_fix=f"Convert it in FP32 and create a quantization task with the precision {precision}.",
    )


def to_half(model: onnx.ModelProto, precision: str, keep: AbstractSet[str] = frozenset()) -> onnx.ModelProto:
    """Return the model in half precision.

    These nodes stay in float32, with casts around them: nodes named in `keep`; nodes on quantized values; nodes whose
    schema allows no half precision; nodes that read a constant which FP16 would make infinite or zero, and those that
    follow until the value is back in range (a mask up to its Softmax); nodes on indices and sizes alone (positions,
    masks, scales of Resize). The parity check finds reductions that overflow at run time.

    Args:
        model: A tidied model.
        precision: `FP16` or `BF16`.
        keep: Nodes that stay in float32, by name; a node without a name goes by its first output.

    Raises:
        EngineFailure: INVALID_SPEC if `keep` names no node of the model; UNSUPPORTED_PRECISION if no node is left to
            convert.
    """
    import onnx
    import onnx.inliner

    converted = onnx.ModelProto()
    converted.CopyFrom(onnx.inliner.inline_local_functions(model) if model.functions else model)
    _check_names(converted, keep)
    half = HalfType.of(precision)
    if precision == "BF16":
        raise_opset(converted, _BF16_OPSET)
    kept = {*keep, *quantized_nodes(converted)}
    if not convert_graph(converted, half, kept):
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"No node of the graph can compute in {precision}.",
            suggested_fix="Choose the precision FP32.",
        )
    return tidy(converted)


def half_elements(model: onnx.ModelProto) -> set[str]:
    """Return which of FP16 and BF16 the constants of a model have."""
    import onnx

    names = {onnx.TensorProto.FLOAT16: "FP16", onnx.TensorProto.BFLOAT16: "BF16"}
    return {names[tensor.data_type] for tensor in all_tensors(model) if tensor.data_type in names}


def _check_names(model: onnx.ModelProto, keep: AbstractSet[str]) -> None:
    names = {node.name or node.output[0] for node in all_nodes(model) if node.output}
    for name in sorted(keep - names):
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The graph has no node '{name}' to keep in float32.",
            node=name,
            suggested_fix="Take names of nodes from the graph: `describe` of the model version lists them.",
        )
