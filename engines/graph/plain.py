"""Writes the short forms that ONNX allows out in full, and drops idle loops: some runtimes read neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.graph.repair import name_nodes_apart
from engines.graph.walk import all_graphs, all_tensors

if TYPE_CHECKING:
    import onnx


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without local functions, idle loops, sparse weights, and narrow weights in wide fields.

    Local functions are inlined. Weights of 16 bits and less may be stored in a field of 32-bit numbers, which OpenVINO
    misreads; they become bytes. The argument may be changed.
    """
    import onnx.inliner

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
        name_nodes_apart(model)
    drop_idle_loops(model)
    for graph in all_graphs(model):
        graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
        graph.ClearField("sparse_initializer")
    for tensor in all_tensors(model):
        if tensor.int32_data and tensor.data_type != onnx.TensorProto.INT32:
            _pack(tensor)
    return model


def _dense(sparse: Any) -> Any:
    import numpy as np
    from onnx import numpy_helper

    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        array.reshape(-1)[indices] = values
    else:
        array[tuple(indices.T)] = values
    return numpy_helper.from_array(array, sparse.values.name)


def _pack(tensor: Any) -> None:
    from onnx import numpy_helper

    packed = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
    if packed.data_type == tensor.data_type:
        tensor.ClearField("int32_data")
        tensor.raw_data = packed.raw_data


def drop_idle_loops(model: onnx.ModelProto) -> bool:
    """Replace, in place, each Loop whose count is the constant 0, or whose condition is the constant false.

    Carried values become the incoming ones, collected values become empty. A loop that collects values of a shape that
    the graph does not state stays. Returns whether there was any such loop.
    """
    changed = False
    for graph in all_graphs(model):
        constants = _constants(graph)
        for position, node in enumerate(graph.node):
            if node.op_type != "Loop" or not _idle(node, constants):
                continue
            replacements = _replacements(node)
            if replacements is None:
                continue
            graph.node[position].CopyFrom(replacements[0])
            for offset, replacement in enumerate(replacements[1:], 1):
                graph.node.insert(position + offset, replacement)
            changed = True
    return changed


def _constants(graph: Any) -> dict[str, Any]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return found


def _idle(node: Any, constants: dict[str, Any]) -> bool:
    from onnx import numpy_helper

    given = (constants.get(name) for name in node.input[:2] if name)
    return any(tensor is not None and not numpy_helper.to_array(tensor).any() for tensor in given)


def _replacements(node: Any) -> list[Any] | None:
    """Return the nodes that produce the outputs of an idle loop; None if a shape is unknown."""
    from onnx import TensorProto, helper

    body = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    carried = len(node.input) - 2
    made = []
    for index, name in enumerate(node.output):
        if not name:
            continue
        if index < carried:
            made.append(helper.make_node("Identity", [node.input[2 + index]], [name]))
            continue
        value = body.output[1 + index].type.tensor_type
        axes = list(value.shape.dim)
        if not value.HasField("shape") or any(axis.WhichOneof("value") != "dim_value" for axis in axes):
            return None
        shape = helper.make_tensor("", TensorProto.INT64, [1 + len(axes)], [0, *(axis.dim_value for axis in axes)])
        element = helper.make_tensor("", value.elem_type, [1], [0])
        made.append(helper.make_node("Constant", [], [f"{name}/shape"], value=shape))
        made.append(helper.make_node("ConstantOfShape", [f"{name}/shape"], [name], value=element))
    return made or None
