"""TensorFlow's files read without TensorFlow: what they hold, and what is refused before anything runs."""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.formats.frozen_graph.description import describe_frozen_graph
from engines.formats.saved_model.description import describe_saved_model, inspect_saved_model
from engines.formats.tensorflow.graph import _declared, parse_graph
from engines.formats.tensorflow.graph_ends import find_ends
from engines.formats.tensorflow.messages_pb2 import GraphDef, NodeDef
from engines.graph.wire import varint_bytes
from engines.spec.sniff import sniff
from engines.tensors.shapes import OPEN_EXTENT
from tests.unit.formats.tensorflow_bytes import const, node, write_graph, write_saved_model

NODES = (
    node("x", "Placeholder", shape=[-1, 4]),
    const("w", [4, 2]),
    const("axis", []),
    node("product", "MatMul", ["x", "w"]),
    node("probs", "Softmax", ["product"]),
    node("shown", "HistogramSummary", ["axis", "probs"]),
    node("init", "NoOp", ["^probs"]),
)
TEXT = """
# written by hand
node {
  name: "x" op: 'Placeholder'
  attr { key: "dtype" value { type: DT_FLOAT } }
  attr { key: "shape" value { shape { dim { size: -1 } dim { size: 4 } } } }
}
node < name: "pro" "bs"; op: "Softmax", input: ["x"] unknown_field: 1.5e3 >
versions { producer: 1087 }
"""

NAMES = st.text(st.characters(codec="utf-8"), max_size=10)


@given(st.lists(st.builds(NodeDef, name=NAMES, op=NAMES.filter(bool), input=st.lists(NAMES, max_size=2)), min_size=1))
def test_bytes_are_read_as_they_were_written(nodes: list[NodeDef]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        graph = parse_graph(write_graph(Path(folder) / "g.pb", *nodes))
    assert [(each.name, each.op, list(each.inputs)) for each in graph.nodes] == [
        (each.name, each.op, list(each.input)) for each in nodes
    ]


@given(st.binary(max_size=60) | st.text("node{}<>[]:\"'#,; \n1x", max_size=40).map(str.encode))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, suppress(EngineFailure):
        path = Path(folder) / "g.pb"
        path.write_bytes(data)
        parse_graph(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("node {\n name: 'x'\n", 'truncated \\(2:8 : Expected "}"'),
        ("node { name: }", "1:14 .*Expected string"),
        ("node { attr { key: { } } }", "1:20 .*Expected string"),
        (f"node {{ name: {'9' * 30} }}", "1:14"),
        ('node { name: "x }', "missing ending quote"),
        ("node { other: 1 }", "holds no graph"),
        ("node { op: 'Const' unknown {" + "a {" * 100_000, "maximum recursion depth"),
        ("node 5", "looks like a text file"),
    ],
)
def test_text_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "g.pbtxt").write_text(text)
    with pytest.raises(EngineFailure, match=words) as caught:
        parse_graph(tmp_path / "g.pbtxt")
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_weights_are_skipped(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "g.pb", *NODES)
    bare = parse_graph(path)
    content = b"\x22" + varint_bytes(1 << 20) + bytes(1 << 20)  # tensor_content of a TensorProto
    whole = GraphDef.FromString(path.read_bytes())
    whole.node[1].attr["value"].tensor.MergeFromString(content)
    path.write_bytes(whole.SerializeToString())
    assert path.stat().st_size > 1 << 20
    assert sum(map(len, _declared(memoryview(path.read_bytes()), GraphDef.DESCRIPTOR))) < 1 << 10
    assert parse_graph(path) == bare


def test_frozen_graph(tmp_path: Path) -> None:
    graph = describe_frozen_graph(write_graph(tmp_path / "g.pb", *NODES), "g.pb")
    assert graph["parameter_count"] == 8, "a single number is no weight"
    assert graph["signature"]["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": {"min": [1, 4], "opt": [1, 4], "max": [OPEN_EXTENT, 4]}}
    ]
    assert graph["metadata"]["outputs"] == "probs", "a summary consumes nothing, and what runs alone is no result"
    assert {entry["operator"] for entry in graph["operators"]} == {"MatMul", "Softmax", "HistogramSummary"}


