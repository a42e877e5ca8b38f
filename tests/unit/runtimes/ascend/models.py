"""Small sources in the forms that ATC reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.runtimes.source import BuildSource
from engines.tensors.signature import Signature, TensorSpec

BATCHED = TensorSpec.fixed("x", "float32", (1, 4)).batched(8)
OUTPUT = TensorSpec("y", "float32", (1, 3), (1, 3), (8, 3))


def graph(
    path: Path,
    inputs: Sequence[TensorSpec] = (BATCHED,),
    operators: Sequence[str] = (),
    opset: int = 17,
    domain: str = "",
) -> BuildSource:
    """Write a graph that adds nothing up: each input is reduced to one output; then come some operators in a row."""
    nodes, weights = [], [numpy_helper.from_array(np.ones(1, np.float32), "one")]
    for place, spec in enumerate(inputs):
        nodes.append(helper.make_node("Add", [spec.name, "one"], [f"sum{place}"], name=f"add{place}"))
    last = "sum0"
    for place, operator in enumerate(operators):
        nodes.append(helper.make_node(operator, [last], [f"made{place}"], name=f"node{place}", domain=domain))
        last = f"made{place}"
    nodes.append(helper.make_node("Identity", [last], ["y"], name="end"))
    given = [
        helper.make_tensor_value_info(
            spec.name,
            TensorProto.FLOAT,
            [f"axis{axis}" if axis in spec.dynamic_axes else extent for axis, extent in enumerate(spec.opt)],
        )
        for spec in inputs
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "g", given, [result], weights)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return BuildSource(Signature(tuple(inputs), (OUTPUT,)), lambda: path)


PROTOTXT = """name: "net"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "prob" type: "%s" bottom: "conv" top: "prob" }
"""


def caffe(folder: Path, operator: str = "Softmax", weights: bytes = b"conv") -> dict[str, Path]:
    """Write a Caffe pair; the stand-in for ATC looks for the layers' names in the weights."""
    folder.mkdir()
    (folder / "net.prototxt").write_text(PROTOTXT % operator)
    (folder / "net.caffemodel").write_bytes(weights)
    return {"caffe": folder}


IMAGE = TensorSpec.fixed("data", "float32", (1, 3, 8, 8)).batched(4)
CAFFE_SIGNATURE = Signature((IMAGE,), (TensorSpec.fixed("prob", "float32", (1, 2, 6, 6)),))
