"""Reads a frozen graph of TensorFlow into ONNX; the truth is the graph itself, run by TensorFlow."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.frozen_graph.description import inspect_graph, placeholders
from engines.formats.protobuf_marks import is_text
from engines.formats.protocol import ReadJob
from engines.formats.source import Runner, Source, SourceGraph, TensorFlowCall
from engines.formats.tensorflow.graph import Graph
from engines.formats.tensorflow.graph_ends import Ends, find_ends, node_of
from engines.formats.tensorflow.onnx import Frozen, apart, interface, write_onnx
from engines.formats.tensorflow.sources import network_inputs
from engines.formats.tensorflow.tools import crashed, import_tensorflow, not_run, unknown_operator
from engines.sandbox.tasklog import without_stderr
from engines.tensors import Array
from engines.tensors.inputs import active_steps
from engines.tensors.signature import Signature, TensorSpec

log = logging.getLogger(__name__)

NATIVE = "frozen_graph"
"""The native form: the binary file, whose inputs and outputs have the names of the interface."""


def read_frozen_graph(path: Path, job: ReadJob) -> Source:
    """Read a frozen graph.

    Raises:
        EngineFailure: as `convert_graph`.
    """
    inputs = network_inputs(job.component, {spec.name: spec for spec in placeholders(path, job.component)})
    signature, runner, called = convert_graph(path, inputs, job.component.output_names, job.onnx_path)
    runner(job.arguments)
    baked = active_steps(job.component.inputs)
    graph = SourceGraph(job.onnx_path, "tf2onnx")
    return Source(signature, lambda: graph, runner, None, baked, called, files=_native(path, signature))


def _native(path: Path, signature: Signature) -> dict[str, Path]:
    """Return the file as a native form, if it is binary and has the inputs and outputs of the interface by name."""
    nodes = {} if is_text(path) else {node.name: node.op for _, node in inspect_graph(path).all_nodes()}
    if "PlaceholderWithDefault" in nodes.values():
        return {}
    names = {node_of(spec.name) for spec in (*signature.inputs, *signature.outputs)}
    return {NATIVE: path} if names <= nodes.keys() else {}


def convert_graph(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[str], onnx_path: Path
) -> tuple[Signature, Runner, TensorFlowCall]:
    """Write a frozen graph as ONNX; return its interface, and what computes it in TensorFlow: arrays, and tensors.

    Args:
        path: The file, binary or text.
        inputs: Specs of its inputs, named as nodes (`x`) or tensors (`x:0`); an axis that varies is left open.
        outputs: Nodes or tensors that come out, in this order; those that nobody consumes if empty.
        onnx_path: Where the ONNX file goes.

    Raises:
        EngineFailure: as `inspect_graph` and `find_ends`; what the tools fail with.
    """
    graph = inspect_graph(path)
    ends = find_ends(graph, [spec.name for spec in inputs], outputs)
    tf = import_tensorflow()
    loaded = _import(tf, path, graph)
    given = {_tensor(spec.name): spec.name for spec in inputs}
    wanted = _outputs(loaded, ends, outputs)
    names = apart(given.values(), wanted.values())
    wanted = {tensor: names[name] for tensor, name in wanted.items()}
    function = _prune(loaded, list(given), list(wanted))
    frozen = Frozen(_optimised(tf, loaded.graph, given, wanted), given, wanted, {})
    operators = {node.op: node.name for _, node in graph.all_nodes()}
    write_onnx(frozen, {spec.name: spec for spec in inputs}, onnx_path, operators)

    def run(values: Sequence[Array]) -> list[Array]:
        try:
            return [np.asarray(value) for value in function(*map(tf.constant, values))]
        except Exception as error:
            raise not_run("the graph", error, values) from error

    called = TensorFlowCall(lambda tensors: list(function(*tensors)), function)
    return interface(onnx_path, inputs, list(wanted.values())), run, called


def _import(tf: Any, path: Path, graph: Graph) -> Any:
    """Return the graph as a function of TensorFlow."""
    try:
        with without_stderr():
            definition = _definition(tf, path)
            return tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
    except Exception as error:
        log.info("TensorFlow does not import the graph", exc_info=True)
        failure = crashed("TensorFlow cannot read the graph", error)
        if failure.reason is FailureReason.UNSUPPORTED_OPERATOR:
            node = next((node.name for _, node in graph.all_nodes() if node.op == failure.operator), "")
            raise unknown_operator(failure.operator, node) from error
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"TensorFlow refuses the graph of '{path.name}': {first_line(error)}",
            suggested_fix="Upload the frozen graph as TensorFlow wrote it.",
        ) from error


def _definition(tf: Any, path: Path) -> Any:
    if not is_text(path):
        definition = tf.compat.v1.GraphDef()
        definition.ParseFromString(path.read_bytes())
        return definition
    from tensorflow.python.framework.meta_graph import read_meta_graph_file

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "meta.pbtxt"
        whole.write_text("graph_def {\n" + path.read_text(encoding="utf-8") + "\n}\n", encoding="utf-8")
        return read_meta_graph_file(str(whole)).graph_def


def _outputs(loaded: Any, ends: Ends, named: Sequence[str]) -> dict[str, str]:
    """Return the name that the ONNX graph gives to each output tensor: all tensors of the output nodes."""
    if named:
        return {_tensor(name): name for name in named}
    tensors = [
        tensor
        for node in ends.outputs
        for tensor in loaded.graph.get_operation_by_name(node.name).outputs
        if tensor.dtype.is_numpy_compatible and tensor.dtype.name != "string"
    ]
    if not tensors:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"The graph has no output of numbers: {', '.join(node.name for node in ends.outputs)}.",
            suggested_fix="Name the outputs in the component's `output_names`.",
        )
    return {tensor.name: tensor.name.removesuffix(":0") for tensor in tensors}


def _prune(loaded: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    try:
        tensors = [[loaded.graph.get_tensor_by_name(name) for name in names] for names in (inputs, outputs)]
        return loaded.prune(*tensors)
    except (KeyError, ValueError, IndexError) as error:
        raise EngineFailure(
            FailureReason.INVALID_SPEC, f"The graph cannot be cut at its inputs and outputs: {first_line(error)}"
        ) from error


def _optimised(tf: Any, graph: Any, inputs: dict[str, str], outputs: dict[str, str]) -> Any:
    from tf2onnx import tf_loader

    try:
        with without_stderr(), tf.Graph().as_default():  # tf2onnx looks for the interface in the default graph
            definition = graph.as_graph_def(add_shapes=True)
            tf.graph_util.import_graph_def(definition, name="")
            return tf_loader.tf_optimize(list(inputs), list(outputs), definition)
    except Exception as error:
        raise crashed("TensorFlow cannot simplify the graph", error) from error


def _tensor(name: str) -> str:
    return name if ":" in name else f"{node_of(name)}:0"
