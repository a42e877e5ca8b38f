"""Where a difference begins, in graphs that were made wrong on purpose."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from engines.formats.torch_export import onnx_export
from engines.formats.torch_export.export_job import ExportJob, observe
from engines.formats.torch_export.forward import run_module
from engines.graph.scopes import scopes
from engines.parity import divergence
from engines.parity.divergence import Divergence, Suspect, locate, module_outputs, values_of_modules
from engines.runtimes import runtime as runtime_named
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.spec.tolerances import TOLERANCES
from engines.tensors.signature import TensorSpec
from tests.integration.conversion.workbench import CNN, DEEP, Bench
from tests.unit.formats.exporting import export_onnx
from tests.unit.runtimes.building import CPU

RNG = np.random.default_rng(0)


def keep_signal(network: Any) -> None:
    """Make square layers nearly the identity, so that what goes wrong early is seen at the end of a deep network.

    No two are equal, because the exporter would join them.
    """
    for index, layer in enumerate(network.modules()):
        if hasattr(layer, "weight") and layer.weight.shape == (16, 16):
            layer.weight.data = torch.eye(16) * (1 + index * 1e-4)


class Case:
    """A network, its graph, and a fault put into the graph."""

    def __init__(self, bench: Bench, source: str, shape: tuple[int, ...], runtime: str = "onnxruntime") -> None:
        self.network = bench.put_network(source, keep_signal)
        self.path = bench.workdir / "g.onnx"
        self.x = RNG.standard_normal(shape).astype(np.float32)
        spec = TensorSpec.fixed("x", "float32", shape)
        self.export = export_onnx(self.network, [spec], [self.x], self.path)
        self.suspect = Suspect(
            lambda: self.path,
            self.export.signature,
            runtime_named(runtime),
            CPU,
            "FP32",
            1,
            TOLERANCES["FP32"],
            network=self.network,
            prepare=lambda feed: [feed["x"]],
        )

    def spoil(self, fragment: str) -> str:
        """Double the first weight whose name holds the fragment; return the node that reads it."""
        model = onnx.load(self.path)
        tensor = next(value for value in model.graph.initializer if fragment in value.name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
        onnx.save(model, self.path)
        return str(next(node.name for node in model.graph.node if tensor.name in node.input))

    def locate(self) -> Divergence:
        expected = dict(zip(["output_0"], run_module(self.export.module, [self.x]), strict=True))
        actual = OnnxRuntimeSession(self.path, 1, optimise=True).run({"x": self.x})
        return locate(self.suspect, {"x": self.x}, expected, actual)


@pytest.mark.parametrize(
    ("source", "shape", "fragment", "module"),
    [
        (CNN, (1, 3, 8, 8), "head.weight", "head"),
        (DEEP, (1, 16), "90.weight", "90"),
    ],
)
def test_a_wrong_export_names_the_first_wrong_module(
    source: str, shape: tuple[int, ...], fragment: str, module: str, bench: Bench
) -> None:
    case = Case(bench, source, shape)
    node = case.spoil(fragment)
    found = case.locate()
    assert (found.node, found.module) == (node, module)
    assert f"module '{module}' of the network" in str(found)


def test_without_a_network_the_output_is_named(bench: Bench) -> None:
    case = Case(bench, CNN, (1, 3, 8, 8))
    case.spoil("head.weight")
    case.suspect = Suspect(
        *(lambda: case.path, case.export.signature, runtime_named("onnxruntime"), CPU, "FP32", 1, TOLERANCES["FP32"])
    )
    found = case.locate()
    assert found.operator == "Gemm"
    assert found.remark == "the export differs from the network"


def test_a_spent_budget_still_names_the_output(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "BUDGET_SECONDS", -1.0)
    case = Case(bench, CNN, (1, 3, 8, 8))
    feed = {"x": case.x}
    expected = OnnxRuntimeSession(case.path, 1, optimise=False).run(feed)
    found = locate(case.suspect, feed, expected, {"output_0": expected["output_0"] + 1})
    assert found.operator == "Gemm"
    assert found.remark == "no earlier value diverges when exposed"


def test_both_exporters_traces_are_understood() -> None:
    new = onnx.helper.make_node("Conv", ["x"], ["a"], name="node_conv")
    new.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="['', 'body', 'body.0', 'conv2d']")
    old = onnx.helper.make_node("Relu", ["a"], ["b"], name="/network/body/body.1/Relu")
    broken = onnx.helper.make_node("Relu", ["b"], ["c"], name="r")
    broken.metadata_props.add(key="pkg.torch.onnx.name_scopes", value="[oops")
    assert scopes(new) == ["body", "body.0"]
    assert scopes(old) == ["body", "body.1"]
    assert scopes(broken) == []
    assert values_of_modules([new, old, broken], {"body", "body.0"}) == {"body.0": "a", "body": "b"}


def test_the_older_exporters_scopes_are_paths_of_modules(tmp_path: Path) -> None:
    pair = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh()))
    network = torch.nn.Sequential(pair, torch.nn.ModuleDict({"head": torch.nn.Linear(4, 4)})["head"]).eval()
    given = [TensorSpec.fixed("x", "float32", (1, 4))]
    job = ExportJob(network, given, [np.ones((1, 4), np.float32)], ["y"], 1, tmp_path / "old.onnx")
    onnx_export._torchscript(job, observe(job))
    found = {path for node in onnx.load(job.path).graph.node for path in scopes(node)}
    assert found == {"0", "0.0", "0.1", "0.1.0", "0.1.1", "1"}


def test_outputs_of_modules_come_in_the_order_in_which_they_end(bench: Bench, tmp_path: Path) -> None:
    network: Any = bench.put_network(CNN)
    outputs = module_outputs(network, [np.zeros((1, 3, 4, 4), np.float32)])
    assert list(outputs) == ["features.0", "features.1", "features.2", "features", "head"]
    assert not any(module._forward_hooks for module in network.modules())
