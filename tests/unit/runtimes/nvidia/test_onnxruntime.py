"""ONNX Runtime's CUDA provider: its forms are built anywhere, and opened if there is a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model
from engines.runtimes import BuildOptions, BuildSource, Where, runtimes
from engines.runtimes.candidates import Situation
from engines.runtimes.nvidia import gpus
from engines.runtimes.nvidia.gpus import Gpu, Gpus, is_gpu, missing_gpu
from engines.runtimes.onnxruntime_cuda import runtime as room_module
from engines.runtimes.onnxruntime_cuda.opener import CudaForm, open_file
from engines.runtimes.onnxruntime_cuda.serving import SERVING
from engines.runtimes.opened import UnfitMachineError
from engines.spec.devices import load_catalog
from engines.spec.toolchain import version_of
from engines.tensors import Arrays
from tests.unit.runtimes import graphs

T4 = load_catalog().device("nvidia-t4")
ROOM = runtimes()["onnxruntime-cuda"]
GPU = next((each for each in load_catalog().devices.values() if is_gpu(each) and not missing_gpu(each)), None)


def source(folder: Path) -> BuildSource:
    return BuildSource.of_file(graphs.linear(folder / "source.onnx")[0], graphs.SIGNATURE)


def feed(batch: int) -> Arrays:
    return {"x": np.random.default_rng(batch).standard_normal((batch, 4)).astype(np.float32)}


def test_a_form_is_built_without_a_gpu_and_says_where_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    form = ROOM.build(source(tmp_path), T4, BuildOptions("FP16"), tmp_path / "out")
    types = {tensor.data_type for tensor in load_model(form.entry).graph.initializer if tensor.dims}
    assert 10 in types, "half precision stands in the graph"
    with pytest.raises(EngineFailure, match="CUDA provider: the model needs onnxruntime-gpu") as caught:
        ROOM.open(form, T4, 1)
    assert caught.value.reason is FailureReason.UNSUPPORTED_PRECISION
    monkeypatch.setattr(gpus, "gpus", lambda: Gpus((Gpu("Tesla T4", "1", "sm_75", "580"),)))
    monkeypatch.setattr(room_module, "version_of", lambda _package: "")
    assert ROOM.where(T4) is Where.DEVICE
    assert "`onnxruntime-gpu`" in str(ROOM.available(T4))
    monkeypatch.setattr(room_module, "version_of", lambda _package: "1.31.1")
    assert (ROOM.where(T4), ROOM.runs_on(T4)) == (Where.HERE, "Tesla T4")


def test_precisions_and_knobs_that_it_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="cannot compute in BF16 here: the catalog lists FP32, FP16"):
        ROOM.build(source(tmp_path), T4, BuildOptions("BF16"), tmp_path / "out")
    with pytest.raises(EngineFailure, match="has no knob 'streams'"):
        ROOM.build(source(tmp_path), T4, BuildOptions("FP32", {"streams": "2"}), tmp_path / "out")


def test_a_search_tries_both_precisions_and_has_a_baseline() -> None:
    half = [each.spec.precision for each in ROOM.candidates(Situation("FP16", is_transformer=True))]
    assert half == ["FP16", "FP32", "FP16"]
    assert [each.spec.precision for each in ROOM.candidates(Situation())] == ["FP32"]
    assert [each.spec.precision for each in ROOM.baselines(Situation())] == ["FP32"]


def test_a_provider_that_does_not_start_is_not_replaced_by_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime as ort

    class OnProcessor:
        def __init__(self, *_arguments: Any, **_named: Any) -> None:
            pass

        def get_providers(self) -> list[str]:  # as onnxruntime-gpu 1.31.1 answers on a machine without a driver
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", OnProcessor)
    with pytest.raises(UnfitMachineError, match="CUDA provider does not start here"):
        open_file("model.onnx", {}, 1)


def test_inputs_stay_where_they_are_while_their_shapes_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import onnxruntime as ort

    from engines.runtimes.onnxruntime_cuda import opener

    monkeypatch.setattr(opener, "_GPU", ("cpu", 0))  # the same calls, with tensors in the host's memory
    create, made = ort.OrtValue.ortvalue_from_numpy, list[tuple[int, ...]]()

    def noted(*given: Any) -> Any:
        made.append(given[0].shape)
        return create(*given)

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", noted)
    path, _weights = graphs.linear(tmp_path / "model.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    form = CudaForm(session)
    for batch in (2, 2, 3, 2):
        x = feed(batch)
        expected = session.run(None, x)
        outputs, times = form.timed(x)
        for found, wanted in zip(outputs, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
        assert min(times) >= 0
    assert [shape[0] for shape in made] == [2, 3, 2]
    form.close()


def test_triton_runs_it_on_a_gpu_and_in_float32() -> None:
    assert SERVING.triton is not None
    assert SERVING.triton.instances == "KIND_GPU"
    fields = SERVING.triton.settings({}, 8).fields
    (accelerator,) = fields["optimization"]["execution_accelerators"]["gpu_execution_accelerator"]
    assert accelerator == {"name": "cuda", "parameters": {"use_tf32": "0"}}


@pytest.mark.gpu
@pytest.mark.skipif(
    GPU is None or not version_of("onnxruntime-gpu"), reason=f"missing is {missing_gpu(T4) or 'onnxruntime-gpu'}"
)
@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_a_graph_is_computed_on_the_gpu(precision: str, tmp_path: Path) -> None:
    assert GPU is not None
    form = ROOM.build(source(tmp_path), GPU, BuildOptions(precision), tmp_path / "out")
    plain = runtimes()["onnxruntime"].build(
        source(tmp_path), load_catalog().device("cpu-x86-64"), BuildOptions("FP32"), tmp_path / "plain"
    )
    tolerance = {"FP32": 1e-4, "FP16": 1e-2}[precision]
    with ROOM.open(form, GPU, 1) as session, runtimes()["onnxruntime"].open(plain, T4, 1) as reference:
        for batch in (1, 3):
            found, wanted = session.run(feed(batch)), reference.run(feed(batch))
            for name, value in wanted.items():
                np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance)
