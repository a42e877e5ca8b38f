"""The table of runtimes, and what each room declares: forms that it takes, knobs, candidates, environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import BuildSource, BuiltForm, Where, builds_from, graph_runtime, installed, open_form, runtimes
from engines.runtimes.candidates import Situation
from engines.runtimes.knobs import check_knobs
from engines.spec.devices import Device, load_catalog
from tests.unit.runtimes import graphs, networks
from tests.unit.runtimes.building import CPU, build

SITUATIONS = st.builds(
    Situation,
    goal=st.sampled_from(["FP32", "FP16", "BF16", "INT8"]),
    objective=st.sampled_from(["LATENCY", "THROUGHPUT", "SIZE"]),
    has_module=st.booleans(),
    has_function=st.booleans(),
    has_calibration=st.booleans(),
    is_transformer=st.booleans(),
    has_images=st.booleans(),
    batch=st.sampled_from([1, 16]),
    threads=st.sampled_from([1, 8]),
)


@pytest.mark.parametrize("name", runtimes())
def test_a_room_is_the_runtime_of_its_name(name: str) -> None:
    room = runtimes()[name]
    assert room.name == name
    assert room.title
    assert room.takes
    assert len({knob.name for knob in room.knobs}) == len(room.knobs)
    assert all(knob.good_for and set(knob.quantizers) <= set(knob.values) for knob in room.knobs)
    assert room.available() or set(room.environment(CPU)) >= set(room.packages)


@given(SITUATIONS, st.sampled_from([device for device in load_catalog().devices.values() if device.buildable_runtimes]))
def test_candidates_use_declared_knobs_and_have_promises_of_their_own(situation: Situation, device: Device) -> None:
    promises = []
    for name in device.buildable_runtimes:
        room = runtimes()[name]
        everywhere = [each.runtimes[name] for each in load_catalog().devices.values() if name in each.runtimes]
        offered = {precision for each in everywhere for precision in (*each.precisions, *each.quantized)}
        for candidate in room.candidates(replace(situation, target=device)):
            spec = candidate.spec
            assert spec.runtime == room.name
            assert spec.precision in offered  # a search leaves out what its device lacks
            knobs = dict(spec.knobs) | ({"reader": spec.reader} if spec.reader else {})
            check_knobs(room.title, knobs, room.knobs)
            assert not spec.quantizer or room.integers
            promises.append(candidate.promise)
    assert len(set(promises)) == len(promises)  # the order is never a matter of chance


def test_the_first_form_that_a_runtime_takes_is_built_and_no_other_is_made(tmp_path: Path) -> None:
    network = networks.source(networks.convolution())

    def never() -> Path:
        raise AssertionError

    both = BuildSource(network.signature, never, network.network)
    assert both.offers == ("graph", "network")
    assert both.form_for("X", ("network", "graph")) == "network"
    build("torchscript", both, tmp_path / "form")


def test_a_native_form_comes_before_the_graph(tmp_path: Path) -> None:
    path, weights = graphs.linear(tmp_path / "g.onnx")
    first = build("openvino", BuildSource.of_file(path, graphs.SIGNATURE), tmp_path / "first")
    source = BuildSource.of_file(first.entry, graphs.SIGNATURE)
    assert source.offers == ("xml",)
    x = np.ones((2, 4), np.float32)
    with open_form(build("openvino", source, tmp_path / "second"), 1) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], np.maximum(x @ weights, 0), rtol=1e-5)


def test_a_source_without_a_form_that_the_runtime_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="ONNX Runtime builds from graph; it offers network") as caught:
        build("onnxruntime", networks.source(networks.convolution()), tmp_path)
    assert caught.value.reason is FailureReason.INVALID_SPEC
    with pytest.raises(EngineFailure, match="The source has no ONNX graph"):
        networks.source(networks.convolution()).graph()


def test_forms_decide_which_runtimes_suit() -> None:
    assert builds_from("torchscript", {"graph", "network"})
    assert not builds_from("torchscript", {"graph"})
    assert not builds_from("abacus", {"graph"})
    assert graph_runtime(CPU) == "onnxruntime"
    assert graph_runtime(load_catalog().device("nvidia-t4")) == "tensorrt"
    assert not graph_runtime(load_catalog().device("nvidia-t4").model_copy(update={"runtimes": {}}))
    assert {room.name for room in installed(CPU)} <= set(CPU.buildable_runtimes)
    assert installed(load_catalog().device("ascend-310")) == []


def test_a_form_for_another_device_is_not_opened_here() -> None:
    arm = load_catalog().device("cpu-arm64")
    assert runtimes()["onnxruntime"].where(arm) is Where.DEVICE
    assert runtimes()["onnxruntime"].where(CPU) is Where.HERE
    form = BuiltForm("onnxruntime", "cpu-arm64", "FP32", Path("absent"), ("model.onnx",), ("y",))
    with pytest.raises(EngineFailure, match="The form runs on cpu-arm64 only") as caught:
        open_form(form, 1)
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
