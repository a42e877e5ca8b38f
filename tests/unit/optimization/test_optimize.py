"""`optimize()`: what it takes, what it gives back, and what it says if it cannot."""

import logging
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from engines import optimize
from engines.api.report import OptimizationReport
from engines.api.structure import filled, structure_of
from engines.api.test_data import named_arrays, write_test_data
from engines.failures import EngineFailure, FailureReason
from engines.spec.request import ConversionRequest
from engines.spec.source_files import TEST_DATA
from engines.spec.template import Component, Template
from engines.tensors.inputs import ComponentInput
from tests.unit.optimization.results import no_gain, rich

Pair = namedtuple("Pair", ("left", "right"))


class Net(nn.Module):
    """Returns a structure, and takes two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, features: torch.Tensor, scale: torch.Tensor) -> dict[str, Any]:
        hidden = self.linear(features)
        return {"scores": hidden * scale, "more": (hidden.sum(1), None)}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an ONNX file: a product with a weight."""
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    path = tmp_path_factory.mktemp("graph") / "small.onnx"
    onnx.save(model, path)
    return path


def failure_of(*arguments: Any, **more: Any) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        optimize(*arguments, progress=False, **more)
    return caught.value


def test_a_graph_is_called_with_arrays_and_saved_as_a_package(graph: Path, tmp_path: Path) -> None:
    samples = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    shapes = [{"range": ["1*8", "4*8"]}]
    model, report = optimize(graph, 0, "cpu", shapes, samples, tmp_path / "saved", budget_seconds=2, progress=False)
    weight = numpy_helper.to_array(onnx.load(graph).graph.initializer[0])
    assert np.allclose(model(samples), samples @ weight, atol=1e-5)
    assert np.allclose(model(x=samples), samples @ weight, atol=1e-5)
    assert (model.inputs, model.outputs) == (("x",), ("y",))
    assert {"manifest.json", "infer.py", "optimization.html", "record.json"} <= {
        path.name for path in (tmp_path / "saved").iterdir()
    }
    assert report["test_data_info"]["test_data_source"] == "USER"
    assert report["hardware_environment"]["device_type"] in {"cpu-x86-64", "cpu-arm64"}
    assert len(report["candidates"]) > 3
    assert "<html" in report.html
    with pytest.raises(EngineFailure, match=r"takes float32 1..4 \* 8, not float32 5 \* 8"):
        model(np.zeros((5, 8), np.float32))
    with pytest.raises(EngineFailure, match="it takes no 'z'"):
        model(z=samples)
    assert "not an empty folder" in failure_of(graph, 0, "cpu", shapes, save_path=tmp_path / "saved").message


def test_a_module_is_called_with_tensors_and_stays_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    network = Net().train()
    model, report = optimize(network, 0, "cpu", ["1*8", "1*4"], budget_seconds=1)
    assert network.training
    assert network.linear.weight.requires_grad
    features, scale = torch.randn(1, 8), torch.randn(1, 4)
    found, expected = model(features, scale=scale), network(features, scale)
    assert torch.allclose(found["scores"], expected["scores"], atol=1e-5)
    assert torch.allclose(found["more"][0], expected["more"][0], atol=1e-5)
    assert found["more"][1] is None
    assert "features: float32 1 * 8" in repr(model)
    printed = capsys.readouterr().out
    assert "speed-up" in printed
    assert report["candidates"][0]["form"] in printed


