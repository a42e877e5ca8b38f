"""torch's runtimes for NVIDIA's GPUs: what is refused if one is missing, and how a form computes on one."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import BuildOptions, Where, runtimes
from engines.runtimes.candidates import Situation
from engines.runtimes.inductor import compile_process
from engines.runtimes.inductor.opener import open_file as open_inductor
from engines.runtimes.nvidia import gpus
from engines.runtimes.nvidia.gpus import Gpu, Gpus, is_gpu, missing_gpu
from engines.runtimes.opened import UnfitMachineError
from engines.runtimes.torch_networks import runtime as torch_runtime
from engines.runtimes.torch_networks.cuda_opener import CudaForm
from engines.runtimes.torch_networks.runtime import missing_for
from engines.runtimes.torchscript.opener import open_file as open_torchscript
from engines.spec.devices import load_catalog
from tests.unit.runtimes import networks
from tests.unit.runtimes.building import CPU

T4 = load_catalog().device("nvidia-t4")
ROOMS = ["torchscript", "inductor"]
NO_GPU = missing_gpu(T4)
GPU = next((each for each in load_catalog().devices.values() if is_gpu(each) and not missing_gpu(each)), None)


@pytest.fixture
def tesla(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Gpus((Gpu("Tesla T4", "GPU-1", "sm_75", "580.65.06, CUDA 13.0"),))
    monkeypatch.setattr(gpus, "gpus", lambda: here)
    monkeypatch.setattr(torch_runtime, "gpus", lambda: here)


@pytest.mark.skipif(NO_GPU is None, reason="this machine has a T4")
@pytest.mark.parametrize("name", ROOMS)
def test_without_a_gpu_a_build_says_what_is_missing(name: str, tmp_path: Path) -> None:
    room = runtimes()[name]
    assert room.where(T4) is Where.DEVICE
    with pytest.raises(EngineFailure, match="for nvidia-t4 here: missing is") as caught:
        room.build(networks.source(networks.convolution()), T4, BuildOptions("FP16"), tmp_path)
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert str(NO_GPU) in caught.value.message
    assert "worker for nvidia-t4" in caught.value.suggested_fix


@pytest.mark.usefixtures("tesla")
def test_a_torch_for_processors_is_no_torch_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch_runtime, "_CUDA_LIBRARY", "lib/no-such-library")
    for name in ROOMS:
        assert "a CUDA build of torch" in str(runtimes()[name].available(T4))
        assert runtimes()[name].available(CPU) is None
    monkeypatch.setattr(torch_runtime, "_CUDA_LIBRARY", "lib/libtorch.so")
    assert runtimes()["torchscript"].available(T4) is None
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "a driver for CUDA 13.0" in str(missing_for(T4))
    assert "here is 580.65.06" in str(missing_for(T4))


@pytest.mark.usefixtures("tesla")
@pytest.mark.parametrize(
    ("built", "capability", "missing"),
    [
        (["sm_75", "sm_80"], (7, 5), None),
        (["sm_80", "sm_90"], (7, 5), "kernels for sm_75"),
        (["sm_70", "sm_80"], (7, 5), None),
        (["sm_50", "compute_60"], (7, 5), None),
        (["sm_75"], (8, 6), "as torch's first one, which has sm_86"),
    ],
)
def test_torch_must_have_kernels_for_the_gpu(
    built: list[str], capability: tuple[int, int], missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch_runtime, "_CUDA_LIBRARY", "lib/libtorch.so")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    said = missing_for(T4)
    assert said is None if missing is None else missing in str(said)
    room = runtimes()["torchscript"]
    assert room.where(T4) is (Where.HERE if missing is None else Where.DEVICE)
    assert room.runs_on(T4) == ("Tesla T4" if missing is None else "")


@pytest.mark.parametrize("name", ROOMS)
def test_a_precision_that_the_gpu_lacks_is_refused_first(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="cannot compute in BF16 here: the catalog lists FP32, FP16") as caught:
        runtimes()[name].build(networks.source(networks.convolution()), T4, BuildOptions("BF16"), tmp_path)
    assert caught.value.reason is FailureReason.UNSUPPORTED_PRECISION


@pytest.mark.parametrize("name", ROOMS)
def test_a_search_on_a_gpu_tries_both_halves_and_no_setting_of_the_host(name: str) -> None:
    a10 = load_catalog().device("nvidia-a10")
    now = Situation("INT8", has_module=True, has_images=True, batch=16, target=a10)
    found = [candidate.spec for candidate in runtimes()[name].candidates(now)]
    assert {spec.precision for spec in found} == {"FP32", "FP16", "BF16"}
    older = [candidate.spec.precision for candidate in runtimes()[name].candidates(replace(now, target=T4))]
    assert set(older) == {"FP32", "FP16"}, "a T4 has no bfloat16"
    assert not any(spec.knob("allocator") for spec in found)
    whole = [candidate.spec.precision for candidate in runtimes()[name].candidates(Situation(has_module=True))]
    assert whole == ["FP32"]


def test_openers_refuse_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    options = {"inputs": '["x"]', "computes_on": "cuda", "gpu_architecture": "sm_75"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for open_file in (open_torchscript, open_inductor):
        with pytest.raises(UnfitMachineError, match="runs on an NVIDIA GPU, and torch"):
            open_file("model", options, 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    with pytest.raises(UnfitMachineError, match="compiled for sm_75; the GPU here has sm_86"):
        open_inductor("model", options, 1)


def test_cudas_headers_are_taken_from_pip_if_there_is_no_toolkit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "nvidia" / "cu13"
    monkeypatch.syspath_prepend(tmp_path)
    headers = ["cuda.h", "cuda_runtime.h", "crt/host_config.h", "nv/target"]
    for header in headers:
        assert compile_process.cuda_home() != home, "headers are missing"
        (home / "include" / header).parent.mkdir(parents=True, exist_ok=True)
        (home / "include" / header).touch()
    assert compile_process.cuda_home() == home


class StandInEvent:
    """Notes the order of what a stream is given, instead of times."""

    clock = 0.0

    def __init__(self, **_options: Any) -> None:
        self.at = 0.0

    def record(self, _stream: Any) -> None:
        StandInEvent.clock += 1.0
        self.at = StandInEvent.clock

    def elapsed_time(self, later: StandInEvent) -> float:
        return later.at - self.at


@pytest.fixture
def processor_as_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let buffers of the GPU lie in the host's memory; give the buffers that were made."""
    import torch

    empty, made = torch.empty, list[str]()

    def plain(*shape: Any, pin_memory: bool = False, device: str = "cpu", **options: Any) -> Any:
        made.append("pinned" if pin_memory else device)
        return empty(*shape, **options)

    class Stream:
        synchronize = staticmethod(lambda: None)

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", StandInEvent)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    monkeypatch.setattr(torch, "empty", plain)
    return made


