import json
from pathlib import Path
from typing import Any

import pytest

from engines.api.description import describe
from engines.failures import EngineFailure, FailureReason
from engines.tensors.shapes import OPEN_EXTENT
from tests.unit.graph import graphs

MANIFEST: dict[str, Any] = {
    "schema_version": 1,
    "repo": "demo",
    "version": "1",
    "device": "cpu-x86-64",
    "runtime": {"name": "onnxruntime", "version": "1.31.1"},
    "precision": "FP32",
    "method": "classification",
    "args": {},
    "taxonomies": [],
    "components": [
        {
            "name": "net",
            "model_type": "classifier",
            "entry": "net/model.onnx",
            "files": ["net/model.onnx"],
            "options": {},
            "max_batch": 8,
            "num_classes": 10,
            "signature": {
                "inputs": [
                    {
                        "name": "x",
                        "dtype": "float32",
                        "shape": {"min": [1, 3, 6, 6], "opt": [1, 3, 6, 6], "max": [8, 3, 6, 6]},
                        "range": [0.0, 1.0],
                    }
                ],
                "outputs": [{"name": "y", "dtype": "float32"}],
            },
            "preprocessing": {},
            "parity": {},
        }
    ],
    "lineage": {
        "source_format": "PTH",
        "source_digest": "",
        "template": "",
        "template_digest": "",
        "architectures": {},
    },
    "requirements": {"architecture": "x86_64", "packages": {}, "cpu_flags_any": []},
    "report": "report.json",
}


class Report:
    def __init__(self) -> None:
        self.lines: list[tuple[float, str]] = []

    def progress(self, fraction: float, message: str) -> None:
        self.lines.append((fraction, message))


def _describe(workdir: Path, kind: str, *files: str) -> dict[str, Any]:
    """Describe, and hold the answer to the API's message."""
    from lathe.registry.v1.model_service_pb2 import ModelDescription

    from services.platform.words import from_values

    report = Report()
    described = describe({"format": kind, "files": list(files)}, workdir, report)
    from_values(described, ModelDescription())
    assert report.lines[-1] == (1.0, "described")
    assert described["size_bytes"] == sum((workdir / file).stat().st_size for file in files)
    return described


def _write_package(workdir: Path, manifest: dict[str, Any]) -> None:
    (workdir / "net").mkdir()
    (workdir / "net/model.onnx").write_bytes(graphs.conv_bn().SerializeToString())
    (workdir / "manifest.json").write_text(json.dumps(manifest))


def test_onnx(tmp_path: Path) -> None:
    model = graphs.conv_bn()
    model.producer_name, model.producer_version = "pytorch", "2.13.0"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    described = _describe(tmp_path, "ONNX", "m.onnx")
    (graph,) = described["graphs"]
    assert described["parameter_count"] == graph["parameter_count"] == 4 * 3 * 9 + 16
    assert graph["parameter_bytes"] == 4 * graph["parameter_count"]
    assert {entry["operator"]: entry["count"] for entry in graph["operators"]} == dict.fromkeys(
        ["BatchNormalization", "Conv", "Neg", "Relu", "Transpose"], 1
    )
    assert graph["metadata"] == {"producer": "pytorch 2.13.0", "ir_version": "10", "opset": "ai.onnx 20"}
    (image,) = graph["signature"]["inputs"]
    assert image["shape"] == {"min": [1, 3, 6, 6], "opt": [1, 3, 6, 6], "max": [OPEN_EXTENT, 3, 6, 6]}


