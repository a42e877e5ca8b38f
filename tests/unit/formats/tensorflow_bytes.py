"""Writes TensorFlow's messages without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path

from engines.formats.tensorflow.messages_pb2 import (
    DT_FLOAT,
    AttrValue,
    FunctionDef,
    FunctionDefLibrary,
    GraphDef,
    MetaGraphDef,
    NodeDef,
    OpDef,
    SavedModel,
    SignatureDef,
    TensorInfo,
    TensorProto,
    TensorShapeProto,
)


def node(name: str, op: str, inputs: Sequence[str] = (), shape: Sequence[int] | None = None) -> NodeDef:
    """A node; `shape` makes it state float32 and these extents."""
    stated = {} if shape is None else {"dtype": AttrValue(type=DT_FLOAT), "shape": AttrValue(shape=_shape(shape))}
    return NodeDef(name=name, op=op, input=inputs, attr=stated)


def const(name: str, shape: Sequence[int]) -> NodeDef:
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=_shape(shape))
    return NodeDef(name=name, op="Const", attr={"value": AttrValue(tensor=tensor)})


def write_graph(path: Path, *nodes: NodeDef) -> Path:
    path.write_bytes(GraphDef(node=nodes).SerializeToString())
    return path


def write_saved_model(folder: Path, *nodes: NodeDef, signatures: Sequence[str] = (), function: str = "") -> Path:
    """A SavedModel whose nodes lie in the graph, or in a function of this name."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = GraphDef(node=nodes)
    if function:
        library = FunctionDefLibrary(function=[FunctionDef(signature=OpDef(name=function), node_def=nodes)])
        graph = GraphDef(node=[node("call", "StatefulPartitionedCall")], library=library)
    info = TensorInfo(dtype=DT_FLOAT, tensor_shape=_shape([-1, 4]))
    takes = SignatureDef(inputs={"x": info}, outputs={"y": info})
    meta = MetaGraphDef(
        meta_info_def=MetaGraphDef.MetaInfoDef(tags=["serve"], tensorflow_version="2.21.0"),
        graph_def=graph,
        signature_def=dict.fromkeys(signatures, takes),
    )
    model = SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


def _shape(extents: Sequence[int]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=extent) for extent in extents])
