from typing import Any

import numpy as np
import pytest

from engines.graph.execution import copy_parameters, fuse_operators
from engines.graph.hygiene import tidy
from engines.graph.instrumentation import expose_intermediates, list_values
from tests.unit.graph import graphs

RNG = np.random.default_rng(2)


def _shared() -> Any:
    nodes = [
        graphs.node("MatMul", ["x", "w"], ["a"]),
        graphs.node("MatMul", ["a", "w"], ["b"]),
        graphs.node("Mul", ["v", "v"], ["c"]),
        graphs.node("Add", ["b", "c"], ["y"]),
    ]
    weights = {
        "w": RNG.standard_normal((4, 4)).astype(np.float32),
        "v": RNG.standard_normal(4).astype(np.float32),
        "w_copy1": np.zeros(1, np.float32),
    }
    return graphs.model(nodes, [("x", "float32", ["n", 4])], [("y", "float32", ["n", 4])], weights)


def test_every_use_of_a_shared_parameter_gets_its_own_copy() -> None:
    model = _shared()
    copied = copy_parameters(model)
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    np.testing.assert_array_equal(graphs.run(model, x=x)[0], graphs.run(copied, x=x)[0])
    uses = [name for node in copied.graph.node for name in node.input if name.startswith(("w", "v"))]
    assert len(uses) == len(set(uses)) == 4
    assert "w_copy2" in uses, "a name that is taken is not used again"
    assert len(model.graph.initializer) == 3


def test_parameter_that_callers_may_override_stays_shared() -> None:
    model = _shared()
    model.graph.input.append(graphs.value("w", "float32", [4, 4]))
    uses = [name for node in copy_parameters(model).graph.node for name in node.input]
    assert uses.count("w") == 2


def test_uses_inside_subgraphs_are_copied_and_hidden_names_left_alone() -> None:
    nodes = [
        graphs.node(
            "If",
            ["c"],
            ["z"],
            then_branch=graphs.branch("Neg", "v", "a", [4]),
            else_branch=graphs.branch("Abs", "v", "b", [4]),
        ),
        graphs.node("Add", ["v", "z"], ["y"]),
    ]
    weights = {"v": np.array([-1, 2, -3, 4], np.float32)}
    model = graphs.model(nodes, [("c", "bool", [])], [("y", "float32", [4])], weights)
    copied = copy_parameters(model)
    assert len(copied.graph.initializer) == 3
    assert graphs.run(copied, c=np.array(True))[0].tolist() == [0, 0, 0, 0]


def test_batch_normalization_goes_into_the_convolution() -> None:
    model = graphs.conv_bn()
    before = model.SerializeToString(deterministic=True)
    fused = fuse_operators(model)
    operators = [node.op_type for node in fused.graph.node]
    assert operators == ["Conv", "Relu"], "batch normalization, the identity transpose and dead code are gone"
    for batch in (1, 3):
        x = RNG.standard_normal((batch, 3, 6, 6)).astype(np.float32)
        np.testing.assert_allclose(graphs.run(fused, x=x)[0], graphs.run(model, x=x)[0], rtol=1e-4, atol=1e-5)
    assert model.SerializeToString(deterministic=True) == before


def test_constants_are_folded() -> None:
    nodes = [
        graphs.node("Add", ["one", "one"], ["two"]),
        graphs.node("Sqrt", ["two"], ["root"]),
        graphs.node("Mul", ["x", "root"], ["y"]),
    ]
    model = graphs.model(nodes, [("x", "float32", ["n"])], [("y", "float32", ["n"])], {"one": np.ones(1, np.float32)})
    fused = fuse_operators(model)
    assert [node.op_type for node in fused.graph.node] == ["Mul"]
    np.testing.assert_allclose(graphs.run(fused, x=np.ones(2, np.float32))[0], 2**0.5)


def test_values_come_in_topological_order_and_can_be_exposed() -> None:
    model = tidy(graphs.conv_bn())
    assert [(value.name, value.node, value.operator) for value in list_values(model)] == [
        ("nchw", "layout", "Transpose"),
        ("conv", "conv_node", "Conv"),
        ("bn", "bn_node", "BatchNormalization"),
        ("y", "relu_node", "Relu"),
        ("dead", "dead_node", "Neg"),
    ]
    exposed = expose_intermediates(model, ["bn", "y", "conv"])
    assert [output.name for output in exposed.graph.output] == ["y", "bn", "conv"]
    y, bn, _ = graphs.run(exposed, x=RNG.standard_normal((2, 3, 6, 6)).astype(np.float32))
    np.testing.assert_array_equal(np.maximum(bn, 0), y)


def test_unknown_value_is_refused() -> None:
    with pytest.raises(ValueError, match="no node of the graph computes 'w'"):
        expose_intermediates(graphs.conv_bn(), ["w"])


def test_module_of_a_node_is_known_where_torch_wrote_it() -> None:
    model = graphs.conv_bn()
    entry = model.graph.node[1].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'features', 'features.0', 'conv2d']"
    assert [value.module for value in list_values(tidy(model))][:2] == ["", "features.0"]
