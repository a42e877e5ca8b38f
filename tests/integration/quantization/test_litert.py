"""LiteRT for ARM, on any machine: a SavedModel of the digits network converted, and quantized by each scheme."""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.api import conversion
from engines.formats.tensorflow.tools import import_tensorflow
from engines.package.manifest import read_manifest
from engines.sandbox import Reporter
from engines.sandbox.environment import ARM_EMULATOR
from tests.integration.quantization.workbench import QuantizationBench, digits, put_tensors

ARM = {"device": "cpu-arm64", "runtime": "litert", "source_format": "SAVED_MODEL"}
INPUTS = [{"name": "x", "shape": [1, 8, 8, 1], "preprocessing": {"scale_values": [16.0]}}]
SPECS: list[dict[str, Any]] = [{}, {"scheme": "DYNAMIC"}, {"scheme": "WEIGHT_ONLY"}, {"precision": "FP16"}]


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the digits network, trained for some seconds by TensorFlow."""
    tf = import_tensorflow()
    images, classes = digits()
    x, y = tf.constant(images[:1200].transpose(0, 2, 3, 1) / 16), tf.constant(classes[:1200])
    tf.random.set_seed(0)
    variables = [
        tf.Variable(tf.random.normal(shape) * 0.1)
        for shape in ((3, 3, 1, 16), (16,), (3, 3, 16, 32), (32,), (512, 10), (10,))
    ]

    def network(x: Any) -> Any:
        first, bias, second, bias2, head, bias3 = variables
        x = tf.nn.relu(tf.nn.conv2d(x, first, 1, "SAME") + bias)
        x = tf.nn.relu(tf.nn.conv2d(x, second, 2, "SAME") + bias2)
        return tf.reshape(x, [-1, 512]) @ head + bias3

    momentum = [tf.Variable(tf.zeros_like(each)) for each in variables]

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(x)))
        for each, before, slope in zip(variables, momentum, tape.gradient(loss, variables), strict=True):
            before.assign(0.9 * before + slope)
            each.assign_sub(0.2 * before)

    for _ in range(40):
        step()
    module = tf.Module()
    module.weights = variables
    module.call = tf.function(
        lambda x: {"logits": network(x)}, input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")]
    )
    folder = tmp_path_factory.mktemp("digits") / "model"
    tf.saved_model.save(module, str(folder), signatures=module.call)
    return folder


@pytest.fixture
def digits_bench(bench: QuantizationBench, saved_model: Path, monkeypatch: pytest.MonkeyPatch) -> QuantizationBench:
    monkeypatch.delenv(ARM_EMULATOR, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    shutil.copytree(saved_model, bench.workdir / "source")
    return bench


def files(folder: Path) -> list[dict[str, str]]:
    return [{"path": f"source/{path.relative_to(folder)}"} for path in sorted(folder.rglob("*")) if path.is_file()]


def test_a_conversion_is_compared_and_not_timed(digits_bench: QuantizationBench, saved_model: Path) -> None:
    request = digits_bench.request(inputs=INPUTS, **ARM)
    request |= {"inputs": files(saved_model), "architectures": {}}
    outcome = conversion.run(request, digits_bench.workdir, Reporter(digits_bench.progress.append))
    (component,) = outcome["components"]
    assert component["parity"]["verdict"] == "PASS"
    assert component["parity"]["device"] == ""
    assert component["parity"]["verified_on"].startswith("the LiteRT interpreter on x86_64")
    assert "profile" not in component
    manifest = read_manifest(digits_bench.workdir / "package")
    assert manifest.requirements.architecture == "aarch64"
    assert list(manifest.requirements.packages) == ["numpy", "ai-edge-litert"]
    assert (digits_bench.workdir / "package/runtimes/litert/opener.py").is_file()


@pytest.mark.parametrize("spec", SPECS, ids=["static", "dynamic", "weights", "half"])
def test_digits_are_quantized_by_litert_itself(
    digits_bench: QuantizationBench, saved_model: Path, spec: dict[str, Any]
) -> None:
    request = digits_bench.work(spec, inputs=INPUTS, **ARM)
    request["conversion"] |= {"inputs": files(saved_model), "architectures": {}}
    images, _ = digits()
    request["calibration"] = put_tensors(
        digits_bench.workdir / "calibration", {"x": np.ascontiguousarray(images[:48].transpose(0, 2, 3, 1))}
    )
    result = digits_bench.quantize(request)["result"]
    assert result["parity"]["verdict"] in ("PASS", "WARN")
    assert "profile" not in result
    assert int(result["size_bytes"]) < int(result["source_size_bytes"])
    chosen = next(each for each in result["candidates"] if each.get("chosen"))
    assert chosen["median_ms"] == 0.0
    assert chosen["cosine"] > 0.99
    if spec.get("precision") != "FP16":
        left = 1 if spec.get("scheme") == "DYNAMIC" else 0  # TFLiteConverter leaves weights of few elements as they are
        assert result["coverage"]["products"] == "3"
        assert result["coverage"]["quantized_products"] == str(3 - left)
        assert result["coverage"]["weights"] == "9872"
