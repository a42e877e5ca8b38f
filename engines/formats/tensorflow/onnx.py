"""tf2onnx: from a frozen graph of TensorFlow to an ONNX file that can be computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.formats.tensorflow.tools import crashed, of_node
from engines.graph.interface import signature_of
from engines.graph.naming import free_name
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.sandbox.tasklog import without_stderr
from engines.tensors.signature import Signature, TensorSpec

log = logging.getLogger(__name__)

OPSET = 18
"""The newest set of operators that tf2onnx 1.17 writes in full."""

_ADVICE = "Write this part of the network with operators that ONNX has, or leave it out of the graph and do it before."


@dataclass(frozen=True)
class Frozen:
    """A graph whose variables are constants, ready for tf2onnx.

    Attributes:
        graph_def: The GraphDef.
        inputs: The name that the ONNX graph gives to each input tensor (`x:0`), in order.
        outputs: The same of each output tensor.
        tables: Keys and values of lookup tables, by their shared name.
    """

    graph_def: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    tables: Mapping[str, Any]


def write_onnx(frozen: Frozen, shapes: Mapping[str, TensorSpec], onnx_path: Path, operators: Mapping[str, str]) -> None:
    """Write a frozen graph as ONNX.

    tf2onnx folds more of a graph whose shapes are fixed beforehand, and sometimes writes one of them that contradicts
    itself. Such a graph is written with open shapes, which are fixed in the ONNX graph.

    Args:
        frozen: The graph.
        shapes: Spec of each input by its ONNX name: an extent that does not vary is fixed in the graph.
        onnx_path: Where the ONNX file goes.
        operators: The name of a node for each operator of the source, to name one that has no equivalent.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR naming the operator and a node of it; TOOLCHAIN_CRASHED with what tf2onnx
            says.
    """
    override = {tensor: _extents(shapes[name]) for tensor, name in frozen.inputs.items() if shapes[name].known}
    try:
        onnx_path.write_bytes(_converted(frozen, override, operators).SerializeToString())
        contradiction = _contradiction(onnx_path)
    except EngineFailure as failure:
        if failure.reason is not FailureReason.TOOLCHAIN_CRASHED:
            raise
        contradiction = failure
    if contradiction:
        log.info("tf2onnx writes no sound graph of fixed shapes, so they are fixed afterwards. %s", contradiction)
        onnx_path.write_bytes(_fixed(_converted(frozen, {}, operators), shapes).SerializeToString())


def _contradiction(onnx_path: Path) -> EngineFailure | None:
    """Return what a graph fails with whose types or shapes contradict each other; None for any other."""
    try:
        OnnxRuntimeSession(onnx_path, 1, optimise=False).close()
    except EngineFailure as failure:
        return failure if failure.reason is FailureReason.TOOLCHAIN_CRASHED else None
    return None


def apart(inputs: Iterable[str], outputs: Iterable[str]) -> dict[str, str]:
    """Return the name that the ONNX graph gives to each output: its own, or a new one if an input has it."""
    given, wanted = list(inputs), list(outputs)
    taken = {*given, *wanted}
    return {name: free_name(name, taken) if name in given else name for name in wanted}


def _converted(frozen: Frozen, override: Mapping[str, Sequence[int | None]], operators: Mapping[str, str]) -> Any:
    from tf2onnx.convert import _convert_common

    try:
        with without_stderr():
            model, _ = _convert_common(
                frozen.graph_def,
                name="a TensorFlow graph",
                continue_on_error=True,
                opset=OPSET,
                input_names=list(frozen.inputs),
                output_names=list(frozen.outputs),
                shape_override=dict(override),
                tensors_to_rename={**frozen.inputs, **frozen.outputs},
                initialized_tables=dict(frozen.tables),
            )
    except Exception as error:
        log.info("tf2onnx gives up", exc_info=True)
        raise crashed("tf2onnx cannot write the graph as ONNX", error) from error
    _refuse_unknown(model, operators)
    return model


def _fixed(model: Any, shapes: Mapping[str, TensorSpec]) -> Any:
    """Return the graph with those extents of its inputs fixed that do not vary, and the shapes that follow."""
    import onnx

    for value in model.graph.input:
        spec = shapes[value.name]
        if not spec.known:
            continue
        axes = value.type.tensor_type.shape.dim
        del axes[:]
        for extent in _extents(spec):
            axes.add(dim_value=extent)
    for value in model.graph.output:
        for axis in value.type.tensor_type.shape.dim:
            axis.ClearField("dim_param")
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def interface(onnx_path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> Signature:
    """Return the interface of a graph that was written: inputs as declared, outputs as the graph states them.

    Raises:
        EngineFailure: INVALID_MODEL if the graph no longer takes one of the inputs.
    """
    from engines.graph.hygiene import load_model

    signature = signature_of(load_model(onnx_path, weights=False))
    stated = {spec.name: spec for spec in signature.outputs}
    unused = {spec.name for spec in inputs} - {spec.name for spec in signature.inputs}
    if unused:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"No output of the graph depends on the input {', '.join(sorted(unused))}.",
            suggested_fix="Leave it out of the component's inputs, or name the outputs that need it.",
        )
    return Signature(tuple(inputs), tuple(stated[name] for name in outputs))


def _extents(spec: TensorSpec) -> list[int | None]:
    return [low if low == high else None for low, high in zip(spec.min, spec.max, strict=True)]


def _refuse_unknown(model: Any, operators: Mapping[str, str]) -> None:
    """Refuse a graph in which an operator of TensorFlow was left as it was."""
    import onnx

    from engines.graph.walk import all_nodes

    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain in {"", "ai.onnx.ml"}}
    left = [node for node in all_nodes(model) if node.op_type not in known]
    if not left:
        return
    counts = sorted({node.op_type for node in left})
    node = operators.get(left[0].op_type) or left[0].name
    raise EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"The operator '{left[0].op_type}'{of_node(node)} has no equivalent in ONNX.",
        node=node,
        operator=left[0].op_type,
        evidence=f"Operators without one: {', '.join(counts)}",
        suggested_fix=_ADVICE,
    )
