"""Writes out what ONNX lets a graph abbreviate, for runtimes that do not read the short forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.graph.loops import drop_idle_loops
from engines.graph.repair import name_nodes_apart
from engines.graph.walk import all_graphs, all_tensors

if TYPE_CHECKING:
    import onnx


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without local functions, idle loops, sparse weights, and narrow weights in wide fields.

    Local functions become the nodes that they stand for. Weights of 16 bits and less may lie in a field of 32-bit
    numbers, where OpenVINO misreads them; they become bytes. The argument may be changed.
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
