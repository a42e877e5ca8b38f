"""Graphs that try quantized pieces one by one beside the floating-point graph, in ONNX Runtime without optimisations.

Isolated: pieces alone, as many as are compared at once, each fed with floating-point values. Switched: the whole
floating-point graph, in which every quantized value has two ways to be computed, and an input `switch` that says which
single one is computed by its quantized piece. One session serves all nodes; a run costs about one of the source.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.graph.hygiene import MAX_PROTOBUF_BYTES, save_model, weight_bytes
from engines.graph.instrumentation import expose_intermediates
from engines.graph.walk import reads
from engines.parity.comparison import SQNR_CAP_DB
from engines.quantization.pieces import Piece
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.tensors import Array, Arrays

if TYPE_CHECKING:
    import onnx

_SWITCH = "lathe::switch"
_OFF = -1


@dataclass
class Noise:
    """Energies of a signal and of the noise on it, over feeds."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, expected: Array, actual: Array) -> None:
        """Take one more pair of arrays into account; values that are not finite in either count as lost."""
        s, t = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
        finite = np.isfinite(s)
        s, t = s[finite], t[finite]
        self.signal += float(s @ s)
        self.noise += float(np.square(t - s).sum()) if np.isfinite(t).all() else math.inf

    def decibels(self) -> float:
        """Return the SQNR, between -200 and 200."""
        if self.noise == 0:
            return SQNR_CAP_DB
        if self.signal == 0 or math.isinf(self.noise):
            return -SQNR_CAP_DB
        return max(-SQNR_CAP_DB, min(SQNR_CAP_DB, 10 * math.log10(self.signal / self.noise)))


def own_noise(
    float_model: onnx.ModelProto, quantized_model: onnx.ModelProto, pieces: Sequence[Piece], feeds: Sequence[Arrays]
) -> list[Noise]:
    """Return the noise of each piece at its own value, its inputs taken from the floating-point run.

    All given pieces are measured together: the caller bounds their number, and so the memory.
    """
    given = {value.name for value in float_model.graph.input}
    needed = dict.fromkeys(name for piece in pieces for name in (*piece.inputs, piece.value) if name not in given)
    noises = [Noise() for _ in pieces]
    exposed = expose_intermediates(float_model, needed)
    with _opened(exposed) as reference, _opened(_isolated(quantized_model, pieces)) as isolated:
        for feed in feeds:
            values = {**reference.run(feed), **feed}
            inputs = {f"from::{name}": values[name] for piece in pieces for name in piece.inputs}
            actual = isolated.run(inputs)
            for position, piece in enumerate(pieces):
                noises[position].add(values[piece.value], actual[_inner(position, piece.result)])
    return noises


def _isolated(quantized_model: onnx.ModelProto, pieces: Sequence[Piece]) -> onnx.ModelProto:
    """Return a graph of the pieces alone; they share parameters, and their values have names of their own."""
    import onnx

    model = onnx.ModelProto(
        ir_version=quantized_model.ir_version,
        opset_import=quantized_model.opset_import,
        functions=quantized_model.functions,
    )
    model.graph.name = "isolated"
    used = {name for piece in pieces for node in piece.nodes for name in reads(node)}
    model.graph.initializer.extend(tensor for tensor in quantized_model.graph.initializer if tensor.name in used)
    for name in dict.fromkeys(name for piece in pieces for name in piece.inputs):
        model.graph.input.append(_typed(quantized_model, name, f"from::{name}"))
    for position, piece in enumerate(pieces):
        renamed = {name: f"from::{name}" for name in piece.inputs}
        model.graph.node.extend(_renamed(piece, position, renamed))
        model.graph.output.append(onnx.ValueInfoProto(name=_inner(position, piece.result)))
    return model


def switched(
    float_model: onnx.ModelProto, quantized_model: onnx.ModelProto, pieces: Sequence[Piece]
) -> onnx.ModelProto | None:
    """Return the floating-point graph in which an input `lathe::switch` names the one piece that is computed quantized.

    None if both models together are too large for one message.
    """
    import onnx

    if weight_bytes(float_model) + weight_bytes(quantized_model) > MAX_PROTOBUF_BYTES:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(float_model)
    graph = model.graph
    del graph.node[:]
    del graph.value_info[:]
    _widen_imports(model, quantized_model)
    graph.input.append(onnx.helper.make_tensor_value_info(_SWITCH, onnx.TensorProto.INT64, []))
    used = {name for piece in pieces for node in piece.nodes for name in reads(node)}
    parameters = {tensor.name: f"quantized::{tensor.name}" for tensor in quantized_model.graph.initializer}
    for tensor in quantized_model.graph.initializer:
        if tensor.name in used:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = parameters[tensor.name]
            graph.initializer.append(copy)
    by_value = {piece.value: (position, piece) for position, piece in enumerate(pieces)}
    for node in float_model.graph.node:
        own = onnx.NodeProto()
        own.CopyFrom(node)
        replaced = [by_value[output] for output in node.output if output in by_value]
        if len(replaced) == 1 and len([output for output in node.output if output]) == 1:
            graph.node.extend(_choice(own, *replaced[0], parameters))
        else:
            graph.node.append(own)
    return model


