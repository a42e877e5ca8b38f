"""AMCT with the stand-in for its command: what it is given, what is made of its models, and when it is offered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.failures import EngineFailure
from engines.graph.hygiene import save_model
from engines.quantization.amct_quantizer import AmctQuantizer, missing_amct
from engines.quantization.coverage import coverage_of
from engines.quantization.quantizers import NOTES, Material, Settings
from engines.quantization.recipes import first_recipes
from engines.quantization.request import QuantizationSpec
from engines.runtimes import BuildOptions, BuildSource, runtimes
from engines.runtimes.ascend.amct import INSTALL_AMCT, Calibration, calibrate, find_amct
from engines.runtimes.candidates import Situation
from engines.sandbox.environment import AMCT
from engines.spec.devices import load_catalog
from engines.tensors import Arrays
from engines.tensors.signature import Signature, TensorSpec
from tests.unit.quantization.graphs import network
from tests.unit.runtimes.ascend.atc_stand_in import MARK
from tests.unit.runtimes.ascend.installation import install_amct

ROOM = runtimes()["ascend"]
CHIP = load_catalog().device("ascend-310p")
SETTINGS = Settings("INT8", "ENTROPY_2", False, True, False, False, "ascend")
FEEDS: list[Arrays] = [{"x": np.random.default_rng(seed).random((2, 3, 8, 8), np.float32)} for seed in range(3)]


@pytest.fixture
def amct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = install_amct(tmp_path / "amct")
    monkeypatch.setenv(AMCT, str(home))
    return home


@pytest.fixture
def material(tmp_path: Path) -> Material:
    graph, *_ = save_model(network(), tmp_path / "network.onnx")
    return Material(graph, FEEDS, tmp_path / "scratch", lambda words: None)  # type: ignore[arg-type]


def quantized(material: Material, folder: Path, settings: Settings = SETTINGS, *excluded: str) -> Path:
    folder.mkdir()
    return AmctQuantizer().quantize(material, settings, frozenset(excluded), folder)


@pytest.mark.usefixtures("amct", "cann")
def test_a_deploy_model_is_compiled_by_atc(material: Material, tmp_path: Path) -> None:
    deployed = quantized(material, tmp_path / "out")
    operators = [node.op_type for node in onnx.load(deployed).graph.node]
    assert operators[:3] == ["AscendQuant", "Conv", "AscendDequant"]
    found = coverage_of(deployed)
    assert (found.products, found.quantized_products) == (4, 4)
    assert found.quantized_weights == found.weights
    (note,) = (tmp_path / "out" / NOTES).read_text().splitlines()
    assert "'y' has a cosine of 0.99" in note
    assert "No chip computed it" in note
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [NOTES, deployed.name]
    given = TensorSpec.fixed("x", "float32", (1, 3, 8, 8)).batched(4)
    source = BuildSource.of_file(deployed, Signature((given,), (TensorSpec("y", "float32", (1, 5), (1, 5), (4, 5)),)))
    form = ROOM.build(source, CHIP, BuildOptions("INT8"), tmp_path / "form")
    options = json.loads(form.entry.read_text().removeprefix(MARK))["options"]
    assert (options["framework"], options["precision_mode_v2"]) == ("5", "fp16")
    assert ROOM.environment(CHIP) == {"cann": "8.5.0", "amct": "1.2.3"}


@pytest.mark.usefixtures("amct")
def test_nodes_stay_in_floating_point_if_they_are_excluded(material: Material, tmp_path: Path) -> None:
    assert coverage_of(quantized(material, tmp_path / "out", SETTINGS, "conv1", "fc")).quantized_products == 2


def test_the_settings_are_those_of_amcts_file() -> None:
    assert Calibration(True, True).config(7) == "batch_num : 7\nactivation_offset : true\n"
    assert Calibration(False, False, {'b"', "a"}).config(1).splitlines()[1:] == [
        "activation_offset : false",
        'skip_layers : "a"',
        r'skip_layers : "b\""',
        "common_config : { arq_quantize : { channel_wise : false } }",
    ]


@pytest.mark.usefixtures("amct")
def test_batches_of_another_shape_are_left_out(material: Material, tmp_path: Path) -> None:
    material.feeds = [*FEEDS, {"x": FEEDS[0]["x"][:1]}]  # type: ignore[assignment]
    assert quantized(material, tmp_path / "out").is_file()


@pytest.mark.usefixtures("amct")
def test_what_amct_refuses_is_a_failure_in_its_words(tmp_path: Path) -> None:
    model = network()
    model.graph.node.add(op_type="Refuses", name="strange", input=["y"], output=["z"])
    model.opset_import[0].version = 14
    graph, *_ = save_model(model, tmp_path / "network.onnx")
    found = find_amct()
    assert found is not None
    (tmp_path / "work").mkdir()
    with pytest.raises(EngineFailure, match="layer strange calculate scale failed") as caught:
        calibrate(found, graph, FEEDS, Calibration(False, True), tmp_path / "work", told=lambda line: None)
    assert "excluded_nodes" in caught.value.suggested_fix


def test_a_form_is_made_without_amcts_library_and_says_so(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AMCT, str(install_amct(tmp_path / "amct", operators=False)))
    quantized(material, tmp_path / "out")
    assert "says nothing of this form: AMCT's fake-quant model did not run" in (tmp_path / "out" / NOTES).read_text()


def test_it_is_tried_first_where_it_is_installed_and_no_method_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = QuantizationSpec.model_validate({"scheme": "STATIC"})
    monkeypatch.setenv(AMCT, str(tmp_path / "absent"))
    assert missing_amct("ascend") == INSTALL_AMCT
    assert not any("AMCT" in recipe.name for recipe in first_recipes(static, SETTINGS))
    assert not any(each.spec.quantizer for each in ROOM.candidates(Situation(goal="INT8", has_calibration=True)))
    monkeypatch.setenv(AMCT, str(install_amct(tmp_path / "amct")))
    assert missing_amct("ascend") == missing_amct("openvino") == ""
    names = [recipe.name for recipe in first_recipes(static, SETTINGS)]
    assert names[0] == "AMCT IFMR symmetric per channel"
    assert len(names) > 1
    now = Situation(goal="INT8", has_calibration=True)
    assert [each.spec.precision for each in ROOM.candidates(now)] == ["FP16", "FP16", "FP32", "INT8"]
    asked = QuantizationSpec.model_validate({"scheme": "STATIC", "calibration_method": "MINMAX"})
    assert not any("AMCT" in recipe.name for recipe in first_recipes(asked, SETTINGS))
