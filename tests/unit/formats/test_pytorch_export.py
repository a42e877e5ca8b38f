from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.pytorch.reader import PytorchSource, load_network
from engines.formats.torch_export import onnx_export
from engines.formats.torch_export.export_job import ExportJob
from engines.formats.torch_export.forward import run_module
from engines.formats.torchscript.reader import scripted
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.runtimes.torchscript.runtime import frozen
from engines.tensors.signature import TensorSpec
from tests.unit.formats import networks
from tests.unit.formats.conftest import MakeSource
from tests.unit.formats.exporting import Export, export_onnx

RNG = np.random.default_rng(3)


def _sample(spec: TensorSpec) -> Any:
    if spec.dtype == "int64":
        return RNG.integers(0, 11, spec.opt)
    return RNG.standard_normal(spec.opt).astype(spec.dtype)


def _float(name: str, *shape: int) -> TensorSpec:
    return TensorSpec.fixed(name, "float32", shape)


def _exported(
    source: PytorchSource, inputs: list[TensorSpec], samples: list[Any], path: Path, **options: Any
) -> Export:
    return export_onnx(load_network(source), inputs, samples, path, architecture=source.architecture, **options)


def _agrees(export: Export, batches: tuple[int, ...]) -> None:
    """The graph computes what the network computes, at each batch, and its outputs are within the signature."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(export.onnx_path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    assert names == [spec.name for spec in export.signature.inputs]
    for batch in batches:
        samples = [np.resize(_sample(spec), (batch, *spec.opt[1:])) for spec in export.signature.inputs]
        outputs = session.run(None, dict(zip(names, samples, strict=True)))
        for spec, output, expected in zip(
            export.signature.outputs, outputs, run_module(export.module, samples), strict=True
        ):
            np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
            assert all(
                low <= extent <= high for low, extent, high in zip(spec.min, output.shape, spec.max, strict=True)
            )


CASES = {
    "cnn": (networks.CNN, [_float("image", 1, 3, 8, 8)]),
    "lstm": (networks.LSTM, [_float("x", 1, 7, 6)]),
    "vit": (networks.VIT, [_float("x", 1, 3, 8, 8)]),
    "mlp": (networks.MLP, [_float("a/b c.é", 1, 8)]),
}


@pytest.mark.parametrize("name", CASES)
def test_networks_compute_the_same_at_every_batch(name: str, make_source: MakeSource, tmp_path: Path) -> None:
    source, inputs = CASES[name]
    samples = [_sample(spec) for spec in inputs]
    export = _exported(make_source(source), inputs, samples, tmp_path / "m.onnx", max_batch=5)
    assert [spec.max[0] for spec in (*export.signature.inputs, *export.signature.outputs)] == [5, 5]
    assert [spec.name for spec in export.signature.outputs] == ["output_0"]
    _agrees(export, (1, 2, 4, 5))


@pytest.fixture(scope="module")
def tied(make_source: MakeSource, tmp_path_factory: pytest.TempPathFactory) -> Export:
    inputs = [TensorSpec.fixed("ids", "int64", (1, 5)), _float("scale", 1, 5)]
    path = tmp_path_factory.mktemp("tied") / "m.onnx"
    names = ["logits", "mean", "sum"]
    samples = [_sample(spec) for spec in inputs]
    return _exported(make_source(networks.TIED_MULTI_OUTPUT), inputs, samples, path, max_batch=8, output_names=names)


def test_several_inputs_nested_outputs_and_tied_weights(tied: Export) -> None:
    shapes = [(spec.name, spec.min, spec.max) for spec in tied.signature.outputs]
    assert shapes == [
        ("logits", (1, 5, 11), (8, 5, 11)),
        ("mean", (1, 8), (8, 8)),
        ("sum", (1, 11), (8, 11)),
    ]
    _agrees(tied, (1, 8))


def test_frozen_torchscript_computes_the_same(tied: Export) -> None:
    import torch

    samples = [_sample(spec) for spec in tied.signature.inputs]
    outputs = frozen(tied.module, tuple(map(torch.from_numpy, samples)))(*map(torch.from_numpy, samples))
    for value, expected in zip(outputs, run_module(tied.module, samples), strict=True):
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_batch_of_one_is_fixed(make_source: MakeSource, tmp_path: Path) -> None:
    spec = _float("x", 2, 8)
    export = _exported(make_source(networks.FIXED_BATCH), [spec], [_sample(spec)], tmp_path / "m.onnx")
    assert export.signature.inputs == (spec,)
    assert export.signature.outputs[0].max == (2, 8)
    _agrees(export, (2,))


def test_older_exporter_takes_over(make_source: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(job: ExportJob, *, direct: bool) -> list[str]:
        raise RuntimeError(f"cannot export to {job.path.name}, {direct}")

    monkeypatch.setattr(onnx_export, "_dynamo", fails)
    spec = _float("image", 1, 3, 8, 8)
    export = _exported(make_source(networks.CNN), [spec], [_sample(spec)], tmp_path / "m.onnx", max_batch=3)
    assert export.exporter == "torchscript"
    _agrees(export, (1, 3))


def test_branch_that_tracing_makes_a_constant_is_told(make_source: MakeSource, tmp_path: Path) -> None:
    spec = _float("x", 1, 4)
    export = _exported(make_source(networks.BRANCH), [spec], [_sample(spec)], tmp_path / "m.onnx", max_batch=4)
    assert export.exporter == "torchscript"
    (place,) = set(export.constants)
    assert place.startswith("net.py:")


def test_operator_that_onnx_lacks_is_named_with_its_module(make_source: MakeSource, tmp_path: Path) -> None:
    spec = _float("x", 1, 4)
    with pytest.raises(EngineFailure, match=r"'aten\.special_bessel_j0' in module 'block\.1'") as caught:
        _exported(make_source(networks.NO_ONNX), [spec], [_sample(spec)], tmp_path / "m.onnx", max_batch=4)
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert (caught.value.node, caught.value.operator) == ("block.1", "aten.special_bessel_j0")


def test_network_for_one_batch_only_is_told_apart(make_source: MakeSource, tmp_path: Path) -> None:
    spec = _float("x", 1, 9)
    source = make_source(networks.FIXED_BATCH)
    with pytest.raises(EngineFailure, match="'forward' raised RuntimeError") as caught:
        _exported(source, [spec], [np.zeros((2, 9), np.float32)], tmp_path / "m.onnx", max_batch=4)
    assert caught.value.reason is FailureReason.SHAPE_MISMATCH
    assert "at batch 1" in caught.value.evidence
    assert "largest batch to 1" in caught.value.suggested_fix


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ([], {}, "The template names no input"),
        ([_float("x", 1, 8), _float("y", 1, 8)], {}, "1 sample arrays for 2 inputs"),
        ([_float("x", 1, 9)], {}, r"input 'x' has the shape \(1, 8\)"),
        ([_float("x", 1, 8)], {"output_names": ["a", "b"]}, "names 2 outputs, but 'forward' returns 1"),
        ([_float("x", 1, 8)], {"output_names": ["x"]}, "used more than once: x"),
    ],
)
def test_templates_that_do_not_fit(
    inputs: list[TensorSpec], options: dict[str, Any], words: str, make_source: MakeSource, tmp_path: Path
) -> None:
    network = load_network(make_source(networks.MLP))
    with pytest.raises(EngineFailure, match=words) as caught:
        export_onnx(network, inputs, [np.zeros((1, 8), np.float32)], tmp_path / "m.onnx", **options)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_network_for_one_length_only_is_told_with_what_to_declare(make_source: MakeSource, tmp_path: Path) -> None:
    spec = TensorSpec("x", "float32", (1, 2, 3), (1, 5, 3), (1, 9, 3))
    with pytest.raises(EngineFailure, match="cannot be exported for a range of shapes") as caught:
        _exported(make_source(networks.UNROLLED), [spec], [_sample(spec)], tmp_path / "net.onnx")
    assert caught.value.reason is FailureReason.SHAPE_MISMATCH
    assert "such as x:float32(1*5*3)" in caught.value.suggested_fix


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_equal_values_keep_their_order_in_a_stable_sort(exporter: str, descending: bool, tmp_path: Path) -> None:
    import torch

    class Sort(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.descending = descending

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            values, order = torch.sort(x, dim=1, stable=True, descending=self.descending)
            return order, values + torch.sort(x, dim=1)[0]

    jit: Any = torch.jit
    network = Sort() if exporter == "dynamo" else scripted(jit.script(Sort()))
    sample = np.array([[2, 1, 2, 1, 2, 0, 1, 2]], np.float32)
    export = export_onnx(network.eval(), [_float("x", 1, 8)], [sample], tmp_path / "m.onnx", max_batch=3)
    assert export.exporter == exporter
    _agrees(export, (1, 3))
    expected = run_module(export.module, [sample])
    session = OnnxRuntimeSession(export.onnx_path, 1, optimise=True)
    for found, value in zip(session.run({"x": sample}).values(), expected, strict=True):
        np.testing.assert_array_equal(found, value)


def test_complex_outputs_come_as_real_and_imaginary_parts(tmp_path: Path) -> None:
    import torch

    class Spectrum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"spectrum": torch.fft.rfft(x).conj(), "power": torch.fft.rfft(x).abs()}

    spec = _float("x", 1, 16)
    export = export_onnx(Spectrum().eval(), [spec], [_sample(spec)], tmp_path / "m.onnx", max_batch=2)
    assert [(found.dtype, found.max) for found in export.signature.outputs] == [
        ("float32", (2, 9, 2)),
        ("float32", (2, 9)),
    ]
    _agrees(export, (1, 2))


def test_parameters_keep_the_names_of_the_network(make_source: MakeSource, tmp_path: Path) -> None:
    import onnx

    spec = _float("x", 1, 8)
    export = _exported(make_source(networks.MLP), [spec], [_sample(spec)], tmp_path / "m.onnx")
    model = onnx.load(export.onnx_path)
    assert {tensor.name for tensor in model.graph.initializer} == {"0.weight", "0.bias", "2.weight", "2.bias"}