@pytest.mark.parametrize("name", ["g.pbtxt", "g.pb"])
def test_text_of_a_frozen_graph(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TEXT)
    graph = describe_frozen_graph(tmp_path / name, name)
    assert graph["metadata"]["outputs"] == "probs"
    assert graph["signature"]["inputs"][0]["shape"]["max"] == [OPEN_EXTENT, 4]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ((node("init", "NoOp"),), "it holds control nodes alone"),
        ((node("x", "Placeholder", shape=[1]),), "no output"),
        ((const("w", [2]), node("y", "Neg", ["w"])), "no output"),
        ((*NODES[:2], node("v", "VarHandleOp")), "not frozen: it has 1 variables, such as 'v'"),
    ],
)
def test_graphs_without_ends(tmp_path: Path, nodes: tuple[Any, ...], words: str) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        describe_frozen_graph(write_graph(tmp_path / "g.pb", *nodes), "g.pb")
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_ends_that_are_named(tmp_path: Path) -> None:
    graph = parse_graph(
        write_graph(
            tmp_path / "g.pb", *NODES, node("two", "Add", ["probs", "z"]), node("z", "Placeholder", shape=[-1, 4])
        )
    )
    ends = find_ends(graph, outputs=["product:0"])
    assert [each.name for each in ends.inputs] == ["x"], "only what the outputs need"
    assert [each.name for each in find_ends(graph, ["product"], ["probs"]).inputs] == ["product"]
    with pytest.raises(EngineFailure, match="need the placeholder 'z' too"):
        find_ends(graph, ["x"], ["two"])
    with pytest.raises(EngineFailure, match="no node 'gone' for the input 'gone'; its placeholders are 'x', 'z'"):
        find_ends(graph, ["gone"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"\x80\x02}q\x00.", "it looks like a Python pickle"),
        (GraphDef(node=NODES).SerializeToString()[:-9], "damaged or truncated"),
        (b"<html>", "an HTML page"),
    ],
)
def test_files_that_are_no_graph(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "g.pb").write_bytes(data)
    with pytest.raises(EngineFailure, match=words):
        parse_graph(tmp_path / "g.pb")


@pytest.mark.parametrize("op", ["PyFunc", "EagerPyFunc", "WriteFile"])
def test_python_in_a_graph_is_refused(tmp_path: Path, op: str) -> None:
    with pytest.raises(EngineFailure, match=f"'run' in 'g.pb' is a {op}") as caught:
        describe_frozen_graph(write_graph(tmp_path / "g.pb", *NODES, node("run", op, ["probs"])), "g.pb")
    assert (caught.value.reason, caught.value.node) == (FailureReason.UNSAFE_MODEL, "run")
    folder = write_saved_model(tmp_path / "m", node("run", op), signatures=["serving_default"], function="body")
    with pytest.raises(EngineFailure, match="'run' of the function 'body'"):
        inspect_saved_model(folder)


def test_saved_model(tmp_path: Path) -> None:
    folder = write_saved_model(tmp_path, *NODES, signatures=["b", "a"])
    graph = describe_saved_model(folder)
    assert graph["metadata"] == {"format": "SavedModel", "tensorflow": "2.21.0", "signatures": "a, b"}
    assert [spec["name"] for spec in graph["signature"]["outputs"]] == ["y"]
    assert sniff(folder / "saved_model.pb") == "a TensorFlow SavedModel's graph"


def test_variables_that_are_missing(tmp_path: Path) -> None:
    folder = write_saved_model(tmp_path, node("kernel", "VarHandleOp", shape=[3]), signatures=["a"])
    variables = tmp_path / "variables"
    with pytest.raises(EngineFailure, match="1 variables, such as 'kernel', and their values are missing"):
        inspect_saved_model(folder)
    variables.mkdir()
    (variables / "variables.index").write_bytes(b"i")
    with pytest.raises(EngineFailure, match="their values are missing"):
        inspect_saved_model(folder)
    (variables / "variables.data-00000-of-00002").write_bytes(b"")
    with pytest.raises(EngineFailure, match="is empty; its weights did not arrive"):
        inspect_saved_model(folder)
    (variables / "variables.data-00000-of-00002").write_bytes(b"d")
    with pytest.raises(EngineFailure, match="are in 2 files, of which 1 are there"):
        inspect_saved_model(folder)
    (variables / "variables.data-00001-of-00002").write_bytes(b"d")
    (variables / "variables.data-00002-of-notes").write_bytes(b"d")
    assert describe_saved_model(folder)["parameter_count"] == 3
