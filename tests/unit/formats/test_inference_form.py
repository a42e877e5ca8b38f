"""Networks with what training leaves in them are read as they compute without it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engines.failures import EngineFailure
from engines.formats.source import Source
from engines.formats.torch_export.inference_form import inference_form
from engines.formats.torch_export.module_source import module_source
from engines.spec.template import Component
from engines.tensors.inputs import ComponentInput
from tests.unit.formats.reading import read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def _source(network: Any, folder: Path, array: Any) -> Source:
    given = ComponentInput(name="x", shape=array.shape, dtype=str(array.dtype))
    return module_source(network, Component(name="model", inputs=(given,)), [array], folder / "m.onnx")


def _prepared(engine: str) -> Any:
    """A network in quantization-aware training, its weights quantized per channel for `x86`, else per tensor."""
    import torch
    from torch import nn
    from torch.ao import quantization

    torch.manual_seed(0)
    network = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    network = quantization.fuse_modules_qat(network.train(), [["1", "2", "3"]])  # type: ignore[no-untyped-call]
    network.qconfig = quantization.get_default_qat_qconfig(engine)  # type: ignore[no-untyped-call]
    quantization.prepare_qat(network, inplace=True)  # type: ignore[no-untyped-call]
    for _ in range(3):
        network(torch.randn(2, 3, 8, 8))
    return network.eval()


@pytest.mark.parametrize("engine", ["x86", "qnnpack"])
def test_prepared_networks_keep_their_fake_quantization_with_its_scales(engine: str, tmp_path: Path) -> None:
    import torch
    from torch.ao import quantization

    network, x = _prepared(engine), np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    network.apply(quantization.disable_observer)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    network.apply(quantization.enable_observer)
    source = _source(network, tmp_path, x)
    np.testing.assert_allclose(source.run({"x": x})["output_0"], expected, rtol=1e-6)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(source.graph.path).graph.node}
    assert "observers are removed" in source.warnings[0]


def test_observers_alone_leave_the_network_as_it_was(tmp_path: Path) -> None:
    import torch
    from torch.ao import quantization

    linear, x = torch.nn.Linear(4, 2), np.ones((1, 4), np.float32)
    network = torch.nn.Sequential(quantization.QuantStub(), linear).eval()
    network.qconfig = quantization.get_default_qconfig("x86")  # type: ignore[no-untyped-call]
    prepared = quantization.prepare(network)  # type: ignore[no-untyped-call]
    prepared(torch.from_numpy(x))
    found = _source(prepared, tmp_path, x).run({"x": x})["output_0"]
    np.testing.assert_allclose(found, linear(torch.from_numpy(x)).detach(), rtol=1e-6)


def test_bfloat16_becomes_float32_with_the_same_weights(tmp_path: Path) -> None:
    import torch

    network = torch.nn.Linear(4, 2).bfloat16()
    weight = network.weight.detach().float().clone()
    x = np.ones((1, 4), np.float32)
    source = _source(network, tmp_path, x)
    assert "read in float32" in source.warnings[0]
    assert source.run({"x": x})["output_0"].dtype == np.float32
    assert torch.equal(network.weight, weight)


def test_other_networks_stay_as_they_are() -> None:
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Linear(2, 2).half())
    assert inference_form(network) == (network, ())
    assert network[1].weight.dtype == torch.float16


def test_programs_with_bfloat16_inputs_are_refused_with_what_to_do(tmp_path: Path) -> None:
    import torch

    (tmp_path / "source").mkdir()
    program = torch.export.export(torch.nn.Linear(4, 2).bfloat16(), (torch.ones(1, 4, dtype=torch.bfloat16),))
    torch.export.save(program, tmp_path / "source" / "m.pt2")
    with pytest.raises(EngineFailure, match="is of bfloat16, which no runtime takes") as caught:
        read("EXPORTED_PROGRAM", tmp_path)
    assert "export it again from model.float()" in caught.value.suggested_fix


def test_scripts_in_quantization_aware_training_are_told_to_be_converted(tmp_path: Path) -> None:
    import torch

    jit: Any = torch.jit
    (tmp_path / "source").mkdir()
    jit.save(jit.trace(_prepared("x86"), torch.ones(1, 3, 8, 8)), str(tmp_path / "source" / "m.pt"))
    with pytest.raises(EngineFailure, match="saved during quantization-aware training") as caught:
        read("TORCHSCRIPT", tmp_path, inputs=[{"name": "x", "shape": [1, 3, 8, 8]}])
    assert "Save it after torch.ao.quantization.convert(model)" in caught.value.suggested_fix
