"""Frozen TorchScript: what users run before they convert, and so the baseline of every latency table. Not a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engines.backends.base import Array, Arrays, crashed
from engines.frontends.forward import flatten_outputs


class TorchScriptSession:
    """A traced and frozen module on the CPU.

    Args:
        module: The torch module, in evaluation mode.
        example: Inputs to trace with, by name, in the order of `forward`.
        outputs: Names of the outputs, in order.
        threads: Threads of each operator.
    """

    def __init__(self, module: Any, example: Mapping[str, Array], outputs: Sequence[str], threads: int) -> None:
        import torch

        jit: Any = torch.jit
        torch.set_num_threads(threads)
        self._names = tuple(example)
        self._outputs = tuple(outputs)
        tensors = tuple(torch.from_numpy(value) for value in example.values())
        try:
            with torch.inference_mode():
                traced = jit.trace(module, tensors, check_trace=False, strict=False)
                self._frozen: Any = jit.freeze(traced)
        except Exception as error:
            raise crashed("TorchScript", "trace the module", error) from error

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        import torch

        with torch.inference_mode():
            values = self._frozen(*(torch.from_numpy(inputs[name]) for name in self._names))
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, flatten_outputs(values), strict=True)}
