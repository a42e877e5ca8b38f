"""What each quantized node costs, for graphs that real quantizers made."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engines.quantization.piece_noise import Noise
from engines.quantization.pieces import cut
from engines.quantization.sensitivity import sensitivities
from engines.quantization.weights import compress_weights
from tests.unit.quantization import graphs, quantized
from tests.unit.quantization.graphs import cosine, graph, image_feeds, network, run, value, weights

PRODUCTS = {"conv1", "conv2", "fc", "gemm"}


def test_nodes_of_onnxruntimes_graph_are_named_as_the_source_names_them(tmp_path: Path) -> None:
    model = quantized.by_onnxruntime(network(), image_feeds(), tmp_path)
    found = sensitivities(network(), model, image_feeds())
    assert {entry.node for entry in found} >= PRODUCTS
    assert {entry.node for entry in found} <= {node.name for node in network().graph.node}
    assert all(15 < entry.sqnr_db < 90 and entry.effect_db is not None for entry in found)
    assert [entry.cost_db for entry in found] == sorted(entry.cost_db for entry in found)


def test_nodes_of_nncfs_graph_are_named_as_the_source_names_them() -> None:
    found = sensitivities(network(), quantized.by_nncf(network(), image_feeds()), image_feeds())
    assert PRODUCTS <= {entry.node for entry in found} <= {node.name for node in network().graph.node}
    assert all(15 < entry.sqnr_db < 90 for entry in found)


def test_other_forms_are_understood(tmp_path: Path) -> None:
    found = sensitivities(network(), quantized.dynamically(network(), tmp_path), image_feeds())
    assert {entry.node: entry.operator for entry in found} == {
        **{"conv1": "Conv", "conv2": "Conv"},
        **{"fc": "MatMul", "gemm": "Gemm"},
    }
    made = compress_weights(graphs.transformer(), 8, "onnxruntime", True, set(), out_dir=tmp_path)
    found = sensitivities(graphs.transformer(), onnx.load(made.path), [graphs.token_feed()])
    assert {entry.node for entry in found} == set(made.nodes)


def coarse(steps: dict[str, float]) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return a chain of three products, and the same with the input of each brought to steps of the given size."""

    def chain(rounded: bool) -> onnx.ModelProto:
        nodes: list[Any] = []
        parameters: dict[str, Any] = {}
        last = "x"
        for position, (name, step) in enumerate(steps.items()):
            parameters[f"w{position}"] = weights(16, 16, seed=position)
            read = last
            if rounded:
                parameters |= {f"s{position}": np.float32(step), "z": np.int8(0)}
                scale = [f"s{position}", "z"]
                nodes.append(helper.make_node("QuantizeLinear", [last, *scale], [f"q{position}"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"q{position}", *scale], [f"d{position}"]))
                read = f"d{position}"
            last = "y" if position == len(steps) - 1 else f"v{position}"
            nodes.append(helper.make_node("MatMul", [read, f"w{position}"], [last], name=name))
        return graph(nodes, parameters, [value("x", ["batch", 16])], [value("y", ["batch", 16])])

    return chain(False), chain(True)


FEEDS = [{"x": np.random.default_rng(seed).standard_normal((64, 16)).astype(np.float32)} for seed in range(2)]


def test_the_node_with_the_coarsest_steps_comes_first_and_is_not_blamed_for_others() -> None:
    model, rounded = coarse({"fine": 0.03, "coarse": 0.5, "after": 0.03})
    found = {entry.node: entry for entry in sensitivities(model, rounded, FEEDS)}
    assert list(found) == ["coarse", *sorted({"fine", "after"}, key=lambda name: found[name].cost_db)]
    assert found["after"].sqnr_db > found["coarse"].sqnr_db + 15