def test_buffers_of_inputs_are_kept_as_long_as_shapes_stay(processor_as_gpu: list[str]) -> None:
    form = CudaForm(lambda x, shift: (x * 2 + shift, x), ["x", "shift"])
    feed = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "shift": np.ones(1, np.float32)}
    first = form.run(feed)
    np.testing.assert_array_equal(first[0], feed["x"] * 2 + 1)
    assert processor_as_gpu == ["pinned", "cuda"] * 2 + ["pinned"] * 2
    processor_as_gpu.clear()
    outputs, times = form.timed({**feed, "x": feed["x"] + 1})
    np.testing.assert_array_equal(outputs[0], feed["x"] * 2 + 3)
    np.testing.assert_array_equal(first[1], feed["x"], "an earlier output belongs to the caller")
    assert processor_as_gpu == ["pinned", "pinned"], "only the outputs"
    assert times == (1.0, 1.0, 1.0), "copied in, computed, copied out"
    form.run({**feed, "x": feed["x"][:1]})
    assert "cuda" in processor_as_gpu, "another shape takes another buffer"
    form.close()
    form.close()
    with pytest.raises(ValueError, match="closed"):
        form.run(feed)


@pytest.mark.gpu
@pytest.mark.skipif(GPU is None, reason=f"missing is {NO_GPU}")
@pytest.mark.parametrize("precision", ["FP32", "FP16", "BF16"])
@pytest.mark.parametrize("name", ROOMS)
def test_a_network_is_computed_on_the_gpu(name: str, precision: str, tmp_path: Path) -> None:
    assert GPU is not None
    if precision not in GPU.runtimes[name].precisions:
        pytest.skip(f"{GPU.id} has no {precision}")
    room, network = runtimes()[name], networks.convolution()
    form = room.build(networks.source(network), GPU, BuildOptions(precision), tmp_path)
    tolerance = {"FP32": 1e-4, "FP16": 1e-2, "BF16": 5e-2}[precision]
    with room.open(form, GPU, 1) as session:
        for batch in (1, 2, 5):
            given = networks.feed(batch)
            found, times = session.timed(given)
            np.testing.assert_allclose(found["y"], networks.truth(network, given), rtol=tolerance, atol=tolerance)
            assert min(times) > 0
    assert room.layers(form, networks.feed(2), 1)
