"""Compressed weights: what they compute in the runtime that serves them, what they weigh, what is refused."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.graph.quantized import quantized_nodes
from engines.quantization.weights import CompressedGraph, compress_weights
from engines.runtimes import BuildSource, BuiltForm, open_form
from engines.tensors import Array
from engines.tensors.signature import Signature, TensorSpec
from tests.unit.quantization.graphs import cosine, graph, network, run, token_feed, transformer, value, weights
from tests.unit.runtimes.building import build

RUNTIMES = ["onnxruntime", "openvino"]
NODES = ("embedding", "query", "key", "feed", "head")
SIGNATURE = Signature(
    (TensorSpec.unknown("ids", "int64"), TensorSpec.unknown("mask", "int64")), (TensorSpec.unknown("y", "float32"),)
)


Compress = Callable[..., CompressedGraph]


@pytest.fixture(scope="module")
def compress(tmp_path_factory: pytest.TempPathFactory) -> Compress:
    """Return a function that compresses `transformer`, each way once."""

    @functools.cache
    def once(runtime: str, bits: int = 8, symmetric: bool = True, float_activations: bool = False) -> CompressedGraph:
        directory = tmp_path_factory.mktemp("weights")
        ways = {"symmetric": symmetric, "float_activations": float_activations}
        return compress_weights(transformer(), bits, runtime, True, set(), out_dir=directory, **ways)

    return once


def form(made: CompressedGraph, runtime: str, bits: int, directory: Path) -> BuiltForm:
    """Return a graph with compressed weights built as a package has it."""
    return build(runtime, BuildSource.of_file(made.path, SIGNATURE), directory / "form", f"INT{bits}")


def served(made: CompressedGraph, runtime: str, bits: int, directory: Path) -> Array:
    """Return what the built form computes."""
    return open_form(form(made, runtime, bits, directory), 1).run(token_feed())["y"]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("bits", "symmetric"), [(8, True), (4, True), (4, False)])
def test_compressed_weights_compute_nearly_the_same(
    runtime: str, bits: int, symmetric: bool, compress: Compress, tmp_path: Path
) -> None:
    least = {8: 0.999, 4: 0.96}[bits]
    made = compress(runtime, bits, symmetric)
    assert made.nodes == NODES
    assert least < cosine(run(transformer(), token_feed(), tmp_path)["y"], served(made, runtime, bits, tmp_path)) < 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_fewer_bits_weigh_less(runtime: str, compress: Compress) -> None:
    sizes = {}
    floats = 4 * 64 * (512 + 4 * 64)
    for bits in (8, 4):
        made = compress(runtime, bits, True)
        sizes[bits] = sum(path.stat().st_size for path in made.path.parent.iterdir() if path.suffix != ".xml")
        assert made.size_bytes >= sizes[bits]
        assert made.size_before > floats
    assert sizes[4] < sizes[8] < floats / 2.5


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_excluded_nodes_keep_their_weights(runtime: str, tmp_path: Path) -> None:
    excluded = {"embedding", "head", "key"}
    made = compress_weights(transformer(), 8, runtime, True, excluded, out_dir=tmp_path)
    assert made.nodes == ("query", "feed")
    if runtime == "onnxruntime":
        model = onnx.load(made.path)
        kept = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
        assert {"table", "wk"} <= kept
        assert len(quantized_nodes(model)) == 2
    else:
        import openvino

        operations = openvino.Core().read_model(made.path).get_ordered_ops()
        constants = [operation for operation in operations if operation.get_type_name() == "Constant"]
        types = [operation.get_output_element_type(0).get_type_name() for operation in constants]
        assert types.count("i8") == 2


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_products_in_float32_are_nearer(runtime: str, compress: Compress, tmp_path: Path) -> None:
    expected = run(transformer(), token_feed(), tmp_path)["y"]
    errors = {
        floats: np.abs(served(compress(runtime, 8, True, floats), runtime, 8, tmp_path) - expected).max()
        for floats in (True, False)
    }
    assert 0 < errors[True] <= errors[False]


@pytest.mark.parametrize(("floats", "group", "level"), [(True, "0", 1), (False, "32", 4)])
def test_how_products_are_computed_is_stated(
    floats: bool, group: str, level: int, compress: Compress, tmp_path: Path
) -> None:
    options = form(compress("openvino", 8, True, floats), "openvino", 8, tmp_path).options
    assert options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == group
    assert options["INFERENCE_PRECISION_HINT"] == "f32"
    nodes = onnx.load(compress("onnxruntime", 8, True, floats).path).graph.node
    products = [node for node in nodes if node.op_type == "MatMulNBits"]
    levels = [attribute.i for node in products for attribute in node.attribute if attribute.name == "accuracy_level"]
    assert levels == [level] * 4


def test_a_table_whose_rows_are_used_elsewhere_too_stays_for_them(tmp_path: Path) -> None:
    from onnx import helper

    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], name="embedding"),
        helper.make_node("Transpose", ["table"], ["turned"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["e", "turned"], ["y"], name="logits"),
    ]
    table = np.random.default_rng(0).standard_normal((512, 64)).astype(np.float32)
    ids = value("ids", [1, 6], onnx.TensorProto.INT64)
    model = graph(nodes, {"table": table}, [ids], [value("y", [1, 6, 512])])
    made = compress_weights(model, 8, "onnxruntime", True, set(), out_dir=tmp_path)
    assert made.nodes == ("embedding",)
    feed = {"ids": token_feed()["ids"][:1]}
    assert cosine(run(model, feed, tmp_path)["y"], run(onnx.load(made.path), feed, tmp_path)["y"]) > 0.999


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bits": 3}, "8 or 4 bits, not to 3"),
        ({"runtime": "litert"}, "'litert' has no form"),
        ({"runtime": "tensorrt"}, "'tensorrt' takes compressed weights of 4 bits alone"),
        ({"per_channel": False}, "choose the granularity PER_CHANNEL"),
        ({"group_size": 24}, "a power of two; asked for was 24"),
        ({"excluded": set(NODES)}, "All 5 nodes with weights to compress are excluded"),
        ({"model": network().__class__()}, "No node has weights"),
    ],
)
def test_what_has_no_form_is_refused(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"model": transformer(), "bits": 8, "runtime": "onnxruntime", "per_channel": True}
    asked |= {"excluded": set(), **changes}
    with pytest.raises(EngineFailure, match=words) as caught:
        compress_weights(**asked, out_dir=tmp_path)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_a_graph_of_convolutions_says_what_it_has_instead(tmp_path: Path) -> None:
    from onnx import helper

    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4)]
    model = graph(nodes, {"w": weights(3, 3, 3, 3)}, [value("x", [1, 3, 8, 8])], [value("y", [1, 3, 8, 8])])
    with pytest.raises(EngineFailure, match="no MatMul or Gemm") as caught:
        compress_weights(model, 8, "openvino", True, set(), out_dir=tmp_path)
    assert "Conv" in caught.value.evidence
    assert "statically" in caught.value.suggested_fix