def test_noise_is_what_rounding_to_steps_makes() -> None:
    """Rounding to steps of d adds noise of variance d²/12; a random matrix keeps the ratio (Widrow & Kollar, 2008)."""
    step = 0.05
    model, rounded = coarse({"only": step})
    [entry] = sensitivities(model, rounded, FEEDS)
    signal = np.mean([np.square(feed["x"]).mean() for feed in FEEDS])
    assert entry.sqnr_db == pytest.approx(10 * np.log10(signal / (step**2 / 12)), abs=0.7)
    assert entry.effect_db == pytest.approx(entry.sqnr_db, abs=1e-6)


def test_without_a_budget_nodes_are_ordered_by_their_own_noise() -> None:
    model, rounded = coarse({"fine": 0.03, "coarse": 0.5})
    found = sensitivities(model, rounded, FEEDS, budget_seconds=0)
    assert [(entry.node, entry.effect_db) for entry in found] == [("coarse", None), ("fine", None)]


def test_leaving_the_first_node_in_floating_point_helps_most(tmp_path: Path) -> None:
    model, rounded = coarse({"fine": 0.03, "coarse": 0.5, "after": 0.1})
    expected = run(model, FEEDS[0], tmp_path)["y"]
    names = [entry.node for entry in sensitivities(model, rounded, FEEDS)]
    cosines = [cosine(expected, run(_without(rounded, name), FEEDS[0], tmp_path)["y"]) for name in names]
    assert cosines[0] == max(cosines)


def _without(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a graph in which a node reads its input as it was before it was rounded."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    producers = {output: node for node in changed.graph.node for output in node.output}
    for node in changed.graph.node:
        if node.name == name:
            node.input[0] = producers[producers[node.input[0]].input[0]].input[0]
    return changed


def test_a_node_that_reads_what_was_rounded_for_another_is_not_blamed() -> None:
    """As ONNX Runtime does: what a MatMul gives is rounded before an Add in floating point reads it."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Add", ["m", "b"], ["y"], name="bias"),
    ]
    parameters = {"w": weights(16, 16), "b": np.ones(16, np.float32)}
    sides = [value("x", ["batch", 16])], [value("y", ["batch", 16])]
    rounded = [
        nodes[0],
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Add", ["d", "b"], ["y"], name="bias"),
    ]
    model = graph(nodes, parameters, *sides)
    other = graph(rounded, {**parameters, "s": np.float32(0.2), "z": np.int8(0)}, *sides)
    assert [entry.node for entry in sensitivities(model, other, FEEDS)] == ["product"]


def test_an_activation_that_the_quantizer_left_out_is_measured_behind_the_rounding(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    model = graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node("Relu", ["c"], ["y"], name="relu")],
        {"w": weights(4, 3, 3, 3)},
        [value("x", ["batch", 3, 8, 8])],
        [value("y", ["batch", 4, 6, 6])],
    )
    made = quantized.by_onnxruntime(model, image_feeds(), tmp_path, activation_type=QuantType.QUInt8)
    found = sensitivities(model, made, image_feeds())
    assert "conv" in {entry.node for entry in found}
    assert all(entry.sqnr_db > 25 for entry in found)


def test_a_graph_in_floating_point_has_no_pieces() -> None:
    assert cut(network(), network()) == []
    assert sensitivities(network(), network(), image_feeds()) == []
    with pytest.raises(ValueError, match="at least one feed"):
        sensitivities(network(), network(), [])


def test_lost_values_are_noise_and_equal_ones_none() -> None:
    noise = Noise()
    noise.add(np.ones(4), np.ones(4))
    assert noise.decibels() == 200
    noise.add(np.ones(4), np.array([1, np.nan, 1, 1]))
    assert noise.decibels() == -200


def test_the_parameters_of_a_trial_are_not_those_of_the_source(tmp_path: Path) -> None:
    """A quantizer may change a parameter under its old name, as bias correction does."""
    model, rounded = coarse({"only": 0.05})
    changed = onnx.ModelProto()
    changed.CopyFrom(rounded)
    tensor = next(tensor for tensor in changed.graph.initializer if tensor.name == "w0")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, "w0"))
    [entry] = sensitivities(model, changed, FEEDS)
    assert entry.effect_db == pytest.approx(0, abs=0.1)
