"""Items as inputs with the batch on any axis, or without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.datasets.selection import unpack_selection
from engines.evaluation.feeder import Feeder
from engines.failures import EngineFailure


def tensor(name: str, *axes: int, most: int = 4, **fields: Any) -> dict[str, Any]:
    """Return an input as a manifest has it; the axis that counts samples goes from 1 to `most`."""
    high = list(axes)
    if axes and fields.get("batch_axis", 0) >= 0:
        high[fields.get("batch_axis", 0)] = most
    shape = {"min": list(axes), "opt": list(axes), "max": high}
    return {"name": name, "dtype": "float32", "shape": shape, **fields}


def feeds(tmp_path: Any, inputs: list[dict[str, Any]], size: int, **arrays: Any) -> list[dict[str, Any]]:
    np.savez(tmp_path / "data.npz", allow_pickle=False, **arrays)
    selection = unpack_selection(tmp_path / "data.npz", tmp_path / "unpacked")
    component = {"name": "net", "signature": {"inputs": inputs}, "max_batch": 4}
    return [batch.feed for batch in Feeder(selection, component, None, size).batches()]


def test_each_input_is_stacked_along_its_own_batch_axis(tmp_path: Any) -> None:
    inputs = [tensor("x", 1, 3), tensor("state", 2, 1, 5, batch_axis=1), tensor("rate", value=[8000.0])]
    states = np.arange(3 * 2 * 5, dtype=np.float32).reshape(3, 2, 5)
    first, second = feeds(tmp_path, inputs, 2, x=np.ones((3, 3), np.float32), state=states)
    assert (first["x"].shape, first["state"].shape, second["state"].shape) == ((2, 3), (2, 2, 5), (2, 1, 5))
    np.testing.assert_array_equal(first["state"][:, 1], states[1])
    assert first["rate"] == second["rate"] == 8000
    assert first["rate"].shape == ()


def test_samples_with_different_shared_inputs_run_in_separate_calls(tmp_path: Any) -> None:
    inputs = [tensor("x", 1, 3), tensor("rate"), tensor("table", 2, batch_axis=-1)]
    rates, table = np.array([8, 8, 16], np.float32), np.ones((3, 2), np.float32)
    first, second = feeds(tmp_path, inputs, 4, x=np.ones((3, 3), np.float32), rate=rates, table=table)
    assert (len(first["x"]), float(first["rate"]), first["table"].shape) == (2, 8, (2,))
    assert (len(second["x"]), float(second["rate"])) == (1, 16)
    with pytest.raises(EngineFailure, match="'rate' has no array"):
        feeds(tmp_path, inputs, 4, x=np.ones((3, 3), np.float32), table=table)


def test_outputs_begin_with_the_samples_wherever_they_are_counted(tmp_path: Any) -> None:
    np.savez(tmp_path / "data.npz", allow_pickle=False, x=np.ones((3, 3), np.float32))
    selection = unpack_selection(tmp_path / "data.npz", tmp_path / "unpacked")
    outputs = [tensor("y", 1, 3), tensor("state", 2, 1, 5, batch_axis=1), tensor("table", 2, batch_axis=-1)]
    component = {"name": "net", "signature": {"inputs": [tensor("x", 1, 3)], "outputs": outputs}, "max_batch": 4}
    (batch,) = Feeder(selection, component, None, 3).batches()
    states = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    found = batch.cut({"y": np.ones((3, 3)), "state": states, "table": np.ones(2)})
    assert {name: value.shape for name, value in found.items()} == {"y": (3, 3), "state": (3, 2, 5), "table": (2,)}
    np.testing.assert_array_equal(found["state"][2], states[:, 2])
