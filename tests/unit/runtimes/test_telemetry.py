"""No framework tells its maker of its use."""

from __future__ import annotations

import os
import subprocess
import sys

RUN = """
import engines, numpy, onnxruntime
from onnx import TensorProto, helper
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString())
print(session.run(None, {"x": numpy.ones(1, numpy.float32)})[0])
"""


def test_onnx_runtime_keeps_no_number_of_the_machine() -> None:
    """It would warn in a home directory that nobody can write to, which is that of the images."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", RUN]
    told = subprocess.run(command, env=environment | {"HOME": "/proc"}, capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("[1.]\n", "")
