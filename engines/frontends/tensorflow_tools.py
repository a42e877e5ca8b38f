"""TensorFlow and tf2onnx as the readers of TensorFlow's formats use them: quiet, bounded, and imported late.

What both say of their own work stays out of the log of a task; what they say of a model's failure becomes a sentence.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.backends.base import Array
from engines.failures import EngineFailure, FailureReason, first_line
from engines.frontends.extras import not_installed
from engines.graph.interface import signature_of
from engines.signature import Signature, TensorSpec

log = logging.getLogger(__name__)

OPSET = 18
"""The newest set of operators that tf2onnx 1.17 writes in full."""

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_CPP_MAX_VLOG_LEVEL": "0", "CUDA_VISIBLE_DEVICES": "-1"}
_LOGGERS = ("tensorflow", "absl", "tf2onnx")
_UNREGISTERED = re.compile(r"Op type not registered '([^']+)'")
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


def import_tensorflow() -> Any:
    """Return the package `tensorflow`, its threads those of this process, what it prints of itself kept back.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE where TensorFlow or tf2onnx is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with quiet():
            import tensorflow as tf
            import tf2onnx.convert  # noqa: F401 - it looks for TensorFlow as it is imported
    except ImportError as error:
        raise not_installed("TensorFlow's formats", "TensorFlow or tf2onnx", "tensorflow", error) from error
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = len(os.sched_getaffinity(0))
    with suppress(RuntimeError):  # it has begun to work in this process, with the threads set then
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what is warned of, and what C++ prints to the standard error file before it can be told not to."""
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def write_onnx(frozen: Frozen, shapes: Mapping[str, TensorSpec], onnx_path: Path, operators: Mapping[str, str]) -> None:
    """Write a frozen graph as ONNX.

    Args:
        frozen: The graph.
        shapes: Spec of each input by its ONNX name: an extent that does not vary is fixed in the graph.
        onnx_path: Where the ONNX file goes.
        operators: The name of a node for each operator of the source, to name one that has no equivalent.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR naming the operator and a node of it; TOOLCHAIN_CRASHED with what tf2onnx
            says.
    """
    from tf2onnx.convert import _convert_common

    override = {tensor: _extents(shapes[name]) for tensor, name in frozen.inputs.items() if shapes[name].known}
    try:
        with quiet():
            model, _ = _convert_common(
                frozen.graph_def,
                name="a TensorFlow graph",
                continue_on_error=True,
                opset=OPSET,
                input_names=list(frozen.inputs),
                output_names=list(frozen.outputs),
                shape_override=override,
                tensors_to_rename={**frozen.inputs, **frozen.outputs},
                initialized_tables=dict(frozen.tables),
            )
    except Exception as error:
        log.info("tf2onnx gives up", exc_info=True)
        raise crashed("tf2onnx cannot write the graph as ONNX", error) from error
    _refuse_unknown(model, operators)
    onnx_path.write_bytes(model.SerializeToString())


def interface(onnx_path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[str]) -> Signature:
    """Return the interface of a graph that was written: inputs as declared, outputs as the graph states them.

    Raises:
        EngineFailure: INVALID_MODEL where the graph no longer takes one of the inputs.
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


def crashed(what: str, error: Exception) -> EngineFailure:
    """Return the failure of a tool's own exception: the operator that TensorFlow does not know, else its words."""
    if found := _UNREGISTERED.search(str(error)):
        return unknown_operator(found[1], "")
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED,
        f"{what}: {first_line(error)}",
        evidence=f"{type(error).__name__}: {first_line(error)}",
        suggested_fix="Save the model with a current TensorFlow and try again; the log has the details.",
    )


def not_run(what: str, error: Exception, values: Sequence[Array]) -> EngineFailure:
    """Return the failure of a graph that TensorFlow does not run on the inputs of a sample."""
    log.info("TensorFlow does not run %s", what, exc_info=error)
    shapes = ", ".join(f"{value.dtype}({'*'.join(map(str, value.shape))})" for value in values)
    return EngineFailure(
        FailureReason.SHAPE_MISMATCH,
        f"TensorFlow cannot run {what} on its inputs: {first_line(error)}",
        evidence=f"inputs: {shapes}",
        suggested_fix="Declare the component's inputs with shapes, dtypes and ranges of values that the network takes.",
    )


def unknown_operator(operator: str, node: str) -> EngineFailure:
    """Return the failure of an operator that this TensorFlow does not have."""
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"The operator '{operator}'{_of(node)} is none of TensorFlow's own; the library that defines it is not here.",
        node=node,
        operator=operator,
        suggested_fix="Write this part of the network with TensorFlow's own operators.",
    )


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
        f"The operator '{left[0].op_type}'{_of(node)} has no equivalent in ONNX.",
        node=node,
        operator=left[0].op_type,
        evidence=f"Operators without one: {', '.join(counts)}",
        suggested_fix=_ADVICE,
    )


def _of(node: str) -> str:
    return f" of the node '{node}'" if node else ""
