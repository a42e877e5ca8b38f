"""Quantized graphs are made once, by whichever form asks first, and again only if the work begins anew."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model, save_model
from engines.graph.quantized import quantized_nodes
from engines.quantization.direct_quantizers import AsItIs
from engines.quantization.graphs import QuantizedGraphs, weights_size
from engines.quantization.onnxruntime_quantizers import Dynamic
from engines.quantization.quantizers import Material, Settings
from engines.quantization.recipes import Recipe, open_settings
from engines.runtimes import BuiltForm
from engines.tensors.samples import Samples, SampleSource
from tests.unit.quantization import graphs, quantized

SAMPLES = Samples(({"x": np.zeros((1, 3, 8, 8), np.float32)},), SampleSource.GENERATED, 0, (1,), 1)


@dataclass
class Counted:
    """Quantizes dynamically, and counts how often."""

    fails: bool = False
    asked: list[frozenset[str]] = field(default_factory=list)

    def name(self, settings: Settings) -> str:
        return "counted"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        self.asked.append(excluded)
        if self.fails:
            raise ValueError("The tool broke.\nAll of it.")
        return Dynamic().quantize(material, settings, excluded, out_dir)


def made(folder: Path, quantizer: Counted) -> tuple[QuantizedGraphs, list[Recipe]]:
    save_model(graphs.transformer(), folder / "float.onnx")
    material = Material(folder / "float.onnx", None, folder / "scratch", lambda _words: None)
    settings = open_settings(graphs.transformer(), "onnxruntime")
    recipes = [Recipe(quantizer, replace(settings, runtime=runtime)) for runtime in ("onnxruntime", "openvino")]
    return QuantizedGraphs(material, recipes, SAMPLES), recipes


def test_runtimes_share_a_graph_and_another_process_finds_it(tmp_path: Path) -> None:
    quantizer = Counted()
    found, (one, other) = made(tmp_path, quantizer)
    path = found.graph(one.spec)
    assert found.graph(other.spec) == found.graph(replace(one.spec, knobs=(("binding", "bound"),))) == path
    assert made(tmp_path, quantizer)[0].graph(one.spec) == path
    assert len(quantizer.asked) == 1


def test_nodes_that_are_kept_stay_in_floating_point(tmp_path: Path) -> None:
    quantizer = Counted()
    found, (one, _) = made(tmp_path, quantizer)
    nodes = quantized_nodes(load_model(found.graph(one.spec)))
    names = [node.name for node in graphs.transformer().graph.node if node.op_type == "MatMul"]
    kept = next(name for name in names if any(name in node for node in nodes))
    left = quantized_nodes(load_model(found.graph(replace(one.spec, kept=(kept,)))))
    assert len(left) < len(nodes)
    assert quantizer.asked == [frozenset(), {kept}]


def test_a_tool_that_raises_is_named_by_its_first_line(tmp_path: Path) -> None:
    found, (one, _) = made(tmp_path, Counted(fails=True))
    with pytest.raises(EngineFailure, match=r"^The quantizer failed: The tool broke\.$") as caught:
        found.graph(one.spec)
    assert caught.value.reason is FailureReason.TOOLCHAIN_CRASHED


def test_a_source_that_carries_its_quantization_has_no_nodes_to_take_back(tmp_path: Path) -> None:
    save_model(quantized.by_nncf(graphs.network(), graphs.image_feeds()), tmp_path / "float.onnx")
    material = Material(tmp_path / "float.onnx", None, tmp_path / "scratch", lambda _words: None)
    recipe = Recipe(AsItIs(), open_settings(graphs.network(), "onnxruntime"))
    feeds = Samples(tuple(graphs.image_feeds(1)), SampleSource.GENERATED, 0, (1,), 1)
    assert QuantizedGraphs(material, [recipe], feeds).costly_nodes(recipe.spec, 60.0) == []


def test_weights_are_counted_for_forms_of_every_runtime(tmp_path: Path) -> None:
    for name, size in (("model.xml", 9), ("model.bin", 5), ("model.plan", 7)):
        (tmp_path / name).write_bytes(bytes(size))
    save_model(graphs.transformer(), tmp_path / "model.onnx")
    form = BuiltForm("a runtime", "a device", "INT8", tmp_path, ("model.xml", "model.bin"), ("y",))
    assert weights_size(form) == 5
    assert weights_size(replace(form, files=("model.plan",))) == 7
    assert 0 < weights_size(replace(form, files=("model.onnx",))) < (tmp_path / "model.onnx").stat().st_size
