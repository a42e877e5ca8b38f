"""SavedModels and frozen graphs read into ONNX, held to what TensorFlow computes."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.protocol import ReadJob
from engines.formats.reading import read_source, with_inputs
from engines.formats.source import Source
from engines.formats.tensorflow.messages_pb2 import DataType, SavedModel
from engines.formats.tensorflow.tools import import_tensorflow
from engines.runtimes import BuildOptions, BuildSource, open_form, runtime
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.runtimes.source import Function
from engines.spec.devices import load_catalog
from engines.spec.request import ConversionRequest
from tests.unit.formats.tensorflow_bytes import node, write_graph


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_tensorflow()
    from tests.unit.formats.tensorflow_models import write_frozen_graph, write_saved_models

    folder = tmp_path_factory.mktemp("tensorflow")
    write_saved_models(folder)
    write_frozen_graph(folder)
    return folder


def _read(model: Path, workdir: Path, feed: Sequence[np.ndarray[Any, Any]], **component: Any) -> Source:
    """Read a model as the first step of a conversion does."""
    source = workdir / "source"
    if model.is_dir():
        shutil.copytree(model, source)
    else:
        source.mkdir(parents=True)
        shutil.copyfile(model, source / model.name)
    files = [f"source/{path.relative_to(source)}" for path in source.rglob("*") if path.is_file()]
    template = {
        "source_format": "SAVED_MODEL" if model.is_dir() else "FROZEN_GRAPH",
        "device": "cpu-x86-64",
        "runtime": "onnxruntime",
        "components": [{"name": "net", **component}],
    }
    request = ConversionRequest.parse({"inputs": [{"path": path} for path in files], "template": template})
    declared = with_inputs(request, request.template.components[0], workdir).component
    return read_source(ReadJob(request, declared, workdir, feed, workdir / "m.onnx"))


def _agree(source: Source, feed: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    wanted = source.run(feed)
    found = OnnxRuntimeSession(source.graph.path, 1, optimise=False).run(feed)
    assert list(found) == list(wanted) == [spec.name for spec in source.signature.outputs]
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
    return wanted


def _random(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_saved_model(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = _read(models / "default", tmp_path, [_random(1, 4)], max_batch=8)
    assert source.graph.writer == "tf2onnx, signature 'serving_default'"
    (given,) = source.signature.inputs
    assert (given.name, given.max) == ("x", (8, 4))
    outputs = _agree(source, {"x": _random(5, 4)})
    assert list(outputs) == ["logits", "probs"]
    np.testing.assert_allclose(outputs["probs"].sum(axis=1), 1, rtol=1e-5)
    assert capfd.readouterr().err == "", "neither TensorFlow nor tf2onnx speaks"


def test_an_output_with_the_key_of_an_input_gets_another_name(models: Path, tmp_path: Path) -> None:
    source = _read(models / "same keys", tmp_path / "all", [_random(1, 4)])
    feed = {"x": np.ones((1, 4), np.float32)}
    outputs = _agree(source, feed)
    np.testing.assert_array_equal(outputs["x_3"], 2 * feed["x"])
    np.testing.assert_array_equal(outputs["x_2"], 3 * feed["x"])
    assert source.warnings == ("The output 'x' has the name of an input; in the package it is 'x_3'.",)
    chosen = _read(models / "same keys", tmp_path / "one", [_random(1, 4)], output_names=["x"])
    np.testing.assert_array_equal(_agree(chosen, feed)["x_2"], 2 * feed["x"])


def test_an_optimizer_that_was_saved_with_the_network_is_left_out(models: Path, tmp_path: Path) -> None:
    source = _read(models / "trained", tmp_path, [_random(1, 4)])
    outputs = _agree(source, {"x": _random(1, 4)})
    np.testing.assert_allclose(outputs["y"], _random(1, 4) @ np.full((4, 3), 0.999), rtol=1e-5)


@pytest.mark.parametrize("largest", [1, 4])
def test_a_masked_network_of_both_directions(models: Path, tmp_path: Path, largest: int) -> None:
    inputs = [{"name": "keras_tensor", "shape": [1, 5], "dtype": "int32"}]
    words = np.array([[3, 1, 4, 0, 0]], np.int32)
    source = _read(models / "masked", tmp_path, [words], inputs=inputs, max_batch=largest)
    (output,) = source.signature.outputs
    _agree(source, {"keras_tensor": np.repeat(words, largest, axis=0)})
    assert output.max[1:] == (6,)


def test_outputs_are_chosen_and_ordered(models: Path, tmp_path: Path) -> None:
    source = _read(models / "default", tmp_path, [_random(1, 4)], output_names=["probs"])
    assert list(_agree(source, {"x": _random(1, 4)})) == ["probs"]


def test_a_signature_is_told_by_its_name_or_its_inputs(models: Path, tmp_path: Path) -> None:
    given = [{"name": "image", "shape": [1, 8, 8, 3]}]
    source = _read(models / "several", tmp_path / "a", [_random(1, 8, 8, 3)], inputs=given, max_batch=2)
    _agree(source, {"image": _random(2, 8, 8, 3)})
    source = _read(models / "several", tmp_path / "b", [_random(1, 4)], state_dict_key="classify")
    assert source.graph.writer == "tf2onnx, signature 'classify'"
    with pytest.raises(
        EngineFailure, match="has 2 signatures and none is 'serving_default': 'classify' takes x; 'conv"
    ):
        _read(models / "several", tmp_path / "c", [])
    with pytest.raises(EngineFailure, match="has no signature 'gone'"):
        _read(models / "several", tmp_path / "d", [], state_dict_key="gone")


def test_a_saved_model_of_constants(models: Path, tmp_path: Path) -> None:
    _agree(_read(models / "constant", tmp_path, [_random(1, 4)]), {"x": _random(1, 4)})


@pytest.mark.parametrize("name", ["frozen.pb", "frozen.pbtxt"])
def test_frozen_graph(models: Path, tmp_path: Path, name: str) -> None:
    source = _read(models / name, tmp_path, [_random(1, 4)], max_batch=4)
    outputs = _agree(source, {"x": _random(3, 4)})
    assert list(outputs) == ["best", "best:1"], "what nobody consumes; what has a default is no input"
    assert not source.files  # the file itself has more inputs than the source


@pytest.mark.parametrize("name", ["default", "frozen.pb"])
def test_litert_computes_what_tensorflow_does(models: Path, tmp_path: Path, name: str) -> None:
    source = _read(models / name, tmp_path, [_random(1, 4)], max_batch=4)
    assert source.tensorflow is not None
    (given,) = source.signature.inputs
    function = Function(source.tensorflow.call, source.tensorflow.owner, [given.dtype])
    room, arm = runtime("litert"), load_catalog().device("cpu-arm64")
    form = room.build(BuildSource(source.signature, function=function), arm, BuildOptions("FP32"), tmp_path / "form")
    with open_form(form, 1) as session:
        for batch in (1, 3):
            feed = {given.name: _random(batch, 4)}
            found, wanted = session.run(feed), source.run(feed)
            assert list(found) == list(wanted)
            for output, value in wanted.items():
                np.testing.assert_allclose(found[output], value, rtol=1e-5, atol=1e-6)


def test_ends_of_a_frozen_graph_that_are_named(models: Path, tmp_path: Path) -> None:
    given = [{"name": "x:0", "shape": [1, 4]}]
    source = _read(models / "frozen.pb", tmp_path, [_random(1, 4)], inputs=given, output_names=["probs:0"])
    assert list(_agree(source, {"x:0": _random(1, 4)})) == ["probs:0"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": "x", "shape": [1, 5]}, "Axis 1 of input 'x' is declared as 5; the graph fixes it at 4"),
        ({"name": "x", "shape": [1, 2, 2]}, "declared with 3 axes; the graph has 2"),
        ({"name": "x", "shape": [1, 4], "dtype": "int64"}, "declared as int64; the graph takes float32"),
    ],
)
def test_inputs_that_do_not_fit(models: Path, tmp_path: Path, given: dict[str, Any], words: str) -> None:
    for name in ("default", "frozen.pb"):
        with pytest.raises(EngineFailure, match=words) as caught:
            _read(models / name, tmp_path / name, [], inputs=[given])
        assert caught.value.reason is FailureReason.INVALID_SPEC


def test_what_onnx_has_no_operator_for_is_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(
        EngineFailure, match=r"The operator 'MatrixInverse' of the node '\w+' has no equivalent"
    ) as caught:
        _read(models / "unsupported", tmp_path, [_random(4, 4)])
    assert (caught.value.reason, caught.value.operator) == (FailureReason.UNSUPPORTED_OPERATOR, "MatrixInverse")


def test_a_network_that_changes_itself_is_named(models: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"The node '\S*AssignAddVariableOp' changes a variable while") as caught:
        _read(models / "counting", tmp_path, [_random(1, 4)])
    assert (caught.value.reason, caught.value.operator) == (
        FailureReason.STATEFUL_MODEL,
        "AssignAddVariableOp",
    )


def test_what_tensorflow_does_not_run_says_with_which_inputs(models: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="TensorFlow cannot run the signature 'serving_default' on") as caught:
        _read(models / "embedding", tmp_path, [_random(1, 4) + 99])
    assert (caught.value.reason, caught.value.evidence) == (FailureReason.SHAPE_MISMATCH, "inputs: float32(1*4)")


def test_an_operator_that_tensorflow_does_not_have(models: Path, tmp_path: Path) -> None:
    graph = [node("x", "Placeholder", shape=[-1, 4]), node("own", "MyOwnOp", ["x"])]
    with pytest.raises(EngineFailure, match="'MyOwnOp' of the node 'own' is not one of TensorFlow's own,"):
        _read(write_graph(tmp_path / "g.pb", *graph), tmp_path, [])


def test_a_cycle(models: Path, tmp_path: Path) -> None:
    graph = [node("x", "Placeholder", shape=[1]), node("a", "Atan2", ["x", "b"]), node("b", "Neg", ["a"])]
    with pytest.raises(EngineFailure) as caught:
        _read(write_graph(tmp_path / "g.pb", *graph, node("c", "Neg", ["b"])), tmp_path, [])
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_python_is_refused_before_tensorflow_sees_it(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(EngineFailure, match="is a PyFunc, which calls Python") as caught:
        _read(models / "python", tmp_path, [])
    assert caught.value.reason is FailureReason.UNSAFE_MODEL


def test_where_tensorflow_is_not_installed(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(EngineFailure) as caught:
        _read(models / "default", tmp_path, [_random(1, 4)])
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "lathe[tensorflow]" in caught.value.suggested_fix


def test_the_messages_are_those_of_tensorflow() -> None:
    """Hold every declared field to the true one; both can be loaded in one process."""
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    def compare(ours: Any, theirs: Any, seen: set[str]) -> None:
        for field in ours.fields:
            true = theirs.fields_by_number[field.number]
            assert (field.name, field.type, field.is_repeated) == (true.name, true.type, true.is_repeated)
            if field.message_type and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                compare(field.message_type, true.message_type, seen)

    compare(SavedModel.DESCRIPTOR, saved_model_pb2.SavedModel.DESCRIPTOR, set())
    numbers = types_pb2.DataType.items()
    assert set(DataType.items()) <= set(numbers)


def test_a_binary_frozen_graph_is_offered_as_it_is(tmp_path: Path) -> None:
    from engines.formats.tensorflow.messages_pb2 import DT_FLOAT, AttrValue
    from tests.unit.formats.tensorflow_bytes import node, write_graph

    relu = node("y", "Relu", ["x"])
    relu.attr["T"].CopyFrom(AttrValue(type=DT_FLOAT))
    path = write_graph(tmp_path / "net.pb", node("x", "Placeholder", shape=[-1, 4]), relu)
    assert list(_read(path, tmp_path / "out", [_random(1, 4)]).files) == ["frozen_graph"]
