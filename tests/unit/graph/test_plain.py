"""Graphs in forms that some runtime cannot read are rewritten, and compute the same in each runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.graph.plain import drop_idle_loops, plain
from engines.graph.repair import repair
from tests.unit.graph import graphs

X = np.arange(-4, 4, dtype=np.float32).reshape(2, 4)
IN: graphs.ValueInfo = ("x", "float32", [2, 4])
OUT: graphs.ValueInfo = ("y", "float32", [2, 4])


def _functions() -> Any:
    from onnx import helper

    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    inner = helper.make_function("own", "Inner", ["a"], ["b"], [graphs.node("Neg", ["a"], ["b"], name="n")], opsets)
    calls = [graphs.node("Inner", ["a"], ["c"], domain="own"), graphs.node("Abs", ["c"], ["b"], name="n")]
    outer = helper.make_function("own", "Outer", ["a"], ["b"], calls, opsets)
    nodes = [graphs.node("Outer", ["x"], ["t"], domain="own"), graphs.node("Outer", ["t"], ["y"], domain="own")]
    model = graphs.model(nodes, [IN], [OUT])
    model.opset_import.append(opsets[1])
    model.functions.extend([inner, outer])
    return model


def _sparse(indices: list[int], axes: int) -> Any:
    from onnx import TensorProto, helper

    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2])
    where = helper.make_tensor("w_indices", TensorProto.INT64, [2, axes] if axes > 1 else [2], indices)
    model = graphs.model([graphs.node("Add", ["x", "w"], ["y"])], [IN], [OUT])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [2, 4]))
    return model


def _narrow(element: str) -> Any:
    from onnx import TensorProto, helper

    nodes = [graphs.node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT), graphs.node("Add", ["x", "wide"], ["y"])]
    model = graphs.model(nodes, [IN], [OUT])
    weights = helper.make_tensor("w", getattr(TensorProto, element), [4], [1, 0.5, 2, 3])
    model.graph.initializer.append(weights)
    return model


def _loop(trips: int, condition: bool) -> Any:
    body_nodes = [
        graphs.node("Identity", ["go"], ["on"]),
        graphs.node("Neg", ["v"], ["w"]),
        graphs.node("Abs", ["w"], ["s"]),
    ]
    from onnx import helper

    body = helper.make_graph(
        body_nodes,
        "body",
        [graphs.value("i", "int64", []), graphs.value("go", "bool", []), graphs.value("v", "float32", [2, 4])],
        [graphs.value("on", "bool", []), graphs.value("w", "float32", [2, 4]), graphs.value("s", "float32", [2, 4])],
    )
    nodes = [graphs.node("Loop", ["trips", "start", "x"], ["y", "all"], body=body)]
    weights = {"trips": np.array(trips), "start": np.array(condition)}
    return graphs.model(nodes, [IN], [OUT, ("all", "float32", ["n", 2, 4])], weights)


def _openvino(model: Any, path: Path) -> list[Any]:
    import openvino as ov

    path.write_bytes(model.SerializeToString())
    compiled = ov.Core().compile_model(ov.convert_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled({"x": X}).values())


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (_functions(), [np.abs(X)]),
        (_sparse([0, 5], 1), [X + np.array([[1, 0, 0, 0], [0, 2, 0, 0]])]),
        (_sparse([0, 1, 1, 3], 2), [X + np.array([[0, 1, 0, 0], [0, 0, 0, 2]])]),
        (_narrow("BFLOAT16"), [X + np.array([1, 0.5, 2, 3])]),
        (_narrow("FLOAT16"), [X + np.array([1, 0.5, 2, 3])]),
        (_loop(0, condition=True), [X, np.zeros((0, 2, 4))]),
        (_loop(3, condition=False), [X, np.zeros((0, 2, 4))]),
    ],
    ids=["functions", "sparse", "sparse by axes", "bfloat16", "float16", "no trips", "false condition"],
)
def test_short_forms_are_written_out(made: Any, expected: list[Any], tmp_path: Path) -> None:
    before = graphs.run(made, x=X)
    model = plain(made)
    assert not model.functions
    assert not model.graph.sparse_initializer
    for found in (before, graphs.run(model, x=X), _openvino(model, tmp_path / "m.onnx")):
        assert [value.shape for value in found] == [value.shape for value in expected]
        for value, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value, wanted)


def test_loops_that_run_stay() -> None:
    assert not drop_idle_loops(_loop(3, condition=True))


def test_a_graph_without_a_name_and_with_the_domain_spelled_out_is_repaired() -> None:
    nodes = [graphs.node("Dropout", ["x"], ["d", ""]), graphs.node("Relu", ["d"], ["y"], domain="ai.onnx")]
    model = graphs.model(nodes, [IN], [OUT])
    model.graph.name, model.opset_import[0].domain = "", "ai.onnx"
    assert repair(model, ())
    assert not repair(model, ())
    np.testing.assert_array_equal(graphs.run(model, x=X)[0], np.maximum(X, 0))


def test_outputs_that_are_inputs_or_listed_twice_get_values_of_their_own(tmp_path: Path) -> None:
    model = graphs.model([graphs.node("Relu", ["x"], ["y"])], [IN], [OUT, IN, OUT])
    assert repair(model, ())
    assert [output.name for output in model.graph.output] == ["y", "x_2", "y_2"]
    for found in (graphs.run(model, x=X), _openvino(model, tmp_path / "m.onnx")):
        for value, wanted in zip(found, [np.maximum(X, 0), X, np.maximum(X, 0)], strict=True):
            np.testing.assert_array_equal(value, wanted)
