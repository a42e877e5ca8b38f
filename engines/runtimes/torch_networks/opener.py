"""Computes with a network of torch that takes tensors in order. Packages carry this file with an opener of torch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..opened import OpenedForm

PACKAGES = ("torch",)
CPU, CUDA = "cpu", "cuda"
"""Values of `COMPUTES_ON`, as torch names them."""
COMPUTES_ON = "computes_on"
"""Option of a form: where it computes; the processor if it is not there."""
INPUTS = "inputs"
"""Option of a form: the names of its inputs, in the order in which the network takes them, as JSON."""


class TorchForm(OpenedForm):
    """A callable that returns a tuple of outputs in order; its threads are the process's."""

    def __init__(self, call: Callable[..., Any], inputs: Sequence[str]) -> None:
        self._call: Callable[..., Any] | None = call
        self._inputs = inputs

    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order."""
        import torch

        call = self._open_call()
        arguments = [torch.from_numpy(np.asarray(feed[name], order="C")) for name in self._inputs]
        with torch.inference_mode():
            values = call(*arguments)
        return [_owned(value, arguments) for value in values]

    def close(self) -> None:
        """Release the network."""
        self._call = None

    def _open_call(self) -> Callable[..., Any]:
        if self._call is None:
            raise ValueError("the network is closed")
        return self._call


def _owned(value: Any, arguments: list[Any]) -> Any:
    """Return an output as an array of the caller's: a copy if it is the memory of an input."""
    array = value.numpy()
    return array.copy() if any(value.data_ptr() == given.data_ptr() for given in arguments) else array
