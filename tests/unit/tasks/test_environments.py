"""What a worker's environment names: results are shared only between equal ones."""

import pytest

from services.converter.work import ConversionWorkKind
from services.optimizer.work import OptimizationWorkKind
from services.quantizer.work import QuantizationWorkKind


@pytest.mark.parametrize("kind", [ConversionWorkKind, QuantizationWorkKind, OptimizationWorkKind])
def test_whatever_reads_a_source_is_part_of_the_environment(
    kind: type[ConversionWorkKind | QuantizationWorkKind | OptimizationWorkKind],
) -> None:
    named = {entry["name"] for entry in kind("cpu-x86-64").environment()["software"]}
    assert named >= {
        "torch",
        "onnx",
        "safetensors",
        "transformers",
        "diffusers",
        "tensorflow-cpu",
        "tf2onnx",
        "openvino",
    }
