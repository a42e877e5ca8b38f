"""Prepares an exported graph for a builder: tidies it, carries out the execution parameters, bakes in preprocessing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model, save_model, summary, tidy
from engines.graph.naming import value_names
from engines.graph.plain import plain
from engines.graph.preprocessing import bake
from engines.graph.walk import all_nodes
from engines.spec.template import Execution
from engines.tensors.inputs import ComponentInput

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)


def make_ready(source: Path, target: Path, inputs: Sequence[ComponentInput], execution: Execution) -> list[str]:
    """Write the graph as a builder takes it; return a summary before, the steps, and a summary after, in words.

    Operators are fused before parameters are copied, because fusing may join equal ones again, and before preprocessing
    is added in front, because a mean folded into a padded convolution differs at the borders.

    Args:
        source: The exported graph.
        target: Path of the prepared graph.
        inputs: Inputs of the package; preprocessing of these is baked in.
        execution: Execution parameters.

    Raises:
        EngineFailure: INVALID_MODEL, INVALID_SPEC or TOOLCHAIN_CRASHED.
    """
    model = plain(load_model(source))
    done = [summary(model), "tidied"]
    model = tidy(model)
    if execution.fuse_operators:
        model = tidy(fuse_operators(model))
        done.append("operators fused")
    if execution.copy_parameters:
        model = copy_parameters(model)
        done.append("shared parameters copied")
    baked = [given.name for given in inputs if given.preprocessing.active]
    if baked:
        model = tidy(bake(model, inputs))
        done.append(f"preprocessing baked in for {', '.join(baked)}")
    save_model(model, target)
    return [*done, summary(model)]


def fuse_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with constants folded, unused nodes gone, and neighbours fused if that is exact.

    Batch normalization goes into the Conv, ConvTranspose or Gemm before it. Inputs and outputs keep names and order.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED if the optimizer fails, or changes the interface.
    """
    from onnxscript import optimizer, rewriter

    try:
        fused: onnx.ModelProto = optimizer.optimize(rewriter.rewrite(optimizer.optimize(model)))
    except Exception as error:
        log.exception("onnxscript cannot optimize the graph")
        raise _crashed("onnxscript failed to optimize the graph") from error
    for part in ("input", "output"):
        before, after = ([value.name for value in getattr(graph, part)] for graph in (model.graph, fused.graph))
        if before != after:
            raise _crashed(f"onnxscript changed the graph's {part}s from {before} to {after}")
    return fused


def _crashed(message: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED, f"{message}.", suggested_fix="Convert without fusing operators."
    )


def copy_parameters(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in which no two uses read the same initializer of the main graph.

    The first use keeps the name; others read `<name>_copy1`, `<name>_copy2`… Parameters that callers may override,
    because they are inputs of the graph too, and those whose name a subgraph hides, stay shared.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    fixed = {value.name for value in graph.input} | _hidden_names(copied)
    parameters = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in fixed}
    used = {output.name for output in graph.output}
    taken = value_names(copied)
    added: list[Any] = []
    for node in all_nodes(copied):
        for position, name in enumerate(node.input):
            if name not in parameters:
                continue
            if name not in used:
                used.add(name)
                continue
            tensor = onnx.TensorProto()
            tensor.CopyFrom(parameters[name])
            tensor.name = _next_name(name, taken)
            added.append(tensor)
            node.input[position] = tensor.name
    graph.initializer.extend(added)
    return copied


def _hidden_names(model: onnx.ModelProto) -> set[str]:
    """Return names that a subgraph or a local function defines for itself."""
    names: set[str] = set()
    for function in model.functions:
        names |= {*function.input, *(name for node in function.node for name in node.output)}
    for node in all_nodes(model):
        for attribute in node.attribute:
            for subgraph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                names |= {value.name for value in (*subgraph.input, *subgraph.initializer)}
    return names


def _next_name(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_copy{number}" in taken:
        number += 1
    taken.add(f"{name}_copy{number}")
    return f"{name}_copy{number}"
