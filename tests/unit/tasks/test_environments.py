"""What a worker's environment names: results are shared only between equal ones."""

import pytest

from engines.spec import toolchain
from services.converter.work import ConversionWorkKind
from services.evaluator.work import EvaluationWorkKind
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


def test_only_what_is_timed_depends_on_the_model_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def environments(model: str, flags: tuple[str, ...]) -> list[dict[str, object]]:
        monkeypatch.setattr(toolchain, "cpu", lambda: (model, flags))
        kinds = (ConversionWorkKind, OptimizationWorkKind, QuantizationWorkKind, EvaluationWorkKind)
        return [kind("cpu-x86-64").environment() for kind in kinds]

    first, second = environments("EPYC 7B13", ("avx2",)), environments("EPYC 9B14", ("avx2",))
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, False, False, False]
    other = environments("EPYC 7B13", ("avx2", "avx512f"))
    assert not any(one == another for one, another in zip(first, other, strict=True))
