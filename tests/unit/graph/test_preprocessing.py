from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.graph.interface import signature_of
from engines.graph.preprocessing import bake
from engines.tensors.inputs import ComponentInput
from engines.tensors.preprocessing import Preprocessing, preprocess
from tests.unit.graph import graphs

MEAN = (123.675, 116.28, 103.53)
SCALE = (58.395, 57.12, 57.375)


SWAPS = {"input_color": "BGR", "model_color": "RGB"}


def given(dtype: str = "float32", name: str = "x", **steps: Any) -> list[ComponentInput]:
    return [ComponentInput(name=name, dtype=dtype, preprocessing=Preprocessing(**steps))]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_baked_nodes_compute_what_numpy_computes(layout: str, dtype: str) -> None:
    model = graphs.conv_bn(layout=layout)
    inputs = given(dtype, mean_values=MEAN, scale_values=SCALE, **SWAPS)
    baked = bake(model, inputs)
    shape = (2, 6, 6, 3) if layout == "NHWC" else (2, 3, 6, 6)
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(dtype)
    axis = 3 if layout == "NHWC" else 1
    along = [3 if position == axis else 1 for position in range(4)]
    ordered = np.flip(pixels.astype(np.float64), axis)
    expected = (ordered - np.reshape(MEAN, along)) / np.reshape(SCALE, along)
    np.testing.assert_allclose(preprocess(pixels, inputs[0].preprocessing, "float32"), expected, rtol=1e-6)
    reference = graphs.run(model, x=expected.astype(np.float32))[0]
    np.testing.assert_allclose(graphs.run(baked, x=pixels)[0], reference, rtol=1e-5, atol=1e-5)
    assert signature_of(baked).inputs[0].dtype == dtype
    assert signature_of(baked).inputs[0].name == "x"


def test_channels_are_put_in_order_before_mean_and_scale() -> None:
    node = graphs.node("Identity", ["x"], ["y"])
    model = graphs.model([node], [("x", "float32", [1, 3])], [("y", "float32", [1, 3])])
    baked = bake(model, given(mean_values=(1, 2, 3), scale_values=(1, 1, 2), **SWAPS))
    assert graphs.run(baked, x=np.array([[10, 0, 0]], np.float32))[0].tolist() == [[-1, -2, 3.5]]


def test_one_value_serves_all_channels_and_any_rank() -> None:
    node = graphs.node("Identity", ["x"], ["y"])
    model = graphs.model([node], [("x", "float32", ["n"])], [("y", "float32", ["n"])])
    inputs, x = given(mean_values=(1.0,), scale_values=(2.0,)), np.array([3, 5], np.float32)
    assert graphs.run(bake(model, inputs), x=x)[0].tolist() == [1, 2]
    assert preprocess(x, inputs[0].preprocessing, "float32").tolist() == [1, 2]


def test_every_use_sees_preprocessed_values_in_subgraphs_too() -> None:
    branches: dict[str, Any] = {
        f"{name}_branch": graphs.branch(operator, "x", f"{name}_out", [1])
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    nodes = [graphs.node("If", ["c"], ["z"], **branches), graphs.node("Add", ["x", "z"], ["y"])]
    inputs: list[graphs.ValueInfo] = [("x", "float32", [1]), ("c", "bool", [])]
    model = graphs.model(nodes, inputs, [("y", "float32", [1])])
    baked = bake(model, given(mean_values=(5.0,)))
    assert graphs.run(baked, x=np.array([7], np.float32), c=np.array(False))[0].tolist() == [4]


def test_argument_is_not_changed_and_empty_preprocessing_adds_nothing() -> None:
    model = graphs.conv_bn()
    before = model.SerializeToString(deterministic=True)
    bake(model, given(mean_values=MEAN))
    assert model.SerializeToString(deterministic=True) == before
    assert len(bake(model, given()).graph.node) == len(model.graph.node)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"mean_values": (1.0, 2.0)}, "'x' of shape 0*3*6*6 has no axis of 2 channels"),
        ({"mean_values": (1.0, 2.0, 3.0), "scale_values": (1.0, 2.0)}, "for 2 and 3 channels at once"),
        ({"scale_values": (1.0, 0.0, 2.0)}, "'x' of shape 0*3*6*6 has a scale value of 0"),
    ],
)
def test_wrong_values_name_the_input(steps: dict[str, Any], words: str) -> None:
    with pytest.raises(EngineFailure, match=words.replace("*", r"\*")) as caught:
        bake(graphs.conv_bn(), given(**steps))
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_unknown_input_and_integer_network_are_refused() -> None:
    with pytest.raises(EngineFailure, match="no input 'pixels' to preprocess; the graph has x"):
        bake(graphs.conv_bn(), given(name="pixels", mean_values=MEAN))
    node = graphs.node("Identity", ["ids"], ["y"])
    ids = graphs.model([node], [("ids", "int64", [1, 3])], [("y", "int64", [1, 3])])
    with pytest.raises(EngineFailure, match="'ids' takes int64"):
        bake(ids, given(name="ids", mean_values=(1.0,)))
