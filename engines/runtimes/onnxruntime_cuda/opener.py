"""Opens an ONNX graph in ONNX Runtime's CUDA provider. Packages carry this file: see `engines/runtimes/opened.py`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from ..onnxruntime.opener import GraphForm, settings_of
from ..opened import CallTimes, OpenedForm, UnfitMachineError

PACKAGES = ("onnxruntime-gpu",)

_PROVIDER = "CUDAExecutionProvider"
SETTINGS = {"device_id": "0", "use_tf32": "0"}
"""The first GPU; and float32 is computed in float32: TF32, the provider's default, keeps 10 bits of a factor."""
_GPU = ("cuda", 0)


def open_file(path: str, options: Mapping[str, str], threads: int) -> OpenedForm:
    """Open a graph on the first GPU.

    Raises:
        UnfitMachineError: The provider does not start here: ONNX Runtime would compute on the processor instead.
    """
    import onnxruntime as ort

    if hasattr(ort, "preload_dlls"):  # only builds for GPUs have it
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            ort.preload_dlls()
    built = ort.get_available_providers()
    if _PROVIDER not in built:
        raise UnfitMachineError(f"the model needs onnxruntime-gpu; the onnxruntime here has only {', '.join(built)}")
    session = ort.InferenceSession(path, settings_of(options, threads), providers=[(_PROVIDER, SETTINGS)])
    if _PROVIDER not in session.get_providers():
        raise UnfitMachineError(
            "the model runs on an NVIDIA GPU, and ONNX Runtime's CUDA provider does not start here: the GPU, its "
            "driver, or the libraries of CUDA and cuDNN are missing"
        )
    return CudaForm(session)


class CudaForm(GraphForm):
    """A session that keeps its inputs on the GPU as long as their shapes stay: a call copies into and out of them."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self._binding: Any = session.io_binding()
        self._given: dict[str, Any] = {}

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        return self.timed(feed)[0]

    def timed(self, feed: Mapping[str, Any]) -> tuple[list[Any], CallTimes]:
        """Return the outputs of a call, and how long it copied and computed."""
        moments = [time.perf_counter()]
        self._copy_in(feed)
        moments.append(time.perf_counter())
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        moments.append(time.perf_counter())
        outputs: list[Any] = self._binding.copy_outputs_to_cpu()
        moments.append(time.perf_counter())
        return outputs, CallTimes.between(moments)

    def close(self) -> None:
        """Release the tensors on the GPU and the session."""
        self._binding, self._given = None, {}
        super().close()

    def _copy_in(self, feed: Mapping[str, Any]) -> None:
        import onnxruntime as ort

        self._binding.clear_binding_outputs()  # another call may give other shapes
        for name in self.outputs:
            self._binding.bind_output(name, *_GPU)
        for name, value in feed.items():
            held = self._given.get(name)
            if held is not None and tuple(held.shape()) == value.shape:
                held.update_inplace(value)
                continue
            self._given[name] = ort.OrtValue.ortvalue_from_numpy(value, *_GPU)
            self._binding.bind_ortvalue_input(name, self._given[name])
        self._binding.synchronize_inputs()
