"""Names of nodes, and what a graph is."""

import onnx
import pytest
from onnx import helper

from engines.failures import EngineFailure
from engines.graph.nodes import check_excluded, name_nodes, separate_integers
from engines.quantization.recipes import is_transformer


def graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(list(nodes), "g", [], []))


def test_every_node_gets_a_name_of_its_own() -> None:
    relu = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], name=name) for i, name in enumerate(["", "a", "a", ""])]
    model = graph(*relu)
    name_nodes(model)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == 4
    assert names[1] == "a"


def test_an_unknown_node_is_told_with_those_that_come_close() -> None:
    check_excluded(["body.0"], ["body.0", "body.1"])
    with pytest.raises(EngineFailure, match=r"no node 'body.2' .* Similar names: body\.[01], body\.[01]") as caught:
        check_excluded(["body.2"], ["body.0", "body.1", "head"])
    assert caught.value.node == "body.2"
    with pytest.raises(EngineFailure, match="There is no similar name"):
        check_excluded(["x"], ["body.0"])


def test_attention_is_recognized() -> None:
    softmax = helper.make_node("Softmax", ["a"], ["b"])
    assert is_transformer(graph(softmax, helper.make_node("MatMul", ["b", "v"], ["c"])))
    assert is_transformer(graph(helper.make_node("LayerNormalization", ["a", "s"], ["b"])))
    assert not is_transformer(graph(helper.make_node("MatMul", ["a", "w"], ["b"]), softmax))


def test_every_use_of_an_int8_parameter_gets_its_own() -> None:
    uses = [helper.make_node("DequantizeLinear", [f"x{i}", "s", "z"], [f"y{i}"]) for i in range(3)]
    model = graph(*uses)
    model.graph.initializer.extend(
        [
            helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("z", onnx.TensorProto.INT8, [], [0]),
        ]
    )
    separate_integers(model)
    assert len({node.input[2] for node in model.graph.node}) == 3
    assert {node.input[1] for node in model.graph.node} == {"s"}
    assert {tensor.name for tensor in model.graph.initializer} == {"s", "z", "z/use_2", "z/use_3"}
