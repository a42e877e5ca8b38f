"""Models of several graphs, and sources that are graphs already, through the same pipeline."""

import runpy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from engines.failures import EngineFailure, FailureReason
from engines.graph import versions
from engines.package.manifest import read_manifest
from tests.integration.conversion.workbench import CNN, HEAD, IMAGE, Bench, image
from tests.unit.graph.graphs import conv_bn
from tests.unit.runtimes import graphs


def onnx_request(bench: Bench, **component: Any) -> dict[str, Any]:
    (bench.workdir / "source").mkdir()
    graphs.linear(bench.workdir / "source/g.onnx")
    request = bench.request(source_format="ONNX", method="raw")
    request |= {"inputs": [{"path": "source/g.onnx"}], "architectures": {}}
    request["template"]["components"] = [{"name": "net", **component}]
    return request


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_onnx_source_takes_the_same_road(runtime: str, bench: Bench) -> None:
    request = onnx_request(bench, max_batch=8)
    request["template"]["runtime"] = runtime
    outcome = bench.convert(request)
    (component,) = outcome["components"]
    assert component["parity"]["verdict"] == "PASS"
    assert component["parity"]["batch_sizes"] == [1, 2, 8]
    assert component["profile"]["forms"][0]["form"] == "onnxruntime (source)"
    assert [spec.name for spec in read_manifest(bench.package).components[0].signature.outputs] == ["y", "index"]


def test_preprocessing_goes_in_front_of_an_onnx_source(bench: Bench) -> None:
    steps = {"mean_values": [1, 2, 3, 4], "scale_values": [2.0]}
    given = [{"name": "x", "shape": [1, 4], "preprocessing": steps}]
    outcome = bench.convert(onnx_request(bench, max_batch=2, inputs=given))
    assert outcome["components"][0]["parity"]["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("component", "words"),
    [
        ({"inputs": [{"name": "z", "shape": [1, 4]}]}, "declares the inputs z; the graph has x"),
        ({"inputs": [{"name": "x", "shape": [1, 4], "dtype": "int64"}]}, "declared as int64; the graph takes float32"),
        ({"output_names": ["a"]}, "names other outputs than the graph's: y, index"),
    ],
)
def test_a_template_that_does_not_fit_the_graph_is_refused(component: dict[str, Any], words: str, bench: Bench) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        bench.convert(onnx_request(bench, **component))
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_a_fixed_batch_cannot_grow(bench: Bench) -> None:
    request = onnx_request(bench, max_batch=8)
    path = bench.workdir / "source/g.onnx"
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    with pytest.raises(EngineFailure, match="fixed at 1 in the graph") as caught:
        bench.convert(request)
    assert "Set max_batch to 1" in caught.value.suggested_fix
    request["template"]["components"][0]["max_batch"] = 1
    assert bench.convert(request)["components"][0]["parity"]["batch_sizes"] == [1]


def test_a_model_of_two_graphs_becomes_one_package(bench: Bench) -> None:
    bench.put_network(CNN)
    request = bench.request(runtime="openvino")
    weights = torch.load(bench.workdir / "source/net.pth", weights_only=True)
    torch.save({"epoch": 3, "model": weights}, bench.workdir / "source/second.pth")
    first = {"name": "first", "inputs": [IMAGE], "max_batch": 2, "source_file": "net.pth"}
    second = {"name": "second", "inputs": [image(name="y")], "source_file": "second.pth", "state_dict_key": "model"}
    request["template"]["components"] = [first, second]
    request["inputs"].append({"path": "source/second.pth"})
    request["architectures"] = dict.fromkeys(("first", "second"), request["architectures"]["net"])
    (bench.workdir / "samples").mkdir()
    pixels = np.ones((1, 3, 12, 12), np.float32)
    np.savez(bench.workdir / "samples/s.npz", **{"x": pixels, "second/y": pixels})  # type: ignore[arg-type]  # names
    outcome = bench.convert({**request, "samples_path": "samples/s.npz"})
    assert [component["component"] for component in outcome["components"]] == ["first", "second"]
    assert [component["files"][0] for component in outcome["components"]] == ["first/model.xml", "second/model.xml"]
    assert {entry.name: entry.max_batch for entry in read_manifest(bench.package).components} == {
        "first": 2,
        "second": 1,
    }
    fractions = [step.fraction for step in bench.progress]
    assert fractions == sorted(fractions)


