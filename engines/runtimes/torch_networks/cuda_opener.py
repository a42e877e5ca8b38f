"""Computes with a network of torch on an NVIDIA GPU. Packages carry this file with an opener of torch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..opened import CallTimes, UnfitMachineError
from .opener import CUDA, TorchForm


def set_up_cuda() -> str:
    """Let torch compute in FP32 if the form says FP32, and return the architecture of the GPU: `sm_75`.

    Raises:
        UnfitMachineError: torch finds no GPU.
    """
    import torch

    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "processors only"
        raise UnfitMachineError(
            f"the model runs on an NVIDIA GPU, and torch {torch.__version__}, built for {built}, finds none here"
        )
    # TF32 keeps 10 bits of a factor; torch uses it for convolutions unless it is told otherwise.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


class _Buffers(NamedTuple):
    """An input, in memory of the host that the GPU reads directly, and on the GPU."""

    host: Any
    device: Any


class CudaForm(TorchForm):
    """A callable that computes on a GPU, in a stream of its own.

    Inputs keep their buffers as long as their shapes stay. Outputs come back through memory that the GPU writes
    directly. Events in the stream tell copies and computing apart.

    Args:
        call: Takes tensors on the GPU in order; returns a tuple of the outputs in order.
        inputs: Names of the inputs, in the order of the arguments.
    """

    def __init__(self, call: Callable[..., Any], inputs: Sequence[str]) -> None:
        import torch

        super().__init__(call, inputs)
        stream: Any = torch.cuda.Stream
        self._stream = stream()
        self._buffers: dict[str, _Buffers] = {}

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        return self._computed(feed, lambda: None)

    def timed(self, feed: Mapping[str, Any]) -> tuple[list[Any], CallTimes]:
        """Return the outputs of a call, and its times on the GPU."""
        import torch

        moments: list[Any] = []
        event: Any = torch.cuda.Event

        def note() -> None:
            moments.append(event(enable_timing=True))
            moments[-1].record(self._stream)

        outputs = self._computed(feed, note)
        start, copied, computed, end = moments
        return outputs, CallTimes(start.elapsed_time(copied), copied.elapsed_time(computed), computed.elapsed_time(end))

    def close(self) -> None:
        """Release the network and its buffers."""
        super().close()
        self._buffers.clear()

    def _computed(self, feed: Mapping[str, Any], note: Callable[[], None]) -> list[Any]:
        """Compute a feed; `note` is called before, between and after copying in, computing and copying out."""
        import torch

        call = self._open_call()
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            arguments = [self._filled(name, feed[name]) for name in self._inputs]
            note()
            for buffers in arguments:
                buffers.device.copy_(buffers.host, non_blocking=True)
            note()
            values = call(*(buffers.device for buffers in arguments))
            note()
            outputs = [self._back(value) for value in values]
            note()
        self._stream.synchronize()
        return [output.numpy() for output in outputs]

    def _filled(self, name: str, value: Any) -> _Buffers:
        """Return the buffers of an input, the value in the host's."""
        import torch

        given = torch.from_numpy(np.asarray(value, order="C"))
        held = self._buffers.get(name)
        if held is None or held.host.shape != given.shape or held.host.dtype != given.dtype:
            host = torch.empty(given.shape, dtype=given.dtype, pin_memory=True)
            held = self._buffers[name] = _Buffers(host, torch.empty(given.shape, dtype=given.dtype, device=CUDA))
        held.host.copy_(given)
        return held

    def _back(self, value: Any) -> Any:
        """Start to copy an output into memory of the host that nothing else uses."""
        import torch

        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        return host.copy_(value, non_blocking=True)
