"""Shapes that vary, from the declaration to the package: dynamic graphs, samples at both ends, `infer.py`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import Tensor, read_manifest
from tests.integration.conversion.workbench import CNN, IMAGE, TWO_INPUTS, Bench

RANGE = {"min_shape": [1, 3, 8, 8], "max_shape": [1, 3, 32, 16]}
NESTED = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Linear(4, 4)

        def forward(self, x, states, *, mask):
            return self.scale(x) * mask + states["first"][0], states["first"][1]

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net()
"""
FIXED_HEIGHT = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(12, 1))

        def forward(self, x):
            return x * self.scale

    @architecture("Net")
    def build():
        return Net()
"""


def profile(spec: Tensor) -> tuple[tuple[int, ...], ...]:
    """Return min, opt and max of a tensor of a manifest."""
    assert spec.shape is not None
    return spec.shape.min, spec.shape.opt, spec.shape.max


def smoke(bench: Bench) -> str:
    """Run the package's own script on random input, as a user does."""
    command = [sys.executable, str(bench.package / "infer.py"), "--batch", "2"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def model_of(bench: Bench) -> Any:
    """Return the package, loaded by its own script."""
    import runpy

    return runpy.run_path(str(bench.package / "infer.py"))["Model"](bench.package)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_image_of_any_size_in_a_range(runtime: str, bench: Bench) -> None:
    network = bench.put_network(CNN)
    outcome = bench.convert(bench.request(runtime=runtime, inputs=[{**IMAGE, **RANGE}], max_batch=4))
    (component,) = outcome["components"]
    assert component["parity"]["verdict"] == "PASS"
    assert component["parity"]["samples"] == 1 + 2 + 4 + 1 + 4 + 2  # noise, and two pictures
    (spec,) = read_manifest(bench.package).components[0].signature.inputs
    assert profile(spec) == ((1, 3, 8, 8), (1, 3, 12, 12), (4, 3, 32, 16))
    model = model_of(bench)
    image = np.random.default_rng(0).standard_normal((5, 3, 31, 9)).astype(np.float32)
    (output,) = model.run({"x": image}).values()
    np.testing.assert_allclose(output, network(torch.from_numpy(image)).detach().numpy(), atol=1e-4)
    assert runtime != "onnxruntime" or "output_0: float32 2 * 10" in smoke(bench)
    with pytest.raises(ValueError, match=r"takes the shape 1\.\.4 \* 3 \* 8\.\.32 \* 8\.\.16, not 1 \* 3 \* 33 \* 9"):
        model.run({"x": np.zeros((1, 3, 33, 9), np.float32)})


def test_text_of_any_length_in_a_range(bench: Bench) -> None:
    network = bench.put_network(TWO_INPUTS)
    ends = {"min_shape": [1, 1], "max_shape": [1, 40]}
    inputs = [{"name": "ids", "shape": [1, 6], "dtype": "int64", **ends}, {"name": "mask", "shape": [1, 6], **ends}]
    bench.convert(bench.request(inputs=inputs, max_batch=1, method="raw"))
    hidden, best = read_manifest(bench.package).components[0].signature.outputs
    assert profile(hidden) == ((1, 1, 8), (1, 6, 8), (1, 40, 8))
    assert profile(best) == ((1,), (1,), (1,))
    feed = {"ids": np.arange(17)[None], "mask": np.ones((1, 17), np.float32)}
    expected = network(*map(torch.from_numpy, feed.values()))["hidden"].detach().numpy()
    np.testing.assert_allclose(model_of(bench).run(feed)["output_0"], expected, atol=1e-4)


def test_nested_inputs_are_called_as_they_nest(bench: Bench) -> None:
    bench.put_network(NESTED)
    places = {"x": "x", "a": "states[first][0]", "b": "states[first][1]", "m": "mask"}
    inputs = [{"name": name, "shape": [1, 4], "place": place} for name, place in places.items()]
    outcome = bench.convert(bench.request(inputs=inputs, method="raw"))
    assert outcome["components"][0]["parity"]["verdict"] == "PASS"
    assert [spec.name for spec in read_manifest(bench.package).components[0].signature.inputs] == [*places]
    inputs[-1]["place"] = "other"
    with pytest.raises(EngineFailure, match=r"cannot be called with x, states\[first\]\[0\].*: missing .*'mask'"):
        bench.convert(bench.request(inputs=inputs, method="raw"))


def test_a_network_that_fixes_an_axis_cannot_have_a_range(bench: Bench) -> None:
    bench.put_network(FIXED_HEIGHT)
    with pytest.raises(EngineFailure) as caught:
        bench.convert(bench.request(inputs=[{**IMAGE, **RANGE}], method="raw"))
    assert caught.value.reason is FailureReason.SHAPE_MISMATCH
    assert "at 1*3*8*8" in caught.value.evidence
    assert "narrow the range of shapes" in caught.value.suggested_fix


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"min_shape": [1, 3, 8]},
            "min_shape, shape and max_shape have one extent per axis: [1, 3, 8] beside [1, 3, 12, 12]",
        ),
        ({"min_shape": [1, 3, 13, 8]}, "axis 2: min 13, shape 12 and max 32 must rise from 1"),
    ],
)
def test_a_profile_that_is_none_is_refused(fields: dict[str, Any], words: str, bench: Bench) -> None:
    bench.put_network(CNN)
    with pytest.raises(EngineFailure) as caught:
        bench.convert(bench.request(inputs=[{**IMAGE, **RANGE, **fields}]))
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert words in caught.value.message