def test_two_networks_of_one_checkpoint_and_two_architectures(bench: Bench) -> None:
    """A detector's backbone and head: the state dicts lie under two keys of one file."""
    head = bench.put_network(HEAD)
    (bench.workdir / "architecture/net.py").rename(bench.workdir / "architecture/head.py")
    backbone = bench.put_network(CNN)
    (bench.workdir / "source/net.pth").unlink()
    torch.save(
        {"backbone": backbone.state_dict(), "head": head.state_dict(), "epoch": 3}, bench.workdir / "source/all.pth"
    )
    request = bench.request(method="raw")
    request["inputs"] = [
        {"path": f"{path}"} for path in ("source/all.pth", "architecture/net.py", "architecture/head.py")
    ]
    request["template"]["components"] = [
        {"name": "backbone", "inputs": [IMAGE], "max_batch": 4, "state_dict_key": "backbone", "num_classes": 10},
        {"name": "head", "inputs": [{"name": "features", "shape": [1, 10]}], "max_batch": 2, "state_dict_key": "head"},
    ]
    net = request["architectures"]["net"]
    other = {**net, "name": "architectures/head", "class_name": "Head", "source_path": "architecture/head.py"}
    request["architectures"] = {"backbone": net, "head": {**other, "digest": "ef" * 32}}
    outcome = bench.convert(request)
    assert [component["parity"]["verdict"] for component in outcome["components"]] == ["PASS", "PASS"]
    assert outcome["architecture_digests"] == {"architectures/net": "ab" * 32, "architectures/head": "ef" * 32}
    x = np.random.default_rng(0).standard_normal((3, 3, 12, 12)).astype(np.float32)
    model = runpy.run_path(str(bench.package / "infer.py"))["Model"]
    features = model(bench.package, "backbone").run(x)["output_0"]
    found = model(bench.package, "head").run(features)["output_0"]
    with torch.inference_mode():
        expected = head(backbone(torch.from_numpy(x))).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    request["template"]["components"][1]["state_dict_key"] = "neck"
    with pytest.raises(EngineFailure, match=r"has no key 'neck'; its keys: .*'backbone'"):
        bench.convert(request)


@pytest.mark.parametrize("fuse", [False, True])
def test_operators_are_fused_where_that_is_asked_for(fuse: bool, bench: Bench) -> None:
    """In an ONNX source: torch's newer exporter fuses by itself what is fused here."""
    request = onnx_request(bench, max_batch=2)
    onnx.save(conv_bn(), bench.workdir / "source/g.onnx")
    request["template"]["execution"] = {"fuse_operators": fuse}
    outcome = bench.convert(request)
    assert outcome["components"][0]["parity"]["verdict"] == "PASS"
    operators = [node.op_type for node in onnx.load(bench.package / "net/model.onnx").graph.node]
    assert ("BatchNormalization" in operators) is not fuse
    assert "Conv" in operators


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_versions_that_the_runtime_does_not_read_are_lowered(runtime: str, bench: Bench) -> None:
    """The newest `onnx` writes versions that no runtime reads yet; the operators are those of older ones."""
    request = onnx_request(bench, max_batch=2)
    request["template"]["runtime"] = runtime
    change(bench, lambda model: setattr(model, "ir_version", onnx.IR_VERSION))
    change(bench, lambda model: setattr(model.opset_import[0], "version", onnx.defs.onnx_opset_version()))
    assert bench.convert(request)["components"][0]["parity"]["verdict"] == "PASS"


@pytest.mark.parametrize(("field", "words"), [("ir", "states IR version 99"), ("opset", "states operator set 99")])
def test_versions_that_nobody_knows_are_refused(field: str, words: str, bench: Bench) -> None:
    request = onnx_request(bench)
    if field == "ir":
        change(bench, lambda model: setattr(model, "ir_version", 99))
    else:
        change(bench, lambda model: setattr(model.opset_import[0], "version", 99))
    with pytest.raises(EngineFailure, match=words) as caught:
        bench.convert(request)
    assert caught.value.reason is FailureReason.INVALID_MODEL
    assert "Export it with" in caught.value.suggested_fix


def test_an_operator_of_a_newer_form_is_not_lowered(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """As if the runtime read operator sets before 13 only, in which ArgMax has another schema."""
    monkeypatch.setattr(versions, "runtime_limits", lambda: (10, 12))
    with pytest.raises(EngineFailure, match=r"operator set 18, in which .* was redefined in set 1[34]") as caught:
        bench.convert(onnx_request(bench))
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert caught.value.node == "multiply"


def change(bench: Bench, what: Callable[[Any], None]) -> None:
    path = bench.workdir / "source/g.onnx"
    model = onnx.load(path)
    what(model)
    path.write_bytes(model.SerializeToString())


def test_a_graph_that_makes_one_value_twice_is_no_model(bench: Bench) -> None:
    request = onnx_request(bench)
    path = bench.workdir / "source/g.onnx"
    model = onnx.load(path)
    model.graph.node.append(model.graph.node[0])
    onnx.save(model, path)
    with pytest.raises(EngineFailure, match=r"Two nodes compute the value '\w+'") as told:
        bench.convert(request)
    assert told.value.reason is FailureReason.INVALID_MODEL
