"""Graphs that ONNX Runtime, NNCF and torch quantized."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from engines.graph.hygiene import save_model
from engines.tensors import Arrays


def by_onnxruntime(model: onnx.ModelProto, feeds: list[Arrays], directory: Path, **options: Any) -> onnx.ModelProto:
    """Return a model quantized by ONNX Runtime's static quantizer; options are its own."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Arrays] = iter(feeds)

        def get_next(self) -> Arrays | None:
            return next(self.left, None)

    save_model(model, directory / "float.onnx")
    options = {"quant_format": QuantFormat.QDQ, "weight_type": QuantType.QInt8, "per_channel": True, **options}
    quantize_static(directory / "float.onnx", directory / "quantized.onnx", Reader(), **options)
    return onnx.load(directory / "quantized.onnx")


def dynamically(model: onnx.ModelProto, directory: Path) -> onnx.ModelProto:
    """Return a model quantized by ONNX Runtime, with ranges of activations found at run time."""
    from onnxruntime.quantization import quantize_dynamic

    save_model(model, directory / "float.onnx")
    quantize_dynamic(directory / "float.onnx", directory / "dynamic.onnx")
    return onnx.load(directory / "dynamic.onnx")


def by_nncf(model: onnx.ModelProto, feeds: list[Arrays]) -> onnx.ModelProto:
    """Return a model quantized by NNCF."""
    import nncf

    made: onnx.ModelProto = nncf.quantize(model, nncf.Dataset(feeds))
    return made


def by_torch(directory: Path, *, converted: bool) -> onnx.ModelProto:
    """Return what torch's eager quantization-aware training exports: fake quantization, or converted to integers."""
    import torch

    ao: Any = importlib.import_module("torch.ao.quantization")  # without types of its own

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = ao.QuantStub(), ao.DeQuantStub()
            self.conv = torch.nn.Conv2d(3, 8, 3)
            self.relu = torch.nn.ReLU()
            self.linear = torch.nn.Linear(8 * 36, 5)

        def forward(self, x: torch.Tensor) -> Any:
            return self.leave(self.linear(self.relu(self.conv(self.enter(x))).flatten(1)))

    unsigned = {"quant_min": 0, "quant_max": 255, "dtype": torch.quint8}
    signed = {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8, "qscheme": torch.per_channel_symmetric}
    scheme = ao.QConfig(
        ao.FakeQuantize.with_args(observer=ao.MovingAverageMinMaxObserver, **unsigned),
        ao.FakeQuantize.with_args(observer=ao.MovingAveragePerChannelMinMaxObserver, **signed),
    )
    torch.manual_seed(0)
    network, x = Network().train(), torch.randn(2, 3, 8, 8)
    network.qconfig = scheme
    network = ao.prepare_qat(network)
    network(x)
    network.eval().apply(ao.disable_observer)
    if converted:
        network = ao.convert(network)
    torch.onnx.export(network, (x,), directory / "trained.onnx", dynamo=False, opset_version=18)
    return onnx.load(directory / "trained.onnx")
