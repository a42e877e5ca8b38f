"""LiteRT: functions of TensorFlow as .tflite files, held to what TensorFlow computes; and what LiteRT refuses."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.tensorflow.tools import import_tensorflow
from engines.quantization.tflite_coverage import products_of
from engines.runtimes import BuildOptions, BuildSource, BuiltForm, Network, Where, open_form, runtime
from engines.runtimes.litert import quantizing, torch_converter
from engines.runtimes.litert.tensorflow_converter import file_inputs
from engines.runtimes.source import Function
from engines.sandbox.environment import LITERT_TORCH
from engines.spec.devices import load_catalog
from engines.tensors.preprocessing import Preprocessing, preprocess
from engines.tensors.signature import Signature, TensorSpec
from tests.unit.runtimes import networks

ARM = load_catalog().device("cpu-arm64")
Shape = tuple[int, ...]


@pytest.fixture(scope="module")
def tf() -> Any:
    return import_tensorflow()


def source(
    tf: Any, network: Callable[[Sequence[Any]], list[Any]], low: Shape, high: Shape, **steps: Any
) -> BuildSource:
    """Return a source of one input `image/x:0` and the outputs `y`, `z:0`…, its axes ranging from low to high."""
    preprocessing = Preprocessing(**steps)
    arrays = network([tf.constant(preprocess(np.zeros(low, np.uint8), preprocessing, "float32").astype(np.float32))])
    outputs = [TensorSpec.unknown(name, "float32") for name in ("y", "z:0")[: len(arrays)]]
    dtype = "uint8" if preprocessing.active else "float32"
    inputs = (TensorSpec("image/x:0", dtype, low, low, high),)
    function = Function(network, tf.Module(), ["float32"], {"image/x:0": preprocessing})
    return BuildSource(Signature(inputs, tuple(outputs)), function=function)


def convolution(tf: Any) -> Callable[[Sequence[Any]], list[Any]]:
    rng = np.random.default_rng(0)
    weights = tf.constant(rng.normal(size=(3, 3, 3, 8)).astype("float32"))
    last = tf.constant(rng.normal(size=(8, 5)).astype("float32"))

    def network(arguments: Sequence[Any]) -> list[Any]:
        features = tf.nn.relu(tf.nn.conv2d(arguments[0] / 255, weights, 1, "SAME"))
        return [tf.reduce_mean(features, [1, 2]) @ last, features]

    return network


def build(given: BuildSource, folder: Path, precision: str = "FP32", **knobs: str) -> BuiltForm:
    return runtime("litert").build(given, ARM, BuildOptions(precision, knobs), folder)


def largest_error(form: BuiltForm, network: Any, tf: Any, images: Any, steps: Preprocessing) -> float:
    expected = [value.numpy() for value in network([tf.constant(preprocess(images, steps, "float32"))])]
    with open_form(form, 1) as session:
        found = session.run({"image/x:0": images})
    assert list(found) == ["y", "z:0"]
    return max(
        float(abs(value - other).max() / abs(other).max())
        for value, other in zip(found.values(), expected, strict=True)
    )


@pytest.mark.parametrize(("precision", "most"), [("FP32", 1e-5), ("FP16", 1e-2)])
def test_a_function_keeps_its_names_its_batches_and_its_preprocessing(
    tf: Any, tmp_path: Path, precision: str, most: float
) -> None:
    network, steps = convolution(tf), {"mean_values": (1.0, 2.0, 3.0), "scale_values": (2.0,)}
    colors = {"input_color": "BGR", "model_color": "RGB"}
    form = build(source(tf, network, (1, 8, 8, 3), (4, 8, 8, 3), **steps, **colors), tmp_path, precision)
    assert form.files == ("model.tflite",)
    for batch in (1, 3):
        images = np.random.default_rng(batch).integers(0, 256, (batch, 8, 8, 3)).astype(np.uint8)
        error = largest_error(form, network, tf, images, Preprocessing(**steps, **colors))
        assert error <= most


@pytest.mark.parametrize("channels_last", [True, False])
def test_nv12_images_are_decoded_in_the_file(tf: Any, tmp_path: Path, channels_last: bool) -> None:
    weights = tf.constant(np.random.default_rng(0).normal(size=(3,)).astype("float32"))

    def network(arguments: Sequence[Any]) -> list[Any]:
        image = arguments[0] if channels_last else tf.transpose(arguments[0], [0, 2, 3, 1])
        return [tf.reduce_sum(image * weights, 3), image]

    steps = {"input_color": "NV12", "model_color": "BGR", "input_matrix": "BT709", "channels_last": channels_last}
    form = build(source(tf, network, (1, 12, 8), (1, 12, 8), **steps, scale_values=(255.0,)), tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (1, 12, 8)).astype(np.uint8)
    assert largest_error(form, network, tf, images, Preprocessing(**steps, scale_values=(255.0,))) <= 1e-5


@pytest.mark.parametrize("per_channel", [True, False])
def test_a_file_is_quantized_whatever_wrote_it(tf: Any, tmp_path: Path, per_channel: bool) -> None:
    features = convolution(tf)

    def network(arguments: Sequence[Any]) -> list[Any]:
        return features(arguments)[:1]

    given = source(tf, network, (1, 8, 8, 3), (2, 8, 8, 3))
    floating = build(given, tmp_path / "floating").entry.read_bytes()
    images = [np.random.default_rng(seed).random((1, 8, 8, 3), np.float32) for seed in range(8)]
    images[0] *= 100  # its values alone reach so far: a mean over samples would cut them off
    feeds, keys = [{"image/x:0": image} for image in images], {"image/x:0": "image_x_0"}
    files = {
        "static": quantizing.static_file(floating, feeds, keys, per_channel=per_channel),
        "dynamic": quantizing.dynamic_file(floating, per_channel=per_channel),
        "weights": quantizing.weights_file(floating, 8),
        "half": quantizing.half_file(floating),
    }
    expected = network([tf.constant(images[0])])[0].numpy()
    for name, content in files.items():
        (tmp_path / f"{name}.tflite").write_bytes(content)
        form = build(BuildSource.of_file(tmp_path / f"{name}.tflite", given.signature), tmp_path / name, "INT8")
        with open_form(form, 1) as session:
            found = session.run(feeds[0])["y"]
        assert found.dtype == np.float32
        assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max(), name
        products = products_of(content)
        assert [product.quantized for product in products] == [name != "half"] * 2, name
        assert [product.size for product in products] == [216, 40]


def test_a_file_is_a_source_too(tf: Any, tmp_path: Path) -> None:
    given = source(tf, convolution(tf), (1, 8, 8, 3), (1, 8, 8, 3))
    first = build(given, tmp_path / "first")
    again = build(BuildSource.of_file(first.entry, given.signature), tmp_path / "second", "INT8", threads="1")
    assert again.entry.read_bytes() == first.entry.read_bytes()
    assert again.options == {**first.options, "threads": "1"}
    other = Signature(given.signature.inputs, given.signature.outputs[:1])
    with pytest.raises(EngineFailure, match="gives y, z:0; the package has image/x:0 and y") as caught:
        build(BuildSource.of_file(first.entry, other), tmp_path / "third")
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_operators_that_litert_lacks_are_named(tf: Any, tmp_path: Path) -> None:
    def network(arguments: Sequence[Any]) -> list[Any]:
        square = arguments[0]
        return [tf.linalg.det(square) + tf.math.betainc(square[0, 0], square[0, 1], square[1, 1])]

    with pytest.raises(EngineFailure) as caught:
        build(source(tf, network, (2, 2), (2, 2)), tmp_path)
    failure = caught.value
    assert failure.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert (failure.operator, failure.node) == ("MatrixDeterminant", "MatrixDeterminant")
    assert "nor Betainc" in failure.message
    assert "SELECT_TF_OPS" in failure.suggested_fix


def test_precisions_that_no_conversion_makes_are_refused(tf: Any, tmp_path: Path) -> None:
    given = source(tf, convolution(tf), (1, 8, 8, 3), (1, 8, 8, 3))
    with pytest.raises(EngineFailure, match="LiteRT cannot compute in INT8 here") as caught:
        build(given, tmp_path, "INT8")
    assert "quantization task" in caught.value.suggested_fix


def test_graphs_are_not_taken(tmp_path: Path) -> None:
    graph = BuildSource(Signature((), ()), lambda: tmp_path / "g.onnx")
    with pytest.raises(EngineFailure, match="builds from tflite or function or network; it offers graph"):
        build(graph, tmp_path)


def test_a_damaged_file_is_a_failure(tf: Any, tmp_path: Path) -> None:
    form = build(source(tf, convolution(tf), (1, 8, 8, 3), (1, 8, 8, 3)), tmp_path)
    form.entry.write_bytes(b"no flatbuffer")
    with pytest.raises(EngineFailure, match="LiteRT failed to load the file"):
        open_form(form, 1)


def test_names_become_keys_that_tensorflow_takes() -> None:
    assert file_inputs(["x", "a/b:0", "a_b_0", "3d", "ümlaut"]) == [
        "x", "input_1_a_b_0", "input_2_a_b_0", "input_3_3d", "input_4__mlaut",
    ]  # fmt: skip


def test_without_arm_the_interpreter_is_no_arm_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATHE_ARM_EMULATOR", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    room = runtime("litert")
    assert room.where(ARM) is Where.EMULATOR
    assert room.runs_on(ARM).startswith("the LiteRT interpreter on x86_64")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert room.where(ARM) is Where.HERE
    assert "interpreter" not in room.runs_on(ARM)


def test_a_torch_network_needs_the_environment_of_its_converter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LITERT_TORCH, str(tmp_path / "absent"))
    with pytest.raises(EngineFailure, match="and this worker has none") as caught:
        build(networks.source(networks.convolution()), tmp_path)
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "LATHE_LITERT_TORCH=DIR" in caught.value.suggested_fix
    assert not torch_converter.version()


@pytest.mark.toolchain
@pytest.mark.skipif(not os.environ.get(LITERT_TORCH), reason=f"{LITERT_TORCH} names no environment with litert-torch")
@pytest.mark.parametrize(("precision", "most"), [("FP32", 1e-5), ("FP16", 1e-2)])
def test_a_torch_network_becomes_a_file(tmp_path: Path, precision: str, most: float) -> None:
    given = networks.source(networks.convolution())
    fixed = Signature(
        tuple(TensorSpec.fixed(spec.name, spec.dtype, (1, *spec.opt[1:])) for spec in given.signature.inputs),
        given.signature.outputs,
    )
    assert given.network is not None
    network = dataclasses.replace(given.network, example=networks.feed(1))
    form = build(BuildSource(fixed, network=network), tmp_path, precision)
    with open_form(form, 1) as session:
        found = session.run(networks.feed(1))
    expected = networks.truth(given.network.module, networks.feed(1))
    assert np.abs(found["y"] - expected).max() <= most * np.abs(expected).max()
    assert torch_converter.version()


@pytest.mark.toolchain
@pytest.mark.skipif(not os.environ.get(LITERT_TORCH), reason=f"{LITERT_TORCH} names no environment with litert-torch")
def test_what_litert_torch_cannot_write_is_named(tmp_path: Path) -> None:
    import torch

    class Determinant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (torch.linalg.det(x),)

    signature = Signature((TensorSpec.fixed("x", "float32", (3, 3)),), (TensorSpec.unknown("y", "float32"),))
    network = Network(Determinant().eval(), {}, {"x": np.eye(3, dtype=np.float32)})
    with pytest.raises(EngineFailure, match=r"cannot write the operator aten\._linalg_det") as caught:
        build(BuildSource(signature, network=network), tmp_path)
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPERATOR
    dynamic = Signature((TensorSpec("x", "float32", (1, 3), (2, 3), (4, 3)),), signature.outputs)
    with pytest.raises(EngineFailure, match="axis 0 of input 'x' ranges from 1 to 4"):
        build(BuildSource(dynamic, network=network), tmp_path)
