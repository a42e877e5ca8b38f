"""The room with the stand-in for ATC in place of the compiler: what it makes is no form that any chip runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from engines.failures import EngineFailure, FailureReason, InvalidField
from engines.runtimes import BuildOptions, BuildSource, BuiltForm, Where, open_form, runtimes
from engines.runtimes.ascend import toolchain
from engines.runtimes.source import Unprocessed
from engines.sandbox.deadline import Overrun, at_most
from engines.spec.devices import Device, load_catalog
from engines.tensors.inputs import ComponentInput, active_steps, batched_network_inputs, package_inputs
from engines.tensors.preprocessing import Preprocessing
from engines.tensors.signature import Signature, TensorSpec
from tests.unit.runtimes.ascend import models
from tests.unit.runtimes.ascend.atc_stand_in import MARK
from tests.unit.runtimes.ascend.installation import install, use

ROOM = runtimes()["ascend"]
CHIP = load_catalog().device("ascend-310p")
A2 = CHIP.model_copy(update={"id": "ascend-910b", "architecture": "Ascend910B1"})
NONE: Mapping[str, str] = {}


def build(
    source: BuildSource, out: Path, knobs: Mapping[str, str] = NONE, precision: str = "FP16", device: Device = CHIP
) -> BuiltForm:
    return ROOM.build(source, device, BuildOptions(precision, knobs), out)


def asked(form: BuiltForm) -> dict[str, str]:
    """Return the options that the stand-in was given."""
    text = form.entry.read_text()
    assert text.startswith(MARK)
    options: dict[str, str] = json.loads(text.removeprefix(MARK))["options"]
    return options


@pytest.mark.usefixtures("cann")
def test_a_graph_is_compiled_for_the_chip_of_the_catalog(tmp_path: Path) -> None:
    form = build(models.graph(tmp_path / "g.onnx"), tmp_path / "out")
    assert form.files == ("model.om",)
    assert asked(form) == {
        "mode": "0",
        "framework": "5",
        "model": "model.onnx",
        "output": "model",
        "soc_version": CHIP.architecture,
        "input_format": "ND",
        "input_shape": "x:-1,4",
        "dynamic_batch_size": "1,2,4,8",
        "precision_mode_v2": "fp16",
        "log": "warning",
    }
    assert form.options == {
        "soc_version": CHIP.architecture,
        "names": "x",
        "varying": "0",
        "kind": "dynamic_batch_size",
        "gears": "1,2,4,8",
        "batches": "0",
    }
    assert form.warnings == ("The form runs at 4 profiles only, dynamic_batch_size=1,2,4,8.",)
    assert (tmp_path / "out" / "atc.log").read_text().startswith("atc --mode=0 --framework=5 --model=model.onnx")
    assert ROOM.version() == "8.5.0"
    assert ROOM.environment(CHIP) == {"cann": "8.5.0"}


@pytest.mark.usefixtures("cann")
@pytest.mark.parametrize(("opset", "made"), [(9, True), (18, True), (20, True)])
def test_a_graph_of_another_operator_set_is_converted(opset: int, made: bool, tmp_path: Path) -> None:
    assert build(models.graph(tmp_path / "g.onnx", opset=opset), tmp_path / "out").entry.is_file() is made


@pytest.mark.usefixtures("cann")
def test_levels_of_the_log_are_those_that_the_user_wants(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = models.graph(tmp_path / "g.onnx")
    for wanted, shown in [
        ("error,info", {"INFO", "ERROR"}),
        ("debug,info,warning,error", {"DEBUG", "INFO", "WARNING", "ERROR"}),
        ("none", set[str]()),
        ("debug", {"DEBUG"}),
    ]:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="engines"):
            build(source, tmp_path / wanted, {"log": wanted})
        kept = (tmp_path / wanted / "atc.log").read_text()
        for text in (caplog.text, kept):
            assert {level for level in ("DEBUG", "INFO", "WARNING", "ERROR") if f"a line of {level}" in text} == shown
            assert "ATC run success" in text


@pytest.mark.usefixtures("cann")
@pytest.mark.parametrize(
    ("operators", "reason", "node", "operator"),
    [
        (["NoParser"], FailureReason.UNSUPPORTED_OPERATOR, "", "NoParser"),
        (["NoIr", "NoKernel"], FailureReason.UNSUPPORTED_OPERATOR, "node0", "NoIr"),
        (["NoKernel"], FailureReason.UNSUPPORTED_OPERATOR, "node0", "NoKernel"),
        (["NoParser", "Breaks"], FailureReason.UNSUPPORTED_OPERATOR, "node1", "Breaks"),
        (["Strange"], FailureReason.TOOLCHAIN_CRASHED, "", ""),
        (["Crashes"], FailureReason.TOOLCHAIN_CRASHED, "", ""),
    ],
)
def test_what_atc_refuses_is_a_failure_with_its_node(
    operators: list[str], reason: FailureReason, node: str, operator: str, tmp_path: Path
) -> None:
    with pytest.raises(EngineFailure) as caught:
        build(models.graph(tmp_path / "g.onnx", operators=operators), tmp_path / "out")
    assert (caught.value.reason, caught.value.node, caught.value.operator) == (reason, node, operator)
    if operators != ["Crashes"]:  # the raw text is in the log
        assert "ATC run failed" in (tmp_path / "out" / "atc.log").read_text()


@pytest.mark.usefixtures("cann")
def test_a_compiler_that_hangs_is_ended(tmp_path: Path) -> None:
    with at_most(1.5), pytest.raises(Overrun):
        build(models.graph(tmp_path / "g.onnx", operators=["Sleeps"]), tmp_path / "out")


@pytest.mark.usefixtures("cann")
def test_operators_of_other_domains_and_graphs_in_floating_point_are_refused_before(tmp_path: Path) -> None:
    foreign = models.graph(tmp_path / "g.onnx", operators=["Gelu"], domain="com.microsoft")
    with pytest.raises(EngineFailure, match=r"com\.microsoft\.Gelu is none of ONNX") as caught:
        build(foreign, tmp_path / "out")
    assert caught.value.node == "node0"
    with pytest.raises(EngineFailure, match="cannot be built in INT8") as quantized:
        build(models.graph(tmp_path / "f.onnx"), tmp_path / "out", precision="INT8")
    assert quantized.value.reason is FailureReason.UNSUPPORTED_PRECISION


@pytest.mark.usefixtures("cann")
def test_caffe_is_read_by_atc_itself_unless_the_graph_prepares_the_inputs(tmp_path: Path) -> None:
    files = models.caffe(tmp_path / "net")
    image = (models.IMAGE,)
    graph = models.graph(tmp_path / "g.onnx", image).make_graph
    source = BuildSource(models.CAFFE_SIGNATURE, graph, files=files)
    options = asked(build(source, tmp_path / "native"))
    assert (options["framework"], options["model"], options["weight"]) == ("0", "model.prototxt", "model.caffemodel")
    assert (options["out_nodes"], options["dynamic_batch_size"]) == ("prob", "1,2,4")
    assert asked(build(source, tmp_path / "graph", {"reader": "graph"}))["framework"] == "5"
    assert asked(build(source, tmp_path / "a2", device=A2))["framework"] == "5"  # Atlas A2 reads no Caffe
    scaled = {"data": Preprocessing(scale_values=(255.0, 255.0, 255.0))}
    bare = Unprocessed(source.graph, image, scaled)
    prepared = BuildSource(models.CAFFE_SIGNATURE, graph, files=files, unprocessed=bare)
    assert asked(build(prepared, tmp_path / "prepared"))["framework"] == "5"
    with pytest.raises(InvalidField, match="the inputs data have preprocessing"):
        build(prepared, tmp_path / "refused", {"reader": "native"})
    with pytest.raises(InvalidField, match="ATC reads no Caffe for Ascend910B"):
        build(source, tmp_path / "refused", {"reader": "native"}, device=A2)
    with pytest.raises(InvalidField, match="it offers graph"):
        build(models.graph(tmp_path / "h.onnx"), tmp_path / "refused", {"reader": "native"})


def with_images(folder: Path, color: str = "RGB", dtype: str = "uint8") -> BuildSource:
    """Return a source of a package that takes images in bytes, which are scaled before the network."""
    steps = {"input_color": color, "model_color": "BGR", "scale_values": (255.0,)}
    values = {"name": "data", "shape": (1, 3, 8, 8), "dtype": dtype, "preprocessing": steps}
    declared = [ComponentInput.model_validate(values)]
    network = batched_network_inputs(declared, 2)
    folder.mkdir()
    ready = models.graph(folder / "ready.onnx", package_inputs(declared, 2))
    bare = models.graph(folder / "bare.onnx", network)
    unprocessed = Unprocessed(bare.graph, network, active_steps(declared))
    files = models.caffe(folder / "net")
    return BuildSource(Signature(ready.signature.inputs, (models.OUTPUT,)), ready.make_graph, None, files, unprocessed)


@pytest.mark.usefixtures("cann")
def test_aipp_prepares_images_and_then_atc_reads_native_forms(tmp_path: Path) -> None:
    form = build(with_images(tmp_path / "rgb"), tmp_path / "out", {"reader": "graph"})
    options = asked(form)
    assert (options["insert_op_conf"], options["input_format"], options["framework"]) == ("aipp.cfg", "NCHW", "5")
    assert form.options["orders"] == "nhwc"  # AIPP reads images with their channels last
    assert "AIPP" in " ".join(form.warnings)
    nv12 = build(with_images(tmp_path / "nv12", "NV12"), tmp_path / "nv", {"out_nodes": "prob"})
    assert (asked(nv12)["framework"], asked(nv12)["input_shape"]) == ("0", "data:-1,3,8,8")
    assert (nv12.options["orders"], nv12.options["varying"]) == ("nv12", "0")


@pytest.mark.usefixtures("cann")
def test_the_graph_prepares_images_if_it_is_told_to_or_aipp_cannot(tmp_path: Path) -> None:
    source = with_images(tmp_path / "rgb")
    assert "insert_op_conf" not in asked(build(source, tmp_path / "told", {"aipp": "graph"}))
    assert "insert_op_conf" not in asked(build(source, tmp_path / "exact", precision="FP32"))
    floats = with_images(tmp_path / "float", dtype="float32")
    assert "insert_op_conf" not in asked(build(floats, tmp_path / "floats"))
    with pytest.raises(InvalidField, match="AIPP takes bytes"):
        build(floats, tmp_path / "refused", {"aipp": "chip"})


@pytest.mark.usefixtures("cann")
def test_a_users_own_file_of_aipp_is_held_against_the_rules(tmp_path: Path) -> None:
    sizes = "src_image_size_w: 8 src_image_size_h: 8"
    own = f"aipp_op {{ aipp_mode: static related_input_rank: 0 input_format: RGB888_U8 {sizes} }}"
    source = models.graph(tmp_path / "g.onnx", [models.IMAGE])
    form = build(source, tmp_path / "out", {"insert_op_conf": own})
    assert asked(form)["insert_op_conf"] == "aipp.cfg"
    assert "the package takes bytes 1..4*8*8*3" in form.warnings[0], form.warnings
    with pytest.raises(InvalidField, match="aipp_mode is missing") as caught:
        build(source, tmp_path / "bad", {"insert_op_conf": "aipp_op { }"})
    assert caught.value.field == "template.runtime_options[insert_op_conf]"
    with pytest.raises(InvalidField, match="the inputs have preprocessing"):
        build(with_images(tmp_path / "rgb"), tmp_path / "both", {"insert_op_conf": own})


@pytest.mark.usefixtures("cann")
@pytest.mark.parametrize(
    ("file", "shape", "order"),
    [
        ("input_format: RGB888_U8 crop: true src_image_size_w: 10 src_image_size_h: 12 crop_size_w: 8 crop_size_h: 8",
         (4, 12, 10, 3), ""),
        ("input_format: YUV420SP_U8 csc_switch: true", (4, 12, 8), "nv12"),
        ("input_format: XRGB8888_U8", (4, 8, 8, 4), ""),
    ],
)  # fmt: skip
def test_the_package_states_the_images_that_a_users_own_file_takes(
    file: str, shape: tuple[int, ...], order: str, tmp_path: Path
) -> None:
    source = models.graph(tmp_path / "g.onnx", [models.IMAGE])
    form = build(source, tmp_path / "out", {"insert_op_conf": f"aipp_op {{ aipp_mode: static {file} }}"})
    (taken,) = form.inputs
    assert (taken.name, taken.dtype, taken.max) == (models.IMAGE.name, "uint8", shape)
    assert (form.options.get("orders", ""), form.options["varying"]) == (order, "0")


@pytest.mark.usefixtures("cann")
def test_what_dynamic_aipp_takes_is_said_in_each_call(tmp_path: Path) -> None:
    own = "aipp_op { aipp_mode: dynamic max_src_image_size: 752640 }"
    form = build(models.graph(tmp_path / "g.onnx", [models.IMAGE]), tmp_path / "out", {"insert_op_conf": own})
    assert (form.inputs, "as each call says" in form.warnings[0]) == ((), True)


@pytest.mark.usefixtures("cann")
@pytest.mark.parametrize(
    ("operator", "weights", "reason", "node"),
    [
        ("NoParser", b"conv", FailureReason.UNSUPPORTED_OPERATOR, "prob"),
        ("DetectionOutput", b"conv", FailureReason.UNSUPPORTED_OPERATOR, ""),
        ("Softmax", b"other", FailureReason.WEIGHTS_MISMATCH, "conv"),
    ],
)
def test_a_caffe_pair_that_atc_refuses_is_a_failure_with_its_layer(
    operator: str, weights: bytes, reason: FailureReason, node: str, tmp_path: Path
) -> None:
    source = BuildSource(models.CAFFE_SIGNATURE, files=models.caffe(tmp_path / "net", operator, weights))
    with pytest.raises(EngineFailure) as caught:
        build(source, tmp_path / "out")
    assert (caught.value.reason, caught.value.node) == (reason, node)


@pytest.mark.usefixtures("cann")
def test_a_caffe_pair_is_two_files(tmp_path: Path) -> None:
    files = models.caffe(tmp_path / "net")
    (files["caffe"] / "net.caffemodel").unlink()
    with pytest.raises(EngineFailure, match=r"there are 0 files \*\.caffemodel") as caught:
        build(BuildSource(models.CAFFE_SIGNATURE, files=files), tmp_path / "out")
    assert caught.value.reason is FailureReason.INVALID_MODEL


@pytest.mark.usefixtures("cann")
def test_a_frozen_graph_is_read_by_atc_itself(tmp_path: Path) -> None:
    from tests.unit.formats.tensorflow_bytes import node, write_graph

    path = write_graph(tmp_path / "net.pb", node("x", "Placeholder", shape=[-1, 4]), node("y", "Relu", ["x"]))
    given = TensorSpec.fixed("x:0", "float32", (1, 4)).batched(4)
    result = TensorSpec("y:0", "float32", (1, 4), (1, 4), (4, 4))
    options = asked(build(BuildSource(Signature((given,), (result,)), files={"frozen_graph": path}), tmp_path / "out"))
    assert (options["framework"], options["input_shape"], options["out_nodes"]) == ("3", "x:-1,4", "y:0")


@pytest.mark.usefixtures("cann")
def test_a_chip_may_be_named_exactly_within_its_family(tmp_path: Path) -> None:
    source = models.graph(tmp_path / "g.onnx")
    assert (
        asked(build(source, tmp_path / "b3", {"soc_version": "Ascend910B3"}, device=A2))["soc_version"] == "Ascend910B3"
    )
    with pytest.raises(InvalidField, match="Ascend910B3 is no chip of ascend-310p") as caught:
        build(source, tmp_path / "out", {"soc_version": "Ascend910B3"})
    assert caught.value.field == "template.runtime_options[soc_version]"


@pytest.mark.usefixtures("cann")
def test_out_nodes_name_each_output_of_the_source(tmp_path: Path) -> None:
    source = models.graph(tmp_path / "g.onnx")
    assert asked(build(source, tmp_path / "one", {"out_nodes": "end:0"}))["out_nodes"] == "end:0"
    with pytest.raises(InvalidField, match="it names 2, and the source has 1: y"):
        build(source, tmp_path / "two", {"out_nodes": "end:0;add0:0"})
    with pytest.raises(EngineFailure, match="Op name nowhere:0 specified in --out_nodes is not found") as caught:
        build(source, tmp_path / "none", {"out_nodes": "nowhere:0"})
    assert caught.value.node == "nowhere:0"


@pytest.mark.usefixtures("cann")
def test_files_that_options_name_are_written_from_their_values(tmp_path: Path) -> None:
    knobs = {"keep_dtype": "add0;OpType::Softmax", "op_precision_mode": "Exp=high_precision"}
    options = asked(build(models.graph(tmp_path / "g.onnx"), tmp_path / "out", knobs))
    assert (options["keep_dtype"], options["op_precision_mode"]) == ("keep_dtype.cfg", "op_precision_mode.ini")


def test_an_older_cann_gets_the_older_precision_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(install(tmp_path / "cann", version="6.3.RC2"), monkeypatch)
    options = asked(build(models.graph(tmp_path / "g.onnx"), tmp_path / "out"))
    assert (options["precision_mode"], "precision_mode_v2" in options) == ("force_fp16", False)


def test_without_atc_a_task_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(tmp_path / "nowhere", monkeypatch)
    monkeypatch.setattr(toolchain, "HOMES", ())
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert ROOM.available() is not None
    assert "Ascend-cann-toolkit" in (ROOM.available(CHIP) or "")
    with pytest.raises(EngineFailure, match="missing is CANN with ATC: install the CANN toolkit") as caught:
        build(models.graph(tmp_path / "g.onnx"), tmp_path / "out")
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert ROOM.version() == ""


def test_a_form_is_opened_on_its_chip_alone(tmp_path: Path, cann: Path) -> None:
    form = build(models.graph(tmp_path / "g.onnx"), tmp_path / "out")
    assert ROOM.where(CHIP) is Where.DEVICE
    assert ROOM.runs_on(CHIP) == ""
    with pytest.raises(EngineFailure, match="The form runs on ascend-310p only") as caught:
        open_form(form, 1)
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