def test_onnx_names_inputs_that_may_be_left_out(tmp_path: Path) -> None:
    model = graphs.conv_bn()
    model.graph.input.append(graphs.value("scale", "float32", [4]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (graph,) = _describe(tmp_path, "ONNX", "m.onnx")["graphs"]
    assert graph["metadata"]["inputs_with_default"] == "scale"
    assert [entry["name"] for entry in graph["signature"]["inputs"]] == ["x"]


def test_onnx_with_external_data_counts_what_it_does_not_read(tmp_path: Path) -> None:
    import onnx

    onnx.save_model(
        graphs.conv_bn(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    described = _describe(tmp_path, "ONNX", "m.onnx", "w.bin")
    assert described["parameter_count"] == 124
    assert described["graphs"][0]["metadata"]["external_data"] == "w.bin"


def test_operators_of_subgraphs_and_other_domains_are_counted(tmp_path: Path) -> None:
    nodes = [
        graphs.node(
            "If",
            ["c"],
            ["z"],
            then_branch=graphs.branch("Neg", "x", "a", [1]),
            else_branch=graphs.branch("Neg", "x", "b", [1]),
        ),
        graphs.node("Gelu", ["z"], ["y"], domain="com.microsoft"),
    ]
    model = graphs.model(nodes, [("x", "float32", [1]), ("c", "bool", [])], [("y", "float32", None)])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    (graph,) = _describe(tmp_path, "ONNX", "m.onnx")["graphs"]
    counts = [(entry["operator"], entry["count"]) for entry in graph["operators"]]
    assert counts == [("Neg", 2), ("If", 1), ("com.microsoft.Gelu", 1)]
    assert graph["signature"]["outputs"] == [{"name": "y", "dtype": "float32"}]


def test_several_checkpoints(tmp_path: Path) -> None:
    import torch

    for name in ("b.pth", "a.pth"):
        torch.save({"w": torch.ones(3)}, tmp_path / name)
    described = _describe(tmp_path, "PTH", "b.pth", "a.pth")
    assert [graph["path"] for graph in described["graphs"]] == ["a.pth", "b.pth"]
    assert described["parameter_count"] == 6


def test_package(tmp_path: Path) -> None:
    _write_package(tmp_path, MANIFEST)
    (graph,) = _describe(tmp_path, "PACKAGE", "manifest.json", "net/model.onnx")["graphs"]
    assert (graph["component"], graph["path"], graph["parameter_count"]) == ("net", "net/model.onnx", 124)
    assert graph["signature"]["inputs"][0]["shape"]["max"] == [8, 3, 6, 6], "the manifest says how far a batch may go"
    assert graph["metadata"]["runtime"] == "onnxruntime 1.31.1"


def test_package_for_openvino(tmp_path: Path) -> None:
    import openvino

    component = MANIFEST["components"][0] | {"entry": "net/model.xml", "files": ["net/model.xml", "net/model.bin"]}
    _write_package(tmp_path, MANIFEST | {"components": [component]})
    openvino.save_model(
        openvino.convert_model(tmp_path / "net/model.onnx"), tmp_path / "net/model.xml", compress_to_fp16=False
    )
    (graph,) = _describe(tmp_path, "PACKAGE", "manifest.json", "net/model.xml", "net/model.bin")["graphs"]
    assert {"operator": "Convolution", "count": 1} in graph["operators"]
    assert graph["parameter_bytes"] >= 4 * 4 * 3 * 9
    assert graph["metadata"]["ir_version"] == "11"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("{", "manifest.json is wrong at the file"),
        ("[]", "manifest.json is wrong"),
        (json.dumps(MANIFEST | {"components": []}), "wrong at components"),
        (json.dumps(MANIFEST).replace("net/model.onnx", "../../etc/passwd"), "'../../etc/passwd', which is not there"),
    ],
)
def test_packages_that_are_none(tmp_path: Path, manifest: str, words: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(EngineFailure, match=words) as caught:
        describe({"format": "PACKAGE", "files": ["manifest.json"]}, tmp_path, Report())
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_package_without_manifest_and_with_a_broken_graph(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(EngineFailure, match=r"manifest\.json"):
        describe({"format": "PACKAGE", "files": ["a"]}, tmp_path, Report())
    component = MANIFEST["components"][0] | {"entry": "net/model.xml", "files": ["net/model.xml"]}
    _write_package(tmp_path, MANIFEST | {"components": [component]})
    for content, words in (("<net", "no OpenVINO IR"), ("<html/>", "has no 'net'")):
        (tmp_path / "net/model.xml").write_text(content)
        with pytest.raises(EngineFailure, match=words):
            describe({"format": "PACKAGE", "files": ["manifest.json", "net/model.xml"]}, tmp_path, Report())


def test_format_that_cannot_be_described(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"CAFFE, DETECTRON2, .* TORCHSCRIPT can") as caught:
        describe({"format": "FLAX", "files": []}, tmp_path, Report())
    assert caught.value.reason is FailureReason.INVALID_SPEC


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], FailureReason.INVALID_MODEL),
        (["gone.onnx"], FailureReason.INPUT_UNAVAILABLE),
        (["../other.onnx"], FailureReason.INPUT_UNAVAILABLE),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, files: list[str], reason: FailureReason) -> None:
    with pytest.raises(EngineFailure) as caught:
        describe({"format": "ONNX", "files": files}, tmp_path, Report())
    assert caught.value.reason is reason
