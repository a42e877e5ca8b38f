"""Small forms that are built from an ONNX graph for the real runtimes, and a maker of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.failures import EngineFailure, FailureReason
from engines.formats.preparation import Prepared
from engines.formats.source import Source, SourceGraph
from engines.runtimes.form import FormSpec, Made
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.runtimes.protocol import BuiltForm
from engines.sandbox.deadline import check
from engines.spec.template import Component
from engines.tensors import Array, Arrays
from engines.tensors.samples import Samples, generated
from engines.tensors.signature import Signature, TensorSpec
from engines.timing.process import FormProcess

WIDTH = 96
SIGNATURE = Signature(
    (TensorSpec.fixed("x", "float32", (1, WIDTH)).batched(4),),
    (TensorSpec.fixed("y", "float32", (1, WIDTH)).batched(4),),
)
BASELINE = FormSpec("onnxruntime", "FP32", knobs=(("graph", "as it is"),))
ORT = FormSpec("onnxruntime", "FP32")
OPENVINO = FormSpec("openvino", "FP32")


def graph(path: Path, layers: int = 3, *, scale: float = 1.0, steps: int = 0, words: int = 20_000) -> Path:
    """Write `layers` times relu(x @ w), the last weights scaled, after steps that change nothing, and some words."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for step in range(steps):
        nodes.append(helper.make_node("Neg", [value], [f"step{step}"]))
        value = f"step{step}"
    for layer in range(layers):
        factor = scale if layer == layers - 1 else 1.0
        array = (rng.standard_normal((WIDTH, WIDTH)) * factor / WIDTH**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"product{layer}"]))
        value = "y" if layer == layers - 1 else f"cut{layer}"
        nodes.append(helper.make_node("Relu", [f"product{layer}"], [value]))
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])]
    result = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])]
    made = helper.make_graph(nodes, "g", given, result, weights)
    made.doc_string = "." * words
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def prepared(workdir: Path, layers: int = 3) -> Prepared:
    """Return a component whose source is the graph, run as it is written."""
    ready = graph(workdir / "ready.onnx", layers)
    session = OnnxRuntimeSession(ready, 1, optimise=False)
    written = SourceGraph(ready, "test")
    source = Source(SIGNATURE, lambda: written, lambda given: [session.run({"x": given[0]})["y"]], None, {})
    return Prepared(Component(name="net"), source, lambda: ready, SIGNATURE, {}, samples())


def samples() -> Samples:
    """Return feeds of batch 1, 2 and 4."""
    return generated(SIGNATURE.inputs, {}, 0)


def form(directory: Path, runtime: str = "onnxruntime", layers: int = 3, **options: Any) -> BuiltForm:
    """Build the graph for a runtime: both take the ONNX file."""
    graph(directory / "model.onnx", layers, **options)
    stated = {"INFERENCE_PRECISION_HINT": "f32"} if runtime == "openvino" else {}
    return BuiltForm(runtime, "cpu-x86-64", "FP32", directory, ("model.onnx",), ("y",), stated)


def made(directory: Path, spec: FormSpec = ORT) -> Made:
    """Return a form that was built."""
    return Made(spec, form(directory, spec.runtime))


def ones(batch: int = 2) -> Arrays:
    """Return a feed of ones."""
    return {"x": np.ones((batch, WIDTH), np.float32)}


def truth(feed: Mapping[str, Array]) -> Array:
    """Return what the graph of three layers computes."""
    rng, value = np.random.default_rng(0), feed["x"]
    for _ in range(3):
        value = np.maximum(value @ (rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32), 0)
    return value


def state_times(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[FormSpec], float]) -> None:
    """Let the processes of forms compute and die as ever, and say that a call took what is stated of the form.

    What a search chooses is then no matter of what else the machine does.
    """
    turn, throughput = FormProcess.turn, FormProcess.throughput

    def timed(self: FormProcess, feed_index: int, calls: int, warm: int = 1) -> list[float]:
        return [seconds(self.made.spec)] * len(turn(self, feed_index, calls, warm))

    def loaded(self: FormProcess, feed_index: int, _seconds: float, samples: int = 1) -> float:
        throughput(self, feed_index, 0.01, samples)
        return samples / seconds(self.made.spec)

    monkeypatch.setattr(FormProcess, "turn", timed)
    monkeypatch.setattr(FormProcess, "throughput", loaded)


@dataclass
class TestMaker:
    """Makes forms of the graph; what its knob `test` says goes wrong, goes wrong.

    `wrong` computes something else, `more` computes the same in more steps, `small` has no bytes of documentation,
    `refused` cannot be built, `raises` fails inside, `slow` never ends; the processes of `dies` end at once, the first
    one of `once` after some calls (both in the program `mortal` only).
    """

    __test__ = False
    workdir: Path
    asked: list[FormSpec] = field(default_factory=list)

    def make(self, spec: FormSpec) -> Made:
        self.asked.append(spec)
        fault = spec.knob("test")
        if fault == "refused":
            raise EngineFailure(FailureReason.UNSUPPORTED_OPERATOR, "The runtime has no such operator.")
        if fault == "raises":
            raise ValueError("the tool broke")
        while fault == "slow":
            time.sleep(0.01)
            check()
        folder = self.workdir / f"form-{len(self.asked)}"
        steps, words = 200 if fault == "more" else 0, 0 if fault == "small" else 20_000
        built = form(folder, spec.runtime, scale=-1.0 if fault == "wrong" else 1.0, steps=steps, words=words)
        if fault in {"dies", "once"}:
            (folder / fault).touch()
        return Made(spec, built)
