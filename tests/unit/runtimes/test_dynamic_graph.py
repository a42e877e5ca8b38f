"""Integers whose ranges are found at run time: which operators get them, and what the graph computes then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engines.runtimes.onnxruntime.dynamic_graph import quantize_by_default, quantize_products


class Recurrent(torch.nn.Module):
    """Two layers of LSTM and a head, whose weights PyTorch's exporter cuts and joins inside the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(16, 32, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(32, 4)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        """Return scores of shape (batch, 4)."""
        found: torch.Tensor = self.head(self.lstm(series)[0][:, -1])
        return found


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("lstm") / "model.onnx"
    # As the newer exporter leaves it.
    words: dict[str, Any] = {"input_names": ["series"], "output_names": ["scores"], "do_constant_folding": False}
    torch.onnx.export(Recurrent().eval(), (torch.zeros(1, 8, 16),), str(path), dynamo=False, **words)
    kinds = operators(path)
    assert kinds["LSTM"] == 2
    assert kinds["Slice"] > 0, "the weights are written as they are used, so that the test shows nothing"
    return path


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def scores(path: Path, series: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"series": series})
    return np.asarray(found)


@pytest.mark.parametrize("quantize", [quantize_products, quantize_by_default])
def test_the_weights_of_an_lstm_are_quantized_though_the_graph_cuts_and_joins_them(
    recurrent: Path, tmp_path: Path, quantize: Callable[[Path, Path], Path]
) -> None:
    made = quantize(recurrent, tmp_path / "int8.onnx")
    kinds = operators(made)
    assert (kinds["DynamicQuantizeLSTM"], kinds["LSTM"], kinds["Slice"]) == (2, 0, 0)
    assert kinds["MatMulInteger"] == 1
    assert made.stat().st_size < recurrent.stat().st_size * 0.6, "the weights in floating point are still there"
    series = np.random.default_rng(0).standard_normal((1, 8, 16)).astype(np.float32)
    np.testing.assert_allclose(scores(made, series), scores(recurrent, series), atol=0.05)


@pytest.mark.parametrize(("excluded", "quantized"), [(frozenset(), 2), (frozenset({"MatMul_3"}), 1)])
def test_a_head_that_is_tied_to_an_embedding_is_quantized_and_who_is_excluded_is_found_by_its_name(
    tmp_path: Path, excluded: frozenset[str], quantized: int
) -> None:
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"]),
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["embedded", "turned"], ["logits"]),
        helper.make_node("MatMul", ["logits", "mixing"], ["scores"]),
    ]
    graph = helper.make_graph(
        *(nodes, "tied", [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 3])]),
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3, 50])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(table @ table.T, "mixing")],
    )
    source = tmp_path / "tied.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), source)
    kinds = operators(quantize_products(source, tmp_path / "int8.onnx", excluded=excluded))
    assert (kinds["MatMulInteger"], kinds["MatMul"]) == (quantized, 2 - quantized)
    assert (kinds["Transpose"], kinds["Gather"]) == (0, 1)
