"""Forms of torch networks: what they compute in every runtime that takes one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import BuildSource, open_form, runtime
from engines.runtimes.torch_networks.profiling import OUTSIDE
from engines.sandbox.deadline import Overrun, at_most
from engines.spec.toolchain import cpu
from tests.children import children
from tests.unit.runtimes import carried, graphs, networks
from tests.unit.runtimes.building import build

HAS_BF16 = bool({"avx512_bf16", "amx_bf16"} & set(cpu()[1]))
FORMS = [
    ("torchscript", {}),
    ("torchscript", {"graph": "inference", "allocator": "tuned"}),
    ("torchscript", {"mode": "eager", "threads": "1"}),
    ("torchscript", {"layout": "channels_last"}),
    ("openvino", {"reader": "pytorch"}),
    ("openvino", {"reader": "pytorch", "streams": "2"}),
]


@pytest.mark.parametrize(("runtime", "knobs"), FORMS, ids=str)
def test_a_network_is_computed_at_any_batch_with_its_preprocessing(
    runtime: str, knobs: dict[str, str], tmp_path: Path
) -> None:
    network = networks.convolution()
    form = build(runtime, networks.source(network), tmp_path / "out", "FP32", knobs)
    session = open_form(form, 2)
    feeds = [networks.feed(batch) for batch in (1, 2, 5)]
    for given, many in zip(feeds, session.run_many(feeds), strict=True):
        expected = networks.truth(network, given)
        found = session.run(given)
        assert list(found) == ["y", "best"]
        for values in (found["y"], many["y"]):
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found["best"], expected.argmax(1))
        assert found["y"].dtype == np.float32
    assert session.requests == int(knobs.get("streams", "1"))
    for _ in range(2):
        session.close()
    with pytest.raises(EngineFailure):
        session.run(feeds[0])


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16 arithmetic")
@pytest.mark.parametrize("knobs", [{}, {"layout": "channels_last"}], ids=["plain", "channels-last"])
def test_bfloat16_begins_after_the_preprocessing(knobs: dict[str, str], tmp_path: Path) -> None:
    network = networks.convolution()
    form = build("torchscript", networks.source(network), tmp_path / "out", "BF16", knobs)
    given = networks.feed(4)
    found, expected = open_form(form, 1).run(given)["y"], networks.truth(network, given)
    assert found.dtype == np.float32
    assert 1e-5 < np.abs(found - expected).max() < 0.05
    assert next(network.parameters()).dtype.is_floating_point
    assert str(next(network.parameters()).dtype) == "torch.float32"


def test_a_compiler_is_killed_when_no_time_is_left(tmp_path: Path) -> None:
    before = children()  # other tests let torch keep a pool of compilers
    with at_most(0.2), pytest.raises(Overrun):
        build("inductor", networks.source(networks.convolution()), tmp_path / "out", "FP32")
    assert children() <= before


def test_inductor_compiles_ahead_of_time(tmp_path: Path) -> None:
    network = networks.convolution()
    form = build("inductor", networks.source(network), tmp_path / "out", "FP32")
    session = open_form(form, 1)
    for batch in (1, 5):
        given = networks.feed(batch)
        expected = networks.truth(network, given)
        np.testing.assert_allclose(session.run(given)["y"], expected, rtol=1e-4, atol=1e-5)
    for alone in carried.computed(form, given, tmp_path):
        np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-5)
    assert form.options["cpu_capability"] in {"DEFAULT", "AVX2", "AVX512"}


def test_a_form_for_wider_vectors_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    from engines.runtimes.protocol import BuiltForm

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    options = {"inputs": '["x"]', "cpu_capability": "AVX512"}
    with pytest.raises(EngineFailure, match="compiled for processors with AVX512; this one offers AVX2"):
        open_form(BuiltForm("inductor", "cpu-x86-64", "FP32", tmp_path, ("model.pt2",), ("y",), options), 1)


def test_without_a_compiler_inductor_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EngineFailure, match="there is no `no-such-compiler`") as caught:
        build("inductor", networks.source(networks.convolution()), tmp_path, "FP32")
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "g++" in caught.value.suggested_fix


@pytest.mark.parametrize(("runtime", "knobs"), [("inductor", {}), ("torchscript", {"mode": "eager"})])
def test_a_decision_on_a_value_is_named_with_its_line(runtime: str, knobs: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"decides at networks.py:\d+, in 'forward', by a value") as caught:
        build(runtime, networks.source(networks.undecided()), tmp_path, "FP32", knobs)
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert caught.value.operator == "control flow"
    assert "torch.where" in caught.value.suggested_fix


@pytest.mark.parametrize(
    ("runtime", "knobs"), [("inductor", {}), ("torchscript", {}), ("openvino", {"reader": "pytorch"})]
)
def test_a_graph_without_a_network_is_refused(runtime: str, knobs: dict[str, str], tmp_path: Path) -> None:
    graph = graphs.linear(tmp_path / "g.onnx")[0]
    with pytest.raises(EngineFailure, match="this source is a graph without one") as caught:
        build(runtime, BuildSource.of_file(graph, graphs.SIGNATURE), tmp_path / "out", "FP32", knobs)
    assert caught.value.reason is FailureReason.INVALID_SPEC


@pytest.mark.parametrize("runtime", ["inductor", "torchscript"])
@pytest.mark.parametrize("precision", ["FP16", "INT8"])
def test_other_precisions_are_refused(runtime: str, precision: str, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=f"cannot compute in {precision} here") as caught:
        build(runtime, networks.source(networks.convolution()), tmp_path, precision)
    assert caught.value.reason is FailureReason.UNSUPPORTED_PRECISION


def test_a_wrong_input_is_a_failure_and_not_a_crash(tmp_path: Path) -> None:
    form = build("torchscript", networks.source(networks.convolution()), tmp_path / "out", "FP32")
    given = networks.feed(2) | {"shift": np.zeros((2, 7), np.float32)}
    with pytest.raises(EngineFailure) as caught:
        open_form(form, 1).run(given)
    assert caught.value.reason is FailureReason.TOOLCHAIN_CRASHED


def test_the_caller_owns_the_outputs(tmp_path: Path) -> None:
    import torch

    class Same(torch.nn.Module):
        def forward(self, image: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return shift, image.argmax(1)[:, 0, 0]

    form = build("torchscript", networks.source(Same()), tmp_path / "out", "FP32")
    given = networks.feed(2)
    found = open_form(form, 1).run(given)["y"]
    assert not np.shares_memory(found, given["shift"])


def test_the_operators_of_a_network_are_its_layers(tmp_path: Path) -> None:
    form = build("torchscript", networks.source(networks.convolution()), tmp_path / "out", "FP32", {})
    layers = runtime("torchscript").layers(form, networks.feed(2), 1)
    convolution = next(layer for layer in layers if "convolution" in layer.operator)
    assert convolution.name.startswith(f"{layers.index(convolution) + 1} {convolution.operator} (2*")
    assert layers[-1].operator == OUTSIDE
    assert all(layer.milliseconds >= 0 for layer in layers)
