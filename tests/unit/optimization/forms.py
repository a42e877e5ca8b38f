"""Small forms that are built from an ONNX graph by the real backends."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines.backends.base import Array, BuiltForm
from engines.optimization.form import FormSpec, Made
from tests.unit.engines_backends.graphs import linear


def tiny(directory: Path, runtime: str = "onnxruntime") -> Made:
    """Build y = relu(x @ w) in FP32; ONNX Runtime takes the file as it is."""
    directory.mkdir(parents=True, exist_ok=True)
    linear(directory / "model.onnx")
    options = {"INFERENCE_PRECISION_HINT": "f32"} if runtime == "openvino" else {}
    form = BuiltForm(runtime, "FP32", directory, ("model.onnx",), ("y", "index"), options)
    return Made(FormSpec(runtime, "FP32"), form)


def product(x: Array) -> Array:
    """Return what `tiny` computes."""
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    return np.maximum(x @ weights, 0)
