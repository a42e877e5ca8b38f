"""Memory of a plan's tensors on the GPU and on the host. Packages carry this file: see `engines/runtimes/opened.py`."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np


def checked(answer: tuple[Any, ...]) -> Any:
    """Return what a call of CUDA's runtime returned beside its error code: nothing, a value, or several."""
    from cuda.bindings import runtime as cudart

    code, *values = answer
    if code != cudart.cudaError_t.cudaSuccess:
        words = cudart.cudaGetErrorString(code)[1]
        raise RuntimeError(f"CUDA: {words.decode() if isinstance(words, bytes) else words}")
    return values[0] if len(values) == 1 else values


class Buffer:
    """A tensor on the GPU, and its pinned copy on the host.

    Attributes:
        device: Address on the GPU.
        host: The pinned copy, as an array.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        from cuda.bindings import runtime as cudart

        self.size = math.prod(shape) * np.dtype(dtype).itemsize
        self._pinned = checked(cudart.cudaMallocHost(max(self.size, 1)))
        self.device = int(checked(cudart.cudaMalloc(max(self.size, 1))))
        memory = (ctypes.c_uint8 * self.size).from_address(int(self._pinned))
        self.host: Any = np.frombuffer(memory, dtype).reshape(shape)

    def to_device(self, stream: Any) -> None:
        """Begin to copy the pinned values to the GPU."""
        from cuda.bindings import runtime as cudart

        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        checked(cudart.cudaMemcpyAsync(self.device, self.host.ctypes.data, self.size, kind, stream))

    def to_host(self, stream: Any) -> None:
        """Begin to copy the values on the GPU to the pinned copy."""
        from cuda.bindings import runtime as cudart

        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        checked(cudart.cudaMemcpyAsync(self.host.ctypes.data, self.device, self.size, kind, stream))

    def free(self) -> None:
        """Release both."""
        from cuda.bindings import runtime as cudart

        self.host = None
        cudart.cudaFree(self.device)
        cudart.cudaFreeHost(self._pinned)


def late_output(trt: Any) -> Any:
    """Return an allocator of the vendor's kind for an output whose shape is known when it is computed."""
    from cuda.bindings import runtime as cudart

    class LateOutput(trt.IOutputAllocator):  # type: ignore[misc] # the base is known when the vendor's module is
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)
            self._address, self._room, self._shape = 0, 0, ()

        def reallocate_output(self, _name: str, _memory: int, size: int, _alignment: int) -> int:
            if size > self._room:
                self.free()
                self._address, self._room = int(checked(cudart.cudaMalloc(size))), size
            return self._address

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, _stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, _name: str, shape: Any) -> None:
            self._shape = tuple(shape)

        def values(self, dtype: Any) -> Any:
            found = np.empty(self._shape, dtype)
            if found.nbytes:
                kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
                checked(cudart.cudaMemcpy(found.ctypes.data, self._address, found.nbytes, kind))
            return found

        def free(self) -> None:
            if self._address:
                cudart.cudaFree(self._address)
            self._address = self._room = 0

    return LateOutput()
