"""ONNX files as sources: their weights beside them, and graphs that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from tests.unit.engines_frontends.reading import assert_equal, read
from tests.unit.engines_graph import graphs


def _product(weights: np.ndarray[Any, Any]) -> Any:
    nodes = [graphs.node("MatMul", ["x", "w"], ["y"])]
    return graphs.model(nodes, [("x", "float32", ["n", 4])], [("y", "float32", ["n", 4])], {"w": weights})


def test_weights_beside_the_graph_are_read_with_it(tmp_path: Path) -> None:
    import onnx

    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    model = _product(np.ones((4, 4), np.float32))
    onnx.external_data_helper.convert_model_to_external_data(model, location="data/w.bin", size_threshold=0)
    onnx.save_model(model, source / "net.onnx")
    (source / "README.md").write_text("one of three files, and the graph is told from them")
    assert_equal(read("ONNX", tmp_path))


@pytest.mark.parametrize(
    ("weights", "words"),
    [(np.ones((4, 4), np.int64), "Type Error"), (np.ones((5, 4), np.float32), "Incompatible dimensions")],
)
def test_a_graph_that_contradicts_itself_is_the_fault_of_its_file(
    tmp_path: Path, weights: np.ndarray[Any, Any], words: str
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "net.onnx").write_bytes(_product(weights).SerializeToString())
    with pytest.raises(EngineFailure, match=rf"'net\.onnx' is no graph that can be computed: .*{words}") as caught:
        read("ONNX", tmp_path)
    assert caught.value.reason is FailureReason.INVALID_MODEL
    assert "check_model" in caught.value.suggested_fix


def test_a_graph_may_leave_its_shapes_unsaid(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    model = graphs.model([graphs.node("Relu", ["x"], ["y"])], [("x", "float32", None)], [("y", "float32", None)])
    (tmp_path / "source" / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineFailure, match="does not say the shape of its input 'x'; declare it"):
        read("ONNX", tmp_path)
    assert_equal(read("ONNX", tmp_path, inputs=[{"name": "x", "shape": [1, 3]}]))
