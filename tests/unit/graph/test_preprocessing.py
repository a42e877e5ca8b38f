from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.graph.interface import signature_of
from engines.graph.preprocessing import InputPreprocessing, bake
from tests.unit.graph import graphs

MEAN = (123.675, 116.28, 103.53)
SCALE = (58.395, 57.12, 57.375)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["", "uint8"])
def test_baked_nodes_compute_what_numpy_computes(layout: str, dtype: str) -> None:
    model = graphs.conv_bn(layout=layout)
    preprocessing = InputPreprocessing(MEAN, SCALE, swap_channels=True, dtype=dtype)
    baked = bake(model, {"x": preprocessing})
    shape = (2, 6, 6, 3) if layout == "NHWC" else (2, 3, 6, 6)
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(dtype or "float32")
    axis = 3 if layout == "NHWC" else 1
    along = [3 if position == axis else 1 for position in range(4)]
    ordered = np.flip(pixels.astype(np.float64), axis)
    expected = (ordered - np.reshape(MEAN, along)) / np.reshape(SCALE, along)
    reference = graphs.run(model, x=expected.astype(np.float32))[0]
    np.testing.assert_allclose(graphs.run(baked, x=pixels)[0], reference, rtol=1e-5, atol=1e-5)
    assert signature_of(baked).inputs[0].dtype == (dtype or "float32")
    assert signature_of(baked).inputs[0].name == "x"


def test_channels_are_put_in_order_before_mean_and_scale() -> None:
    node = graphs.node("Identity", ["x"], ["y"])
    model = graphs.model([node], [("x", "float32", [1, 3])], [("y", "float32", [1, 3])])
    baked = bake(model, {"x": InputPreprocessing((1, 2, 3), (1, 1, 2), swap_channels=True)})
    assert graphs.run(baked, x=np.array([[10, 0, 0]], np.float32))[0].tolist() == [[-1, -2, 3.5]]


def test_one_value_serves_all_channels_and_any_rank() -> None:
    node = graphs.node("Identity", ["x"], ["y"])
    model = graphs.model([node], [("x", "float32", ["n"])], [("y", "float32", ["n"])])
    out = graphs.run(bake(model, {"x": InputPreprocessing((1.0,), (2.0,))}), x=np.array([3, 5], np.float32))[0]
    assert out.tolist() == [1, 2]


def test_every_use_sees_preprocessed_values_in_subgraphs_too() -> None:
    branches: dict[str, Any] = {
        f"{name}_branch": graphs.branch(operator, "x", f"{name}_out", [1])
        for name, operator in (("then", "Neg"), ("else", "Abs"))
    }
    nodes = [graphs.node("If", ["c"], ["z"], **branches), graphs.node("Add", ["x", "z"], ["y"])]
    inputs: list[graphs.ValueInfo] = [("x", "float32", [1]), ("c", "bool", [])]
    model = graphs.model(nodes, inputs, [("y", "float32", [1])])
    baked = bake(model, {"x": InputPreprocessing((5.0,))})
    assert graphs.run(baked, x=np.array([7], np.float32), c=np.array(False))[0].tolist() == [4]


def test_argument_is_not_changed_and_empty_preprocessing_adds_nothing() -> None:
    model = graphs.conv_bn()
    before = model.SerializeToString(deterministic=True)
    bake(model, {"x": InputPreprocessing(MEAN)})
    assert model.SerializeToString(deterministic=True) == before
    assert len(bake(model, {"x": InputPreprocessing()}).graph.node) == len(model.graph.node)


@pytest.mark.parametrize(
    ("preprocessing", "words"),
    [
        (InputPreprocessing((1.0, 2.0)), "'x' of shape 0*3*6*6 has no axis of 2 channels"),
        (InputPreprocessing((1.0, 2.0, 3.0), (1.0, 2.0)), "for 2 and 3 channels at once"),
        (InputPreprocessing(scale=(1.0, 0.0, 2.0)), "scale value of input 'x' is 0"),
    ],
)
def test_wrong_values_name_the_input(preprocessing: InputPreprocessing, words: str) -> None:
    with pytest.raises(EngineFailure, match=words.replace("*", r"\*")) as caught:
        bake(graphs.conv_bn(), {"x": preprocessing})
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_unknown_input_and_integer_network_are_refused() -> None:
    with pytest.raises(EngineFailure, match="no input 'pixels' to preprocess; the graph has x"):
        bake(graphs.conv_bn(), {"pixels": InputPreprocessing(MEAN)})
    node = graphs.node("Identity", ["ids"], ["y"])
    ids = graphs.model([node], [("ids", "int64", [1, 3])], [("y", "int64", [1, 3])])
    with pytest.raises(EngineFailure, match="'ids' takes int64"):
        bake(ids, {"ids": InputPreprocessing((1.0,))})
