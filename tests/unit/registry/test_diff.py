"""The difference of two versions is complete, ordered, and empty exactly if they are equal."""

from hypothesis import given
from hypothesis import strategies as st
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_ONNX,
    MODEL_FORMAT_PACKAGE,
    GraphDescription,
    ModelDescription,
    ModelVersion,
    OperatorCount,
    PackageInfo,
)
from lathe.type.v1.digest_pb2 import Digest, File
from lathe.type.v1.precision_pb2 import PRECISION_BF16
from lathe.type.v1.tensor_pb2 import ShapeProfile, TensorSignature, TensorSpec

from services.registry import diff

VERSION = ModelVersion(
    format=MODEL_FORMAT_ONNX, files=[File(path="a.onnx", digest=Digest(sha256="0" * 64, size_bytes=7))], size_bytes=7
)
GRAPH = GraphDescription(
    path="a.onnx",
    component="a.onnx",
    signature=TensorSignature(
        inputs=[TensorSpec(name="x", dtype="float32", shape=ShapeProfile(min=[1, 3], opt=[1, 3], max=[8, 3]))]
    ),
    operators=[OperatorCount(operator="Conv", count=2)],
    parameter_count=12,
    metadata={"producer": "torch"},
)


def _facts(version: ModelVersion, graph: GraphDescription) -> diff.Facts:
    return diff.facts(version, ModelDescription(graphs=[graph], parameter_count=graph.parameter_count))


def test_equal_versions_have_no_differences() -> None:
    assert diff.differences(_facts(VERSION, GRAPH), _facts(VERSION, GRAPH)) == []


def test_every_kind_of_difference_is_named_by_its_path() -> None:
    other, graph = ModelVersion(), GraphDescription()
    other.CopyFrom(VERSION)
    other.files[0].digest.sha256 = "1" * 64
    graph.CopyFrom(GRAPH)
    graph.operators[0].count = 3
    graph.signature.inputs[0].dtype = "float16"
    graph.signature.inputs[0].shape.max[0] = 4
    graph.checkpoint_keys.append("model")
    found = {
        entry.path: (entry.before, entry.after)
        for entry in diff.differences(_facts(VERSION, GRAPH), _facts(other, graph))
    }
    assert found == {
        "files[a.onnx].sha256": ("0" * 64, "1" * 64),
        "graphs[a.onnx].checkpoint_keys[model]": ("", "present"),
        "graphs[a.onnx].inputs[x].dtype": ("float32", "float16"),
        "graphs[a.onnx].inputs[x].shape": ("1..8*3", "1..4*3"),
        "graphs[a.onnx].operators.Conv": ("2", "3"),
    }
    assert list(found) == sorted(found)


def test_packages_differ_by_what_they_run_on() -> None:
    package = ModelVersion(
        format=MODEL_FORMAT_PACKAGE, package=PackageInfo(runtime="openvino", precision=PRECISION_BF16)
    )
    facts = diff.facts(package, ModelDescription())
    assert facts["package.runtime"] == "openvino"
    assert facts["package.precision"] == "BF16"
    assert "package.device" not in facts


def test_a_long_difference_says_what_it_leaves_out() -> None:
    after = {f"p{number:06}": "1" for number in range(diff.MAX_DIFFERENCES + 5)}
    found = diff.differences({}, after)
    assert len(found) == diff.MAX_DIFFERENCES + 1
    assert found[-1].after.startswith("5 more")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz")),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz")),
)
def test_a_difference_leads_from_one_to_the_other_and_back(before: diff.Facts, after: diff.Facts) -> None:
    forth, back = diff.differences(before, after), diff.differences(after, before)
    changed = dict(before)
    for entry in forth:
        changed.pop(entry.path, None)
        if entry.after:
            changed[entry.path] = entry.after
    assert changed == after
    assert [(entry.path, entry.after, entry.before) for entry in forth] == [
        (entry.path, entry.before, entry.after) for entry in back
    ]
