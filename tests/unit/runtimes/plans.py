"""Graphs for the real builder of TensorRT-RTX, and what it makes of them for a chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.failures import EngineFailure
from engines.runtimes import BuildOptions, BuildSource, BuiltForm, runtime
from engines.spec.devices import load_catalog
from engines.tensors.signature import Signature, TensorSpec

NO_KNOBS: Mapping[str, str] = {}
A10, T4 = "nvidia-a10", "nvidia-t4"


def signature(name: str = "x", low: Sequence[int] = (1, 4), high: Sequence[int] = (8, 4)) -> Signature:
    """Return an interface with one input from one shape to another."""
    return Signature((TensorSpec(name, "float32", tuple(low), tuple(low), tuple(high)),), ())


def plan(
    path: Path,
    interface: Signature,
    *,
    device: str = A10,
    precision: str = "FP32",
    knobs: Mapping[str, str] = NO_KNOBS,
) -> BuiltForm:
    """Build a graph for a device."""
    room, target = runtime("tensorrt-rtx"), load_catalog().device(device)
    out_dir = path.parent / f"{path.stem}-{device}-{precision}"
    return room.build(BuildSource.of_file(path, interface), target, BuildOptions(precision, knobs), out_dir)


def refusal(path: Path, interface: Signature, **options: Any) -> EngineFailure:
    """Return the failure of a build."""
    try:
        plan(path, interface, **options)
    except EngineFailure as failure:
        return failure
    raise AssertionError("the plan was built")


def graph(
    path: Path,
    nodes: Sequence[Any],
    *,
    x: Sequence[int | str] = ("batch", 4),
    weights: Mapping[str, Any] | None = None,
    opset: int = 18,
) -> Path:
    """Write a graph from `x` to `y`, both float32."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x))]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    constants = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    model = helper.make_model(
        helper.make_graph(list(nodes), "g", given, made, constants),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.acme", 1)],
        ir_version=10,
    )
    onnx.save(model, path)
    return path


def relu(path: Path) -> Path:
    """Write y = relu(x), for any batch of four values."""
    return graph(path, [helper.make_node("Relu", ["x"], ["y"], name="cut")])


def product(path: Path) -> Path:
    """Write y = x @ w, a product whose node is called `multiply`."""
    weights = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="multiply")
    return graph(path, [node], x=(4, 64), weights={"w": weights})


def bfloat16_product(path: Path) -> Path:
    """Write the product in bfloat16, between casts."""
    weights = np.random.default_rng(0).standard_normal((64, 32)).astype(ml_dtypes.bfloat16)
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], name="narrow", to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="multiply"),
        helper.make_node("Cast", ["b"], ["y"], name="widen", to=TensorProto.FLOAT),
    ]
    return graph(path, nodes, x=(4, 64), weights={"w": weights}, opset=22)


def convolution(path: Path) -> Path:
    """Write a convolution of images of any size and batch."""
    weights = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "shift"], ["a"], name="filter", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["y"], name="cut"),
    ]
    return graph(path, nodes, x=("batch", 3, "height", "width"), weights={"w": weights, "shift": weights[:, 0, 0, 0]})


IMAGES = signature("x", (1, 3, 32, 32), (8, 3, 64, 64))


def quantized_convolution(path: Path, **extra: bool) -> Path:
    """Write the convolution in int8, by ONNX Runtime's quantizer with symmetric ranges."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Feeds(CalibrationDataReader):  # type: ignore[misc] # the package has no types
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self._left = iter([{"x": rng.standard_normal((1, 3, 32, 32)).astype(np.float32)} for _ in range(2)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    float_path = convolution(path.with_name("float.onnx"))
    options = {"ActivationSymmetric": True, "WeightSymmetric": True, **extra}
    quantize_static(
        str(float_path),
        str(path),
        Feeds(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options=options,
    )
    return path
