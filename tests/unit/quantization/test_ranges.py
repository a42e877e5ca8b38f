"""Ranges of activations: one node's output against what NumPy says of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from engines.failures import EngineFailure
from engines.quantization.ranges import find_ranges
from engines.tensors import Array, Arrays

F = onnx.TensorProto.FLOAT


def relu(path: Path) -> Path:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    values = [helper.make_tensor_value_info(name, F, [None, 64]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def found(tmp_path: Path, method: str, batches: list[Array]) -> dict[str, tuple[float, float]]:
    def feeds() -> Iterator[Arrays]:
        yield from ({"x": batch} for batch in batches)

    done: list[int] = []
    ranges = find_ranges(relu(tmp_path / "g.onnx"), feeds(), method, tmp_path, done.append)
    assert done == list(range(1, len(batches) + 1))
    return ranges


def batches(scales: list[float]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((8, 64)) * scale).astype(np.float32) for scale in scales]


def test_minmax_is_what_numpy_says(tmp_path: Path) -> None:
    data = batches([1, 3, 2])
    ranges = found(tmp_path, "MINMAX", data)
    assert ranges["x"] == pytest.approx((np.min(data), np.max(data)))
    assert ranges["y"] == pytest.approx((0, np.max(data)))


@pytest.mark.parametrize("method", ["ENTROPY_2", "ENTROPY", "LEGACY_PERCENTILE"])
@pytest.mark.parametrize("scales", [[1, 1, 1], [1e-30, 1e-3, 1], [1, 1e-20, 0]])
def test_histograms_cut_inside_the_range_whatever_grows(method: str, scales: list[float], tmp_path: Path) -> None:
    data = batches(scales)
    low, high = found(tmp_path, method, data)["x"]
    assert np.min(data) <= low < 0 < high <= np.max(data)
    assert high > 0.2 * np.max(data)


@pytest.mark.parametrize("method", ["ENTROPY_2", "MINMAX"])
def test_extreme_and_constant_values_have_a_range(method: str, tmp_path: Path) -> None:
    most = np.float32(np.finfo(np.float32).max)
    assert found(tmp_path, method, [np.full((1, 64), -most)])["x"][0] == pytest.approx(-float(most))
    assert found(tmp_path, method, [np.zeros((1, 64), np.float32)])["x"] == (0, 0)


@pytest.mark.parametrize("method", ["ENTROPY_2", "MINMAX"])
def test_activations_that_are_not_finite_are_refused(method: str, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="not finite"):
        found(tmp_path, method, [np.full((1, 64), np.inf, np.float32)])
