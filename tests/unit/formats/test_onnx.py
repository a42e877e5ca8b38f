"""ONNX files as sources: their weights beside them, and graphs that contradict themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from engines.failures import EngineFailure, FailureReason
from engines.graph.interface import element_type
from tests.unit.formats.reading import assert_equal, read, read_component, request_of
from tests.unit.graph import graphs


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
    with pytest.raises(EngineFailure, match=rf"'net\.onnx' cannot be computed as it is: .*{words}") as caught:
        read("ONNX", tmp_path)
    assert caught.value.reason is FailureReason.INVALID_MODEL
    assert "check_model" in caught.value.suggested_fix


def test_a_graph_may_leave_its_shapes_unsaid(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    model = graphs.model([graphs.node("Relu", ["x"], ["y"])], [("x", "float32", None)], [("y", "float32", None)])
    (tmp_path / "source" / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineFailure, match="does not state the shape of its input 'x'") as caught:
        read("ONNX", tmp_path)
    assert "--tensor-information 'x:float(" in caught.value.suggested_fix
    assert_equal(read("ONNX", tmp_path, inputs=[{"name": "x", "shape": [1, 3]}]))


def _save(workdir: Path, model: Any) -> None:
    (workdir / "source").mkdir()
    (workdir / "source" / "net.onnx").write_bytes(model.SerializeToString())


def test_a_value_that_is_an_output_twice_is_given_under_two_names(tmp_path: Path) -> None:
    y: graphs.ValueInfo = ("y", "float32", [2, 4])
    _save(tmp_path, graphs.model([graphs.node("Relu", ["x"], ["y"])], [("x", "float32", [2, 4])], [y, y, y]))
    prepared = read("ONNX", tmp_path)
    assert [spec.name for spec in prepared.signature.outputs] == ["y", "y_2", "y_3"]
    assert_equal(prepared)


def test_nodes_of_one_name_are_named_apart(tmp_path: Path) -> None:
    inner = graphs.branch("Neg", "b", "neg", [3])
    inner.node[0].name = "n"
    nodes = [
        graphs.node("Relu", ["x"], ["a"], name="n"),
        graphs.node("Neg", ["a"], ["b"], name="n"),
        graphs.node("Abs", ["b"], ["c"], name="n_2"),
        graphs.node(
            "If", ["which"], ["y"], name="n", then_branch=inner, else_branch=graphs.branch("Abs", "c", "d", [3])
        ),
    ]
    inputs: list[graphs.ValueInfo] = [("x", "float32", [3]), ("which", "bool", [])]
    _save(tmp_path, graphs.model(nodes, inputs, [("y", "float32", [3])]))
    assert_equal(read("ONNX", tmp_path))


@pytest.mark.parametrize("version", [1, 6])
def test_a_graph_of_an_old_operator_set_is_raised(tmp_path: Path, version: int) -> None:
    attributes = {"broadcast": 1} if version > 1 else {"broadcast": 1, "consumed_inputs": [0]}
    model = graphs.model(
        [graphs.node("Add", ["x", "bias"], ["y"], **attributes)],
        [("x", "float32", [2, 3]), ("bias", "float32", [3])],
        [("y", "float32", [2, 3])],
        {"bias": np.arange(3, dtype=np.float32)},
    )
    model.ir_version, model.opset_import[0].version = 3, version
    _save(tmp_path, model)
    prepared = read("ONNX", tmp_path)
    assert_equal(prepared)
    feed = {"x": np.ones((2, 3), np.float32)}
    assert_array_equal(prepared.source.run(feed)["y"], [[1, 2, 3], [1, 2, 3]])


def test_an_old_graph_that_cannot_be_raised_is_refused_with_the_reason(tmp_path: Path) -> None:
    nodes = [graphs.node("Pad", ["x"], ["y"], paddings=[1, 1])]
    model = graphs.model(nodes, [("x", "float32", [2])], [("y", "float32", [4])])
    model.ir_version, model.opset_import[0].version = 3, 1
    _save(tmp_path, model)
    with pytest.raises(EngineFailure, match=r"operator set older than 7, .* cannot raise it") as caught:
        read("ONNX", tmp_path)
    assert (caught.value.reason, caught.value.operator) == (FailureReason.UNSUPPORTED_OPERATOR, "Pad")


def _overridable() -> Any:
    return graphs.model(
        [graphs.node("Mul", ["x", "scale"], ["y"])],
        [("x", "float32", [2, 4]), ("scale", "float32", [1])],
        [("y", "float32", [2, 4])],
        {"scale": np.array([2], np.float32)},
    )


def test_an_input_with_a_default_becomes_a_constant_and_a_warning_says_so(tmp_path: Path) -> None:
    _save(tmp_path, _overridable())
    prepared = read("ONNX", tmp_path)
    assert [spec.name for spec in prepared.signature.inputs] == ["x"]
    assert_array_equal(prepared.source.run({"x": np.ones((2, 4), np.float32)})["y"], np.full((2, 4), 2))
    (warning,) = prepared.source.warnings
    assert "'scale'" in warning


@pytest.mark.parametrize("by_text", [False, True])
def test_an_input_with_a_default_that_is_declared_stays_an_input(tmp_path: Path, by_text: bool) -> None:
    _save(tmp_path, _overridable())
    inputs = [{"name": "x", "shape": [2, 4]}, {"name": "scale", "shape": [1]}]
    request = request_of("ONNX", tmp_path, [{"name": "model", "inputs": [] if by_text else inputs}])
    if by_text:
        request = request.model_copy(update={"tensor_information": "x:float(2*4)\nscale:float(1)"})
    prepared = read_component(request, "model", tmp_path)
    feed = {"x": np.ones((2, 4), np.float32), "scale": np.array([3], np.float32)}
    assert_equal(prepared, [feed])
    assert_array_equal(prepared.source.run(feed)["y"], np.full((2, 4), 3))
    assert not prepared.source.warnings


def test_an_output_without_a_type_gets_the_one_that_follows(tmp_path: Path) -> None:
    import onnx

    model = graphs.model([graphs.node("Relu", ["x"], ["y"])], [("x", "float32", [2, 4])], [])
    model.graph.output.append(onnx.ValueInfoProto(name="y"))
    _save(tmp_path, model)
    prepared = read("ONNX", tmp_path)
    assert prepared.signature.outputs[0].max == (2, 4)
    assert_equal(prepared)


@pytest.mark.parametrize(
    ("node", "given", "made", "words"),
    [
        (
            "Relu",
            ("x", "float32", [2, 0]),
            ("y", "float32", [2, 0]),
            "extent 0 on axis 1, so that it is always empty",
        ),
        ("Cast", ("x", "float32", [2]), ("y", "bfloat16", [2]), "'y' of the graph is in bfloat16"),
        ("Cast", ("x", "float32", [2]), ("y", "int4", [2]), "'y' of the graph has the element type 'int4'"),
        ("Identity", ("x", "complex64", [2]), ("y", "complex64", [2]), "the element type 'complex64'"),
    ],
)
def test_what_no_runtime_can_show_is_refused(
    tmp_path: Path, node: str, given: graphs.ValueInfo, made: graphs.ValueInfo, words: str
) -> None:
    attributes = {"to": element_type(made[1])} if node == "Cast" else {}
    _save(tmp_path, graphs.model([graphs.node(node, ["x"], ["y"], **attributes)], [given], [made]))
    with pytest.raises(EngineFailure, match=words) as caught:
        read("ONNX", tmp_path)
    assert caught.value.suggested_fix


def test_a_copy_with_other_samples_has_the_same_graph(tmp_path: Path) -> None:
    import onnx

    (tmp_path / "source").mkdir()
    onnx.save_model(_product(np.ones((4, 4), np.float32)), tmp_path / "source" / "net.onnx")
    prepared = read("ONNX", tmp_path)
    written = prepared.ready.stat().st_mtime_ns
    assert replace(prepared, samples=prepared.samples).ready.stat().st_mtime_ns == written
