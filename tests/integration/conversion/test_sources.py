"""Models of several graphs, and sources that are graphs already, through the same pipeline."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from engines.failures import EngineFailure, FailureReason
from engines.manifest import read_manifest
from tests.integration.conversion.workbench import CNN, IMAGE, Bench, image
from tests.unit.engines_backends import graphs


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
    with pytest.raises(EngineFailure, match="fixed at 1 in the graph; set max_batch to 1"):
        bench.convert(request)
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