def _choice(node: Any, position: int, piece: Piece, parameters: Mapping[str, str]) -> list[Any]:
    """Return nodes that compute a value by its own node, or by its piece if the switch names it."""
    import onnx

    then_graph = onnx.GraphProto(name=f"piece_{position}")
    then_graph.node.extend(_renamed(piece, position, {**parameters, **{name: name for name in piece.inputs}}))
    then_graph.output.append(onnx.ValueInfoProto(name=_inner(position, piece.result)))
    else_graph = onnx.GraphProto(name=f"own_{position}")
    node.output[:] = [f"own::{output}" for output in node.output]
    else_graph.node.append(node)
    else_graph.output.append(onnx.ValueInfoProto(name=f"own::{piece.value}"))
    number, chosen = f"number::{position}", f"chosen::{position}"
    return [
        onnx.helper.make_node("Constant", [], [number], value_int=position),
        onnx.helper.make_node("Equal", [_SWITCH, number], [chosen]),
        onnx.helper.make_node("If", [chosen], [piece.value], then_branch=then_graph, else_branch=else_graph),
    ]


def effects(model: onnx.ModelProto, count: int, feeds: Sequence[Arrays], budget_seconds: float) -> list[Noise] | None:
    """Return the noise at the worst floating-point output of each piece alone; None if the budget is too small.

    Args:
        model: The result of `switched`.
        count: Number of pieces.
        feeds: As many of them are used as fit into the budget, the first ones.
        budget_seconds: Longest time.
    """
    with _opened(model) as session:
        began = time.monotonic()
        expected = session.run({**feeds[0], _SWITCH: np.array(_OFF)})
        once = max(time.monotonic() - began, 1e-4)
        affordable = int(budget_seconds / (once * (count + 1)))
        if not affordable:
            return None
        noises: list[dict[str, Noise]] = [{} for _ in range(count)]
        for feed in feeds[:affordable]:
            expected = session.run({**feed, _SWITCH: np.array(_OFF)})
            for position in range(count):
                actual = session.run({**feed, _SWITCH: np.array(position)})
                for name, value in expected.items():
                    if value.dtype.kind == "f":
                        noises[position].setdefault(name, Noise()).add(value, actual[name])
    return [min(by_output.values(), key=lambda noise: noise.decibels()) for by_output in noises if by_output] or None


def _renamed(piece: Piece, position: int, names: Mapping[str, str]) -> Iterator[Any]:
    """Yield copies of a piece's nodes: values of its own get names of its own, others those of `names`."""
    import onnx

    own = {output: _inner(position, output) for node in piece.nodes for output in node.output if output}
    mapped = {**names, **own}
    for node in piece.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{position}::{node.name or node.output[0]}"
        copy.output[:] = [mapped.get(output, output) for output in node.output]
        copy.input[:] = [mapped.get(name, name) for name in node.input]
        yield copy


def _inner(position: int, name: str) -> str:
    return f"{position}::{name}"


def _typed(model: onnx.ModelProto, name: str, renamed: str) -> onnx.ValueInfoProto:
    """Return a value's type, of any shape; float32 if the graph does not say."""
    import onnx

    graph = model.graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    known |= {value.name: value.type.tensor_type.elem_type for value in graph.output}
    return onnx.helper.make_tensor_value_info(renamed, known.get(name) or onnx.TensorProto.FLOAT, None)


def _widen_imports(model: onnx.ModelProto, other: onnx.ModelProto) -> None:
    """Import the domains of another model too, each in the newer of both versions."""
    versions = {entry.domain: entry for entry in model.opset_import}
    for entry in other.opset_import:
        if entry.domain in versions:
            versions[entry.domain].version = max(versions[entry.domain].version, entry.version)
        else:
            model.opset_import.append(entry)
    model.ir_version = max(model.ir_version, other.ir_version)


@contextmanager
def _opened(model: onnx.ModelProto) -> Iterator[OnnxRuntimeSession]:
    """Yield a session of a model, in a temporary directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="trial-") as directory:
        path = Path(directory) / "trial.onnx"
        save_model(model, path)
        with OnnxRuntimeSession(path, len(os.sched_getaffinity(0)), optimise=False) as session:
            yield session
