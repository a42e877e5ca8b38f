"""Graphs that cannot be computed are refused with a message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model
from engines.graph.soundness import refuse_broken
from tests.unit.graph import graphs


def _model(*nodes: Any, outputs: Sequence[str] = ("y",)) -> Any:
    values: list[Any] = [(name, "float32", [1]) for name in outputs]
    return graphs.model(list(nodes), [("x", "float32", [1]), ("c", "bool", [])], values)


def test_graphs_that_are_sound() -> None:
    refuse_broken(graphs.conv_bn())
    refuse_broken(_model(graphs.node("Neg", ["a"], ["y"]), graphs.node("Neg", ["x"], ["a"])))
    branches = {
        "then_branch": graphs.branch("Neg", "x", "a", [1]),
        "else_branch": graphs.branch("Neg", "x", "b", [1]),
    }
    refuse_broken(_model(graphs.node("If", ["c"], ["y"], **branches)))
    refuse_broken(_model(graphs.node("Own", ["x"], ["y"], domain="a.library")))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ((graphs.node("Fancy", ["x"], ["y"]),), "'Fancy of y' is a 'Fancy', which is not an ONNX operator"),
        ((graphs.node("Neg", ["gone"], ["y"]),), "reads the value 'gone', which nothing in the graph computes"),
        ((graphs.node("Neg", ["x"], ["y"]), graphs.node("Abs", ["x"], ["y"])), "Two nodes compute the value 'y'"),
        ((graphs.node("Neg", ["x"], ["z"]),), "None of the graph's 1 nodes computes its output 'y'"),
        (
            (
                graphs.node("Add", ["x", "b"], ["a"], name="add"),
                graphs.node("Neg", ["a"], ["b"], name="back"),
                graphs.node("Neg", ["b"], ["y"], name="end"),
            ),
            "The graph has a cycle: 'add' needs 'back' needs 'add'",
        ),
        (
            (
                graphs.node(
                    "If",
                    ["c"],
                    ["y"],
                    then_branch=graphs.branch("Neg", "gone", "a", [1]),
                    else_branch=graphs.branch("Neg", "x", "b", [1]),
                ),
            ),
            "reads the value 'gone'",
        ),
    ],
)
def test_broken_graphs(nodes: tuple[Any, ...], words: str) -> None:
    with pytest.raises(EngineFailure, match=words) as caught:
        refuse_broken(_model(*nodes))
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_weights_of_no_bytes(tmp_path: Path) -> None:
    model = graphs.conv_bn()
    model.graph.initializer[0].raw_data = b""
    with pytest.raises(EngineFailure, match="have 0 bytes; the file is incomplete"):
        refuse_broken(model)
    onnx.save_model(
        graphs.conv_bn(), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (tmp_path / "w.bin").write_bytes(b"")
    with pytest.raises(EngineFailure, match=r"'w\.bin' has 0 bytes, and the weights in it need \d+"):
        load_model(tmp_path / "m.onnx")
