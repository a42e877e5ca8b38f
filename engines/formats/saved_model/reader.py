"""Reads a TensorFlow SavedModel into ONNX; the truth is the signature itself, run by TensorFlow."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.formats.protocol import ReadJob
from engines.formats.saved_model.description import choose_signature, inspect_saved_model, model_file
from engines.formats.source import Runner, Source, SourceGraph, TensorFlowCall
from engines.formats.tensorflow.graph import Graph, SavedModelContent
from engines.formats.tensorflow.onnx import Frozen, apart, interface, write_onnx
from engines.formats.tensorflow.sources import network_inputs
from engines.formats.tensorflow.tools import crashed, import_tensorflow, not_run, unknown_operator
from engines.sandbox.tasklog import without_stderr
from engines.tensors import Array
from engines.tensors.inputs import active_steps
from engines.tensors.signature import Signature, TensorSpec

log = logging.getLogger(__name__)

_ASSIGNED = re.compile(r"node (\S*Assign\w*VariableOp\w*) .*incompatible with expected resource")


def read_saved_model(folder: Path, job: ReadJob) -> Source:
    """Read a SavedModel: the signature that the component's `state_dict_key` names, else `serving_default`.

    Raises:
        EngineFailure: As `inspect_saved_model`, `choose_signature` and `read_signature`.
    """
    model = inspect_saved_model(folder)
    names = [given.name for given in job.component.inputs]
    key = choose_signature(model, job.component.state_dict_key, names)
    inputs = network_inputs(job.component, {spec.name: spec for spec in model.signatures[key][0]})
    signature, runner, called = read_signature(
        folder, model, key, inputs, job.component.output_names, onnx_path=job.onnx_path
    )
    runner(job.arguments)
    keys = job.component.output_names or tuple(spec.name for spec in model.signatures[key][1])
    return Source(
        signature,
        lambda: SourceGraph(job.onnx_path, f"tf2onnx, signature '{key}'"),
        runner,
        None,
        active_steps(job.component.inputs),
        called,
        files={"saved_model": folder},
        notes=tuple(
            f"The output '{output}' has the name of an input; in the package it is '{name}'."
            for output, name in apart(names, keys).items()
            if output != name
        ),
    )


def read_signature(
    folder: Path,
    model: SavedModelContent,
    key: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
    *,
    onnx_path: Path,
) -> tuple[Signature, Runner, TensorFlowCall]:
    """Write a signature as ONNX; return its interface, and what computes it in TensorFlow: arrays, and tensors.

    An output that has the key of an input gets a name of its own.

    Args:
        folder: The SavedModel.
        model: Its contents, from `inspect_saved_model`.
        key: The signature.
        inputs: Specs of all its inputs, an axis that varies being left open in the graph.
        outputs: Outputs to keep, in this order; all, by name, if empty.
        onnx_path: Where the ONNX file goes.

    Raises:
        EngineFailure: INVALID_SPEC for inputs or outputs that the signature does not have; what the tools fail with.
    """
    tf = import_tensorflow()
    takes, gives = ([spec.name for spec in specs] for specs in model.signatures[key])
    _check_names("inputs", [spec.name for spec in inputs], takes, key, all_of_them=True)
    _check_names("outputs", outputs, gives, key, all_of_them=False)
    frozen, function, loaded = _freeze(tf, folder, key, model.graph)
    order = list(outputs) or sorted(set(gives).intersection(frozen.outputs.values()))
    names = apart([spec.name for spec in inputs], order)
    kept = {tensor: names[key] for tensor, key in frozen.outputs.items() if key in names}
    frozen = Frozen(frozen.graph_def, frozen.inputs, kept, frozen.tables)
    operators = {node.op: node.name for _, node in model.graph.all_nodes()}
    write_onnx(frozen, {spec.name: spec for spec in inputs}, onnx_path, operators)

    def call(tensors: Sequence[Any]) -> list[Any]:
        found = function(**{spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)})
        return [found[name] for name in order]

    called = TensorFlowCall(call, loaded)

    def run(values: Sequence[Array]) -> list[Array]:
        try:
            found = called.call([tf.constant(value) for value in values])
        except Exception as error:
            raise not_run(f"the signature '{key}'", error, values) from error
        return [np.asarray(value) for value in found]

    return interface(onnx_path, inputs, [names[key] for key in order]), run, called


def _freeze(tf: Any, folder: Path, key: str, graph: Graph) -> tuple[Frozen, Any, Any]:
    from tf2onnx import tf_loader

    try:
        with without_stderr(), _without_slots(folder) as loadable:
            graph_def, inputs, outputs, _, loaded, tables, names = tf_loader.from_saved_model(
                str(loadable),
                None,
                None,
                signatures=[key],
                return_concrete_func=True,
                return_initialized_tables=True,
                return_tensors_to_rename=True,
            )
            if tables:  # tf2onnx took them from the function
                loaded = tf.saved_model.load(str(loadable))
            function = loaded.signatures[key]
    except Exception as error:
        log.info("TensorFlow does not load the SavedModel", exc_info=True)
        if assigned := _ASSIGNED.search(str(error)):
            raise _changes_itself(assigned[1]) from error
        failure = crashed("TensorFlow cannot load the SavedModel", error)
        if failure.reason is FailureReason.UNSUPPORTED_OPERATOR:
            node = next((node.name for _, node in graph.all_nodes() if node.op == failure.operator), "")
            raise unknown_operator(failure.operator, node) from error
        raise _invalid(f"{failure.message}") from error
    bare = {tensor: names.get(tensor, tensor.removesuffix(":0")) for tensor in (*inputs, *outputs)}
    return (
        Frozen(graph_def, {each: bare[each] for each in inputs}, {each: bare[each] for each in outputs}, tables or {}),
        function,
        loaded,
    )


@contextmanager
def _without_slots(folder: Path) -> Iterator[Path]:
    """Give the SavedModel without the links between an optimizer and its variables.

    TensorFlow calls the optimizer to follow them, and the class of the optimizer may not be here.
    """
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    saved = parse_saved_model(str(folder))
    optimizers = [node for meta in saved.meta_graphs for node in meta.object_graph_def.nodes if node.slot_variables]
    if not optimizers:
        yield folder
        return
    for node in optimizers:
        del node.slot_variables[:]
    with tempfile.TemporaryDirectory() as directory:
        for path in folder.iterdir():
            if path != model_file(folder):
                (Path(directory) / path.name).symlink_to(path.resolve())
        (Path(directory) / "saved_model.pb").write_bytes(saved.SerializeToString())
        yield Path(directory)


def _changes_itself(node: str) -> EngineFailure:
    operator = node.rpartition("/")[2]
    return EngineFailure(
        FailureReason.STATEFUL_MODEL,
        f"The node '{node}' changes a variable while the network runs; a graph of ONNX keeps nothing between runs.",
        node=node,
        operator=operator,
        suggested_fix="Take what it keeps as an input and give it back as an output, or leave it out of the signature.",
    )


def _check_names(what: str, given: Sequence[str], there: Sequence[str], key: str, *, all_of_them: bool) -> None:
    if set(given) - set(there) or (all_of_them and set(given) != set(there)):
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The component's {what} are {', '.join(given)}; the signature '{key}' has {', '.join(there)}.",
            suggested_fix="Name them as the signature does.",
        )


def _invalid(message: str, fix: str = "Upload the whole folder that tf.saved_model.save wrote.") -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_MODEL, message, suggested_fix=fix)
