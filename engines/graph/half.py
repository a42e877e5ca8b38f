"""Rewrites a graph into half precision: which nodes are converted, and the casts between them and the others.

A value keeps its name and changes its type if its node is converted; readers that need the other type read a cast of
it, which all readers in a graph share. Subgraphs of a converted If, Loop or Scan take and return half precision; those
of a node that is kept stay unchanged.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from engines.graph.element_types import FLOAT, UNKNOWN, OperatorTypes, operator_types, output_types
from engines.graph.half_constants import HalfType, Range, is_matrix
from engines.graph.half_scope import Scope, Value, Work, declared
from engines.graph.naming import rename_uses, value_names
from engines.graph.walk import all_graphs, reads

if TYPE_CHECKING:
    import onnx

_CONTROL = frozenset({"If", "Loop", "Scan"})
_KEPT = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    | {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "EyeLike"}
)
"""Operators that stay in float32: those that quantize, and those whose output type is not visible in the schema."""
_WIDE_THROUGH = frozenset(
    {"Add", "Sub", "Mul", "Where", "Neg", "Cast", "Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice"}
    | {"Concat", "Identity", "Tile"}
)
_TINY_THROUGH = frozenset({"Add", "Max", "Clip", "Sqrt", "Expand", "Reshape", "Unsqueeze", "Identity", "Cast"})
_HANDED_ON = {Range.WIDE: _WIDE_THROUGH, Range.TINY: _TINY_THROUGH}
"""Operators that pass on values beyond FP16's range, or below its smallest value."""


def convert_graph(model: onnx.ModelProto, half: HalfType, kept: AbstractSet[str]) -> int:
    """Convert a model in place; return the number of converted nodes.

    Args:
        model: A model without local functions.
        half: The type.
        kept: Names of nodes that stay in float32, with their subgraphs; a node without a name goes by its output.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=1)
    work = Work(half, kept, opset, value_names(model))
    _convert(Scope(work, model.graph, None))
    _drop_unread(model)
    return work.converted


def _convert(scope: Scope) -> None:
    """Rewrite a graph's nodes, and the types that a subgraph takes and returns."""
    graph, half = scope.graph, scope.work.half.element
    for node in list(graph.node):
        if node.op_type not in _CONTROL or not _convert_control(scope, node):
            _convert_node(scope, node)
    if scope.parent is not None:
        for value in graph.input:
            if declared(value) == FLOAT:
                value.type.tensor_type.elem_type = half
        for value in graph.output:
            if scope.find(value.name).type == FLOAT:
                value.name = scope.read(value.name, half=True)
                value.type.tensor_type.elem_type = half
    del graph.node[:]
    graph.node.extend(scope.nodes)
    del graph.value_info[:]


def _convert_node(scope: Scope, node: Any) -> None:
    types = operator_types(node.op_type, node.domain, scope.work.opset)
    inputs = [scope.find(name) for name in reads(node)]
    known = {name: scope.find(name).type for name in node.input}
    given = output_types(node, types, known) if types else [UNKNOWN] * len(node.output)
    given = [
        scope.declared.get(name, UNKNOWN) if t == UNKNOWN else t for name, t in zip(node.output, given, strict=True)
    ]
    halves = _half_inputs(scope, node, types)
    variables = (
        {formal.variable for formal in (types.input(position) for position in halves) if formal} if types else set()
    )
    _read_captured(scope, node)
    for position, name in enumerate(node.input):
        node.input[position] = scope.read(name, half=position in halves)
    handed_on = _handed_on(node, inputs, scope.work.half)
    data = bool(halves) or any(value.data and value.type == FLOAT for value in inputs)
    for position, (name, type_) in enumerate(zip(list(node.output), given, strict=True)):
        formal = types.output(position) if types else None
        half = type_ == FLOAT and formal is not None and formal.variable in variables
        if name:
            scope.give(node, position, Value(type_, name, half, data=data and type_ == FLOAT, range=handed_on))
    scope.work.converted += bool(halves)
    scope.add(node)


def _half_inputs(scope: Scope, node: Any, types: OperatorTypes | None) -> set[int]:
    """Return the positions of the inputs that a node reads in half precision; none for a node that stays in float32."""
    if types is None or node.op_type in _KEPT or node.op_type in _CONTROL or not _may_convert(scope, node):
        return set()
    half = scope.work.half.type
    found = {
        position: scope.find(name)
        for position, name in enumerate(node.input)
        if scope.find(name).type == FLOAT and half in (formal.allowed if (formal := types.input(position)) else ())
    }
    layer = any(value.constant is not None and is_matrix(value.constant) for value in found.values())
    return set(found) if layer or any(value.data for value in found.values()) else set()


def _may_convert(scope: Scope, node: Any) -> bool:
    """Return whether a node may be converted: neither its name nor a value that it reads requires float32."""
    values = [scope.find(name) for name in reads(node)]
    named = (node.name or next(iter(node.output), "")) in scope.work.kept
    return not named and all(value.range is Range.FITS and value.type != UNKNOWN for value in values)


def _handed_on(node: Any, inputs: list[Value], half: HalfType) -> Range:
    """Return whether a node's outputs may not fit into half precision, because its inputs do not."""
    for kind, operators in _HANDED_ON.items():
        if node.op_type in operators and any(value.range is kind for value in inputs):
            return kind
    filled = [
        attribute.t for attribute in node.attribute if node.op_type == "ConstantOfShape" and attribute.name == "value"
    ]
    return half.range_of(filled[0]) if filled else Range.FITS


def _read_captured(scope: Scope, node: Any) -> None:
    """Let the subgraphs of a node that stays in float32 read outer values in float32."""
    import onnx

    if node.op_type not in _CONTROL:
        return
    holder = onnx.GraphProto()
    holder.node.append(node)
    for name in set(reads(node)) - set(node.input):
        rename_uses(holder, name, scope.read(name, half=False))
    node.CopyFrom(holder.node[0])


def _convert_control(scope: Scope, node: Any) -> bool:
    """Convert an If, Loop or Scan with its subgraphs; return False if it must stay in float32."""
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    takes = {"Loop": 2, "Scan": 0}.get(node.op_type, len(node.input))
    matching = node.op_type == "If" or len(bodies[0].input) == len(node.input)
    if not matching or not _may_convert(scope, node):
        return False
    given: list[str] = []
    for body in bodies:
        inner = Scope(scope.work, body, scope)
        for outer, value in zip(node.input[takes:], body.input[takes:], strict=False):
            if inner.values[value.name].type == UNKNOWN:
                type_ = scope.find(outer).type
                inner.values[value.name] = Value(type_, value.name, type_ == FLOAT, data=type_ == FLOAT)
        names = [output.name for output in body.output]
        _convert(inner)
        given = [inner.find(name).type for name in names][1 if node.op_type == "Loop" else 0 :]
    for position, name in enumerate(node.input):
        node.input[position] = scope.read(name, half=position >= takes)
    for position, name in enumerate(list(node.output)):
        if name:
            float_ = given[position] == FLOAT
            scope.give(node, position, Value(given[position], name, float_, data=float_))
    scope.work.converted += 1
    scope.add(node)
    return True


def _drop_unread(model: onnx.ModelProto) -> None:
    """Remove parameters whose readers all read them in half precision now."""
    for graph in all_graphs(model):
        read = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output}
        inputs = {value.name for value in graph.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in read | inputs]
        if len(kept) < len(graph.initializer):
            copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
            del graph.initializer[:]
            graph.initializer.extend(copies)