class Branchy(nn.Module):
    """Decides by a value."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen: torch.Tensor = self.a(x) if x.sum() > 0 else self.b(x)
        return chosen


def test_a_network_that_tracing_changes_is_refused_by_the_line_that_decides() -> None:
    torch.manual_seed(0)
    failure = failure_of(Branchy(), 0, "cpu", ["1*8"], budget_seconds=2)
    assert failure.reason is FailureReason.PARITY_FAILED
    assert f"test_optimize.py:{Branchy.forward.__code__.co_firstlineno + 1}" in failure.message
    assert "torch.where instead of if" in failure.suggested_fix


class Unexportable(nn.Module):
    """Has operators that ONNX lacks, in TorchScript whose exporter prints its graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.special.bessel_j0(x)
        return y


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_graphs_of_tools_that_fail_are_not_printed(
    scripted: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A task that ran in this process before sends the engines' log to standard output.
    monkeypatch.setattr(logging.getLogger("engines"), "handlers", [logging.NullHandler()])
    network: Any = torch.jit.script(Unexportable().eval()) if scripted else Branchy()
    failure_of(network, 0, "cpu", ["1*8"], budget_seconds=1)
    assert tuple(capfd.readouterr()) == ("", "")


def test_samples_of_one_branch_are_told_of_the_other() -> None:
    torch.manual_seed(0)
    samples = torch.rand(4, 8)
    network = Branchy().eval()
    model, report = optimize(network, 0, "cpu", ["1*8"], samples, budget_seconds=1, progress=False)
    assert torch.allclose(model(samples[:1]), network(samples[:1]), atol=1e-5)
    assert any("test_optimize.py:" in words and "decides otherwise" in words for words in report["warnings"])


class Stepping(nn.Module):
    """Counts, and returns what is no array of an axis."""

    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.linear = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        mean: torch.Tensor = self.linear(x).mean()
        return mean


def test_a_scalar_stays_one_and_the_callers_state_as_it_was(tmp_path: Path) -> None:
    network = Stepping().eval()
    x = torch.randn(1, 8)
    model, _ = optimize(network, 0, "cpu", ["1*8"], budget_seconds=1, progress=False)
    assert int(network.steps) == 0
    assert model(x).shape == ()
    assert torch.allclose(model(x), network(x), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((Net(), 2, "cpu", ["1*8"]), "0 (lossless) or 1 (half precision)"),
        ((Net(), 0, "toaster", ["1*8"]), "there is no device 'toaster'"),
        ((Net(), 0, "nvidia-t4", ["1*8"]), "nvidia-t4"),
        ((Net(), 0, "cpu", ["1*8", "1*4", "1"]), "'forward' takes 2: features, scale"),
        ((Net(), 0, "cpu", ["1*x"]), "input_shapes[0]"),
        (("/nowhere.onnx", 0, "cpu", ["1*8"]), "There is no file or folder"),
        ((7, 0, "cpu", ["1*8"]), "not a int"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(arguments: tuple[Any, ...], words: str) -> None:
    failure = failure_of(*arguments)
    assert failure.reason is FailureReason.INVALID_SPEC
    assert words in failure.message


def test_weights_alone_are_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(Net().state_dict(), tmp_path / "weights.pth")
    assert "pass the network itself" in failure_of(tmp_path / "weights.pth", 0, "cpu", ["1*8"]).message


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2),
        (torch.ones(2), torch.zeros(3)),
        [torch.ones(2), (torch.zeros(3), None)],
        OrderedDict(b=torch.ones(1), a={"inner": torch.zeros(2)}),
        Pair(torch.ones(1), [torch.zeros(1)]),
    ],
)
def test_results_are_taken_apart_and_put_back_together(value: Any) -> None:
    from engines.formats.torch_export.forward import flatten_outputs

    again = filled(structure_of(value), iter(flatten_outputs(value)))
    assert type(again) is type(value)
    assert str(again) == str(value)


def test_tensors_come_back_in_the_element_type_that_they_had() -> None:
    from engines.formats.torch_export.forward import flatten_outputs

    assert filled(structure_of(torch.ones(1, dtype=torch.bfloat16)), iter([torch.ones(1)])).dtype == torch.bfloat16
    spectrum = {"f": torch.tensor([1 + 2j, 3 - 4j])}
    assert torch.equal(filled(structure_of(spectrum), iter(flatten_outputs(spectrum)))["f"], spectrum["f"])


def test_test_data_come_by_name_in_order_alone_or_as_a_file(tmp_path: Path) -> None:
    a, b = np.ones((2, 3)), np.zeros(2)
    np.savez(tmp_path / "both.npz", a=a, b=b)
    for given in (
        {"a": a, "b": torch.from_numpy(b)},
        [a, b],
        (a, b),
        tmp_path / "both.npz",
        str(tmp_path / "both.npz"),
    ):
        found = named_arrays(given, ["a", "b"])
        assert list(found) == ["a", "b"]
        assert np.array_equal(found["b"], b)
    assert list(named_arrays(torch.ones(2), ["a", "b"])) == ["a"]
    for wrong, words in (
        ([a, b, a], "hold 3 arrays"),
        (tmp_path / "none.npz", "cannot be read"),
        ([object()], "arrays or tensors"),
    ):
        with pytest.raises(EngineFailure, match=words):
            named_arrays(wrong, ["a", "b"])


def test_test_data_are_written_where_the_engines_look(tmp_path: Path) -> None:
    component = Component(name="model", inputs=(ComponentInput(name="x", shape=(1, 3)),))
    template = Template(source_format="ONNX", device="cpu-x86-64", runtime="onnxruntime", components=(component,))
    request = write_test_data(ConversionRequest(template=template), np.ones((2, 3)), tmp_path, ["x"])
    assert request.samples_path == TEST_DATA
    assert np.load(tmp_path / TEST_DATA)["x"].shape == (2, 3)


def test_the_report_is_a_mapping_that_shows_itself() -> None:
    report = OptimizationReport(rich(), "<html></html>")
    assert report["optimization_result"]["speedup"] == report.speedup == 5.57
    assert set(report) == set(rich())
    assert repr(report).startswith("<OptimizationReport: openvino INT8: 5.57x as fast as the source")
    assert "inductor BF16" in str(report)
    assert "g++ is not there" in str(report)
    html = report._repr_html_()
    assert html.count("<tr") == len(rich()["candidates"]) + 1
    assert "No gain" in repr(OptimizationReport(no_gain(), ""))
