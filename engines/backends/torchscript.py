"""Frozen TorchScript: what users run before they convert, and so the baseline of every latency table. Not a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engines.backends.base import Array, Arrays
from engines.frontends.pytorch import torchscript_frozen

if TYPE_CHECKING:
    import torch


class TorchScriptSession:
    """A traced and frozen module on the CPU.

    Args:
        module: Takes the inputs in order and returns a tuple of the outputs in order.
        inputs: Names of the inputs, in the order of `forward`.
        outputs: Names of the outputs, in order.
        example: A feed to trace with.
        threads: Threads of each operator; they are the process's, so sessions that are compared share them.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED where the module cannot be traced.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: Sequence[str],
        outputs: Sequence[str],
        example: Mapping[str, Array],
        threads: int,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._frozen = torchscript_frozen(module, [example[name] for name in inputs])

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Return every output by name."""
        import torch

        with torch.inference_mode():
            values = self._frozen(*(torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in self._inputs))
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, values, strict=True)}
