"""NV12 images in graphs and in torch: what NumPy computes, in every layout, order, range and operator set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure
from engines.graph.interface import signature_of
from engines.graph.preprocessing import bake
from engines.runtimes import BuildSource, Network, open_form
from engines.tensors.inputs import ComponentInput, network_dtype, package_inputs
from engines.tensors.preprocessing import preprocess
from engines.tensors.signature import Signature
from tests.unit.graph import graphs
from tests.unit.runtimes.building import build

STEPS = {"mean_values": (123.675, 116.28, 103.53), "scale_values": (58.395, 57.12, 57.375), "input_color": "NV12"}


def taking(layout: str = "NCHW", dtype: str = "float32", **steps: Any) -> ComponentInput:
    shape = (1, 3, 6, 4) if layout == "NCHW" else (1, 6, 4, 3)
    colors = {"model_color": "RGB", **STEPS, **steps}
    return ComponentInput.model_validate({"name": "x", "shape": shape, "dtype": dtype, "preprocessing": colors})


def identity(given: ComponentInput, opset: int = 20, *extents: int | str, dtype: str = "float32") -> Any:
    shape: list[int | str] = list(extents or ("n", *given.shape[1:]))
    made = graphs.model([graphs.node("Identity", ["x"], ["y"])], [("x", dtype, shape)], [("y", dtype, shape)])
    made.opset_import[0].version = opset
    return made


def images(count: int = 2, height: int = 6, width: int = 4) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, height * 3 // 2, width)).astype(np.uint8)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("wide", ["NARROW", "WIDE"])
@pytest.mark.parametrize("matrix", ["BT601", "BT709"])
def test_a_graph_decodes_nv12(layout: str, order: str, wide: str, matrix: str) -> None:
    given = taking(layout, model_color=order, input_range=wide, input_matrix=matrix)
    baked = bake(identity(given), [given])
    spec = signature_of(baked).inputs[0]
    assert (spec.name, spec.dtype, spec.max[1:]) == ("x", "uint8", (9, 4))
    expected = preprocess(images(), given.steps, "float32")
    assert expected.shape == (2, *given.shape[1:])
    np.testing.assert_allclose(graphs.run(baked, x=images())[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_old_and_new_operator_sets_decode_alike(opset: int) -> None:
    given = taking()
    found = graphs.run(bake(identity(given, opset), [given]), x=images())[0]
    np.testing.assert_allclose(found, preprocess(images(), given.steps, "float32"), rtol=1e-5, atol=1e-5)


def test_height_and_width_may_vary() -> None:
    given = taking(mean_values=(), scale_values=())
    baked = bake(identity(given, 20, "n", 3, "h", "w"), [given])
    for height, width in ((6, 4), (2, 10)):
        found = graphs.run(baked, x=images(1, height, width))[0]
        expected = preprocess(images(1, height, width), given.steps, "float32")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_a_network_of_half_precision_gets_what_float32_decoded() -> None:
    given = taking(dtype="float16")
    assert network_dtype(given) == "float16"
    found = graphs.run(bake(identity(given, dtype="float16"), [given]), x=images())[0]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, preprocess(images(), given.steps, "float16"), rtol=2e-2, atol=2e-2)


def test_a_network_of_integers_takes_no_nv12() -> None:
    given = taking(mean_values=(), scale_values=())
    with pytest.raises(EngineFailure, match="'x' takes uint8; mean, scale and NV12 need"):
        bake(identity(given, dtype="uint8"), [given])


@pytest.mark.parametrize(("name", "knobs"), [("torchscript", {}), ("openvino", {"reader": "pytorch"})])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_torch_networks_decode_nv12(name: str, knobs: dict[str, str], layout: str, tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
            return (x * 2,)

    given = taking(layout, model_color="BGR", input_range="WIDE")
    inputs = package_inputs([given], 4)
    signature = Signature(inputs, signature_of(identity(given)).outputs)
    network = Network(Net().eval(), {"x": given.steps}, {"x": images()})
    form = build(name, BuildSource(signature, network=network), tmp_path / "out", "FP32", knobs)
    with open_form(form, 1) as session:
        for count in (1, 3):
            expected = 2 * preprocess(images(count), given.steps, "float32")
            np.testing.assert_allclose(session.run({"x": images(count)})["y"], expected, rtol=1e-4, atol=1e-4)
